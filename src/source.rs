//! The cloud as the poller's source: the one place that knows both the wire
//! and the model.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use alibaba_cloud::Reason;

use crate::api::wire;
use crate::api::{Budget, Client, Error, Instance};
use crate::model::{ListedRun, Row, Rule, Subscription, TaskInfo};
use crate::poll::{Rows, RunList, Source, SourceError};
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
    /// Its region, "" where that is not known.
    pub region: String,
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

    /// An instance, and who may ask it.
    fn place<'a>(&'a self, id: &'a str) -> Result<(&'a Client, Instance<'a>), SourceError> {
        // Instances and what is asked of them come from the same configuration.
        let place = self.instances.get(id).ok_or_else(|| SourceError {
            reason: Reason::Other,
            text: format!("instance {id} has no endpoint"),
        })?;
        let instance = Instance {
            id,
            region: &place.region,
            endpoint: &place.endpoint,
        };
        Ok((&place.client, instance))
    }
}

impl Source for CloudSource {
    type Budget = Budget;
    type Rows = wire::TaskResults;

    fn budget(&self) -> Budget {
        Budget::new(self.deadline)
    }

    /// A long list may take longer than the poll of a task, but no longer than
    /// until the next listing.
    fn listing_budget(&self, interval: Duration) -> Budget {
        Budget::new(self.deadline.max(interval))
    }

    async fn rows(
        &self,
        target: &Target,
        budget: &mut Budget,
    ) -> Result<wire::TaskResults, SourceError> {
        let (client, instance) = self.place(&target.instance_id)?;
        let rows = client.task_results(instance, &target.task_id, budget);
        Ok(rows.await?)
    }

    async fn task(&self, target: &Target, budget: &mut Budget) -> Result<TaskInfo, SourceError> {
        let (client, instance) = self.place(&target.instance_id)?;
        let budget = &mut Budget::new(budget.left().min(self.timeout));
        let task = client.task(instance, &target.task_id, budget);
        Ok(task_info(task.await?))
    }

    async fn rules(
        &self,
        instance_id: &str,
        budget: &mut Budget,
    ) -> Result<Vec<Rule>, SourceError> {
        let (client, instance) = self.place(instance_id)?;
        let list = client.rules(instance, budget).await?;
        Ok(list.rows.into_iter().map(rule).collect())
    }

    async fn runs(
        &self,
        instance_id: &str,
        budget: &mut Budget,
        mut go_on: impl FnMut(&[ListedRun]) -> bool + Send,
    ) -> Result<RunList, SourceError> {
        let (client, instance) = self.place(instance_id)?;
        let go_on = |page: &[wire::Task]| {
            let page: Vec<ListedRun> = page.iter().cloned().map(listed).collect();
            go_on(&page)
        };
        let list = client.tasks(instance, budget, go_on).await?;
        Ok(RunList {
            runs: list.rows.into_iter().map(listed).collect(),
            whole: list.whole,
            pages: list.pages,
        })
    }
}

/// The rows of a task in our words.
pub fn rows(wire: &wire::TaskResults) -> impl Iterator<Item = Row<&str>> {
    wire.iter().map(|wire| Row {
        repo_namespace: wire.namespace_name,
        repo_name: wire.repo_name,
        tag: wire.tag,
        status: wire.status,
        result: wire.result,
        start_ms: wire.start_time,
        end_ms: wire.end_time,
    })
}

impl Rows for wire::TaskResults {
    fn iter(&self) -> impl Iterator<Item = Row<&str>> {
        rows(self)
    }
}

/// A task of the list in our words.
pub fn listed(wire: wire::Task) -> ListedRun {
    ListedRun {
        task_id: wire.task_id.as_str().into(),
        info: Arc::new(task_info(wire)),
    }
}

/// A rule of the wire in our words.
pub fn rule(wire: wire::Rule) -> Rule {
    Rule {
        rule_id: wire.rule_id,
        subscription: Subscription {
            repo_namespace: wire.namespace_name,
            repo_name: wire.repo_name,
            source_provider: wire.source_provider,
            source_repository: joined(&wire.source_namespace_name, &wire.source_repo_name),
        },
        tag_regexp: wire.tag_regexp,
        created_ms: wire.create_time,
        modified_ms: wire.modified_time,
    }
}

/// Namespace and name of a source, either of which may be unknown.
fn joined(namespace: &str, name: &str) -> String {
    let parts = [namespace, name].into_iter();
    let named: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    named.join("/")
}

/// A task of the wire in our words.
pub fn task_info(wire: wire::Task) -> TaskInfo {
    // The API says "success" where there is nothing to say.
    let is_reason = !wire.message.trim().eq_ignore_ascii_case("success");
    TaskInfo {
        repo_namespace: wire.namespace_name,
        repo_name: wire.repo_name,
        source_provider: wire.source_provider,
        source_repository: joined(&wire.source_namespace_name, &wire.source_repo_name),
        task_type: wire.task_type,
        status: wire.task_status,
        result: wire.task_result,
        message: if is_reason {
            wire.message
        } else {
            String::new()
        },
        source_tags: wire.tag_total_count,
        selected_tags: wire.tag_subscription_count,
        start_ms: wire.start_time,
        end_ms: wire.end_time,
    }
}

impl From<Error> for SourceError {
    fn from(error: Error) -> Self {
        Self {
            reason: error.reason(),
            text: telemetry::chain(&error),
        }
    }
}
