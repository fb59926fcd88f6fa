//! What a configuration will do and cost, told before it runs: calls a day,
//! series, and the RAM policy it needs. Pure arithmetic.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::config::{Artifacts, Config, Follow, Instance};

const DAY: Duration = Duration::from_secs(86_400);
/// A plan above this share of the rate limit is warned about.
const CROWDED: f64 = 0.8;
/// Series of one finished task, its artifacts' not counted.
const TASK_SERIES: usize = 20;
/// What the exporter asks of the cloud, as RAM names it.
pub const ACTIONS: [&str; 2] = [
    "cr:GetArtifactSubscriptionTask",
    "cr:GetArtifactSubscriptionTaskResult",
];
/// What it asks of an instance that is followed, beside [`ACTIONS`].
pub const FOLLOW_ACTIONS: [&str; 2] = [
    "cr:ListArtifactSubscriptionRule",
    "cr:ListArtifactSubscriptionTask",
];

/// What a configuration will do; `Display` is for people.
#[derive(Debug)]
pub struct Plan<'a> {
    config: &'a Config,
    accounts: Vec<Account>,
}

/// A RAM policy, its keys in the order that the vendor writes them.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Policy {
    version: &'static str,
    statement: Vec<Statement>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Statement {
    effect: &'static str,
    action: &'static [&'static str],
    resource: Vec<String>,
}

/// Calls of the entries that share one rate limit.
#[derive(Debug, PartialEq)]
struct Account {
    name: String,
    tasks: usize,
    calls: Calls,
}

/// API calls, retries not counted, one page of rows a task.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Calls {
    /// Until every task was seen once.
    start: f64,
    /// A day with every task finished.
    steady: f64,
    /// A day with every task empty: its rows and the task itself each time.
    worst: f64,
}

impl<'a> Plan<'a> {
    /// The plan of a configuration.
    pub fn new(config: &'a Config) -> Self {
        let mut accounts: BTreeMap<usize, Account> = BTreeMap::new();
        for instance in &config.instances {
            let (position, name) = account(config, instance);
            let account = accounts.entry(position).or_insert_with(|| Account {
                name,
                tasks: 0,
                calls: Calls::default(),
            });
            for task in &instance.tasks {
                let resting = config.poll.finished_interval.max(task.interval);
                account.tasks += 1;
                account.calls.start += 2.0;
                account.calls.steady += per_day(resting);
                account.calls.worst += 2.0 * per_day(task.interval);
            }
            if let Some(follow) = &instance.follow {
                let calls = of_follow(config, follow);
                account.calls.start += calls.start;
                account.calls.steady += calls.steady;
                account.calls.worst += calls.worst;
            }
        }
        Self {
            config,
            accounts: accounts.into_values().collect(),
        }
    }

    /// What deserves a second look, a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let rate = self.config.api.requests_per_second;
        let limit = rate * DAY.as_secs_f64();
        let mut warnings = Vec::new();
        for account in &self.accounts {
            for (when, calls) in [
                ("once every task is finished", account.calls.steady),
                (
                    "at worst, with every task empty or running",
                    account.calls.worst,
                ),
            ] {
                if calls > CROWDED * limit {
                    warnings.push(format!(
                        "{}: {:.0} calls a day {when} are {:.0} % of the rate limit of {rate} requests a second; raise poll.interval or api.requests_per_second, or lower follow.max_tasks",
                        account.name,
                        calls,
                        100.0 * calls / limit,
                    ));
                    break;
                }
            }
        }
        warnings
    }

    /// The least RAM policy that this configuration needs, as JSON.
    pub fn ram_policy(&self) -> String {
        let resources = |followed: bool| -> Vec<String> {
            let instances = self.config.instances.iter();
            instances
                .filter(|instance| !followed || instance.follow.is_some())
                .map(resource)
                .collect()
        };
        let statement = |action: &'static [&'static str], resource: Vec<String>| Statement {
            effect: "Allow",
            action,
            resource,
        };
        let statements = [
            statement(&ACTIONS, resources(false)),
            statement(&FOLLOW_ACTIONS, resources(true)),
        ];
        let policy = Policy {
            version: "1",
            statement: statements
                .into_iter()
                .filter(|one| !one.resource.is_empty())
                .collect(),
        };
        serde_json::to_string_pretty(&policy).expect("texts become JSON")
    }

    fn tasks(&self) -> usize {
        self.accounts.iter().map(|account| account.tasks).sum()
    }
}

