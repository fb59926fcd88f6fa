//! What the list of rules changes: which subscriptions there are, and since when.

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::run::known;
use super::subscription::Followed;
use super::{Follower, REMEMBER, millis, owns};
use crate::model::{Rule, Subscription};
use crate::store::state::SavedRule;

/// The rules of a subscription, and which of them.
pub(super) type Place = (Arc<[Rule]>, usize);

impl Follower {
    /// Notes which rules were edited to synchronize something else: the
    /// subscription that they make now is as old as the edit.
    pub(super) fn note_edits(&mut self, rules: &[Rule], now_ms: i64) {
        let listed = OnceCell::new();
        for rule in rules.iter().filter(|rule| !rule.rule_id.is_empty()) {
            let Some(history) = self.rule_history.get_mut(&rule.rule_id) else {
                let history = SavedRule {
                    rule_id: rule.rule_id.clone(),
                    subscription: Arc::new(rule.subscription.clone()),
                    edited_ms: None,
                    seen_ms: now_ms,
                };
                self.rule_history.insert(rule.rule_id.clone(), history);
                continue;
            };
            if *history.subscription != rule.subscription {
                let listed = listed.get_or_init(|| {
                    let rules = rules.iter();
                    let keys = rules.map(|rule| (&*rule.rule_id, &rule.subscription));
                    keys.collect::<HashSet<_>>()
                });
                // Two rules that share an id are no edit.
                if listed.contains(&(&*rule.rule_id, &*history.subscription)) {
                    continue;
                }
                let modified = known(rule.modified_ms);
                let modified = modified.filter(|at| (history.seen_ms..=now_ms).contains(at));
                history.edited_ms = Some(modified.unwrap_or(now_ms));
                history.subscription = Arc::new(rule.subscription.clone());
            }
            history.seen_ms = now_ms;
        }
        let remembered = now_ms.saturating_sub(millis(REMEMBER));
        self.rule_history
            .retain(|_, history| history.seen_ms >= remembered);
    }

    /// Rules that pass the filter; answers the subscriptions that have none any more.
    pub(super) fn take_rules(&mut self, rules: &[Rule], now_ms: i64) -> Vec<Arc<Subscription>> {
        if self.lists_the_same(rules) {
            let live = self.subscriptions.values_mut();
            live.filter(|followed| followed.is_live())
                .for_each(|followed| followed.seen_ms = now_ms);
            return Vec::new();
        }
        let mut by_subscription: BTreeMap<&Subscription, BTreeMap<&str, &Rule>> = BTreeMap::new();
        for rule in rules {
            if self.settings.filter.passes(&rule.subscription) {
                let of_subscription = by_subscription.entry(&rule.subscription).or_default();
                of_subscription.insert(&rule.rule_id, rule);
            }
        }
        let mut removed = Vec::new();
        for (key, followed) in &mut self.subscriptions {
            if by_subscription.contains_key(&**key) {
                continue;
            }
            if followed.is_ours() {
                removed.push(Arc::clone(key));
            }
            if followed.is_live() {
                followed.rules = Arc::from([]);
                self.touched.subscription(Subscription::clone(key));
            }
        }
        for (key, rules) in by_subscription {
            if !self.subscriptions.contains_key(key) {
                let followed = Followed::new(owns(&self.settings, key));
                self.subscriptions.insert(Arc::new(key.clone()), followed);
                // Which of the runs are its own is not known yet.
                self.touched.all = true;
            }
            let Some(followed) = self.subscriptions.get_mut(key) else {
                continue;
            };
            followed.seen_ms = now_ms;
            let since = |rule: &&Rule| {
                let history = self.rule_history.get(&rule.rule_id);
                let edited = history.filter(|history| *history.subscription == rule.subscription);
                let edited = edited.and_then(|history| history.edited_ms);
                edited.or_else(|| known(rule.created_ms))
            };
            followed.created_ms = rules.values().filter_map(since).min();
            if !followed.rules.iter().eq(rules.values().copied()) {
                followed.rules = rules.into_values().cloned().collect();
                self.touched.subscription(key.clone());
            }
        }
        let remembered = now_ms.saturating_sub(millis(REMEMBER));
        self.subscriptions
            .retain(|_, followed| followed.is_live() || followed.seen_ms >= remembered);
        let places = rules.iter().map(|rule| {
            let followed = self.subscriptions.get(&rule.subscription)?;
            let place = followed.rules.iter().position(|one| one == rule)?;
            Some((Arc::clone(&followed.rules), place))
        });
        self.rules = places.collect();
        removed
    }

    /// Whether `rules` are those of the last listing, in the same order.
    fn lists_the_same(&self, rules: &[Rule]) -> bool {
        let same = |rule: &Rule, before: &Option<Place>| match before {
            Some((of_subscription, place)) => of_subscription[*place] == *rule,
            None => !self.settings.filter.passes(&rule.subscription),
        };
        let mut pairs = rules.iter().zip(&self.rules);
        rules.len() == self.rules.len() && pairs.all(|(rule, before)| same(rule, before))
    }
}
