//! The exporter's own metrics, which rooms count where things happen. What is a
//! state rather than an event (tasks, series, readiness) is set at the scrape.
//!
//! Adding one is a row of the table below and a line of `docs/metrics.md`.

mod family;

use std::sync::{Mutex, MutexGuard, PoisonError};

use alibaba_cloud::Reason;
#[cfg(target_os = "linux")]
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge, Histogram, IntCounter, IntGauge, Opts};
use tokio::time::Instant;

use self::family::Described;
pub use self::family::{Family, SecondsSince, Series};
use super::catalog::Kind;

/// One of the exporter's own metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnMetric {
    /// Full name.
    pub name: &'static str,
    /// How its numbers are to be read.
    pub kind: Kind,
    /// Its labels; the page orders them by name.
    pub labels: &'static [&'static str],
    /// The `# HELP` text.
    pub help: &'static str,
}

impl OwnMetric {
    fn opts(&self, values: &[&str]) -> Opts {
        let labels = self.labels.iter().zip(values);
        labels.fold(Opts::new(self.name, self.help), |opts, (label, value)| {
            opts.const_label(*label, *value)
        })
    }
}

/// Makes [`Own`] and [`OWN`] of rows `/// HELP` `field: Type [labels] = "name"`. The
/// name follows the prefix and is that of the field unless the row tells another.
macro_rules! own_metrics {
    ($($(#[doc = $help:literal])+ $field:ident: $type:ty [$($label:literal),*] $(= $name:literal)?,)+) => {
        /// The exporter's own metrics.
        #[allow(clippy::doc_markdown, reason = "HELP has no Markdown")]
        pub struct Own {
            $($(#[doc = $help])+ pub $field: $type,)+
            /// Held while the gauges of one page are set and read.
            scraping: Mutex<()>,
            #[cfg(target_os = "linux")]
            process: ProcessCollector,
        }

        /// Every one of them, in the order of the table.
        pub const OWN: &[OwnMetric] = &[$(OwnMetric {
            name: own_metrics!(@name $field $($name)?),
            kind: <$type as Described>::KIND,
            labels: &[$($label),*],
            help: concat!($($help),+).trim_ascii(),
        }),+];

        impl Own {
            fn empty() -> Self {
                let mut rows = OWN.iter();
                Self {
                    $($field: Described::new(*rows.next().expect("each field has a row")),)+
                    scraping: Mutex::default(),
                    #[cfg(target_os = "linux")]
                    process: ProcessCollector::for_self(),
                }
            }

            fn families(&self, is_shown: &dyn Fn(&str) -> bool, now: Instant) -> Vec<MetricFamily> {
                vec![$(self.$field.gather(is_shown, now)),+]
            }
        }
    };
    (@name $field:ident) => { concat!("aliyun_acr_exporter_", stringify!($field)) };
    (@name $field:ident $name:literal) => { concat!("aliyun_acr_exporter_", $name) };
}

own_metrics! {
    /// Requests a second that the rate limit of the account allows now.
    api_rate_limit: Family<Gauge> ["credentials"],
    /// Time that requests spent waiting for the rate limit of their account.
    api_rate_limit_wait_seconds_total: Family<Counter> ["credentials"],
    /// Duration of API requests, connection setup included.
    api_request_duration_seconds: Family<Histogram> ["credentials", "action"],
    /// API requests that failed, every attempt, by reason.
    api_request_errors_total: Family<IntCounter> ["credentials", "action", "reason"],
    /// API requests in flight.
    api_in_flight: IntGauge [] = "api_requests_in_flight",
    /// API requests sent, every attempt, retries included.
    api_requests_total: Family<IntCounter> ["credentials", "action"],
    /// API requests sent again after a failure.
    api_retries_total: Family<IntCounter> ["credentials", "action"],
    /// 1, with the version and the build of the exporter.
    build_info: Family<Gauge> ["version", "revision", "rustversion", "target"],
    /// The exporter's clock less the cloud's, from the Date of the newest answer; positive:
    /// ours is ahead.
    clock_skew_seconds: Family<Gauge> [],
    /// The first 48 bits of a SHA-256 over the configuration in force, defaults filled in,
    /// without secrets.
    config_hash: Family<Gauge> [],
    /// Unix time at which the configuration in force was loaded.
    config_last_reload_success_timestamp_seconds: Family<Gauge> [],
    /// 1 if the configuration could be loaded the last time, else 0: an older one is in
    /// force.
    config_last_reload_successful: Family<Gauge> [],
    /// When the key in use ends, by the provider that gave it; absent for keys that do not
    /// end.
    credentials_expiration_timestamp_seconds: Family<Gauge> ["credentials", "provider"],
    /// Times that no key could be had from the source of these credentials.
    credentials_refresh_failures_total: Family<IntCounter> ["credentials"],
    /// 1 while the lists of the followed instance cannot be read, with the reason.
    follow_error: Family<Gauge> ["instance_id", "reason"],
    /// Unix timestamp of the last successful listing of the followed instance.
    follow_last_success_timestamp_seconds: Family<Gauge> ["instance_id"],
    /// Number of followed subscriptions of the instance in this shard.
    follow_subscriptions: Family<Gauge> ["instance_id"],
    /// Runs of the followed instance that max_tasks keeps off this page.
    follow_tasks_dropped: Family<Gauge> ["instance_id"],
    /// 1 if the lists of the followed instance could be read the last time, else 0; absent
    /// before the first.
    follow_up: Family<Gauge> ["instance_id"],
    /// HTTP requests answered by the exporter.
    http_requests_total: Family<IntCounter> ["path", "code"],
    /// Log messages written.
    log_messages_total: Family<IntCounter> ["level"],
    /// Delay of the most overdue poll of the instance.
    poll_lag_seconds: Family<SecondsSince> ["instance_id"],
    /// Total number of failed polls of tasks of the instance.
    poll_failures_total: Family<IntCounter> ["instance_id", "reason"],
    /// Total number of polls skipped because the previous one was still in progress.
    polls_skipped_total: Family<IntCounter> ["instance_id"],
    /// Total number of finished polls of tasks of the instance.
    polls_total: Family<IntCounter> ["instance_id"],
    /// 1 once every task was tried once, or 60 s after the start; 0 before and while
    /// stopping.
    ready: IntGauge [],
    /// Series of the aliyun_acr_subscription_ part of this page.
    series: IntGauge [],
    /// Series that the configured limits keep off this page.
    series_dropped: IntGauge [],
    /// Zero-based index of this shard.
    shard_index: IntGauge [],
    /// Number of shards.
    shards: IntGauge [],
    /// Unix timestamp of the last successful save of the state file.
    state_last_save_timestamp_seconds: Family<Gauge> [],
    /// Total number of failed saves of the state file.
    state_save_failures_total: Family<IntCounter> [],
    /// Tasks that are polled, configured and followed.
    tasks: IntGauge [],
    /// Status values returned by the API that no status mapping covers.
    unrecognized_values: Family<Gauge> ["field", "value"],
}

/// Values of `path` in `http_requests_total`; every other path is "other".
pub const HTTP_PATHS: [&str; 8] = [
    "/metrics",
    "/",
    "/api/v1/tasks",
    "/api/v1/openapi.json",
    "/config",
    "/-/healthy",
    "/-/ready",
    "/-/reload",
];

/// What identifies this build.
#[derive(Clone, Copy, Debug)]
pub struct Build {
    /// The version of the crate.
    pub version: &'static str,
    /// The commit it was built from, "unknown" outside a checkout.
    pub revision: &'static str,
    /// The compiler's version.
    pub rustversion: &'static str,
    /// The target triple.
    pub target: &'static str,
}

impl Build {
    /// This build.
    pub const CURRENT: Self = Self {
        version: env!("CARGO_PKG_VERSION"),
        revision: env!("BUILD_REVISION"),
        rustversion: env!("BUILD_RUST_VERSION"),
        target: env!("BUILD_TARGET"),
    };
}

impl Own {
    /// All that is there before anything happens.
    pub fn new(build: Build) -> Self {
        let own = Self::empty();
        let Build {
            version,
            revision,
            rustversion,
            target,
        } = build;
        own.build_info
            .set(&[version, revision, rustversion, target], 1.0);
        for level in ["error", "warn", "info", "debug", "trace"] {
            own.log_messages_total.with(&[level]);
        }
        own.http_requests_total.with(&["/metrics", "200"]);
        own.shards.set(1);
        own
    }

    /// The counters of one action of one account, there at 0 from now on.
    pub fn action(&self, credentials: &str, action: &str) -> ActionMetrics {
        let labels = [credentials, action];
        let errors = &self.api_request_errors_total;
        ActionMetrics {
            requests: self.api_requests_total.with(&labels),
            errors: Reason::API.map(|reason| errors.with(&[credentials, action, reason.as_str()])),
            duration: self.api_request_duration_seconds.with(&labels),
            retries: self.api_retries_total.with(&labels),
        }
    }

    /// The gauge and the waiting time of one account's rate limit.
    pub fn rate_limit(&self, credentials: &str) -> (Gauge, Counter) {
        let labels = [credentials];
        (
            self.api_rate_limit.with(&labels),
            self.api_rate_limit_wait_seconds_total.with(&labels),
        )
    }

    /// Takes the rate limit away of an entry of the configuration that is gone.
    /// What was counted stays.
    pub fn forget_rate_limit(&self, credentials: &str) {
        self.api_rate_limit.remove(&[credentials]);
    }

    /// Counts failures to get a key for one entry of the configuration.
    pub fn credentials_failures(&self, credentials: &str) -> IntCounter {
        self.credentials_refresh_failures_total.with(&[credentials])
    }

    /// Shows when the key of one entry of the configuration ends (Unix time).
    pub fn show_credentials_expiration(&self, credentials: &str, provider: &str, seconds: f64) {
        self.credentials_expiration_timestamp_seconds
            .set(&[credentials, provider], seconds);
    }

    /// Takes the end of a key away, of a provider that does not give it any more.
    pub fn hide_credentials_expiration(&self, credentials: &str, provider: &str) {
        self.credentials_expiration_timestamp_seconds
            .remove(&[credentials, provider]);
    }

    /// Notes how far the exporter's clock is ahead of the cloud's.
    pub fn set_clock_skew(&self, ahead: f64) {
        self.clock_skew_seconds.set(&[], ahead);
    }

    /// Counts an answered HTTP request; `path` is one of [`HTTP_PATHS`] or "other".
    pub fn http_request(&self, path: &str, code: u16) {
        self.http_requests_total
            .with(&[path, &code.to_string()])
            .inc();
    }

    /// The metrics of one configured instance, there at 0 from now on.
    pub fn instance(&self, instance_id: &str) -> InstanceMetrics {
        let labels = [instance_id];
        let failures = &self.poll_failures_total;
        InstanceMetrics {
            polls: self.polls_total.with(&labels),
            skipped: self.polls_skipped_total.with(&labels),
            failures: Reason::ALL.map(|reason| failures.with(&[instance_id, reason.as_str()])),
            lag: self.poll_lag_seconds.with(&labels),
        }
    }

    /// Takes the metrics of an instance away that is not configured any more;
    /// its [`InstanceMetrics`] must not be used afterwards.
    pub fn forget_instance(&self, instance_id: &str) {
        self.polls_total.remove(&[instance_id]);
        self.polls_skipped_total.remove(&[instance_id]);
        self.poll_failures_total.remove(&[instance_id]);
        self.poll_lag_seconds.remove(&[instance_id]);
    }

    /// Takes the metrics of an instance away that is not followed any more.
    pub fn forget_follow(&self, instance_id: &str) {
        self.follow_last_success_timestamp_seconds
            .remove(&[instance_id]);
        self.follow_subscriptions.remove(&[instance_id]);
        self.follow_tasks_dropped.remove(&[instance_id]);
        self.follow_up.remove(&[instance_id]);
        self.follow_error.remove(&[instance_id]);
    }

    /// The metrics of the state file, there from now on, the time of the last
    /// save once there was one.
    pub fn state(&self) -> StateMetrics {
        StateMetrics {
            saved_at: self.state_last_save_timestamp_seconds.clone(),
            failures: self.state_save_failures_total.with(&[]),
        }
    }

    /// Everything as it is on this page, whatever else is scraped at the same
    /// time. `is_shown` tells which counters the page has: one that no page has
    /// shown yet is 0 on the first one.
    pub fn gather_for(
        &self,
        scraped: Scraped,
        is_shown: impl Fn(&str) -> bool,
    ) -> Vec<MetricFamily> {
        let _alone = lock(&self.scraping);
        self.tasks.set(gauge(scraped.tasks));
        self.series.set(gauge(scraped.series));
        self.series_dropped.set(gauge(scraped.series_dropped));
        self.ready.set(i64::from(scraped.ready));
        self.collect(&is_shown)
    }

    /// Everything as it is now, families ordered by name.
    pub fn gather(&self) -> Vec<MetricFamily> {
        self.collect(&|_| false)
    }

    fn collect(&self, is_shown: &dyn Fn(&str) -> bool) -> Vec<MetricFamily> {
        let mut families = self.families(is_shown, Instant::now());
        #[cfg(target_os = "linux")]
        families.extend(prometheus::core::Collector::collect(&self.process));
        families.retain(|family| !family.get_metric().is_empty());
        families.sort_by(|a, b| a.name().cmp(b.name()));
        families
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No change is ever left half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the own metrics tell of the page that they stand on.
#[derive(Clone, Copy, Debug)]
pub struct Scraped {
    /// Tasks that are polled.
    pub tasks: usize,
    /// Series of the page, the own ones left out.
    pub series: usize,
    /// Series that the limits keep off it.
    pub series_dropped: usize,
    /// Whether the exporter is ready.
    pub ready: bool,
}

/// The counters of one action of one account.
#[derive(Clone)]
pub struct ActionMetrics {
    /// Attempts sent.
    pub requests: IntCounter,
    /// Seconds of each attempt.
    pub duration: Histogram,
    /// Attempts after the first.
    pub retries: IntCounter,
    /// In the order of [`Reason::API`].
    errors: [IntCounter; Reason::API.len()],
}

impl ActionMetrics {
    /// Counts a failed attempt. [`Reason::Credentials`] is none: nothing was sent.
    pub fn failed(&self, reason: Reason) {
        if let Some(counter) = self.errors.get(reason as usize) {
            counter.inc();
        }
    }
}

/// The metrics of one configured instance.
pub struct InstanceMetrics {
    /// Polls that have finished.
    pub polls: IntCounter,
    /// Polls that were skipped.
    pub skipped: IntCounter,
    /// In the order of [`Reason::ALL`].
    failures: [IntCounter; Reason::ALL.len()],
    /// Since when the most overdue poll is due.
    pub lag: SecondsSince,
}

impl InstanceMetrics {
    /// Counts a failed poll.
    pub fn failed(&self, reason: Reason) {
        self.failures[reason as usize].inc();
    }
}

/// The metrics of the state file.
#[derive(Clone)]
pub struct StateMetrics {
    saved_at: Family<Gauge>,
    /// Times that it could not be written.
    pub failures: IntCounter,
}

impl StateMetrics {
    /// Notes when it was last written, Unix seconds.
    pub fn saved(&self, at: f64) {
        self.saved_at.set(&[], at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The samples of the families whose name begins with `prefix`.
    fn samples(own: &Own, prefix: &str) -> Vec<String> {
        let text = prometheus::TextEncoder::new()
            .encode_to_string(&own.gather())
            .expect("the registry can be written");
        let lines = text
            .lines()
            .filter_map(|line| line.strip_prefix("aliyun_acr_exporter_"));
        lines
            .filter(|line| line.starts_with(prefix))
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn what_leaves_takes_its_own_series_with_it() {
        let own = Own::new(Build::CURRENT);
        assert!(samples(&own, "follow_").is_empty());
        for id in ["cri-a", "cri-ab"] {
            own.follow_last_success_timestamp_seconds
                .set(&[id], 1_700_000_000.25);
            own.follow_up.set(&[id], 0.0);
            own.follow_error.set(&[id, "timeout"], 1.0);
            own.follow_error.set(&[id, "credentials"], 1.0);
            own.follow_subscriptions.set(&[id], 10_000.0);
            own.follow_tasks_dropped.set(&[id], 7.0);
        }
        assert_eq!(samples(&own, "follow_").len(), 12);
        own.forget_follow("cri-a");
        own.forget_follow("cri-never");
        assert_eq!(
            samples(&own, "follow_"),
            [
                r#"follow_error{instance_id="cri-ab",reason="credentials"} 1"#,
                r#"follow_error{instance_id="cri-ab",reason="timeout"} 1"#,
                r#"follow_last_success_timestamp_seconds{instance_id="cri-ab"} 1700000000.25"#,
                r#"follow_subscriptions{instance_id="cri-ab"} 10000"#,
                r#"follow_tasks_dropped{instance_id="cri-ab"} 7"#,
                r#"follow_up{instance_id="cri-ab"} 0"#,
            ]
        );
    }

    #[test]
    fn the_state_file_has_metrics_only_where_there_is_one() {
        let own = Own::new(Build::CURRENT);
        assert!(samples(&own, "state_").is_empty());
        own.state();
        assert_eq!(samples(&own, "state_"), ["state_save_failures_total 0"]);
        own.state().saved(1_700_000_000.5);
        own.state().failures.inc();
        assert_eq!(
            samples(&own, "state_"),
            [
                "state_last_save_timestamp_seconds 1700000000.5",
                "state_save_failures_total 1",
            ]
        );
    }

    #[test]
    fn without_sharding_this_is_shard_0_of_1() {
        let own = Own::new(Build::CURRENT);
        assert_eq!(samples(&own, "shard"), ["shard_index 0", "shards 1"]);
        own.shard_index.set(2);
        own.shards.set(3);
        assert_eq!(samples(&own, "shard"), ["shard_index 2", "shards 3"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_instance_has_every_counter_at_0_from_the_start_until_it_leaves() {
        let own = Own::new(Build::CURRENT);
        assert!(samples(&own, "poll").is_empty());
        let (a, _b) = (own.instance("cri-a"), own.instance("cri-b"));
        let failures = samples(&own, "poll_failures_total");
        let expected = ["cri-a", "cri-b"].into_iter().flat_map(|id| {
            let mut words = Reason::ALL.map(Reason::as_str);
            words.sort_unstable();
            words.map(|reason| {
                format!(r#"poll_failures_total{{instance_id="{id}",reason="{reason}"}} 0"#)
            })
        });
        assert_eq!(failures, expected.collect::<Vec<_>>());
        assert_eq!(
            samples(&own, "polls_"),
            [
                r#"polls_skipped_total{instance_id="cri-a"} 0"#,
                r#"polls_skipped_total{instance_id="cri-b"} 0"#,
                r#"polls_total{instance_id="cri-a"} 0"#,
                r#"polls_total{instance_id="cri-b"} 0"#,
            ]
        );
        a.polls.inc();
        a.failed(Reason::Credentials);
        a.lag.set(Some(Instant::now()));
        tokio::time::advance(std::time::Duration::from_millis(1_500)).await;
        assert_eq!(
            samples(&own, "poll_lag"),
            [
                r#"poll_lag_seconds{instance_id="cri-a"} 1.5"#,
                r#"poll_lag_seconds{instance_id="cri-b"} 0"#,
            ]
        );
        a.lag.set(None);
        assert_eq!(
            samples(&own, "poll_lag")[0],
            r#"poll_lag_seconds{instance_id="cri-a"} 0"#
        );
        let failed = r#"poll_failures_total{instance_id="cri-a",reason="credentials"} 1"#;
        assert!(samples(&own, "poll_failures").contains(&failed.to_owned()));

        own.forget_instance("cri-a");
        own.forget_instance("cri-never");
        let left = samples(&own, "poll");
        // Twelve reasons, lag, skipped and all.
        assert_eq!(left.len(), 15, "{left:?}");
        assert!(left.iter().all(|sample| sample.contains("cri-b")));
        // It comes back as a new one.
        own.instance("cri-a");
        assert_eq!(
            samples(&own, "polls_total")[0],
            r#"polls_total{instance_id="cri-a"} 0"#
        );
    }
}
