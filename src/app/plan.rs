//! What a process will do of a configuration and what that costs, told before it
//! runs: calls a day, series, and the RAM policy it needs. Pure arithmetic.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};
use settings::in_words;

use super::accounts::{quota, share};
use crate::config::{Config, Instance, Task};
use crate::follow::settings::Settings as Follow;
use crate::shard::Shard;
use crate::store::ArtifactSeries;

const DAY: Duration = Duration::from_secs(86_400);
/// A plan above this share of the rate limit is warned about.
const CROWDED: f64 = 0.8;
/// What makes less than this share of the calls is not worth a change.
const WORTH: f64 = 0.1;
/// Series of one finished task, its artifacts' not counted.
const TASK_SERIES: usize = 20;
/// Series of one subscription with one rule.
const SUBSCRIPTION_SERIES: usize = 34;
/// A task list is read to its end at least so often, as `follow` does.
const WHOLE_EVERY: Duration = Duration::from_secs(6 * 3_600);
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

/// What one process does of a configuration; `Display` is for people.
#[derive(Debug)]
pub struct Plan<'a> {
    config: &'a Config,
    shard: Shard,
    instances: Vec<Part<'a>>,
    accounts: Vec<Account>,
}

/// What of an instance is the shard's.
#[derive(Debug)]
struct Part<'a> {
    instance: &'a Instance,
    tasks: Vec<&'a Task>,
    calls: Calls,
}

/// Calls of the entries that share one rate limit.
#[derive(Debug, Default)]
struct Account {
    name: String,
    tasks: usize,
    /// Followed runs, at most.
    runs: f64,
    calls: Calls,
    /// A day at worst, of all shards together.
    worst_of_all: f64,
}

/// API calls; retries and calls for keys not counted, one page of rows a task.
#[derive(Clone, Debug, Default, PartialEq)]
struct Calls {
    /// Until everything was seen once.
    start: f64,
    /// A day with every task and run finished.
    steady: BTreeMap<Lever, f64>,
    /// A day with every task and run empty: its rows and the task itself each
    /// time; and with lists as long as is allowed.
    worst: BTreeMap<Lever, f64>,
}

/// What decides how many calls there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lever {
    Interval,
    OwnInterval,
    FinishedInterval,
    Listings,
    FinishedRuns,
    Runs,
}

impl Lever {
    /// The interval that a task keeps to.
    fn of(config: &Config, task: &Task) -> Self {
        if task.interval(&config.poll) == *config.poll.interval {
            Self::Interval
        } else {
            Self::OwnInterval
        }
    }

    /// What makes fewer calls.
    fn advice(self) -> &'static [&'static str] {
        match self {
            Self::Interval => &["raise poll.interval"],
            Self::OwnInterval => &["raise the tasks' own interval"],
            Self::FinishedInterval => &["raise poll.finished_interval"],
            Self::Listings => &["raise follow.interval"],
            Self::FinishedRuns => &["lower follow.max_tasks"],
            Self::Runs => &["raise poll.interval", "lower follow.max_tasks"],
        }
    }
}

impl Calls {
    fn of(config: &Config, tasks: &[&Task], follow: Option<&Follow>, shard: Shard) -> Self {
        let mut calls = follow.map_or_else(Self::default, |follow| {
            Self::of_follow(config, follow, shard)
        });
        for task in tasks {
            let finished = *config.poll.finished_interval;
            let interval = task.interval(&config.poll);
            let own = Lever::of(config, task);
            let resting = if interval < finished {
                Lever::FinishedInterval
            } else {
                own
            };
            calls.start += 2.0;
            *calls.steady.entry(resting).or_default() += per_day(finished.max(interval));
            *calls.worst.entry(own).or_default() += 2.0 * per_day(interval);
        }
        calls
    }

    /// As many runs as there may be, and as many subscriptions as make so many;
    /// lists that hold these and no more. Lists are every shard's own.
    fn of_follow(config: &Config, follow: &Follow, shard: Shard) -> Self {
        let listings = per_day(*follow.interval);
        let subscriptions = follow.max_tasks.size().div_ceil(follow.runs.size());
        let rule_pages = pages(config, subscriptions);
        let run_pages = pages(config, follow.max_tasks.size());
        let read_on = (run_pages - 1.0) / listings_until_read_on(config, follow);
        let runs = runs(follow, shard);
        let longest = f64::from(config.api.max_pages.get());
        Self {
            start: rule_pages + run_pages + runs,
            steady: BTreeMap::from([
                (Lever::Listings, listings * (rule_pages + 1.0 + read_on)),
                (Lever::FinishedRuns, runs),
            ]),
            worst: BTreeMap::from([
                (Lever::Listings, listings * 2.0 * longest),
                (Lever::Runs, runs * 2.0 * per_day(*config.poll.interval)),
            ]),
        }
    }

