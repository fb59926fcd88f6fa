//! From the mirror to a [`Config`]: every value judged, every mistake collected.
//! The entries under `credentials:` are judged in `credentials`.

mod credentials;

use std::collections::{BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::file::{self, Amount, Number, Placed};
use super::mistake::Place;
use super::values::{self, MAX_DURATION, did_you_mean, in_words};
use super::{
    Api, Artifacts, CausePatterns, Config, Credentials, CredentialsSource, Endpoint, Follow,
    Instance, Limits, Mistake, Pattern, Poll, Search, Signature, StatusWords, Task,
};
use credentials::Entry;

/// The name that stands for the official chain unless the file defines it.
const DEFAULT_CREDENTIALS: &str = "default";
/// Shorter than this, polls would be nothing but load.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
const MIN_DURATION: Duration = Duration::from_millis(1);

const INTERVAL: Duration = Duration::from_secs(60);
const FINISHED_INTERVAL: Duration = Duration::from_secs(3600);
const DEADLINE: Duration = Duration::from_secs(120);
const TIMEOUT: Duration = Duration::from_secs(10);
const STALE_AFTER: Duration = Duration::from_secs(300);
const LISTING_INTERVAL: Duration = Duration::from_secs(300);
const MAX_AGE: Duration = Duration::from_secs(30 * 86_400);

/// Judges the whole file, which is at `path`; relative paths in it are relative to
/// its folder.
pub(super) fn validate(file: Placed<file::File>, path: &Path) -> Result<Config, Vec<Mistake>> {
    let Placed {
        value: file,
        at: root,
    } = file;
    let mut check = Check {
        path,
        folder: path.parent().unwrap_or(Path::new("")),
        mistakes: Vec::new(),
    };

    let poll = check.poll(&inner(file.poll));
    let api = check.api(inner(file.api));
    let vpc = api.vpc;
    let entries = check.credentials(file.credentials, vpc);
    let names: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
    let instances = check.instances(file.instances, &root, &names, &poll, vpc);
    let artifacts = check.artifacts(file.artifacts, Artifacts::All);
    let status = check.status(inner(file.status));
    let causes = check.causes(inner(file.causes));
    let limits = check.limits(&inner(file.limits));
    let state_path = check.state(inner(file.state));

    if check.mistakes.is_empty() {
        let (credentials, instances) = only_used(entries, instances);
        Ok(Config {
            poll,
            api,
            credentials,
            instances,
            artifacts,
            status,
            causes,
            limits,
            state_path,
        })
    } else {
        check
            .mistakes
            .sort_by_key(|mistake| (mistake.line, mistake.column));
        Err(check.mistakes)
    }
}

/// Leaves out the entries that no instance leads to, and puts each behind the
/// one that its keys come from.
fn only_used(
    entries: Vec<Entry>,
    mut instances: Vec<Instance>,
) -> (Vec<Credentials>, Vec<Instance>) {
    let used: BTreeSet<usize> = instances
        .iter()
        .map(|instance| instance.credentials)
        .collect();
    let mut order = Vec::new();
    let mut new_index = HashMap::new();
    for index in used {
        let mut chain = Vec::new();
        let mut next = Some(index);
        while let Some(index) = next.filter(|index| !new_index.contains_key(index)) {
            chain.push(index);
            next = entries[index].source();
        }
        for index in chain.into_iter().rev() {
            new_index.insert(index, order.len());
            order.push(index);
        }
    }
    let mut found: Vec<_> = entries.into_iter().map(|entry| entry.credentials).collect();
    let mut kept = Vec::with_capacity(order.len());
    for index in order {
        let mut credentials = found[index].take();
        if let Some(CredentialsSource::AssumeRole { source, .. }) = credentials
            .as_mut()
            .map(|credentials| &mut credentials.source)
        {
            *source = new_index[source];
        }
        kept.extend(credentials);
    }
    for instance in &mut instances {
        instance.credentials = new_index[&instance.credentials];
    }
    (kept, instances)
}

fn inner<T: Default>(placed: Option<Placed<T>>) -> T {
    placed.map(|placed| placed.value).unwrap_or_default()
}

struct Check<'a> {
    path: &'a Path,
    folder: &'a Path,
    mistakes: Vec<Mistake>,
}

