//! The cloud as the poller's source: the one place that knows both the wire
//! and the model.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::api::wire;
use crate::api::{Budget, Client, Error, Instance};
use crate::model::{Row, TaskInfo};
use crate::poll::{Source, SourceError};
use crate::store::Target;
use crate::telemetry;

/// Asks the cloud about tasks of known instances.
pub struct CloudSource {
    instances: HashMap<Arc<str>, Place>,
    deadline: Duration,
    timeout: Duration,
}

/// Where an instance's API answers, and whose keys open it.
#[derive(Clone)]
pub struct Place {
    /// The account's client.
    pub client: Arc<Client>,
    /// Scheme and authority.
    pub endpoint: String,
}

impl Place {
    fn instance<'a>(&'a self, target: &'a Target) -> Instance<'a> {
        Instance {
            id: &target.instance_id,
            region: &target.region,
            endpoint: &self.endpoint,
        }
    }
}

impl CloudSource {
    /// A source for `instances`; one poll takes at most `deadline`, and reading
    /// the task itself `timeout` of it: its rows are known by then and should
    /// not wait. The wait for the rate limit is not counted.
    pub fn new(
        instances: impl IntoIterator<Item = (Arc<str>, Place)>,
        deadline: Duration,
        timeout: Duration,
    ) -> Self {
        Self {
            instances: instances.into_iter().collect(),
            deadline,
            timeout,
        }
    }

    fn place(&self, target: &Target) -> Result<&Place, SourceError> {
        // Targets and instances come from one configuration.
        self.instances
            .get(&target.instance_id)
            .ok_or_else(|| SourceError {
                reason: "other",
                text: format!("instance {} has no endpoint", target.instance_id),
            })
    }
}

impl Source for CloudSource {
    type Budget = Budget;

    fn budget(&self) -> Budget {
        Budget::new(self.deadline)
    }

    async fn rows(&self, target: &Target, budget: &mut Budget) -> Result<Vec<Row>, SourceError> {
        let place = self.place(target)?;
        let rows = place
            .client
            .task_results(place.instance(target), &target.task_id, budget)
            .await
            .map_err(|error| told(&error))?;
        Ok(rows.into_iter().map(row).collect())
    }

    async fn task(&self, target: &Target, budget: &mut Budget) -> Result<TaskInfo, SourceError> {
        let place = self.place(target)?;
        let budget = &mut Budget::new(budget.left().min(self.timeout));
        let task = place
            .client
            .task(place.instance(target), &target.task_id, budget)
            .await
            .map_err(|error| told(&error))?;
        Ok(task_info(task))
    }
}

/// A row of the wire in our words.
pub fn row(wire: wire::TaskResult) -> Row {
    Row {
        repo_namespace: wire.namespace_name,
        repo_name: wire.repo_name,
        tag: wire.tag,
        status: wire.status,
        result: wire.result,
        start_ms: wire.start_time,
        end_ms: wire.end_time,
    }
}

/// A task of the wire in our words.
pub fn task_info(wire: wire::Task) -> TaskInfo {
    let source = [wire.source_namespace_name, wire.source_repo_name];
    let named: Vec<&str> = source
        .iter()
        .map(String::as_str)
        .filter(|part| !part.is_empty())
        .collect();
    TaskInfo {
        repo_namespace: wire.namespace_name,
        repo_name: wire.repo_name,
        source_provider: wire.source_provider,
        source_repository: named.join("/"),
        task_type: wire.task_type,
        status: wire.task_status,
        result: wire.task_result,
        message: wire.message,
        start_ms: wire.start_time,
        end_ms: wire.end_time,
    }
}

fn told(error: &Error) -> SourceError {
    SourceError {
        reason: error.reason(),
        text: telemetry::chain(error),
    }
}