    fn add(&mut self, other: &Self) {
        self.start += other.start;
        for (lever, calls) in &other.steady {
            *self.steady.entry(*lever).or_default() += calls;
        }
        for (lever, calls) in &other.worst {
            *self.worst.entry(*lever).or_default() += calls;
        }
    }

    fn steady(&self) -> f64 {
        self.steady.values().sum()
    }

    fn worst(&self) -> f64 {
        self.worst.values().sum()
    }
}

impl<'a> Plan<'a> {
    /// What `shard` does of a configuration.
    pub fn new(config: &'a Config, shard: Shard) -> Self {
        let mut accounts: Vec<Account> = Vec::new();
        let mut instances = Vec::new();
        for instance in &config.instances {
            let all: Vec<&Task> = instance.tasks.iter().collect();
            let owned = |task: &&&Task| shard.owns(&[&instance.id, &task.id]);
            let tasks: Vec<&Task> = all.iter().filter(owned).copied().collect();
            let follow = instance.follow.as_ref();
            let calls = Calls::of(config, &tasks, follow, shard);
            let of_all = Calls::of(config, &all, follow, Shard::WHOLE);
            let listings = of_all.worst.get(&Lever::Listings).copied();
            let others = f64::from(shard.total() - 1);

            let name = quota(config, &instance.credentials);
            let known = accounts.iter().position(|account| account.name == name);
            let position = known.unwrap_or_else(|| {
                accounts.push(Account {
                    name,
                    ..Account::default()
                });
                accounts.len() - 1
            });
            let account = &mut accounts[position];
            account.tasks += tasks.len();
            account.runs += follow.map_or(0.0, |follow| runs(follow, shard));
            account.calls.add(&calls);
            account.worst_of_all += of_all.worst() + others * listings.unwrap_or_default();
            instances.push(Part {
                instance,
                tasks,
                calls,
            });
        }
        Self {
            config,
            shard,
            instances,
            accounts,
        }
    }