impl Check<'_> {
    fn refuse(&mut self, at: &Place, message: impl Into<String>) {
        self.mistakes.push(Mistake::new(at, message));
    }

    /// The good value, or `None` after noting why it is not.
    fn noted<T>(&mut self, at: &Place, result: Result<T, String>) -> Option<T> {
        result.map_err(|message| self.refuse(at, message)).ok()
    }

    fn duration(&mut self, amount: Option<&Placed<Amount>>, min: Duration) -> Option<Duration> {
        let Placed { value, at } = amount?;
        self.noted(at, values::duration(&value.0, min, MAX_DURATION))
    }

    /// The default where nothing is written, `None` where what is written is a mistake.
    fn duration_or(
        &mut self,
        amount: Option<&Placed<Amount>>,
        min: Duration,
        default: Duration,
    ) -> Option<Duration> {
        match amount {
            None => Some(default),
            Some(_) => self.duration(amount, min),
        }
    }

    fn whole<T: TryFrom<i128>>(
        &mut self,
        number: Option<&Placed<Number>>,
        range: RangeInclusive<u32>,
        default: T,
    ) -> T {
        let Some(Placed { value, at }) = number else {
            return default;
        };
        if let Number::Integer(value) = *value
            && u32::try_from(value).is_ok_and(|value| range.contains(&value))
            && let Ok(value) = T::try_from(value)
        {
            return value;
        }
        let (min, max) = (range.start(), range.end());
        self.refuse(
            at,
            format!("must be a whole number from {min} to {max}{}", not(*value)),
        );
        default
    }

    fn choice<T: Copy>(
        &mut self,
        text: Option<Placed<String>>,
        choices: &[(&str, T)],
        default: T,
    ) -> T {
        let Some(Placed { value, at }) = text else {
            return default;
        };
        if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == value) {
            return *choice;
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        self.refuse(&at, one_of(&value, &names));
        default
    }

    fn poll(&mut self, file: &file::Poll) -> Poll {
        let interval = self.duration_or(file.interval.as_ref(), MIN_INTERVAL, INTERVAL);
        let finished_interval = self.duration(file.finished_interval.as_ref(), MIN_INTERVAL);
        let deadline = self.duration_or(file.deadline.as_ref(), MIN_DURATION, DEADLINE);
        let timeout = self.duration(file.timeout.as_ref(), MIN_DURATION);
        if let (Some(written), Some(value)) = (&file.finished_interval, finished_interval)
            && let Some(interval) = interval.filter(|interval| value < *interval)
        {
            let interval = in_words(interval);
            self.refuse(
                &written.at,
                format!("must not be shorter than poll.interval ({interval})"),
            );
        }
        if let (Some(written), Some(value)) = (&file.timeout, timeout)
            && let Some(deadline) = deadline.filter(|deadline| value > *deadline)
        {
            let deadline = in_words(deadline);
            self.refuse(
                &written.at,
                format!("must not be longer than poll.deadline ({deadline})"),
            );
        }
        let (interval, deadline) = (interval.unwrap_or(INTERVAL), deadline.unwrap_or(DEADLINE));
        Poll {
            interval,
            // A default gives way to what was written.
            finished_interval: finished_interval.unwrap_or(FINISHED_INTERVAL.max(interval)),
            deadline,
            timeout: timeout.unwrap_or(TIMEOUT.min(deadline)),
            concurrency: self.whole(file.concurrency.as_ref(), 1..=1000, 8),
            stale_after: self
                .duration(file.stale_after.as_ref(), MIN_INTERVAL)
                .unwrap_or(STALE_AFTER),
        }
    }

    fn api(&mut self, file: file::Api) -> Api {
        let signatures = [
            ("acs3-hmac-sha256", Signature::Acs3HmacSha256),
            ("hmac-sha1", Signature::HmacSha1),
        ];
        Api {
            signature: self.choice(file.signature, &signatures, Signature::Acs3HmacSha256),
            vpc: self.choice(file.network, &[("public", false), ("vpc", true)], false),
            requests_per_second: self.rate(file.requests_per_second),
            burst: self.whole(file.burst.as_ref(), 1..=10_000, 5),
            retries: self.whole(file.retries.as_ref(), 0..=10, 3),
            page_size: self.whole(file.page_size.as_ref(), 1..=100, 100),
            max_pages: self.whole(file.max_pages.as_ref(), 1..=1_000_000, 100),
        }
    }

    fn rate(&mut self, number: Option<Placed<Number>>) -> f64 {
        let default = 5.0;
        let Some(Placed { value, at }) = number else {
            return default;
        };
        let rate = match value {
            // Beyond i32 it is out of range anyway.
            Number::Integer(value) => i32::try_from(value).map_or(f64::NAN, f64::from),
            Number::Float(value) => value,
        };
        if (0.001..=1000.0).contains(&rate) {
            rate
        } else {
            self.refuse(
                &at,
                format!("must be a number from 0.001 to 1000{}", not(value)),
            );
            default
        }
    }

    fn artifacts(&mut self, text: Option<Placed<String>>, default: Artifacts) -> Artifacts {
        let choices = [
            ("all", Artifacts::All),
            ("failed", Artifacts::Failed),
            ("none", Artifacts::None),
        ];
        self.choice(text, &choices, default)
    }

    fn state(&mut self, file: file::State) -> Option<PathBuf> {
        let Placed { value, at } = file.path?;
        self.noted(&at, values::path(&value))?;
        let path = self.folder.join(value);
        let named = |path: &Path| -> PathBuf {
            let parts = path.components();
            parts.filter(|part| *part != Component::CurDir).collect()
        };
        if named(&path) == named(self.path) {
            self.refuse(
                &at,
                "is this file itself, which a state would replace; name another one",
            );
            return None;
        }
        Some(path)
    }

    fn limits(&mut self, file: &file::Limits) -> Limits {
        Limits {
            series: self.whole(file.series.as_ref(), 1..=10_000_000, 200_000),
            artifacts_per_task: self.whole(file.artifacts_per_task.as_ref(), 1..=10_000_000, 500),
        }
    }

    fn status(&mut self, file: file::Status) -> StatusWords {
        let mut lines = HashMap::new();
        let mut words = |list: Option<Placed<Vec<Placed<String>>>>| {
            let mut words = Vec::new();
            for Placed { value, at } in inner(list) {
                if value.is_empty() || value.trim() != value || value.len() > 128 {
                    self.refuse(
                        &at,
                        "must be a word without surrounding white space, at most 128 bytes long",
                    );
                } else if let Some(first) = lines.insert(value.to_uppercase(), at.line) {
                    self.refuse(
                        &at,
                        format!("this word stands at line {first} already; case does not matter"),
                    );
                } else {
                    words.push(value);
                }
            }
            words
        };
        StatusWords {
            running: words(file.running),
            finished: words(file.finished),
            succeeded: words(file.succeeded),
            failed: words(file.failed),
        }
    }

    fn causes(&mut self, file: file::Causes) -> CausePatterns {
        let mut patterns = |list: Option<Placed<Vec<Placed<String>>>>| {
            let list = inner(list).into_iter();
            let valid = list.filter_map(|Placed { value, at }| {
                let pattern = self.noted(&at, values::search_pattern(&value))?;
                Some(Search(pattern))
            });
            valid.collect()
        };
        CausePatterns {
            rate_limited: patterns(file.rate_limited),
            quota: patterns(file.quota),
            unauthorized: patterns(file.unauthorized),
            not_found: patterns(file.not_found),
            network: patterns(file.network),
            other: patterns(file.other),
        }
    }

    fn instances(
        &mut self,
        list: Option<Placed<Vec<Placed<file::Instance>>>>,
        root: &Place,
        names: &[&str],
        poll: &Poll,
        vpc: bool,
    ) -> Vec<Instance> {
        let (list, at) = match list {
            Some(Placed { value, at }) => (value, at),
            None => (Vec::new(), root.missing("instances")),
        };
        if list.is_empty() {
            self.refuse(&at, "must list at least one instance, such as {id: cri-…, region: cn-hangzhou, tasks: [crast-…]}");
        }
        let mut lines = HashMap::new();
        list.into_iter()
            .filter_map(|placed| self.instance(placed, &mut lines, names, poll, vpc))
            .collect()
    }

    fn instance(
        &mut self,
        placed: Placed<file::Instance>,
        lines: &mut HashMap<String, u64>,
        names: &[&str],
        poll: &Poll,
        vpc: bool,
    ) -> Option<Instance> {
        let Placed { value: file, at } = placed;
        let id = self.id(file.id, &at, "cri-", lines, "instance");
        let endpoint = self.endpoint(file.endpoint, file.region.as_ref(), &at, vpc);
        let credentials = match &file.credentials {
            Some(name) => self.reference(name, names),
            None => names.iter().position(|name| *name == DEFAULT_CREDENTIALS),
        };
        let tasks = inner(file.tasks);
        if tasks.is_empty() && file.follow.is_none() {
            self.refuse(
                &at.missing("tasks"),
                "must name at least one task, such as [crast-…]; or find them all with follow: {}",
            );
        }
        let follow = file.follow.map(|follow| self.follow(follow.value));
        let mut lines = HashMap::with_capacity(tasks.len());
        let tasks: Vec<Task> = tasks
            .into_iter()
            .filter_map(|task| self.task(task, &mut lines, poll.interval))
            .collect();
        Some(Instance {
            id: id?,
            region: file.region.map(|region| region.value).unwrap_or_default(),
            credentials: credentials?,
            endpoint: endpoint?,
            tasks,
            follow,
        })
    }

    fn follow(&mut self, file: file::Follow) -> Follow {
        Follow {
            interval: self
                .duration(file.interval.as_ref(), MIN_INTERVAL)
                .unwrap_or(LISTING_INTERVAL),
            include: self.patterns(file.include),
            exclude: self.patterns(file.exclude),
            runs: self.whole(file.runs.as_ref(), 1..=1000, 1),
            max_age: self
                .duration(file.max_age.as_ref(), MIN_INTERVAL)
                .unwrap_or(MAX_AGE),
            max_tasks: self.whole(file.max_tasks.as_ref(), 0..=100_000, 1000),
            artifacts: self.artifacts(file.artifacts, Artifacts::Failed),
        }
    }

    fn patterns(&mut self, list: Option<Placed<Vec<Placed<file::Pattern>>>>) -> Vec<Pattern> {
        let list = inner(list).into_iter();
        list.filter_map(|Placed { value, at }| self.pattern(value, &at))
            .collect()
    }

    fn pattern(&mut self, file: file::Pattern, at: &Place) -> Option<Pattern> {
        if file.repo_namespace.is_none() && file.repo_name.is_none() {
            self.refuse(
                at,
                "must have repo_namespace, repo_name or both; repo_name: .* is every repository",
            );
            return None;
        }
        let mut one = |text: Option<Placed<String>>| {
            let (text, at) = match &text {
                Some(Placed { value, at }) => (value.as_str(), at),
                None => (".*", at),
            };
            self.noted(at, values::pattern(text))
        };
        let (repo_namespace, repo_name) = (one(file.repo_namespace), one(file.repo_name));
        Some(Pattern {
            repo_namespace: repo_namespace?,
            repo_name: repo_name?,
        })
    }

    fn task(
        &mut self,
        placed: Placed<file::Task>,
        lines: &mut HashMap<String, u64>,
        interval: Duration,
    ) -> Option<Task> {
        let Placed {
            value: file::Task(file),
            at,
        } = placed;
        let id = self.id(file.id, &at, "crast-", lines, "task");
        let interval = self
            .duration(file.interval.as_ref(), MIN_INTERVAL)
            .unwrap_or(interval);
        if let Some(Placed { value, at }) = &file.name
            && (value.trim().is_empty() || value.chars().count() > 256)
        {
            self.refuse(
                at,
                "must be a name of 1 to 256 characters; leave it out to use the id",
            );
        }
        let id = id?;
        let name = file.name.map_or_else(|| id.clone(), |name| name.value);
        Some(Task { id, name, interval })
    }

    /// The id of an instance or task, which may stand there only once.
    fn id(
        &mut self,
        id: Option<Placed<String>>,
        owner: &Place,
        prefix: &str,
        lines: &mut HashMap<String, u64>,
        what: &str,
    ) -> Option<String> {
        let Some(Placed { value, at }) = id else {
            self.refuse(
                &owner.missing("id"),
                format!("is missing; write the {what}'s id, {prefix}…"),
            );
            return None;
        };
        self.noted(&at, values::id(&value, prefix))?;
        if let Some(first) = lines.insert(value.clone(), at.line) {
            self.refuse(
                &at,
                format!("duplicate {what}; it stands at line {first} already"),
            );
        }
        Some(value)
    }

    fn endpoint(
        &mut self,
        endpoint: Option<Placed<String>>,
        region: Option<&Placed<String>>,
        instance: &Place,
        vpc: bool,
    ) -> Option<Endpoint> {
        match (endpoint, region) {
            (Some(Placed { value, at }), region) => {
                if let Some(Placed { value, at }) = region {
                    self.noted(at, values::plausible_region(value));
                }
                self.noted(&at, values::endpoint(&value))
            }
            (None, Some(Placed { value, at })) => {
                self.noted(at, values::region_endpoint(value, vpc))
            }
            (None, None) => {
                let message = "is missing; write the instance's region, such as cn-hangzhou";
                self.refuse(&instance.missing("region"), message);
                None
            }
        }
    }

    /// The index of the entry of that name.
    fn reference<S: AsRef<str>>(&mut self, name: &Placed<String>, names: &[S]) -> Option<usize> {
        let Placed { value, at } = name;
        let found = names.iter().position(|name| name.as_ref() == value);
        if found.is_none() {
            let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
            let meant = did_you_mean(value, names.iter().copied());
            let names = names.join(", ");
            self.refuse(
                at,
                format!("no entry of this name under credentials{meant}; defined are {names}"),
            );
        }
        found
    }
}

fn one_of(value: &str, names: &[&str]) -> String {
    let meant = did_you_mean(value, names.iter().copied());
    format!("must be one of {}{meant}", names.join(", "))
}

/// `, not 5` where the number is short.
fn not(number: Number) -> String {
    let number = match number {
        Number::Integer(value) => value.to_string(),
        Number::Float(value) => format!("{value:?}"),
    };
    if number.len() <= 16 {
        format!(", not {number}")
    } else {
        String::new()
    }
}