/// An instance as RAM names it; the account is the policy's own.
fn resource(instance: &Instance) -> String {
    let region = match instance.region.as_str() {
        "" => "*",
        region => region,
    };
    format!("acs:cr:{region}:*:instance/{}", instance.id)
}

/// Of the lists a page each is assumed where they are as short as can be, and
/// all that is allowed where they are as long; of runs as many as there may be.
fn of_follow(config: &Config, follow: &Follow) -> Calls {
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let runs = follow.max_tasks as f64;
    let listings = per_day(follow.interval);
    let pages = (runs / f64::from(config.api.page_size)).ceil().max(1.0);
    Calls {
        start: 1.0 + pages + runs,
        // Every second listing reads on to the runs that the first page does not hold.
        steady: listings * (1.0 + f64::midpoint(pages, 1.0)) + runs,
        worst: listings * (1.0 + f64::from(config.api.max_pages))
            + runs * per_day(config.poll.interval),
    }
}

fn per_day(interval: Duration) -> f64 {
    DAY.as_secs_f64() / interval.as_secs_f64()
}

/// The account an instance is counted under: entries of one quota group are one.
fn account(config: &Config, instance: &Instance) -> (usize, String) {
    let of_instance = &config.credentials[instance.credentials];
    let Some(group) = &of_instance.quota_group else {
        return (
            instance.credentials,
            format!("credentials {}", of_instance.name),
        );
    };
    let first = config
        .credentials
        .iter()
        .position(|entry| entry.quota_group.as_ref() == Some(group));
    (
        first.unwrap_or(instance.credentials),
        format!("quota group {group}"),
    )
}

impl fmt::Display for Plan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let poll = &self.config.poll;
        let api = &self.config.api;
        for instance in &self.config.instances {
            let region = if instance.region.is_empty() {
                "no region"
            } else {
                &instance.region
            };
            writeln!(
                f,
                "instance {} ({region}) at {}, credentials {}",
                instance.id,
                instance.endpoint.url(),
                self.config.credentials[instance.credentials].name,
            )?;
            for task in &instance.tasks {
                let resting = poll.finished_interval.max(task.interval);
                write!(f, "  task {}", task.id)?;
                if task.name != task.id {
                    write!(f, " ({})", task.name)?;
                }
                writeln!(
                    f,
                    ": every {}, finished ever more rarely up to every {}",
                    duration(task.interval),
                    duration(resting),
                )?;
            }
            if let Some(follow) = &instance.follow {
                let Calls {
                    start,
                    steady,
                    worst,
                } = of_follow(self.config, follow);
                writeln!(
                    f,
                    "  follow: both lists every {}, at most {} runs; calls: {start:.0} at start, {steady:.0} a day with {} finished runs, at worst {worst:.0} a day",
                    duration(follow.interval),
                    follow.max_tasks,
                    follow.max_tasks,
                )?;
            }
        }
        writeln!(
            f,
            "\nAPI calls, one page of at most {} artifacts a task, retries not counted:",
            api.page_size
        )?;
        for account in &self.accounts {
            let limit = api.requests_per_second * DAY.as_secs_f64();
            let Calls {
                start,
                steady,
                worst,
            } = account.calls;
            let first = (start - f64::from(api.burst)).max(0.0) / api.requests_per_second;
            writeln!(
                f,
                "  {}: {} tasks, at most {} requests a second",
                account.name, account.tasks, api.requests_per_second
            )?;
            writeln!(f, "    start   {start:>9.0}        (at least {first:.0} s)")?;
            for (what, calls, when) in [
                ("steady", steady, "every task finished"),
                ("worst ", worst, "every task empty: rows and task each time"),
            ] {
                let share = 100.0 * calls / limit;
                writeln!(
                    f,
                    "    {what}  {calls:>9.0} a day  ({when}; {share:.1} % of the limit)"
                )?;
            }
        }
        let limits = &self.config.limits;
        let artifacts = match self.config.artifacts {
            Artifacts::All => "2 for each artifact",
            Artifacts::Failed => "2 for each failed artifact",
            Artifacts::None => "none for artifacts",
        };
        writeln!(
            f,
            "\nSeries: {} now ({TASK_SERIES} a task) and {artifacts}, at most {} artifacts a task and {} series in all; 0 new ones a day, since configured ids do not change{}.",
            self.tasks() * TASK_SERIES,
            limits.artifacts_per_task,
            limits.series,
            if self.config.instances.iter().any(|one| one.follow.is_some()) {
                "; with follow, each run in view has as many, each new run brings them anew, and a subscription has 34 of its own"
            } else {
                ""
            },
        )?;
        write!(f, "\nRAM policy:\n{}", self.ram_policy())
    }
}