    /// What deserves a second look, a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let crowded = self.accounts.iter().map(|account| self.crowded(account));
        crowded.flatten().collect()
    }

    fn crowded(&self, account: &Account) -> Option<String> {
        let rate = self.rate();
        let limit = rate * DAY.as_secs_f64();
        let Calls { steady, worst, .. } = &account.calls;
        let runs = if account.runs > 0.0 { " and run" } else { "" };
        let finished = format!("once every task{runs} is finished");
        let empty = format!("at worst, with every task{runs} empty or running,");
        let (calls, by, when) = [
            (account.calls.steady(), steady, finished),
            (account.calls.worst(), worst, empty),
        ]
        .into_iter()
        .find(|(calls, ..)| *calls > CROWDED * limit)?;
        let worth = by.iter().filter(|(_, part)| **part >= WORTH * calls);
        let mut advice: Vec<&str> = Vec::new();
        for step in worth.flat_map(|(lever, _)| lever.advice()) {
            if !advice.contains(step) {
                advice.push(step);
            }
        }
        Some(format!(
            "{}: {calls:.0} calls a day {when} are {:.0} % of {} {} requests a second; the limit holds, so polls come late then and data may turn stale; to prevent it {}, or raise api.requests_per_second if the account's quota allows",
            account.name,
            100.0 * calls / limit,
            if self.is_whole() {
                "the rate limit of"
            } else {
                "this shard's part of the rate limit,"
            },
            short(rate),
            advice.join(" or "),
        ))
    }

    /// The least RAM policy that this configuration needs, as JSON.
    pub fn ram_policy(&self) -> String {
        let statement = |actions: &[&str], followed: bool| -> Option<Value> {
            let instances = self.config.instances.iter();
            let resources: Vec<String> = instances
                .filter(|instance| !followed || instance.follow.is_some())
                .map(resource)
                .collect();
            let allow = json!({"Effect": "Allow", "Action": actions, "Resource": resources});
            (!resources.is_empty()).then_some(allow)
        };
        let statements = [statement(&ACTIONS, false), statement(&FOLLOW_ACTIONS, true)];
        let statements: Vec<Value> = statements.into_iter().flatten().collect();
        // In the vendor's order of keys.
        format!("{:#}", json!({"Version": "1", "Statement": statements}))
    }

    /// Requests a second and account that the process may make.
    fn rate(&self) -> f64 {
        share(&self.config.api, self.shard).0
    }

    fn is_whole(&self) -> bool {
        self.shard.total() == 1
    }

    /// "about " where a part of something is not known exactly.
    fn about(&self) -> &'static str {
        if self.is_whole() { "" } else { "about " }
    }

    fn write_part(&self, f: &mut fmt::Formatter<'_>, part: &Part<'_>) -> fmt::Result {
        let poll = &self.config.poll;
        let Part {
            instance,
            tasks,
            calls,
        } = part;
        let region = instance.region.as_deref().unwrap_or("no region");
        writeln!(
            f,
            "instance {} ({region}) at {}, credentials {}",
            instance.id,
            instance.url(),
            instance.credentials,
        )?;
        for task in tasks {
            let interval = task.interval(poll);
            let resting = interval.max(*poll.finished_interval);
            write!(f, "  task {}", task.id)?;
            if task.name() != &*task.id {
                write!(f, " ({})", task.name())?;
            }
            writeln!(
                f,
                ": every {}, finished ever more rarely up to every {}",
                in_words(interval),
                in_words(resting),
            )?;
        }
        let others = instance.tasks.len() - tasks.len();
        if others > 0 {
            writeln!(f, "  tasks of other shards, not polled here: {others}")?;
        }
        if let Some(follow) = &instance.follow {
            writeln!(
                f,
                "  follow: both lists every {}; at most {}{:.0} runs, each every {} until it is finished, then once a day",
                in_words(*follow.interval),
                self.about(),
                runs(follow, self.shard),
                in_words(*poll.interval),
            )?;
        }
        writeln!(
            f,
            "  calls: {:.0} at start, {:.0} a day steady, {:.0} a day at worst",
            calls.start,
            calls.steady(),
            calls.worst(),
        )
    }

    fn write_account(&self, f: &mut fmt::Formatter<'_>, account: &Account) -> fmt::Result {
        let api = &self.config.api;
        let (rate, burst) = share(api, self.shard);
        let calls = &account.calls;
        let limit = rate * DAY.as_secs_f64();
        let first = (calls.start - f64::from(burst)).max(0.0) / rate;
        write!(f, "  {}: {}", account.name, tasks(account.tasks))?;
        if account.runs > 0.0 {
            let (about, runs) = (self.about(), account.runs);
            write!(f, " and at most {about}{runs:.0} followed runs")?;
        }
        writeln!(f, ", at most {} requests a second", short(rate))?;
        writeln!(
            f,
            "    start   {:>9.0}        (at least {first:.0} s)",
            calls.start
        )?;
        let runs = if account.runs > 0.0 { " and run" } else { "" };
        let lists = if calls.worst.contains_key(&Lever::Listings) {
            format!(", lists of {} pages", api.max_pages.get())
        } else {
            String::new()
        };
        let finished = format!("every task{runs} finished");
        let empty = format!("every task{runs} empty: rows and task each time{lists}");
        for (what, calls, when) in [
            ("steady", calls.steady(), finished),
            ("worst ", calls.worst(), empty),
        ] {
            let share = 100.0 * calls / limit;
            writeln!(
                f,
                "    {what}  {calls:>9.0} a day  ({when}; {share:.1} % of the limit)"
            )?;
        }
        if self.is_whole() {
            return Ok(());
        }
        let rate = api.requests_per_second.0;
        writeln!(
            f,
            "    all {} shards together, each listing for itself: at worst {:.0} a day, {:.1} % of the account's {} requests a second",
            self.shard.total(),
            account.worst_of_all,
            100.0 * account.worst_of_all / (rate * DAY.as_secs_f64()),
            short(rate),
        )
    }

    fn write_series(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limits = &self.config.limits;
        let count: usize = self.accounts.iter().map(|account| account.tasks).sum();
        writeln!(f, "Series:")?;
        if count > 0 {
            writeln!(
                f,
                "  {}: {} now, {TASK_SERIES} each{}; 0 new a day, since configured ids do not change",
                tasks(count),
                count * TASK_SERIES,
                of_artifacts(self.config.artifacts),
            )?;
        }
        for part in &self.instances {
            let Some(follow) = &part.instance.follow else {
                continue;
            };
            let artifacts = of_artifacts(follow.artifacts);
            let count = runs(follow, self.shard);
            #[expect(clippy::cast_precision_loss, reason = "a small number")]
            let series = count * TASK_SERIES as f64;
            writeln!(
                f,
                "  {} followed: at most {}{series:.0} now for {count:.0} runs, {TASK_SERIES} each{artifacts}; {SUBSCRIPTION_SERIES} for each subscription; each new run brings {TASK_SERIES} new ones{artifacts}",
                part.instance.id,
                self.about(),
            )?;
        }
        writeln!(
            f,
            "  at most {} artifacts a task, and {} series in all: artifacts beyond have none",
            limits.artifacts_per_task.get(),
            limits.series.get(),
        )
    }
}

