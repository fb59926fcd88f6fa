//! A new configuration for a running scheduler: what stays keeps what is known of
//! it and its due time, what is new is due at once, what is gone leaves the page.
//!
//! Polls under way end as they began, with the keys and the address they have;
//! their answers count where their task stays.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::listing::Listing;
use super::watch::{Anew, Phase, Watched};
use super::{Account, Follow, Item, Scheduler, Settings, Source, TaskKey, Watch, key};

/// Everything that a configuration says, in place of what the one before said.
pub struct Change<S> {
    /// Where answers come from.
    pub source: Arc<S>,
    /// What holds for all tasks.
    pub settings: Settings,
    /// Tasks that the configuration names.
    pub watches: Vec<Watch>,
    /// Instances of which it does not.
    pub follows: Vec<Follow>,
    /// Instances that are asked with other keys, or at another address, than
    /// before: what failed there is tried again at once.
    pub asked_anew: HashSet<Arc<str>>,
    /// Told once it is in force.
    pub done: oneshot::Sender<()>,
}

impl<S: Source> Scheduler<S> {
    pub(super) fn change(&mut self, change: Change<S>) {
        let Change {
            source,
            settings,
            watches,
            follows,
            asked_anew,
            done,
        } = change;
        let words = settings.words != self.settings.words;
        let accounts: Vec<usize> = settings
            .accounts
            .iter()
            .map(|it| self.account(it))
            .collect();
        self.source = source;
        self.settings = Arc::new(settings);
        self.instances
            .configure(&self.own, &self.settings.instances);
        if words {
            let words = &self.settings.words;
            self.unrecognized.remap(|word| words.is_unrecognized(word));
        }
        let anew = |instance_id: &str| Anew {
            way: asked_anew.contains(instance_id),
            words,
        };

        let named: HashSet<TaskKey> = watches.iter().map(|watch| key(&watch.target)).collect();
        for mut watch in watches {
            watch.account = accounts[watch.account];
            let anew = anew(&watch.target.instance_id);
            self.configure(watch, anew);
        }
        for place in 0..self.tasks.len() {
            let watched = self.tasks[place].as_ref();
            if watched.is_some_and(|it| it.is_configured() && !named.contains(&key(it.target()))) {
                self.unconfigure(place);
            }
        }

        let mut followed = HashSet::new();
        for Follow { settings, account } in follows {
            followed.insert(Arc::clone(&settings.instance_id));
            let anew = anew(&settings.instance_id);
            let follow = Follow {
                settings,
                account: accounts[account],
            };
            self.follow_on(follow, anew);
        }
        for place in 0..self.lists.len() {
            let listed = self.lists[place].as_ref();
            let gone = listed.filter(|list| list.phase != Phase::Leaving);
            if gone.is_some_and(|list| !followed.contains(list.instance_id())) {
                self.unfollow(place);
            }
        }
        self.show_words();
        self.note_tried();
        // Who has gone away meanwhile needs no answer.
        let _ = done.send(());
    }

    /// The number of an account here; it stays as long as the scheduler does.
    fn account(&mut self, name: &str) -> usize {
        let number = self.notices.account(name);
        if number == self.accounts.len() {
            self.accounts.push(Account::default());
        }
        number
    }

    fn configure(&mut self, watch: Watch, anew: Anew) {
        match self.places.get(&key(&watch.target)).copied() {
            Some(place) => {
                if let Some(watched) = &mut self.tasks[place] {
                    watched.stay();
                    watched.shown = true;
                }
                self.adopt(place, watch, anew);
            }
            None => self.watch(Watched::new(watch, Instant::now())),
        }
    }

    /// The configuration does not name it any more; a list may.
    fn unconfigure(&mut self, place: usize) {
        let Some(watched) = &self.tasks[place] else {
            return;
        };
        match watched.follower.and_then(|list| self.lists[list].as_ref()) {
            Some(list) => {
                let watch = Watch {
                    target: Arc::clone(&watched.entry().target),
                    interval: self.settings.interval,
                    account: list.account(),
                    followed: Some(list.interval()),
                };
                self.adopt(place, watch, Anew::default());
            }
            None => self.unwatch(place),
        }
    }

