//! What the lists of followed instances change: which runs are watched, and what is
//! shown of their subscriptions.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::time::Instant;

use super::listing::{Listing, Read};
use super::turn::Phase;
use super::watch::Watched;
use super::{Item, Scheduler, Source, TaskKey, Watch, key, notice};
use crate::follow::{Listed, Wanted};
use crate::store::state::SavedTask;

impl<S: Source> Scheduler<S> {
    pub(super) fn finish_listing(&mut self, place: usize, read: Read) {
        let (now, moment) = (Instant::now(), self.clock.now());
        let Some(list) = self.lists.get_mut(place) else {
            return;
        };
        let item = Item::List(place);
        self.instances
            .done(&list.turn.instance_id, (list.turn.due, item));
        if list.turn.phase == Phase::Leaving {
            self.lists.remove(place);
            return;
        }
        self.notices
            .listing(list.turn.account, item, list.entry(), read.error());
        let words = list.note_words(&read, moment.steady_ms);
        let words = words.then(|| list.unrecognized());
        let pages = read.pages();
        let before = list.entry().tasks_dropped;
        let listed = list.apply(read, moment, now);
        let instance_id = list.instance_id();
        notice::tasks_dropped(instance_id, before, listed.dropped);
        if let Some(newest_first) = listed.order_learned {
            notice::list_order(instance_id, newest_first, pages, list.interval());
        }
        list.turn.phase = Phase::Waiting;
        self.waiting.push(Reverse((list.turn.due, item)));
        list.show(&self.own);
        self.store.update_listing(list.entry().clone());
        self.take_listed(place, listed, &mut HashMap::new());
        if let Some(words) = words {
            self.hold_words(item, words);
        }
        self.tried(item);
    }

    /// Puts into effect what a list has changed; `saved` is known from before a restart.
    pub(super) fn take_listed(
        &mut self,
        list: usize,
        listed: Listed,
        saved: &mut HashMap<TaskKey, SavedTask>,
    ) {
        let Some(listing) = self.lists.get_mut(list) else {
            return;
        };
        for subscription in &listed.removed {
            let instance_id = listing.instance_id();
            if self.store.remove_subscription(instance_id, subscription) {
                listing.counters_were_shown(subscription);
            }
        }
        for subscription in listed.subscriptions {
            self.store.update_subscription(subscription);
        }
        let Some(all) = listed.wanted else {
            for id in listed.unchanged {
                self.seen_again(list, id);
            }
            return;
        };
        let wanted: HashSet<&Arc<str>> = all.iter().map(|one| &one.target.task_id).collect();
        let has_left = |watched: &Watched| {
            watched.follower == Some(list) && !wanted.contains(&watched.target().task_id)
        };
        for place in self.tasks_that(has_left) {
            self.unlist(place);
        }
        let unchanged: HashSet<Arc<str>> = listed.unchanged.into_iter().collect();
        for wanted in all {
            let new = listed.changed.contains(&wanted.target.task_id);
            let same = unchanged.contains(&wanted.target.task_id);
            self.follow(
                list,
                wanted,
                new.then_some(true).or(same.then_some(false)),
                saved,
            );
        }
    }

    /// No list holds the task any more; the configuration may name it.
    pub(super) fn unlist(&mut self, place: usize) {
        let watched = &mut self.tasks[place];
        watched.follower = None;
        if !watched.is_configured() {
            self.unwatch(place);
        }
    }

    /// A list shows a run as it was; perhaps one that is watched.
    fn seen_again(&mut self, list: usize, task_id: Arc<str>) {
        let Some(listing) = self.lists.get(list) else {
            return;
        };
        let moment = self.clock.now();
        let key = (Arc::clone(listing.instance_id()), task_id);
        let Some(place) = self.places.get(&key) else {
            return;
        };
        let watched = self.tasks.get_mut(*place);
        if let Some(watched) = watched.filter(|watched| watched.follower == Some(list)) {
            watched.listed_again(moment);
            if watched.shown {
                self.store.update(watched.entry().clone());
            }
        }
    }

    /// Watches a run that a list holds. `news`: whether the list says something new
    /// of it, or the same; nothing where this part of the list was not read.
    fn follow(
        &mut self,
        list: usize,
        wanted: Wanted,
        news: Option<bool>,
        saved: &mut HashMap<TaskKey, SavedTask>,
    ) {
        let Some(listing) = self.lists.get(list) else {
            return;
        };
        let (now, moment) = (Instant::now(), self.clock.now());
        let words = &self.settings.words;
        let key = key(&wanted.target);
        let known = self.places.get(&key).copied();
        let known = known.and_then(|place| Some((place, self.tasks.get_mut(place)?)));
        let Some((place, watched)) = known else {
            let watch = Watch {
                target: wanted.target,
                interval: self.settings.interval,
                account: listing.turn.account,
                followed: Some(listing.interval()),
            };
            let mut watched = Watched::new(watch, now);
            if let Some(saved) = saved.remove(&key) {
                watched.restore(&saved, moment, now);
            }
            if news.is_some() || watched.is_untried() {
                watched.listed(&wanted.info, news != Some(false), words, moment);
            }
            watched.follower = Some(list);
            watched.shown = wanted.shown;
            self.watch(watched);
            return;
        };
        watched.follower = Some(list);
        watched.stay();
        let renamed = !watched.is_configured() && watched.rename(&wanted.target);
        let at_once = news.is_some_and(|new| watched.listed(&wanted.info, new, words, moment));
        if news == Some(true) {
            watched.find_cause(&self.settings.causes);
        }
        if at_once {
            watched.set_due(now, moment.wall_ms, now);
            self.waiting.push(Reverse((now, Item::Task(place))));
        }
        let shown = wanted.shown || watched.is_configured();
        if shown && (news.is_some() || renamed || !watched.shown) {
            self.store.update(watched.entry().clone());
        } else if watched.shown && !shown {
            self.store.remove(&key.0, &key.1);
        }
        watched.shown = shown;
    }

    /// A list to be read from now on.
    pub(super) fn list(&mut self, list: Listing) -> usize {
        let item = Item::List(self.lists.vacant_key());
        self.wait(item, list.turn.due, list.is_untried());
        self.store.update_listing(list.entry().clone());
        // There from now on.
        list.show(&self.own);
        let words = list.unrecognized();
        let place = self.lists.insert(list);
        self.hold_words(item, words);
        place
    }
}
