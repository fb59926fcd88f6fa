//! Where answers come from: what the scheduler asks, whoever answers it.

use std::future::Future;
use std::time::Duration;

use crate::follow::RunList;
use crate::model::{ListedRun, Row, Rule, TaskInfo};
use crate::store::Target;
use alibaba_cloud::Reason;

/// The rows of a task, however a source holds them.
pub trait Rows: Send {
    /// Each, with its texts where they are.
    fn iter(&self) -> impl Iterator<Item = Row<&str>>;
}

impl Rows for Vec<Row> {
    fn iter(&self) -> impl Iterator<Item = Row<&str>> {
        self.as_slice().iter().map(Row::borrowed)
    }
}

/// Where answers come from: the cloud, or a test's script.
pub trait Source: Send + Sync + 'static {
    /// What bounds one poll; made when the poll begins.
    type Budget: Send;

    /// The rows of a task.
    type Rows: Rows;

    /// Begins a poll of a task.
    fn budget(&self) -> Self::Budget;

    /// Begins a listing, of which there is one each `interval`.
    fn listing_budget(&self, interval: Duration) -> Self::Budget;

    /// All rows of a task.
    fn rows(
        &self,
        target: &Target,
        budget: &mut Self::Budget,
    ) -> impl Future<Output = Result<Self::Rows, SourceError>> + Send;

    /// The task itself.
    fn task(
        &self,
        target: &Target,
        budget: &mut Self::Budget,
    ) -> impl Future<Output = Result<TaskInfo, SourceError>> + Send;

    /// All rules of an instance.
    fn rules(
        &self,
        instance_id: &str,
        budget: &mut Self::Budget,
    ) -> impl Future<Output = Result<Vec<Rule>, SourceError>> + Send;

    /// The task list of an instance, page by page in the cloud's order, until
    /// its end or until `go_on`, which sees each page once it came, has seen
    /// enough. A list that moves while it is read may show pages again.
    fn runs(
        &self,
        instance_id: &str,
        budget: &mut Self::Budget,
        go_on: impl FnMut(&[ListedRun]) -> bool + Send,
    ) -> impl Future<Output = Result<RunList, SourceError>> + Send;
}

/// A question without an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct SourceError {
    /// Why.
    pub reason: Reason,
    /// The whole chain of causes, on one line.
    pub text: String,
}
