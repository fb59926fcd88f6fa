//! Counters that are on `/metrics` at 0 before they count.
//!
//! Prometheus sees an increase between two scrapes: a series that is born at 1
//! has none. So the first page that holds a new series shows 0, whatever was
//! counted already; the next one shows what was. A series that no page has shown
//! for a while is not held back any longer: who scrapes so rarely should get
//! what there is.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus::core::{Atomic, GenericCounter, GenericCounterVec};
use prometheus::proto::{Counter, Metric, MetricFamily};
use prometheus::{Opts, Registry};
use tokio::time::Instant;

use super::{OWN, lock, register};

/// So long after its birth a series that no page has shown is no longer held at 0.
const HELD: Duration = Duration::from_secs(120);

/// Which series of counters no page has shown yet.
#[derive(Default)]
pub(super) struct Births(Mutex<HashMap<String, Family>>);

#[derive(Default)]
struct Family {
    /// By the values of their labels: when they were born, until they are shown.
    series: HashMap<String, Option<Instant>>,
    /// How many are still to be shown.
    unseen: usize,
}

impl Births {
    fn born(&self, family: &str, labels: &[&str]) {
        let mut families = lock(&self.0);
        let Some(family) = families.get_mut(family) else {
            return;
        };
        let key = key(labels.iter().copied());
        if let Entry::Vacant(new) = family.series.entry(key) {
            new.insert(Some(Instant::now()));
            family.unseen += 1;
        }
    }

    fn died(&self, family: &str, labels: &[&str]) {
        let mut families = lock(&self.0);
        if let Some(family) = families.get_mut(family) {
            let known = family.series.remove(&key(labels.iter().copied()));
            family.unseen -= usize::from(known.flatten().is_some());
        }
    }

    /// Sets to 0 what this page is the first to show.
    pub(super) fn show(
        &self,
        families: &mut [MetricFamily],
        is_shown: impl Fn(&str) -> bool,
        now: Instant,
    ) {
        let mut births = lock(&self.0);
        for family in families {
            let Some(births) = births.get_mut(family.name()) else {
                continue;
            };
            if births.unseen == 0 || !is_shown(family.name()) {
                continue;
            }
            let described = OWN.iter().find(|own| own.name == family.name());
            let order = described.map_or(&[][..], |own| own.labels);
            for metric in family.mut_metric() {
                let born = births.series.get_mut(&key_of(metric, order));
                let Some(born) = born.and_then(Option::take) else {
                    continue;
                };
                births.unseen -= 1;
                if now.saturating_duration_since(born) < HELD {
                    metric.set_counter(Counter::default());
                }
            }
        }
    }
}

/// No value holds the separator: they are names, ids and words of closed sets.
fn key<'a>(values: impl Iterator<Item = &'a str>) -> String {
    let values: Vec<&str> = values.collect();
    values.join("\n")
}

/// Its labels are ordered by name, those of the table are not.
fn key_of(metric: &Metric, order: &[&str]) -> String {
    let value = |name: &&str| {
        let mut labels = metric.get_label().iter();
        labels
            .find(|pair| pair.name() == *name)
            .map_or("", |pair| pair.value())
    };
    key(order.iter().map(value))
}

/// A family of counters.
pub(super) struct Counters<P: Atomic> {
    name: String,
    vec: GenericCounterVec<P>,
    births: Arc<Births>,
}

