//! Counts in [`Own`] what the client and the credentials of one account report.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use alibaba_cloud::{Observer, Outcome};
use prometheus::{Counter, Gauge, IntCounter};

use super::own::{ActionMetrics, Own};

/// What counts for the entry `name` of `credentials:`. The metrics of requests and of the rate limit
/// exist once the client reports them.
pub fn observer(own: &Arc<Own>, name: &str) -> Arc<dyn Observer> {
    Arc::new(AccountMetrics {
        own: Arc::clone(own),
        name: name.to_owned(),
        actions: Mutex::default(),
        rate_limit: OnceLock::new(),
        failures: own.credentials_failures(name),
    })
}

struct AccountMetrics {
    own: Arc<Own>,
    name: String,
    actions: Mutex<HashMap<&'static str, ActionMetrics>>,
    rate_limit: OnceLock<(Gauge, Counter)>,
    failures: IntCounter,
}

impl AccountMetrics {
    fn with_action(&self, action: &'static str, count: impl FnOnce(&ActionMetrics)) {
        let mut actions = self.actions.lock().unwrap_or_else(PoisonError::into_inner);
        count(
            actions
                .entry(action)
                .or_insert_with(|| self.own.action(&self.name, action)),
        );
    }

    fn rate_limit(&self) -> &(Gauge, Counter) {
        self.rate_limit
            .get_or_init(|| self.own.rate_limit(&self.name))
    }
}

impl Observer for AccountMetrics {
    fn expect_action(&self, action: &'static str) {
        self.with_action(action, |_| {});
    }

    fn request_started(&self, action: &'static str, is_retry: bool) {
        self.own.api_in_flight.inc();
        self.with_action(action, |metrics| {
            metrics.requests.inc();
            if is_retry {
                metrics.retries.inc();
            }
        });
    }

    fn request_ended(&self, action: &'static str, elapsed: Duration, outcome: Outcome) {
        self.own.api_in_flight.dec();
        if outcome == Outcome::Canceled {
            return;
        }
        self.with_action(action, |metrics| {
            metrics.duration.observe(elapsed.as_secs_f64());
            if let Outcome::Failed(reason) = outcome {
                metrics.failed(reason);
            }
        });
    }

    fn rate_limit_changed(&self, requests_per_second: f64) {
        self.rate_limit().0.set(requests_per_second);
    }

    fn rate_limit_waited(&self, waited: Duration) {
        self.rate_limit().1.inc_by(waited.as_secs_f64());
    }

    #[expect(clippy::cast_precision_loss, reason = "milliseconds fit into 52 bits")]
    fn clock_skew(&self, millis: i64) {
        self.own.set_clock_skew(millis as f64 / 1000.0);
    }

    fn credentials_failed(&self) {
        self.failures.inc();
    }

    #[expect(clippy::cast_precision_loss, reason = "milliseconds fit into 52 bits")]
    fn credentials_expire(&self, provider: &'static str, at_ms: Option<i64>) {
        match at_ms {
            Some(at_ms) => {
                let seconds = at_ms as f64 / 1000.0;
                self.own
                    .show_credentials_expiration(&self.name, provider, seconds);
            }
            None => self.own.hide_credentials_expiration(&self.name, provider),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::own::Build;
    use super::*;
    use alibaba_cloud::Reason;

    fn samples(own: &Own, family: &str) -> Vec<String> {
        let text = prometheus::TextEncoder::new()
            .encode_to_string(&own.gather())
            .expect("valid metrics");
        let lines = text
            .lines()
            .filter_map(|line| line.strip_prefix("aliyun_acr_exporter_"));
        lines
            .filter(|line| line.starts_with(family))
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn an_expiration_in_the_year_9999_is_shown_to_the_second() {
        let own = Arc::new(Own::new(Build::CURRENT));
        let observed = observer(&own, "prod");
        // `date -u -d 9999-12-31T23:59:59Z +%s`
        observed.credentials_expire("uri", Some(253_402_300_799_000));
        let family = "credentials_expiration_timestamp_seconds";
        assert_eq!(
            samples(&own, family),
            [format!(
                "{family}{{credentials=\"prod\",provider=\"uri\"}} 253402300799"
            )]
        );
        observed.credentials_expire("uri", None);
        assert_eq!(samples(&own, family), [""; 0]);
    }

    #[test]
    fn a_canceled_request_is_in_flight_no_longer_and_has_no_duration() {
        let own = Arc::new(Own::new(Build::CURRENT));
        let observed = observer(&own, "prod");
        observed.expect_action("GetX");
        assert_eq!(
            samples(&own, "api_requests_total"),
            [r#"api_requests_total{action="GetX",credentials="prod"} 0"#]
        );
        for outcome in [
            Outcome::Succeeded,
            Outcome::Failed(Reason::Timeout),
            Outcome::Canceled,
        ] {
            observed.request_started("GetX", outcome != Outcome::Succeeded);
            assert_eq!(own.api_in_flight.get(), 1);
            observed.request_ended("GetX", Duration::from_secs(1), outcome);
            assert_eq!(own.api_in_flight.get(), 0);
        }
        for (family, expected) in [
            ("api_requests_total", "3"),
            ("api_retries_total", "2"),
            ("api_request_duration_seconds_count", "2"),
        ] {
            let samples = samples(&own, family);
            assert_eq!(samples.len(), 1);
            assert!(samples[0].ends_with(&format!(" {expected}")), "{samples:?}");
        }
        let errors = samples(&own, "api_request_errors_total");
        let failed: Vec<_> = errors.iter().filter(|line| line.ends_with(" 1")).collect();
        assert_eq!(failed.len(), 1);
        assert!(failed[0].contains("reason=\"timeout\""));
    }
}
