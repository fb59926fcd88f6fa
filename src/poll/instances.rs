//! What is counted for each configured instance, and which of its polls and
//! listings are due or under way.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use alibaba_cloud::Reason;
use tokio::time::Instant;

use crate::metrics::own::{InstanceMetrics, Own};

use super::Item;

#[derive(Default)]
pub(super) struct Instances(HashMap<Arc<str>, Instance>);

struct Instance {
    metrics: InstanceMetrics,
    overdue: BTreeSet<(Instant, Item)>,
}

impl Instances {
    /// Has exactly these instances from now on.
    pub(super) fn configure(&mut self, own: &Own, instances: &[Arc<str>]) {
        let configured: HashSet<&Arc<str>> = instances.iter().collect();
        self.0.retain(|id, _| {
            let stays = configured.contains(id);
            if !stays {
                own.forget_instance(id);
            }
            stays
        });
        for id in instances {
            let known = self.0.entry(Arc::clone(id));
            known.or_insert_with(|| Instance {
                metrics: own.instance(id),
                overdue: BTreeSet::new(),
            });
        }
    }

    /// Something has become due.
    pub(super) fn due(&mut self, id: &str, item: (Instant, Item)) {
        if let Some(instance) = self.0.get_mut(id) {
            instance.overdue.insert(item);
            instance.show_lag();
        }
    }

    /// It has ended, or is not wanted any more.
    pub(super) fn done(&mut self, id: &str, item: (Instant, Item)) {
        // Of an instance that has left meanwhile nothing is known.
        if let Some(instance) = self.0.get_mut(id)
            && instance.overdue.remove(&item)
        {
            instance.show_lag();
        }
    }

    /// Counts a poll.
    pub(super) fn polled(&self, id: &str, failed: Option<Reason>) {
        if let Some(Instance { metrics, .. }) = self.0.get(id) {
            metrics.polls.inc();
            if let Some(reason) = failed {
                metrics.failed(reason);
            }
        }
    }

    /// Counts polls that were skipped.
    pub(super) fn skipped(&self, id: &str, polls: u64) {
        if let Some(Instance { metrics, .. }) = self.0.get(id) {
            metrics.skipped.inc_by(polls);
        }
    }
}

impl Instance {
    fn show_lag(&self) {
        let first = self.overdue.first().map(|(due, _)| *due);
        self.metrics.lag.set(first);
    }
}