impl<P: Atomic + 'static> Counters<P> {
    pub(super) fn register(registry: &Registry, name: &str, births: &Arc<Births>) -> Self {
        let vec = register(registry, name, |opts: Opts, labels| {
            GenericCounterVec::new(opts, labels)
        });
        let name = format!("{}{name}", super::PREFIX);
        lock(&births.0).insert(name.clone(), Family::default());
        Self {
            name,
            vec,
            births: Arc::clone(births),
        }
    }

    /// One of them, there at 0 from now on.
    pub(super) fn with(&self, labels: &[&str]) -> GenericCounter<P> {
        // Before there is anything to show.
        self.births.born(&self.name, labels);
        self.vec.with_label_values(labels)
    }

    pub(super) fn remove(&self, labels: &[&str]) {
        // An error means that it was never there.
        let _ = self.vec.remove_label_values(labels);
        self.births.died(&self.name, labels);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Build, Own, Scraped};
    use super::*;

    const PAGE: Scraped = Scraped {
        tasks: 0,
        series: 0,
        series_dropped: 0,
        ready: true,
    };

    const REQUESTS: &str = "aliyun_acr_exporter_http_requests_total";
    const ERRORS: &str = "aliyun_acr_exporter_api_request_errors_total";

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// What a page shows of a counter that has `label` among its labels.
    fn shown(own: &Own, page: impl Fn(&str) -> bool, family: &str, label: &str) -> Option<f64> {
        let families = own.gather_for(PAGE, page);
        let family = families.iter().find(|one| one.name() == family)?;
        let mut metrics = family.get_metric().iter();
        let metric = metrics.find(|metric| {
            let mut labels = metric.get_label().iter();
            labels.any(|pair| pair.value() == label)
        })?;
        Some(metric.get_counter().get_value())
    }

    fn every(_: &str) -> bool {
        true
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_page_shows_0_and_the_next_what_was_counted() {
        let own = Own::new(Build::CURRENT);
        own.http_request("/config", 200);
        own.http_request("/config", 200);
        assert_eq!(shown(&own, every, REQUESTS, "/config"), Some(0.0));
        assert_eq!(shown(&own, every, REQUESTS, "/config"), Some(2.0));
        own.http_request("/config", 200);
        assert_eq!(shown(&own, every, REQUESTS, "/config"), Some(3.0));
        // Another series of the family is new by itself.
        own.http_request("/", 404);
        assert_eq!(shown(&own, every, REQUESTS, "404"), Some(0.0));
        assert_eq!(shown(&own, every, REQUESTS, "404"), Some(1.0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_shown_at_0_shows_the_truth() {
        let own = Own::new(Build::CURRENT);
        let action = own.action("prod", "ListX");
        assert_eq!(shown(&own, every, ERRORS, "timeout"), Some(0.0));
        action.failed(alibaba_cloud::Reason::Timeout);
        assert_eq!(shown(&own, every, ERRORS, "timeout"), Some(1.0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_no_page_has_shown_for_two_minutes_is_not_held_back() {
        let own = Own::new(Build::CURRENT);
        own.http_request("/config", 200);
        tokio::time::advance(seconds(119)).await;
        own.http_request("/", 404);
        tokio::time::advance(seconds(1)).await;
        let families = own.gather_for(PAGE, every);
        let requests = families.iter().find(|family| family.name() == REQUESTS);
        let values = requests.unwrap().get_metric().iter();
        let values: Vec<f64> = values.map(|one| one.get_counter().get_value()).collect();
        // Ordered by code and path; the last was there from the start.
        assert_eq!(values, [1.0, 0.0, 0.0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_without_the_family_has_not_shown_it() {
        let own = Own::new(Build::CURRENT);
        own.action("prod", "ListX")
            .failed(alibaba_cloud::Reason::Timeout);
        own.http_request("/config", 200);
        let errors_alone = |name: &str| name == ERRORS;
        assert_eq!(shown(&own, errors_alone, ERRORS, "timeout"), Some(0.0));
        assert_eq!(shown(&own, errors_alone, ERRORS, "timeout"), Some(1.0));
        assert_eq!(shown(&own, every, REQUESTS, "/config"), Some(0.0));
        assert_eq!(shown(&own, every, REQUESTS, "/config"), Some(1.0));
        assert_eq!(shown(&own, every, ERRORS, "timeout"), Some(1.0));
    }

    #[tokio::test(start_paused = true)]
    async fn every_family_of_counters_with_labels_begins_at_0() {
        let own = Own::new(Build::CURRENT);
        let action = own.action("prod", "ListX");
        action.requests.inc();
        action.retries.inc();
        action.failed(alibaba_cloud::Reason::Other);
        own.rate_limit("prod").1.inc_by(0.5);
        own.credentials_failures("prod").inc();
        own.http_request("/", 404);
        own.log_message("info");
        let instance = own.instance("cri-a");
        instance.polls.inc();
        instance.skipped.inc();
        instance.failed(alibaba_cloud::Reason::Other);
        own.state().failures.inc();
        let counted = |families: Vec<MetricFamily>| {
            let counters = OWN.iter().filter(|own| own.kind == "counter");
            let total = |own: &super::super::OwnMetric| {
                let family = families.iter().find(|family| family.name() == own.name)?;
                let values = family.get_metric().iter();
                Some(values.map(|one| one.get_counter().get_value()).sum())
            };
            let totals = counters.map(|own| total(own).expect(own.name));
            totals.collect::<Vec<f64>>()
        };
        let first = counted(own.gather_for(PAGE, every));
        assert!(first.iter().all(|total| *total == 0.0), "{first:?}");
        let next = counted(own.gather_for(PAGE, every));
        assert!(next.iter().all(|total| *total > 0.0), "{next:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_left_and_comes_back_is_new() {
        let own = Own::new(Build::CURRENT);
        let name = "aliyun_acr_exporter_polls_total";
        own.instance("cri-a").polls.inc();
        assert_eq!(shown(&own, every, name, "cri-a"), Some(0.0));
        assert_eq!(shown(&own, every, name, "cri-a"), Some(1.0));
        own.forget_instance("cri-a");
        assert_eq!(shown(&own, every, name, "cri-a"), None);
        own.instance("cri-a").polls.inc_by(5);
        assert_eq!(shown(&own, every, name, "cri-a"), Some(0.0));
        assert_eq!(shown(&own, every, name, "cri-a"), Some(5.0));
    }
}