    fn adopt(&mut self, place: usize, watch: Watch, anew: Anew) {
        let Some(watched) = &mut self.tasks[place] else {
            return;
        };
        let item = Item::Task(place);
        let (from, to) = (watched.account(), watch.account);
        if from != to {
            self.notices.moved((from, item), (to, item));
            hand_over(&mut self.accounts, from, to, (watched.due(), item));
        }
        let before = watched.due();
        let (now, moment) = (Instant::now(), self.clock.now());
        watched.adopt(watch, &self.settings, anew, moment.wall_ms, now);
        if watched.due() != before {
            self.waiting.push(Reverse((watched.due(), item)));
        }
        watched.find_cause(&self.settings.causes);
        if watched.shown && watched.phase != Phase::Leaving {
            self.store.update(watched.entry().clone());
        }
    }

    fn follow_on(&mut self, follow: Follow, anew: Anew) {
        let Follow { settings, account } = follow;
        let (now, moment) = (Instant::now(), self.clock.now());
        let known = self.lists.iter().position(|list| {
            list.as_ref().is_some_and(|list| {
                list.phase != Phase::Leaving && *list.instance_id() == settings.instance_id
            })
        });
        let Some(place) = known else {
            self.list(Listing::new(settings, account, now));
            return;
        };
        let Some(list) = &mut self.lists[place] else {
            return;
        };
        let item = Item::List(place);
        let from = list.account();
        if from != account {
            self.notices.moved((from, item), (account, item));
            hand_over(&mut self.accounts, from, account, (list.due(), item));
            list.set_account(account);
        }
        if *list.settings() == settings {
            let failing = list.entry().error.is_some();
            if anew.way && failing && list.phase == Phase::Waiting {
                list.set_due(now, moment.wall_ms, now);
                self.waiting.push(Reverse((now, item)));
                self.store.update_listing(list.entry().clone());
            }
            self.followed_on(place, anew);
            return;
        }
        let (new, listed) = list.replaced(settings, account, moment, now);
        let instance_id = Arc::clone(list.instance_id());
        self.drop_list(place);
        let new = self.list(new);
        self.notices
            .moved((account, item), (account, Item::List(new)));
        for watched in self.tasks.iter_mut().flatten() {
            if watched.follower == Some(place) {
                watched.follower = Some(new);
            }
        }
        self.followed_on(new, anew);
        let these = listed.subscriptions.iter();
        let these = these.map(|it| Arc::clone(&it.subscription)).collect();
        self.store.keep_subscriptions(&instance_id, &these);
        self.take_listed(new, listed, &mut HashMap::new());
    }

    /// The runs of a list go by the new configuration.
    fn followed_on(&mut self, list: usize, anew: Anew) {
        let Some(listing) = &self.lists[list] else {
            return;
        };
        let (account, interval) = (listing.account(), listing.interval());
        for place in 0..self.tasks.len() {
            let watched = self.tasks[place].as_ref();
            let ours = watched.filter(|it| it.follower == Some(list) && !it.is_configured());
            if let Some(watched) = ours {
                let watch = Watch {
                    target: Arc::clone(&watched.entry().target),
                    interval: self.settings.interval,
                    account,
                    followed: Some(interval),
                };
                self.adopt(place, watch, anew);
            }
        }
    }

    /// The instance is not followed any more.
    fn unfollow(&mut self, place: usize) {
        for task in 0..self.tasks.len() {
            let watched = self.tasks[task].as_mut();
            if let Some(watched) = watched.filter(|it| it.follower == Some(place)) {
                watched.follower = None;
                if !watched.is_configured() {
                    self.unwatch(task);
                }
            }
        }
        let Some(list) = &self.lists[place] else {
            return;
        };
        self.notices.left(list.account(), Item::List(place));
        self.store.remove_listing(list.instance_id());
        self.own.forget_follow(list.instance_id());
        self.drop_list(place);
    }

    /// Gives up the place of a list, at once or when it has been read.
    fn drop_list(&mut self, place: usize) {
        let Some(list) = &mut self.lists[place] else {
            return;
        };
        let item = Item::List(place);
        self.unrecognized.release(item);
        if matches!(list.phase, Phase::Active | Phase::Leaving) {
            list.phase = Phase::Leaving;
        } else {
            let at = (list.due(), item);
            self.accounts[list.account()].lists.remove(&at);
            self.instances.done(list.instance_id(), at);
            self.lists[place] = None;
            self.free_lists.push(place);
        }
        self.tried(item);
    }
}

/// Gives what is due or under way for one account to another.
fn hand_over(accounts: &mut [Account], from: usize, to: usize, item: (Instant, Item)) {
    for queue in 0..accounts[from].queues().len() {
        if accounts[from].queues()[queue].remove(&item) {
            accounts[to].queues()[queue].insert(item);
        }
    }
}

#[cfg(test)]
mod tests;
