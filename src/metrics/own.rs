//! The exporter's own metrics, on a registry of its own of the `prometheus`
//! crate. Rooms count here where things happen; what is a state rather than
//! an event (tasks, series, readiness, lag) is set at the scrape.
//!
//! A counter is on `/metrics` at 0 before it counts: [`births`] sees to it.
//!
//! [`OWN`] describes every family, so that the page, this file and
//! `docs/metrics.md` can be held together by a test.

mod births;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alibaba_cloud::Reason;
use prometheus::core::{AtomicF64, AtomicU64, Collector};
use prometheus::proto::MetricFamily;
use prometheus::{
    Counter, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntGauge, IntGaugeVec, Opts,
    Registry,
};
use tokio::time::Instant;

use self::births::{Births, Counters};

const PREFIX: &str = "aliyun_acr_exporter_";

/// One family of the exporter's own metrics, for the documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnMetric {
    /// Full name.
    pub name: &'static str,
    /// `gauge`, `counter` or `histogram`.
    pub kind: &'static str,
    /// Its labels; the page orders them by name.
    pub labels: &'static [&'static str],
    /// The `# HELP` text.
    pub help: &'static str,
}

const API: &[&str] = &["credentials", "action"];
const INSTANCE: &[&str] = &["instance_id"];

/// Every family that this room registers, in the order of the page.
pub const OWN: &[OwnMetric] = &[
    gauge(
        "aliyun_acr_exporter_api_rate_limit",
        &["credentials"],
        "Requests a second that the rate limit of the account allows now.",
    ),
    counter(
        "aliyun_acr_exporter_api_rate_limit_wait_seconds_total",
        &["credentials"],
        "Time that requests spent waiting for the rate limit of their account.",
    ),
    OwnMetric {
        name: "aliyun_acr_exporter_api_request_duration_seconds",
        kind: "histogram",
        labels: API,
        help: "Duration of API requests, connection setup included.",
    },
    counter(
        "aliyun_acr_exporter_api_request_errors_total",
        &["credentials", "action", "reason"],
        "API requests that failed, every attempt, by reason.",
    ),
    gauge(
        "aliyun_acr_exporter_api_requests_in_flight",
        &[],
        "API requests in flight.",
    ),
    counter(
        "aliyun_acr_exporter_api_requests_total",
        API,
        "API requests sent, every attempt, retries included.",
    ),
    counter(
        "aliyun_acr_exporter_api_retries_total",
        API,
        "API requests sent again after a failure.",
    ),
    gauge(
        "aliyun_acr_exporter_build_info",
        &["version", "revision", "rustversion", "target"],
        "1, with the version and the build of the exporter.",
    ),
    gauge(
        "aliyun_acr_exporter_clock_skew_seconds",
        &[],
        "The exporter's clock less the cloud's, from the Date of the newest answer; positive: ours is ahead.",
    ),
    gauge(
        "aliyun_acr_exporter_config_hash",
        &[],
        "The first 48 bits of a SHA-256 over the configuration in force, defaults filled in, without secrets.",
    ),
    gauge(
        "aliyun_acr_exporter_config_last_reload_success_timestamp_seconds",
        &[],
        "Unix time at which the configuration in force was loaded.",
    ),
    gauge(
        "aliyun_acr_exporter_config_last_reload_successful",
        &[],
        "1 if the configuration could be loaded the last time, else 0: an older one is in force.",
    ),
    gauge(
        "aliyun_acr_exporter_credentials_expiration_timestamp_seconds",
        &["credentials", "provider"],
        "When the key in use ends, by the provider that gave it; absent for keys that do not end.",
    ),
    counter(
        "aliyun_acr_exporter_credentials_refresh_failures_total",
        &["credentials"],
        "Times that no key could be had from the source of these credentials.",
    ),
    gauge(
        "aliyun_acr_exporter_follow_error",
        &["instance_id", "reason"],
        "1 while the lists of the followed instance cannot be read, with the reason.",
    ),
    gauge(
        "aliyun_acr_exporter_follow_last_success_timestamp_seconds",
        INSTANCE,
        "Unix timestamp of the last successful listing of the followed instance.",
    ),
    gauge(
        "aliyun_acr_exporter_follow_subscriptions",
        INSTANCE,
        "Number of followed subscriptions of the instance in this shard.",
    ),
    gauge(
        "aliyun_acr_exporter_follow_tasks_dropped",
        INSTANCE,
        "Runs of the followed instance that max_tasks keeps off this page.",
    ),
    gauge(
        "aliyun_acr_exporter_follow_up",
        INSTANCE,
        "1 if the lists of the followed instance could be read the last time, else 0; absent before the first.",
    ),
    counter(
        "aliyun_acr_exporter_http_requests_total",
        &["path", "code"],
        "HTTP requests answered by the exporter.",
    ),
    counter(
        "aliyun_acr_exporter_log_messages_total",
        &["level"],
        "Log messages written.",
    ),
    gauge(
        "aliyun_acr_exporter_poll_lag_seconds",
        INSTANCE,
        "Delay of the most overdue poll of the instance.",
    ),
    counter(
        "aliyun_acr_exporter_poll_failures_total",
        &["instance_id", "reason"],
        "Total number of failed polls of tasks of the instance.",
    ),
    counter(
        "aliyun_acr_exporter_polls_skipped_total",
        INSTANCE,
        "Total number of polls skipped because the previous one was still in progress.",
    ),
    counter(
        "aliyun_acr_exporter_polls_total",
        INSTANCE,
        "Total number of finished polls of tasks of the instance.",
    ),
    gauge(
        "aliyun_acr_exporter_ready",
        &[],
        "1 once every task was tried once, or 60 s after the start; 0 before and while stopping.",
    ),
    gauge(
        "aliyun_acr_exporter_series",
        &[],
        "Series of the aliyun_acr_subscription_ part of this page.",
    ),
    gauge(
        "aliyun_acr_exporter_series_dropped",
        &[],
        "Series that the configured limits keep off this page.",
    ),
    gauge(
        "aliyun_acr_exporter_shard_index",
        &[],
        "Zero-based index of this shard.",
    ),
    gauge("aliyun_acr_exporter_shards", &[], "Number of shards."),
    gauge(
        "aliyun_acr_exporter_state_last_save_timestamp_seconds",
        &[],
        "Unix timestamp of the last successful save of the state file.",
    ),
    counter(
        "aliyun_acr_exporter_state_save_failures_total",
        &[],
        "Total number of failed saves of the state file.",
    ),
    gauge(
        "aliyun_acr_exporter_tasks",
        &[],
        "Tasks that are polled, configured and followed.",
    ),
    gauge(
        "aliyun_acr_exporter_unrecognized_values",
        &["field", "value"],
        "Status values returned by the API that no status mapping covers.",
    ),
];

