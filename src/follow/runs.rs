//! What the list of runs changes: which runs there are, and whose they are.

use std::cmp::Reverse;
use std::sync::Arc;

use super::listing::{Order, seen_order};
use super::run::Run;
use super::{Follower, Listed, REMEMBER, REMEMBER_MOST, RunList, Touched, millis};
use crate::model::{ListedRun, Subscription, TaskStatus};
use crate::store::state::GoneRun;
use alibaba_cloud::clock::Moment;

impl Follower {
    pub(super) fn take_runs(&mut self, list: RunList, now: Moment, listed: &mut Listed) {
        let order = seen_order(&list.runs, self.order, list.whole);
        if order != self.order && order != Order::Unknown {
            listed.order_learned = Some(order == Order::NewestFirst);
        }
        self.order = order;
        // What is there already when the list is first read whole is history.
        let history = self.last_whole.is_none();
        if history && !list.whole {
            return;
        }
        self.listings += 1;
        for ListedRun { task_id, info } in list.runs {
            if task_id.is_empty() {
                continue;
            }
            if let Some(run) = self.runs.get_mut(&task_id) {
                // A list that moves may show a run twice.
                if run.seen_in == self.listings {
                    continue;
                }
                run.seen_in = self.listings;
                run.seen = now;
                if run.listed == info {
                    listed.unchanged.push(task_id);
                    continue;
                }
                // The list is newer than the rows, unless it says nothing.
                if info.status(&self.settings.words) != TaskStatus::Empty {
                    run.rows = None;
                }
                self.touched.subscription(run.info.subscription());
                run.listed = Arc::clone(&info);
                run.info = Arc::clone(&info);
                listed.changed.insert(Arc::clone(&task_id));
            } else {
                let gone = self.gone.remove(&task_id);
                let counted = gone.as_ref().map_or(history, |gone| gone.counted);
                let run = Run::new(Arc::clone(&info), now, self.listings, counted);
                if gone.is_some_and(|gone| gone.failed)
                    && let Some(followed) = self.subscriptions.get_mut(&info.subscription())
                {
                    followed.remember_failure(&run);
                }
                self.runs.insert(Arc::clone(&task_id), run);
            }
            self.touched.run(&task_id, &info);
            Arc::make_mut(&mut self.known).insert(task_id, info);
        }
        if list.whole {
            self.last_whole = Some(now);
            self.forget(now.wall_ms);
        }
    }

    /// Forgets runs that the whole list just read does not hold any more.
    fn forget(&mut self, now_ms: i64) {
        let words = &self.settings.words;
        let listings = self.listings;
        let left = self.runs.extract_if(|_, run| run.seen_in != listings);
        for (id, mut run) in left {
            let key = run.info.subscription();
            let mut failed = false;
            if let Some(followed) = self.subscriptions.get_mut(&key) {
                failed = followed.forget(&id, &run, words);
                // Nobody can read its rows any more.
                let status = run.info.status(words);
                if !run.counted && status.is_over() && followed.is_ours() {
                    run.counted = true;
                    followed.count(status);
                    if let Some(millis) = run.duration_ms(words) {
                        Arc::make_mut(&mut self.durations).runs.observe(millis);
                    }
                }
            }
            self.touched.subscription(key);
            Arc::make_mut(&mut self.known).remove(&id);
            let gone = GoneRun {
                task_id: Arc::clone(&id),
                seen_ms: run.seen.wall_ms,
                counted: run.counted,
                failed,
            };
            self.gone.insert(id, gone);
        }
        let remembered = now_ms.saturating_sub(millis(REMEMBER));
        self.gone.retain(|_, gone| gone.seen_ms >= remembered);
        if self.gone.len() > REMEMBER_MOST {
            let mut times: Vec<i64> = self.gone.values().map(|gone| gone.seen_ms).collect();
            times.sort_unstable_by_key(|seen_ms| Reverse(*seen_ms));
            let oldest = times[REMEMBER_MOST];
            self.gone.retain(|_, gone| gone.seen_ms > oldest);
        }
    }

    /// Gives each subscription that was touched its runs, newest first; answers
    /// which these are.
    pub(super) fn group(&mut self) -> Vec<Arc<Subscription>> {
        let words = &self.settings.words;
        let Touched { all, mut some } = std::mem::take(&mut self.touched);
        if all {
            some.clear();
            for (id, run) in &self.runs {
                let runs = some.entry(run.info.subscription()).or_default();
                runs.push(Arc::clone(id));
            }
            for key in self.subscriptions.keys() {
                some.entry(Subscription::clone(key)).or_default();
            }
        }
        let mut touched = Vec::new();
        for (key, new) in some {
            let Some(followed) = self.subscriptions.get_mut(&key) else {
                continue;
            };
            let old = if all {
                Vec::new()
            } else {
                std::mem::take(&mut followed.runs)
            };
            let is_its_own = |run: &&Run| run.info.is_run_of(&key);
            let ids = old.into_iter().chain(new);
            let mut runs: Vec<(i64, Arc<str>)> = ids
                .filter_map(|id| {
                    let run = self.runs.get(&id).filter(is_its_own)?;
                    Some((run.recency(words), id))
                })
                .collect();
            runs.sort_unstable_by(|a, b| b.cmp(a));
            runs.dedup();
            followed.runs = runs.into_iter().map(|(_, id)| id).collect();
            followed.take_stock(&key, &self.runs, words);
            if let Some((key, _)) = self.subscriptions.get_key_value(&key) {
                touched.push(Arc::clone(key));
            }
        }
        touched.sort_unstable();
        touched
    }
}