/// An instance as RAM names it; the account is the policy's own.
fn resource(instance: &Instance) -> String {
    let region = instance.region.as_deref().unwrap_or("*");
    format!("acs:cr:{region}:*:instance/{}", instance.id)
}

/// Runs that get series. The newest of the instance do, whosever they are, and a
/// hash shares them out: so of a shard it is a mean.
fn runs(follow: &Follow, shard: Shard) -> f64 {
    f64::from(follow.max_tasks.get()) / f64::from(shard.total())
}

/// Pages of a list; an empty one has one, too.
fn pages(config: &Config, rows: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let pages = (rows as f64 / f64::from(config.api.page_size.get())).ceil();
    pages.clamp(1.0, f64::from(config.api.max_pages.get()))
}

/// A list that is newest first is read beyond its first page when a finished run
/// would else be stale before the next listing has ended, and every six hours:
/// at one of so many listings.
fn listings_until_read_on(config: &Config, follow: &Follow) -> f64 {
    let interval = follow.interval.as_secs_f64();
    let fresh_for = config.poll.stale_after.as_secs_f64().max(3.0 * interval);
    let overdue = (fresh_for / interval - 1.5).floor() + 1.0;
    let whole = (WHOLE_EVERY.as_secs_f64() / interval).ceil();
    overdue.min(whole).max(1.0)
}

fn per_day(interval: Duration) -> f64 {
    DAY.as_secs_f64() / interval.as_secs_f64()
}

impl fmt::Display for Plan<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.shard.total();
        if !self.is_whole() {
            writeln!(
                f,
                "shard {} of {total}, counted from 0: its part of the tasks, about 1/{total} of the followed runs, 1/{total} of each rate limit, and all lists, which every shard reads for itself\n",
                self.shard.index(),
            )?;
        }
        for part in &self.instances {
            self.write_part(f, part)?;
        }
        writeln!(
            f,
            "\nAPI calls, the artifacts of a task on one page of {}, retries and STS not counted:",
            self.config.api.page_size.get()
        )?;
        for account in &self.accounts {
            self.write_account(f, account)?;
        }
        if self.config.instances.iter().any(|one| one.follow.is_some()) {
            writeln!(
                f,
                "  Followed runs: as many as follow.max_tasks allows, and lists that hold just these. Fewer cost less: a finished one is 1 call a day, another 1 each time, 2 while it is empty."
            )?;
        }
        writeln!(f)?;
        self.write_series(f)?;
        write!(f, "\nRAM policy:\n{}", self.ram_policy())
    }
}

fn tasks(count: usize) -> String {
    format!("{count} task{}", if count == 1 { "" } else { "s" })
}

/// What artifacts add to a task's series.
fn of_artifacts(artifacts: ArtifactSeries) -> &'static str {
    match artifacts {
        ArtifactSeries::All => " and 2 for each artifact",
        ArtifactSeries::Failed => " and 2 for each failed artifact",
        ArtifactSeries::None => "",
    }
}

/// Three digits behind the point, six of small rates.
fn short(rate: f64) -> f64 {
    let scale = if rate < 0.1 { 1e6 } else { 1e3 };
    (rate * scale).round() / scale
}

#[cfg(test)]
mod tests;
