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

use super::account::{Account, hand_over};
use super::listing::Listing;
use super::turn::Phase;
use super::watch::{Anew, Watched};
use super::{Follow, Item, Scheduler, Settings, Source, TaskKey, Watch, key};

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
        let unnamed = |it: &Watched| it.is_configured() && !named.contains(&key(it.target()));
        for place in self.tasks_that(unnamed) {
            self.unconfigure(place);
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
        let gone = self.lists.iter().filter(|(_, list)| {
            list.turn.phase != Phase::Leaving && !followed.contains(list.instance_id())
        });
        let gone: Vec<usize> = gone.map(|(place, _)| place).collect();
        for place in gone {
            self.unfollow(place);
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
                if let Some(watched) = self.tasks.get_mut(place) {
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
        match self.tasks[place].follower {
            Some(list) => self.adopt_followed(place, list, Anew::default()),
            None => self.unwatch(place),
        }
    }

    fn adopt(&mut self, place: usize, watch: Watch, anew: Anew) {
        let Some(watched) = self.tasks.get_mut(place) else {
            return;
        };
        let item = Item::Task(place);
        let (from, to) = (watched.turn.account, watch.account);
        if from != to {
            self.notices.moved((from, item), (to, item));
            hand_over(&mut self.accounts, to, item, &mut watched.turn);
        }
        let before = watched.turn.due;
        let (now, moment) = (Instant::now(), self.clock.now());
        watched.adopt(watch, &self.settings, anew, moment.wall_ms, now);
        if watched.turn.due != before {
            self.waiting.push(Reverse((watched.turn.due, item)));
        }
        watched.find_cause(&self.settings.causes);
        if watched.shown && watched.turn.phase != Phase::Leaving {
            self.store.update(watched.entry().clone());
        }
    }

    fn follow_on(&mut self, follow: Follow, anew: Anew) {
        let Follow { settings, account } = follow;
        let (now, moment) = (Instant::now(), self.clock.now());
        let known = self.lists.iter_mut().find(|(_, list)| {
            list.turn.phase != Phase::Leaving && *list.instance_id() == settings.instance_id
        });
        let Some((place, list)) = known else {
            self.list(Listing::new(settings, account, now));
            return;
        };
        let item = Item::List(place);
        let from = list.turn.account;
        if from != account {
            self.notices.moved((from, item), (account, item));
            hand_over(&mut self.accounts, account, item, &mut list.turn);
        }
        if *list.settings() == settings {
            let failing = list.entry().error.is_some();
            if anew.way && failing && list.turn.phase == Phase::Waiting {
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
        for (_, watched) in &mut self.tasks {
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
        let ours = |it: &Watched| it.follower == Some(list) && !it.is_configured();
        for place in self.tasks_that(ours) {
            self.adopt_followed(place, list, anew);
        }
    }

    /// A list alone tells of the task from now on.
    fn adopt_followed(&mut self, place: usize, list: usize, anew: Anew) {
        let list = &self.lists[list];
        let watch = Watch {
            target: Arc::clone(&self.tasks[place].entry().target),
            interval: self.settings.interval,
            account: list.turn.account,
            followed: Some(list.interval()),
        };
        self.adopt(place, watch, anew);
    }

    /// The instance is not followed any more.
    fn unfollow(&mut self, place: usize) {
        for task in self.tasks_that(|it| it.follower == Some(place)) {
            self.unlist(task);
        }
        let list = &self.lists[place];
        self.notices.left(list.turn.account, Item::List(place));
        self.store.remove_listing(list.instance_id());
        self.own.forget_follow(list.instance_id());
        self.drop_list(place);
    }

    /// Gives up the place of a list, at once or when it has been read.
    fn drop_list(&mut self, place: usize) {
        let item = Item::List(place);
        self.unrecognized.release(item);
        let turn = &mut self.lists[place].turn;
        if matches!(turn.phase, Phase::Active | Phase::Leaving) {
            turn.phase = Phase::Leaving;
        } else {
            let at = (turn.due, item);
            self.accounts[turn.account].remove_ready(&at);
            self.instances.done(&turn.instance_id, at);
            self.lists.remove(place);
        }
        self.tried(item);
    }
}

#[cfg(test)]
mod tests;
