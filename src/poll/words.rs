//! Status words that no mapping covers, as the data of tasks and the lists of
//! instances hold them now: a word is on `/metrics` for as long as one of them
//! holds it, but not beyond a bound, and is logged once.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::metrics::own::Own;

use super::Item;

/// Words on the page.
const SHOWN_MAX: usize = 32;
/// Characters of a word.
const LENGTH_MAX: usize = 64;
/// Words that are remembered as logged.
const LOGGED_MAX: usize = 1_000;
/// Between two looks at what has become stale.
const STALE_CHECK_INTERVAL: Duration = Duration::from_secs(30);

/// The field of the API, and what it held.
pub(super) type Word = (&'static str, String);

pub(super) struct UnrecognizedWords {
    /// Without those that hold none.
    held: HashMap<Item, BTreeSet<Word>>,
    /// How many hold each.
    holders: BTreeMap<Word, usize>,
    shown: BTreeSet<Word>,
    logged: HashSet<Word>,
    /// Whether `shown` has to be looked at.
    changed: bool,
    looked: Instant,
}

impl UnrecognizedWords {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            held: HashMap::new(),
            holders: BTreeMap::new(),
            shown: BTreeSet::new(),
            logged: HashSet::new(),
            changed: false,
            looked: now,
        }
    }

    /// What `item` holds from now on.
    pub(super) fn hold(&mut self, item: Item, words: impl IntoIterator<Item = Word>) {
        let words = words.into_iter();
        let cut = |word: &str| word.trim().chars().take(LENGTH_MAX).collect();
        let words: BTreeSet<Word> = words.map(|(field, word)| (field, cut(&word))).collect();
        // Nearly every poll brings what the one before has brought.
        if self
            .held
            .get(&item)
            .map_or(words.is_empty(), |held| *held == words)
        {
            return;
        }
        self.release(item);
        for word in &words {
            *self.holders.entry(word.clone()).or_default() += 1;
        }
        if !words.is_empty() {
            self.held.insert(item, words);
        }
        self.changed = true;
    }

    /// `item` holds nothing any more.
    pub(super) fn release(&mut self, item: Item) {
        for word in self.held.remove(&item).unwrap_or_default() {
            if let Some(holders) = self.holders.get_mut(&word) {
                *holders -= 1;
                if *holders == 0 {
                    self.holders.remove(&word);
                }
            }
            self.changed = true;
        }
    }

    /// Status mappings have changed. What is still unrecognized stays; a word that
    /// is mapped now and no longer later is logged again.
    pub(super) fn remap(&mut self, is_unrecognized: impl Fn(&str) -> bool) {
        let is_mapped = |(_, word): &Word| !is_unrecognized(word);
        let items: Vec<Item> = self.held.keys().copied().collect();
        for item in items {
            let held = self.held.get(&item).into_iter().flatten();
            let left: Vec<Word> = held.filter(|word| !is_mapped(word)).cloned().collect();
            self.hold(item, left);
        }
        self.logged.retain(|word| !is_mapped(word));
    }

    /// When to look for data that has become stale; never while nothing is held.
    pub(super) fn next_look(&self) -> Option<Instant> {
        (!self.held.is_empty()).then(|| self.looked + STALE_CHECK_INTERVAL)
    }

    /// Releases what is not fresh any more.
    pub(super) fn look(&mut self, now: Instant, is_fresh: impl Fn(Item) -> bool) {
        self.looked = now;
        let items: Vec<Item> = self.held.keys().copied().collect();
        for item in items.into_iter().filter(|item| !is_fresh(*item)) {
            self.release(item);
        }
    }

    /// Brings the metric up to date. Answers words that are to be logged, each with
    /// a holder of it.
    pub(super) fn show(&mut self, own: &Own) -> Vec<(Item, Word)> {
        if !std::mem::take(&mut self.changed) {
            return Vec::new();
        }
        self.shown.retain(|word| {
            let stays = self.holders.contains_key(word);
            if !stays {
                own.unrecognized_values.remove(&[word.0, &word.1]);
            }
            stays
        });
        let mut news = Vec::new();
        let waiting = self.holders.keys();
        for word in waiting.filter(|word| !self.shown.contains(*word)) {
            if self.shown.len() + news.len() == SHOWN_MAX {
                break;
            }
            news.push(word.clone());
        }
        for (field, word) in &news {
            own.unrecognized_values.set(&[field, word], 1.0);
        }
        self.shown.extend(news.iter().cloned());
        if self.logged.len() >= LOGGED_MAX {
            self.logged.clear();
        }
        news.retain(|word| self.logged.insert(word.clone()));
        let held_by = |word: Word| {
            let mut held = self.held.iter();
            let (item, _) = held.find(|(_, words)| words.contains(&word))?;
            Some((*item, word))
        };
        news.into_iter().filter_map(held_by).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::own::Build;

    const FIRST: Item = Item::Task(0);
    const SECOND: Item = Item::List(0);

    fn words(values: &[&str]) -> Vec<Word> {
        let words = values.iter();
        words.map(|value| ("Status", (*value).to_owned())).collect()
    }

    /// The words on the page.
    fn page(own: &Own) -> Vec<String> {
        let families = own.gather();
        let name = "aliyun_acr_exporter_unrecognized_values";
        let family = families.iter().find(|family| family.name() == name);
        let metrics = family.map_or(&[][..], |family| family.get_metric());
        let value = |metric: &prometheus::proto::Metric| metric.get_label()[1].value().to_owned();
        metrics.iter().map(value).collect()
    }

    struct Bench(UnrecognizedWords, Own);

    impl Bench {
        fn new() -> Self {
            Self(
                UnrecognizedWords::new(Instant::now()),
                Own::new(Build::CURRENT),
            )
        }

        /// Answers how many words are to be logged.
        fn hold(&mut self, item: Item, values: &[&str]) -> usize {
            self.0.hold(item, words(values));
            self.0.show(&self.1).len()
        }
    }

    #[test]
    fn a_word_is_there_for_as_long_as_something_holds_it() {
        let mut bench = Bench::new();
        assert_eq!(bench.hold(FIRST, &["ODD", "ODD", "STRANGE"]), 2);
        assert_eq!(bench.hold(SECOND, &["ODD"]), 0);
        assert_eq!(page(&bench.1), ["ODD", "STRANGE"]);
        assert_eq!(bench.hold(FIRST, &[]), 0);
        assert_eq!(page(&bench.1), ["ODD"]);
        bench.0.release(SECOND);
        bench.0.show(&bench.1);
        assert!(page(&bench.1).is_empty());
        // It is back, and was logged already.
        assert_eq!(bench.hold(FIRST, &["ODD"]), 0);
        assert_eq!(page(&bench.1), ["ODD"]);
    }

    #[test]
    fn what_the_bound_keeps_away_comes_in_when_others_leave() {
        let mut bench = Bench::new();
        let many: Vec<String> = (10..50).map(|n| format!("W{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(bench.hold(FIRST, &many), 32);
        assert_eq!(bench.hold(SECOND, &["A"]), 0);
        assert_eq!(page(&bench.1), many[..32]);
        // Two leave, the first two that wait come in and are logged now.
        let left: Vec<&str> = many.iter().skip(2).copied().collect();
        assert_eq!(bench.hold(FIRST, &left), 2);
        let mut expected = vec!["A"];
        expected.extend(&many[2..33]);
        assert_eq!(page(&bench.1), expected);
    }

    #[test]
    fn a_mapped_word_leaves_at_once_and_is_news_when_it_is_unmapped() {
        let mut bench = Bench::new();
        bench.hold(FIRST, &["ODD", "STRANGE"]);
        bench.0.remap(|word| word == "ODD");
        assert_eq!(bench.0.show(&bench.1), []);
        assert_eq!(page(&bench.1), ["ODD"]);
        assert_eq!(bench.hold(FIRST, &["ODD", "STRANGE"]), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn stale_data_holds_nothing() {
        let mut bench = Bench::new();
        assert_eq!(bench.0.next_look(), None);
        bench.hold(FIRST, &["ODD"]);
        bench.hold(SECOND, &["STRANGE"]);
        let look = bench.0.next_look().unwrap();
        assert_eq!(look - Instant::now(), STALE_CHECK_INTERVAL);
        bench.0.look(look, |item| item == SECOND);
        bench.0.show(&bench.1);
        assert_eq!(page(&bench.1), ["STRANGE"]);
        assert_eq!(bench.0.next_look(), Some(look + STALE_CHECK_INTERVAL));
    }

    #[test]
    fn a_word_is_cut() {
        let mut bench = Bench::new();
        let long = format!(" {} ", "\u{e4}".repeat(65));
        bench.hold(FIRST, &[&long]);
        assert_eq!(page(&bench.1), ["\u{e4}".repeat(64)]);
    }
}
