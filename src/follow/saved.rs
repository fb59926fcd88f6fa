//! What a follower knows, for the state file and back from it.

use std::sync::Arc;

use super::listing::Order;
use super::run::restored_run;
use super::subscription::Followed;
use super::{Follower, Listed, owns};
use crate::store::state::SavedInstance;
use alibaba_cloud::clock::Moment;

impl Follower {
    /// All of it, for the state file.
    pub fn save(&self) -> SavedInstance {
        SavedInstance {
            instance_id: Arc::clone(&self.settings.instance_id),
            last_success_ms: None,
            last_whole_ms: self.last_whole.map(|then| then.wall_ms),
            newest_first: self.order.newest_first(),
            durations: Arc::clone(&self.durations),
            rules: self.rule_history.values().cloned().collect(),
            runs: self.runs.iter().map(|(id, run)| run.save(id)).collect(),
            gone: self.gone.values().cloned().collect(),
            subscriptions: self
                .subscriptions
                .iter()
                .map(|(key, followed)| followed.save(key))
                .collect(),
            ..SavedInstance::default()
        }
    }

    /// Takes back what [`Follower::save`] gave; answers what is to be polled and
    /// shown of it now. What the configuration does not follow any more stays
    /// remembered, but unseen.
    pub fn restore(&mut self, saved: SavedInstance, now: impl Into<Moment>) -> Listed {
        let now = now.into();
        self.last_whole = saved.last_whole_ms.map(|then| now.recall(then));
        self.durations = saved.durations;
        let history = saved.rules.into_iter();
        let history = history.map(|rule| (rule.rule_id.clone(), rule));
        self.rule_history = history.collect();
        self.order = Order::from_newest_first(saved.newest_first);
        let runs = saved.runs.into_iter();
        self.runs = runs.map(|run| restored_run(run, now)).collect();
        let known = self.runs.iter();
        let known = known.map(|(id, run)| (Arc::clone(id), Arc::clone(&run.listed)));
        self.known = Arc::new(known.collect());
        self.touched.all = true;
        let gone = saved.gone.into_iter();
        let gone = gone.map(|run| (Arc::clone(&run.task_id), run));
        self.gone = gone.collect();
        let mut rules = Vec::new();
        for saved in saved.subscriptions {
            rules.extend(saved.rules.iter().cloned());
            let (key, followed) = Followed::restore(saved, now);
            self.subscriptions.insert(key, followed);
        }
        for (key, followed) in &mut self.subscriptions {
            followed.own(owns(&self.settings, key));
        }
        self.take_lists(Some(rules), None, now)
    }
}