const fn gauge(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> OwnMetric {
    OwnMetric {
        name,
        kind: "gauge",
        labels,
        help,
    }
}

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> OwnMetric {
    OwnMetric {
        name,
        kind: "counter",
        labels,
        help,
    }
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

const API_DURATION_BUCKETS: [f64; 11] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
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

/// The exporter's own metrics.
pub struct Own {
    registry: Registry,
    api_requests: Counters<AtomicU64>,
    api_errors: Counters<AtomicU64>,
    api_duration: HistogramVec,
    api_retries: Counters<AtomicU64>,
    /// API requests in flight, to STS too.
    pub api_in_flight: IntGauge,
    api_rate_limit: GaugeVec,
    api_rate_limit_wait: Counters<AtomicF64>,
    clock_skew: GaugeVec,
    config_hash: GaugeVec,
    config_success_at: GaugeVec,
    config_successful: GaugeVec,
    credentials_expiration: GaugeVec,
    credentials_failures: Counters<AtomicU64>,
    follow_error: IntGaugeVec,
    follow_last_success: GaugeVec,
    follow_subscriptions: IntGaugeVec,
    follow_tasks_dropped: IntGaugeVec,
    follow_up: IntGaugeVec,
    http_requests: Counters<AtomicU64>,
    log_messages: Counters<AtomicU64>,
    poll_lag: GaugeVec,
    poll_failures: Counters<AtomicU64>,
    polls_skipped: Counters<AtomicU64>,
    polls: Counters<AtomicU64>,
    ready: IntGauge,
    series: IntGauge,
    /// Set at each scrape.
    pub series_dropped: IntGauge,
    shard_index: IntGauge,
    shards: IntGauge,
    state_last_save: GaugeVec,
    state_save_failures: Counters<AtomicU64>,
    tasks: IntGauge,
    /// Held while the gauges of one page are set and read.
    scraping: Mutex<()>,
    /// By instance.
    most_overdue: Mutex<HashMap<String, MostOverdue>>,
    unrecognized: GaugeVec,
    births: Arc<Births>,
}

/// When the most overdue poll of an instance was due.
type MostOverdue = Arc<Mutex<Option<Instant>>>;

impl Own {
    /// Registers everything; `process_*` too where the system has /proc.
    pub fn new(build: Build) -> Self {
        let registry = Registry::new();
        let births = Arc::new(Births::default());
        let gauges = |name| register(&registry, name, GaugeVec::new);
        let counters = |name| Counters::register(&registry, name, &births);
        let gauge = |name| register(&registry, name, |opts, _| IntGauge::with_opts(opts));
        let own = Self {
            api_requests: counters("api_requests_total"),
            api_errors: counters("api_request_errors_total"),
            api_duration: register(&registry, "api_request_duration_seconds", |opts, labels| {
                HistogramVec::new(
                    HistogramOpts::from(opts).buckets(API_DURATION_BUCKETS.to_vec()),
                    labels,
                )
            }),
            api_retries: counters("api_retries_total"),
            api_in_flight: gauge("api_requests_in_flight"),
            api_rate_limit: gauges("api_rate_limit"),
            api_rate_limit_wait: Counters::register(
                &registry,
                "api_rate_limit_wait_seconds_total",
                &births,
            ),
            clock_skew: gauges("clock_skew_seconds"),
            config_hash: gauges("config_hash"),
            config_success_at: gauges("config_last_reload_success_timestamp_seconds"),
            config_successful: gauges("config_last_reload_successful"),
            credentials_expiration: gauges("credentials_expiration_timestamp_seconds"),
            credentials_failures: counters("credentials_refresh_failures_total"),
            follow_error: register(&registry, "follow_error", IntGaugeVec::new),
            follow_last_success: gauges("follow_last_success_timestamp_seconds"),
            follow_subscriptions: register(&registry, "follow_subscriptions", IntGaugeVec::new),
            follow_tasks_dropped: register(&registry, "follow_tasks_dropped", IntGaugeVec::new),
            follow_up: register(&registry, "follow_up", IntGaugeVec::new),
            http_requests: counters("http_requests_total"),
            log_messages: counters("log_messages_total"),
            poll_lag: gauges("poll_lag_seconds"),
            poll_failures: counters("poll_failures_total"),
            polls_skipped: counters("polls_skipped_total"),
            polls: counters("polls_total"),
            ready: gauge("ready"),
            series: gauge("series"),
            series_dropped: gauge("series_dropped"),
            shard_index: gauge("shard_index"),
            shards: gauge("shards"),
            state_last_save: gauges("state_last_save_timestamp_seconds"),
            state_save_failures: counters("state_save_failures_total"),
            tasks: gauge("tasks"),
            unrecognized: gauges("unrecognized_values"),
            scraping: Mutex::default(),
            most_overdue: Mutex::default(),
            births,
            registry,
        };
        let build_info = register(&own.registry, "build_info", GaugeVec::new);
        build_info
            .with_label_values(&[
                build.version,
                build.revision,
                build.rustversion,
                build.target,
            ])
            .set(1.0);
        for level in ["error", "warn", "info", "debug", "trace"] {
            own.log_messages.with(&[level]);
        }
        own.http_requests.with(&["/metrics", "200"]);
        own.set_shard(0, 1);
        #[cfg(target_os = "linux")]
        {
            use prometheus::process_collector::ProcessCollector;
            own.registry
                .register(Box::new(ProcessCollector::for_self()))
                .expect("process metrics have names of their own");
        }
        own
    }

    /// The counters of one action of one account, there at 0 from now on.
    pub fn action(&self, credentials: &str, action: &str) -> ActionMetrics {
        let labels = [credentials, action];
        ActionMetrics {
            requests: self.api_requests.with(&labels),
            errors: Reason::API.map(|reason| {
                self.api_errors
                    .with(&[credentials, action, reason.as_str()])
            }),
            duration: self.api_duration.with_label_values(&labels),
            retries: self.api_retries.with(&labels),
        }
    }

    /// The gauge and the waiting time of one account's rate limit.
    pub fn rate_limit(&self, credentials: &str) -> (Gauge, Counter) {
        (
            self.api_rate_limit.with_label_values(&[credentials]),
            self.api_rate_limit_wait.with(&[credentials]),
        )
    }

    /// Counts failures to get a key for one entry of the configuration.
    pub fn credentials_failures(&self, credentials: &str) -> IntCounter {
        self.credentials_failures.with(&[credentials])
    }

    /// Shows when the key of one entry of the configuration ends (Unix time).
    pub fn show_credentials_expiration(&self, credentials: &str, provider: &str, seconds: f64) {
        self.credentials_expiration
            .with_label_values(&[credentials, provider])
            .set(seconds);
    }

    /// Takes the end of a key away, of a provider that does not give it any more.
    pub fn hide_credentials_expiration(&self, credentials: &str, provider: &str) {
        // An error means that it was never there.
        let _ = self
            .credentials_expiration
            .remove_label_values(&[credentials, provider]);
    }

    /// Takes the rate limit away of an entry of the configuration that is gone.
    /// What was counted stays.
    pub fn forget_rate_limit(&self, credentials: &str) {
        // An error means that it was never there.
        let _ = self.api_rate_limit.remove_label_values(&[credentials]);
    }

    /// Notes that a configuration is in force since `at`, Unix seconds; `hash`
    /// has 48 bits at most.
    pub fn config_loaded(&self, hash: u64, at: f64) {
        #[expect(clippy::cast_precision_loss, reason = "48 bits fit into 52")]
        self.config_hash
            .with_label_values::<&str>(&[])
            .set(hash as f64);
        self.config_success_at
            .with_label_values::<&str>(&[])
            .set(at);
    }

    /// Notes whether the last reload was successful.
    pub fn config_reloaded(&self, successful: bool) {
        self.config_successful
            .with_label_values::<&str>(&[])
            .set(f64::from(u8::from(successful)));
    }

    /// Which shard this is, of how many.
    pub fn set_shard(&self, index: u32, total: u32) {
        self.shard_index.set(i64::from(index));
        self.shards.set(i64::from(total));
    }

    /// The metrics of one configured instance, there at 0 from now on.
    pub fn instance(&self, instance_id: &str) -> InstanceMetrics {
        let mut most_overdue = lock(&self.most_overdue);
        InstanceMetrics {
            polls: self.polls.with(&[instance_id]),
            skipped: self.polls_skipped.with(&[instance_id]),
            failures: Reason::ALL
                .map(|reason| self.poll_failures.with(&[instance_id, reason.as_str()])),
            most_overdue: Arc::clone(most_overdue.entry(instance_id.to_owned()).or_default()),
        }
    }

    /// Takes the metrics of an instance away that is not configured any more;
    /// its [`InstanceMetrics`] must not be used afterwards.
    pub fn forget_instance(&self, instance_id: &str) {
        let _alone = lock(&self.scraping);
        self.polls.remove(&[instance_id]);
        self.polls_skipped.remove(&[instance_id]);
        for reason in Reason::ALL {
            self.poll_failures.remove(&[instance_id, reason.as_str()]);
        }
        lock(&self.most_overdue).remove(instance_id);
        // An error means that it was never scraped.
        let _ = self.poll_lag.remove_label_values(&[instance_id]);
    }

    /// The metrics of one followed instance, there from now on, `follow_up` from
    /// the first finished listing on.
    pub fn follow(&self, instance_id: &str) -> FollowMetrics {
        let labels = [instance_id];
        FollowMetrics {
            last_success: self.follow_last_success.clone(),
            subscriptions: self.follow_subscriptions.with_label_values(&labels),
            tasks_dropped: self.follow_tasks_dropped.with_label_values(&labels),
            up: self.follow_up.clone(),
            error: self.follow_error.clone(),
            instance_id: instance_id.to_owned(),
        }
    }

    /// Takes the metrics of an instance away that is not followed any more;
    /// its [`FollowMetrics`] must not be used afterwards.
    pub fn forget_follow(&self, instance_id: &str) {
        let labels = [instance_id];
        // An error means that it was never there.
        let _ = self.follow_last_success.remove_label_values(&labels);
        let _ = self.follow_subscriptions.remove_label_values(&labels);
        let _ = self.follow_tasks_dropped.remove_label_values(&labels);
        let _ = self.follow_up.remove_label_values(&labels);
        forget_errors(&self.follow_error, instance_id);
    }

    /// The metrics of the state file, there from now on, the time of the last
    /// save once there was one.
    pub fn state(&self) -> StateMetrics {
        StateMetrics {
            saved_at: self.state_last_save.clone(),
            failures: self.state_save_failures.with(&[]),
        }
    }

    /// Notes how far the exporter's clock is ahead of the cloud's.
    pub fn set_clock_skew(&self, ahead: f64) {
        self.clock_skew.with_label_values::<&str>(&[]).set(ahead);
    }

    /// Counts an answered HTTP request; `path` is one of [`HTTP_PATHS`] or "other".
    pub fn http_request(&self, path: &str, code: u16) {
        self.http_requests.with(&[path, &code.to_string()]).inc();
    }

    /// Counts a log message; `level` in lower case.
    pub fn log_message(&self, level: &str) {
        self.log_messages.with(&[level]).inc();
    }

    /// Shows a word that no status mapping covers.
    pub fn show_unrecognized(&self, field: &str, word: &str) {
        self.unrecognized.with_label_values(&[field, word]).set(1.0);
    }

    /// Takes it away.
    pub fn hide_unrecognized(&self, field: &str, word: &str) {
        // An error means that it was not there.
        let _ = self.unrecognized.remove_label_values(&[field, word]);
    }

    /// Everything as it is on this page, whatever else is scraped at the same
    /// time. `is_shown` tells which families the page has: a counter that no page
    /// has shown yet is 0 on the first one.
    pub fn gather_for(
        &self,
        scraped: Scraped,
        is_shown: impl Fn(&str) -> bool,
    ) -> Vec<MetricFamily> {
        let gauge = |count| i64::try_from(count).unwrap_or(i64::MAX);
        let _alone = lock(&self.scraping);
        self.tasks.set(gauge(scraped.tasks));
        self.series.set(gauge(scraped.series));
        self.series_dropped.set(gauge(scraped.series_dropped));
        self.ready.set(i64::from(scraped.ready));
        let mut families = self.gather();
        self.births.show(&mut families, is_shown, Instant::now());
        families
    }

    /// Everything as it stands now, families ordered by name.
    pub fn gather(&self) -> Vec<MetricFamily> {
        for (instance_id, due) in &*lock(&self.most_overdue) {
            let lag = lock(due).map_or(0.0, |due| due.elapsed().as_secs_f64());
            self.poll_lag.with_label_values(&[instance_id]).set(lag);
        }
        self.registry.gather()
    }
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
    pub duration: prometheus::Histogram,
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
    most_overdue: MostOverdue,
}

impl InstanceMetrics {
    /// Counts a failed poll.
    pub fn failed(&self, reason: Reason) {
        self.failures[reason as usize].inc();
    }

    /// Notes when the most overdue poll was due; `None` while none is overdue.
    pub fn set_most_overdue(&self, due: Option<Instant>) {
        *lock(&self.most_overdue) = due;
    }
}

/// The metrics of one followed instance.
#[derive(Clone)]
pub struct FollowMetrics {
    instance_id: String,
    last_success: GaugeVec,
    subscriptions: IntGauge,
    tasks_dropped: IntGauge,
    up: IntGaugeVec,
    error: IntGaugeVec,
}

fn forget_errors(error: &IntGaugeVec, instance_id: &str) {
    for reason in Reason::ALL {
        // An error means that it was not there.
        let _ = error.remove_label_values(&[instance_id, reason.as_str()]);
    }
}

impl FollowMetrics {
    /// Notes whether the last listing has read both lists.
    pub fn set_up(&self, up: bool) {
        let labels = [&self.instance_id];
        self.up.with_label_values(&labels).set(i64::from(up));
    }

    /// Notes when both lists were last read, Unix seconds.
    pub fn set_last_success(&self, at: f64) {
        let labels = [&self.instance_id];
        self.last_success.with_label_values(&labels).set(at);
    }

    /// Notes why the lists cannot be read; `None` once they can.
    pub fn set_error(&self, reason: Option<Reason>) {
        forget_errors(&self.error, &self.instance_id);
        if let Some(reason) = reason {
            let labels = [&self.instance_id, reason.as_str()];
            self.error.with_label_values(&labels).set(1);
        }
    }

    /// Notes how many subscriptions of this shard are followed.
    pub fn set_subscriptions(&self, count: usize) {
        self.subscriptions
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Notes how many runs `max_tasks` keeps off the page.
    pub fn set_tasks_dropped(&self, runs: usize) {
        self.tasks_dropped
            .set(i64::try_from(runs).unwrap_or(i64::MAX));
    }
}

/// The metrics of the state file.
#[derive(Clone)]
pub struct StateMetrics {
    saved_at: GaugeVec,
    /// Times that it could not be written.
    pub failures: IntCounter,
}

impl StateMetrics {
    /// Notes when it was last written, Unix seconds.
    pub fn saved(&self, at: f64) {
        self.saved_at.with_label_values::<&str>(&[]).set(at);
    }
}

/// Makes one family of [`OWN`] and registers it.
fn register<C: Collector + Clone + 'static>(
    registry: &Registry,
    name: &str,
    make: impl FnOnce(Opts, &[&str]) -> prometheus::Result<C>,
) -> C {
    let metric = OWN
        .iter()
        .find(|metric| metric.name.strip_prefix(PREFIX) == Some(name))
        .expect("every family is in the table");
    let collector = make(Opts::new(metric.name, metric.help), metric.labels)
        .expect("names and labels of the table are valid");
    registry
        .register(Box::new(collector.clone()))
        .expect("names of the table are unique");
    collector
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The samples of the families whose name begins with `prefix`.
    fn samples(own: &Own, prefix: &str) -> Vec<String> {
        let text = prometheus::TextEncoder::new()
            .encode_to_string(&own.gather())
            .expect("the registry can be written");
        let lines = text.lines().filter_map(|line| line.strip_prefix(PREFIX));
        lines
            .filter(|line| line.starts_with(prefix))
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn a_followed_instance_is_up_or_down_from_its_first_listing_on() {
        let own = Own::new(Build::CURRENT);
        assert!(samples(&own, "follow_").is_empty());

        let (a, b) = (own.follow("cri-a"), own.follow("cri-b"));
        assert_eq!(
            samples(&own, "follow_"),
            [
                r#"follow_subscriptions{instance_id="cri-a"} 0"#,
                r#"follow_subscriptions{instance_id="cri-b"} 0"#,
                r#"follow_tasks_dropped{instance_id="cri-a"} 0"#,
                r#"follow_tasks_dropped{instance_id="cri-b"} 0"#,
            ]
        );

        a.set_last_success(1_700_000_000.25);
        a.set_up(true);
        a.set_up(false);
        a.set_error(Some(Reason::Connect));
        a.set_error(Some(Reason::Credentials));
        a.set_tasks_dropped(7);
        b.set_error(Some(Reason::Timeout));
        b.set_error(None);
        b.set_last_success(1_700_000_001.0);
        b.set_up(true);
        b.set_subscriptions(10_000);
        // Asking again changes nothing.
        own.follow("cri-a");
        assert_eq!(
            samples(&own, "follow_"),
            [
                r#"follow_error{instance_id="cri-a",reason="credentials"} 1"#,
                r#"follow_last_success_timestamp_seconds{instance_id="cri-a"} 1700000000.25"#,
                r#"follow_last_success_timestamp_seconds{instance_id="cri-b"} 1700000001"#,
                r#"follow_subscriptions{instance_id="cri-a"} 0"#,
                r#"follow_subscriptions{instance_id="cri-b"} 10000"#,
                r#"follow_tasks_dropped{instance_id="cri-a"} 7"#,
                r#"follow_tasks_dropped{instance_id="cri-b"} 0"#,
                r#"follow_up{instance_id="cri-a"} 0"#,
                r#"follow_up{instance_id="cri-b"} 1"#,
            ]
        );

        own.forget_follow("cri-a");
        own.forget_follow("cri-never");
        assert_eq!(
            samples(&own, "follow_"),
            [
                r#"follow_last_success_timestamp_seconds{instance_id="cri-b"} 1700000001"#,
                r#"follow_subscriptions{instance_id="cri-b"} 10000"#,
                r#"follow_tasks_dropped{instance_id="cri-b"} 0"#,
                r#"follow_up{instance_id="cri-b"} 1"#,
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
        own.set_shard(2, 3);
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
        a.set_most_overdue(Some(Instant::now()));
        tokio::time::advance(std::time::Duration::from_millis(1_500)).await;
        assert_eq!(
            samples(&own, "poll_lag"),
            [
                r#"poll_lag_seconds{instance_id="cri-a"} 1.5"#,
                r#"poll_lag_seconds{instance_id="cri-b"} 0"#,
            ]
        );
        a.set_most_overdue(None);
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