/// As the configuration writes it, exact to the millisecond.
fn duration(duration: Duration) -> String {
    let mut rest = duration.as_millis();
    let mut text = String::new();
    for (unit, millis) in [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ] {
        if rest >= millis {
            text.push_str(&format!("{}{unit}", rest / millis));
            rest %= millis;
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn config(extra: &str) -> Config {
        let text = format!(
            "{extra}\ninstances:\n- {{ id: cri-a, region: cn-hangzhou, tasks: [crast-1, {{ id: crast-2, name: nginx, interval: 30s }}] }}\n"
        );
        config::parse(&text, "test.yaml").unwrap()
    }

    #[test]
    fn calls_follow_the_intervals() {
        let config = config("");
        let plan = Plan::new(&config);
        // Finished: 24 an hourly re-check each; empty: 2 × 1440 and 2 × 2880.
        let expected = Calls {
            start: 4.0,
            steady: 48.0,
            worst: 8_640.0,
        };
        assert_eq!(plan.accounts.len(), 1);
        assert_eq!(plan.accounts[0].calls, expected);
        assert_eq!(plan.warnings(), Vec::<String>::new());
    }

    #[test]
    fn a_crowded_rate_limit_is_warned_about() {
        // 8 640 calls a day are one each 10 s: 0.1 a second; 80 % of 0.12 is less.
        let crowded = config("api: { requests_per_second: 0.12 }");
        let warnings = Plan::new(&crowded).warnings();
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].contains("8640 calls a day"), "{warnings:?}");
        assert!(warnings[0].contains("83 %"), "{warnings:?}");
        let roomy = config("api: { requests_per_second: 0.13 }");
        assert_eq!(Plan::new(&roomy).warnings(), Vec::<String>::new());
    }

    #[test]
    fn the_policy_names_the_instances_and_nothing_more() {
        let config = config("");
        let policy: serde_json::Value =
            serde_json::from_str(&Plan::new(&config).ram_policy()).unwrap();
        let statement = &policy["Statement"][0];
        assert_eq!(
            statement["Resource"],
            serde_json::json!(["acs:cr:cn-hangzhou:*:instance/cri-a"])
        );
        assert_eq!(statement["Action"], serde_json::json!(ACTIONS));
    }

    #[test]
    fn durations_read_as_they_are_written() {
        assert_eq!(duration(Duration::from_secs(5_400)), "1h30m");
        assert_eq!(duration(Duration::from_millis(90_500)), "1m30s500ms");
        assert_eq!(duration(Duration::from_secs(86_400)), "1d");
    }
}
