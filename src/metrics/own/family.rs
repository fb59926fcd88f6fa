//! One family of the exporter's own metrics: its series by the values of their labels.
//!
//! Counters are on `/metrics` at 0 before they count. Prometheus sees an increase
//! between two scrapes: a series that appears with 1 has none. So the first response
//! that contains a new series shows 0, and the next one what was counted. A series
//! that no response has contained for two minutes is not held back any longer.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus::core::{Atomic, Collector as _, GenericCounter, GenericGauge, Metric};
use prometheus::proto::{self, MetricFamily, MetricType};
use prometheus::{Gauge, Histogram, HistogramOpts, IntGauge, Opts};
use tokio::time::Instant;

use super::{OwnMetric, lock};
use crate::metrics::catalog::Kind;

/// How long a new counter is held at 0 while no response contains it.
const HELD: Duration = Duration::from_secs(120);

const DURATION_BUCKETS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// A type of metric that the series of a [`Family`] can have.
pub trait Series: Metric {
    /// Its type on the page.
    const KIND: Kind;

    /// A series with the name, the help and the labels of `opts`.
    fn new(opts: Opts) -> prometheus::Result<Self>;
}

impl<P: Atomic> Series for GenericCounter<P> {
    const KIND: Kind = Kind::Counter;

    fn new(opts: Opts) -> prometheus::Result<Self> {
        Self::with_opts(opts)
    }
}

impl<P: Atomic> Series for GenericGauge<P> {
    const KIND: Kind = Kind::Gauge;

    fn new(opts: Opts) -> prometheus::Result<Self> {
        Self::with_opts(opts)
    }
}

impl Series for Histogram {
    const KIND: Kind = Kind::Histogram;

    fn new(opts: Opts) -> prometheus::Result<Self> {
        Self::with_opts(HistogramOpts::from(opts).buckets(DURATION_BUCKETS.to_vec()))
    }
}

/// A gauge of the seconds that have passed since a moment; 0 without one.
#[derive(Clone)]
pub struct SecondsSince {
    gauge: Gauge,
    moment: Arc<Mutex<Option<Instant>>>,
}

impl SecondsSince {
    /// Counts from `moment`.
    pub fn set(&self, moment: Option<Instant>) {
        *lock(&self.moment) = moment;
    }
}

impl Metric for SecondsSince {
    fn metric(&self) -> proto::Metric {
        let passed = lock(&self.moment).map(|moment| moment.elapsed());
        self.gauge.set(passed.unwrap_or_default().as_secs_f64());
        self.gauge.metric()
    }
}

impl Series for SecondsSince {
    const KIND: Kind = Kind::Gauge;

    fn new(opts: Opts) -> prometheus::Result<Self> {
        Ok(Self {
            gauge: Gauge::with_opts(opts)?,
            moment: Arc::default(),
        })
    }
}

/// What a row of the table of own metrics can be.
pub(super) trait Described {
    const KIND: Kind;

    fn new(described: OwnMetric) -> Self;

    /// Its series. `is_shown` tells whether the response contains a counter.
    fn gather(&self, is_shown: &dyn Fn(&str) -> bool, now: Instant) -> MetricFamily;
}

/// A single gauge that is always there.
impl Described for IntGauge {
    const KIND: Kind = Kind::Gauge;

    fn new(described: OwnMetric) -> Self {
        Series::new(described.opts(&[])).expect("the names of the table are valid")
    }

    fn gather(&self, _: &dyn Fn(&str) -> bool, _: Instant) -> MetricFamily {
        self.collect().remove(0)
    }
}

/// The series of one metric, each there from its first use on.
#[derive(Clone)]
pub struct Family<S> {
    described: OwnMetric,
    series: Arc<Mutex<HashMap<Vec<String>, Child<S>>>>,
}

struct Child<S> {
    series: S,
    /// Since when it waits for the first response that contains it.
    unseen_since: Option<Instant>,
}

impl<S: Series> Family<S> {
    /// The series with these values of the labels.
    pub fn with(&self, values: &[&str]) -> S {
        debug_assert_eq!(
            values.len(),
            self.described.labels.len(),
            "{}",
            self.described.name
        );
        let key = values.iter().map(|value| (*value).to_owned()).collect();
        let mut children = lock(&self.series);
        let child = children.entry(key).or_insert_with(|| Child {
            series: S::new(self.described.opts(values)).expect("the names of the table are valid"),
            unseen_since: Some(Instant::now()),
        });
        child.series.clone()
    }

    /// Removes the series whose labels begin with these values.
    pub fn remove(&self, values: &[&str]) {
        let begins = |key: &[String]| key.iter().zip(values).all(|(key, value)| key == value);
        lock(&self.series).retain(|key, _| !begins(key));
    }
}

impl Family<Gauge> {
    /// Sets the series with these values of the labels.
    pub fn set(&self, values: &[&str], number: f64) {
        self.with(values).set(number);
    }
}

impl<S: Series> Described for Family<S> {
    const KIND: Kind = S::KIND;

    fn new(described: OwnMetric) -> Self {
        Self {
            described,
            series: Arc::default(),
        }
    }

    fn gather(&self, is_shown: &dyn Fn(&str) -> bool, now: Instant) -> MetricFamily {
        let is_seen = S::KIND == Kind::Counter && is_shown(self.described.name);
        let mut children = lock(&self.series);
        let metrics = children.values_mut().map(|child| {
            let mut metric = child.series.metric();
            let unseen_since = child.unseen_since.take_if(|_| is_seen);
            if unseen_since.is_some_and(|since| now.saturating_duration_since(since) < HELD) {
                metric.set_counter(proto::Counter::default());
            }
            metric
        });
        let mut metrics: Vec<proto::Metric> = metrics.collect();
        metrics.sort_by(|a, b| label_values(a).cmp(label_values(b)));
        let mut family = MetricFamily::default();
        family.set_name(self.described.name.to_owned());
        family.set_help(self.described.help.to_owned());
        family.set_field_type(match S::KIND {
            Kind::Counter => MetricType::COUNTER,
            Kind::Gauge => MetricType::GAUGE,
            Kind::Histogram => MetricType::HISTOGRAM,
        });
        family.set_metric(metrics);
        family
    }
}

/// In the order of the page: by the names of the labels.
fn label_values(metric: &proto::Metric) -> impl Iterator<Item = &str> {
    metric.get_label().iter().map(proto::LabelPair::value)
}

#[cfg(test)]
mod tests {
    use super::super::{Build, OWN, Own, Scraped};
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
        own.log_messages_total.with(&["info"]).inc();
        let instance = own.instance("cri-a");
        instance.polls.inc();
        instance.skipped.inc();
        instance.failed(alibaba_cloud::Reason::Other);
        own.state().failures.inc();
        let counted = |families: Vec<MetricFamily>| {
            let counters = OWN.iter().filter(|own| own.kind == Kind::Counter);
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
