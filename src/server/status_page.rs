//! The page for people at `/`: what is wrong in words first, then every task,
//! the most urgent first. One HTML document without scripts. Its links are
//! relative, so it works under any prefix.
//!
//! `templates/status_page.html` is the page, and everything that it prints is
//! escaped by [`PlainText`]. This module computes what the template shows.

use std::fmt::{self, Display};

use alibaba_cloud::clock::Moment;
use askama::Template;
use askama::filters::{Escaper, Html};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::HeaderValue;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::overview::{Filter, Item, Look, Overview, State, StateFilter};
use crate::model::{Assessment, Outcome, Subscription, TaskStatus};
use crate::store::{ListingEntry, PollError};
use crate::telemetry::is_unsafe;

/// Tasks on one page.
const PAGE: usize = 100;

const STYLE: &str = include_str!("templates/status_page.css");

/// What is requested, and what the page shows besides tasks.
#[derive(Debug, Default)]
pub(super) struct StatusPageQuery {
    /// Which page of tasks, from 1; one beyond the last is the last.
    pub(super) page: usize,
    /// The text of the filter.
    pub(super) text: String,
    /// Which tasks are listed. The verdict is about all of them.
    pub(super) filter: Filter,
    /// The path of the metrics.
    pub(super) telemetry_path: String,
    /// Whether every task was polled once.
    pub(super) ready: bool,
    /// Series that the limits kept off `/metrics` when it was last rendered.
    pub(super) series_dropped: i64,
}

impl StatusPageQuery {
    /// Ignores what is invalid.
    pub(super) fn parse(query: &str) -> Self {
        let (mut page, mut text, mut states) = (1, String::new(), StateFilter::All);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "page" => page = value.parse().unwrap_or(1),
                "q" => text = value.trim().chars().take(Filter::TEXT_MAX).collect(),
                "state" => states = StateFilter::parse(&value).unwrap_or_default(),
                _ => {}
            }
        }
        Self {
            page,
            filter: Filter::new(&text, states),
            text,
            ..Self::default()
        }
    }

    /// A relative link that keeps the text of the filter.
    fn link(&self, states: StateFilter, page: usize) -> String {
        let mut query = form_urlencoded::Serializer::for_suffix("?".to_owned(), 1);
        if !self.text.is_empty() {
            query.append_pair("q", &self.text);
        }
        if states != StateFilter::All {
            query.append_pair("state", states.look().key);
        }
        if page > 1 {
            query.append_pair("page", &page.to_string());
        }
        query.finish()
    }
}

/// Allows the page's own style and form, and nothing else.
pub(super) fn content_security_policy() -> HeaderValue {
    let hash = STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; \
         form-action 'self'; frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).expect("base64 is visible ASCII")
}

/// Escapes HTML. Characters that are invisible or change the direction of text
/// become U+FFFD.
#[derive(Clone, Copy)]
pub(super) struct PlainText;

impl Escaper for PlainText {
    fn write_escaped_str<W: fmt::Write>(&self, dest: W, text: &str) -> fmt::Result {
        let hidden = |c: char| is_unsafe(c) && !"\n\t".contains(c);
        if text.contains(hidden) {
            return Html.write_escaped_str(dest, &text.replace(hidden, "\u{fffd}"));
        }
        Html.write_escaped_str(dest, text)
    }
}

/// The whole document.
pub(super) fn render(overview: &Overview<'_>, query: &StatusPageQuery) -> String {
    let items = overview.items.iter();
    let listed: Vec<_> = items.filter(|item| query.filter.matches(item)).collect();
    let pages = listed.len().div_ceil(PAGE).max(1);
    let page = query.page.clamp(1, pages);
    let first = (page - 1) * PAGE;
    let shown = listed.iter().skip(first).take(PAGE);
    let document = Document {
        query,
        overview,
        now: timestamp(overview.now.wall_ms),
        verdict: Verdict::new(overview),
        states: state_links(overview, query),
        listed: listed.len(),
        pages,
        page,
        previous: (page > 1).then(|| query.link(query.filter.states, page - 1)),
        next: (page < pages).then(|| query.link(query.filter.states, page + 1)),
        first,
        rows: shown.map(|item| Row::new(item, overview)).collect(),
    };
    document.render().expect("a String accepts everything")
}

#[derive(Template)]
#[template(path = "status_page.html")]
struct Document<'a> {
    query: &'a StatusPageQuery,
    overview: &'a Overview<'a>,
    now: Timestamp,
    verdict: Verdict,
    states: Vec<StateLink>,
    /// Items on all pages.
    listed: usize,
    pages: usize,
    page: usize,
    previous: Option<String>,
    next: Option<String>,
    /// Items on the pages before.
    first: usize,
    rows: Vec<Row<'a>>,
}

/// The state of everything.
struct Verdict {
    tone: &'static str,
    /// What needs attention; all counts if nothing does.
    headline: String,
    /// The other counts.
    rest: String,
}

impl Verdict {
    fn new(overview: &Overview<'_>) -> Self {
        let counts = State::ALL.map(|state| (state, overview.count(StateFilter::One(state))));
        let counts = counts.into_iter().filter(|(_, count)| *count > 0);
        let (wrong, right): (Vec<_>, Vec<_>) =
            counts.partition(|(state, _)| state.needs_attention());
        let listings = overview.listings.iter();
        let failing = listings.filter(|listing| listing.error.is_some()).count();
        let tone = match wrong.first().or(right.first()) {
            Some((worst, _)) if failing == 0 || worst.look().tone == "bad" => worst.look().tone,
            _ if failing > 0 => "warn",
            _ => "calm",
        };
        let phrases = |counts: Vec<(State, usize)>| -> Vec<String> {
            counts
                .into_iter()
                .map(|(state, count)| phrase(state, count))
                .collect()
        };
        let (mut headline, mut rest) = (phrases(wrong), phrases(right));
        match failing {
            0 => {}
            1 => headline.push("1\u{a0}listing failing".to_owned()),
            count => headline.push(format!("{count}\u{a0}listings failing")),
        }
        if headline.is_empty() {
            headline = std::mem::take(&mut rest);
        }
        if headline.is_empty() {
            let nothing = match overview.listings.as_slice() {
                [] => "No task is configured",
                _ => "No task is known",
            };
            headline.push(nothing.to_owned());
        }
        Self {
            tone,
            headline: headline.join(", "),
            rest: rest.join(", "),
        }
    }
}

/// The number and its noun stay on one line.
fn phrase(state: State, count: usize) -> String {
    let plural = if count == 1 { "" } else { "s" };
    match state {
        State::Failing => format!("{count}\u{a0}subscription{plural} failing"),
        State::Failed => format!("{count}\u{a0}task{plural} failed"),
        State::PollFailing => format!("{count}\u{a0}poll{plural} failing"),
        State::Succeeded => format!("{count}\u{a0}task{plural} succeeded"),
        _ => format!("{count}\u{a0}{}", state.look().word),
    }
}

/// A link that lists some states only.
struct StateLink {
    look: Look,
    count: usize,
    href: String,
    is_current: bool,
}

/// Links to the states that there are, and to the current one.
fn state_links(overview: &Overview<'_>, query: &StatusPageQuery) -> Vec<StateLink> {
    let links = std::iter::once(StateFilter::All).chain(StateFilter::narrow());
    let links = links.map(|states| StateLink {
        look: states.look(),
        count: overview.count(states),
        href: query.link(states, 1),
        is_current: states == query.filter.states,
    });
    links
        .filter(|link| link.count > 0 || link.is_current)
        .collect()
}

/// One item of the table.
struct Row<'a> {
    look: Look,
    is_failing: bool,
    name: String,
    instance_id: &'a str,
    task_id: &'a str,
    /// What is copied from where, as far as the name does not say it.
    repositories: String,
    success: Option<Success>,
    /// Count, word and tone of each outcome.
    artifacts: Option<Vec<(u32, &'static str, &'static str)>>,
    started: Option<Ago>,
    took: Option<Took>,
    /// When the data was read.
    read: Option<Ago>,
    next: Option<Ago>,
    /// The API's message, of a failed task.
    message: &'a str,
    error: Option<&'a PollError>,
    polled: Option<Ago>,
    is_superseded: bool,
    is_stale: bool,
}

impl<'a> Row<'a> {
    fn new(item: &Item<'a>, overview: &Overview<'a>) -> Self {
        let now = overview.now;
        let ago = |at_ms| Ago::new(at_ms, now.wall_ms);
        let data = item.task.and_then(|task| task.data.as_ref());
        let error = item.task.and_then(|task| task.error.as_deref());
        let is_failed = data.is_some_and(|data| data.status == TaskStatus::Failed);
        let (instance_id, _) = item.key();
        let labels = item.labels().unwrap_or_default();
        let target = format!("{}/{}", labels.repo_namespace, labels.repo_name);
        let (name, task_id, run, read, next_ms) = if let Some(task) = item.task {
            let run = data.map(|data| (data.status, data.start_ms, data.duration_ms()));
            let read = Ago::aged(task.last_success_ms, task.data_age_ms(now.steady_ms));
            let name = task.target.task.to_string();
            (name, &*task.target.task_id, run, read, task.next_poll_ms)
        } else {
            let run = item.last_run();
            let task_id = run.map_or("no run yet", |run| &*run.task_id);
            let run = run.map(|run| (run.status, run.start_ms, run.duration_ms));
            let mut listings = overview.listings.iter();
            let listing = listings.find(|listing| *listing.instance_id == *instance_id);
            let read = listing.and_then(|listing| Ago::of_listing(listing, &now));
            let next_ms = listing.and_then(|listing| listing.next_ms);
            (target.clone(), task_id, run, read, next_ms)
        };
        Self {
            look: item.state.look(),
            is_failing: item.state == State::Failing,
            repositories: repositories(&labels, &target, &name),
            success: Success::new(item, now.wall_ms),
            artifacts: data.map(outcomes),
            started: run.and_then(|(_, start_ms, _)| start_ms).map(ago),
            took: run.and_then(|run| Took::new(run, task_id, item, now.wall_ms)),
            next: next_ms.map(|next_ms| ago(next_ms.max(now.wall_ms))),
            message: if is_failed { item.message() } else { "" },
            error,
            polled: item.task.and_then(|task| task.last_poll_ms).map(ago),
            is_superseded: is_superseded(item),
            is_stale: item.fresh.is_none() && data.is_some(),
            name,
            instance_id,
            task_id,
            read,
        }
    }
}

/// What is copied from where, as far as the name does not say it.
fn repositories(labels: &Subscription, target: &str, name: &str) -> String {
    let source = match labels.source_repository.as_str() {
        "" => String::new(),
        repository => format!("from {} {repository}", labels.source_provider),
    };
    match target {
        "/" => String::new(),
        target if target == name => source,
        target => format!("{target} {source}"),
    }
}

/// Outcomes that the task has: count, word and tone.
fn outcomes(data: &Assessment) -> Vec<(u32, &'static str, &'static str)> {
    let mut outcomes = vec![
        (data.count(Outcome::Failed), "failed", "bad"),
        (data.count(Outcome::Running), "running", "busy"),
        (data.count(Outcome::Unknown), "unknown", "odd"),
        (data.count(Outcome::Succeeded), "ok", "good"),
    ];
    outcomes.retain(|(count, ..)| *count > 0);
    outcomes
}

/// Whether the task failed and a newer run of its subscription succeeded.
fn is_superseded(item: &Item<'_>) -> bool {
    let start_ms = item.task.and_then(|task| task.data.as_ref()?.start_ms);
    item.state == State::Failed
        && item.subscription.is_some_and(|view| {
            let last = view.entry.last_finished_run.as_ref().filter(|_| view.fresh);
            last.is_some_and(|run| run.status == TaskStatus::Succeeded && run.start_ms > start_ms)
        })
}

/// The last success of a subscription, and what happened since.
struct Success {
    last: Option<Ago>,
    subscribed: Option<Ago>,
    failed_runs: u32,
    runs_again: bool,
}

impl Success {
    fn new(item: &Item<'_>, now_ms: i64) -> Option<Self> {
        let entry = item.subscription?.entry;
        let ago = |at_ms| Ago::new(at_ms, now_ms);
        let status = item.last_run().map(|run| run.status);
        Some(Self {
            last: entry.last_success_ms.map(ago),
            subscribed: entry.created_ms.map(ago),
            failed_runs: entry.consecutive_failed_runs,
            runs_again: status == Some(TaskStatus::Running),
        })
    }
}

/// How long a run took, or takes until now.
struct Took {
    time: Span,
    is_running: bool,
    usual: Option<Usual>,
}

/// Status, start and duration.
type Run = (TaskStatus, Option<i64>, Option<i64>);

impl Took {
    fn new(run: Run, task_id: &str, item: &Item<'_>, now_ms: i64) -> Option<Self> {
        let (status, start_ms, duration_ms) = run;
        let start_ms = start_ms.filter(|start_ms| *start_ms <= now_ms);
        let running = start_ms.filter(|_| status == TaskStatus::Running);
        let millis = duration_ms.or(running.map(|start_ms| now_ms - start_ms))?;
        let is_running = duration_ms.is_none();
        let usual = item.subscription.and_then(|view| {
            let recent: Vec<_> = view.entry.recent_durations_ms().collect();
            let last = view.entry.last_finished_run.as_ref();
            let is_last = last.is_some_and(|run| *run.task_id == *task_id);
            Usual::new(&recent, is_running.then_some(millis), is_last)
        });
        Some(Self {
            time: Span(millis),
            is_running,
            usual,
        })
    }
}

const BAR_HEIGHT: i64 = 14;

/// How long the last runs of a subscription took: one bar each.
struct Usual {
    count: usize,
    shortest: Span,
    median: Span,
    longest: Span,
    width: usize,
    /// The bars as an SVG path.
    others: String,
    /// The bar of this run, if it is the last one.
    this: Option<String>,
}

impl Usual {
    /// `None` if there is nothing to compare with.
    fn new(recent_ms: &[i64], running_ms: Option<i64>, is_last: bool) -> Option<Self> {
        let mut sorted = recent_ms.to_vec();
        sorted.sort_unstable();
        let [shortest, .., longest] = sorted[..] else {
            return None;
        };
        let median = i64::midpoint(sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
        let highest = longest.max(running_ms.unwrap_or(0)).max(1);
        let bars = recent_ms.iter().copied().chain(running_ms).enumerate();
        let mut bars: Vec<_> = bars
            .map(|(index, millis)| bar(index, millis, highest))
            .collect();
        Some(Self {
            count: sorted.len(),
            shortest: Span(shortest),
            median: Span(median),
            longest: Span(longest),
            width: BAR_STEP * bars.len() - 1,
            this: bars.pop_if(|_| is_last || running_ms.is_some()),
            others: bars.concat(),
        })
    }
}

/// Of a bar and the gap behind it.
const BAR_STEP: usize = 3;

/// Part of an SVG path. Rounded; even the shortest run is visible.
fn bar(index: usize, millis: i64, highest: i64) -> String {
    let height = millis
        .saturating_mul(BAR_HEIGHT)
        .saturating_add(highest / 2)
        / highest;
    let height = height.clamp(1, BAR_HEIGHT);
    format!("M{} {BAR_HEIGHT}v-{height}h2v{height}z", BAR_STEP * index)
}

/// To the second; at most the year 9999.
fn timestamp(unix_ms: i64) -> Timestamp {
    Timestamp::from_second(unix_ms.div_euclid(1000)).unwrap_or(Timestamp::MAX)
}

/// A time relative to now.
struct Ago {
    at: Timestamp,
    /// Negative in the future.
    age_ms: i64,
}

impl Ago {
    fn new(at_ms: i64, now_ms: i64) -> Self {
        Self {
            at: timestamp(at_ms),
            age_ms: now_ms.saturating_sub(at_ms),
        }
    }

    /// With an age that does not depend on the wall clock.
    fn aged(at_ms: Option<i64>, age_ms: Option<i64>) -> Option<Self> {
        Some(Self {
            at: timestamp(at_ms?),
            age_ms: age_ms?,
        })
    }

    /// When both lists of an instance were last read.
    fn of_listing(listing: &ListingEntry, now: &Moment) -> Option<Self> {
        Self::aged(listing.last_success_ms, listing.data_age_ms(now.steady_ms))
    }
}

impl Display for Ago {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = Span(self.age_ms.saturating_abs() / 1000 * 1000);
        match self.age_ms {
            -999..=999 => f.write_str("now"),
            1000.. => write!(f, "{seconds} ago"),
            _ => write!(f, "in {seconds}"),
        }
    }
}

/// Milliseconds, 0 or more, shown in the two largest units.
struct Span(i64);

impl Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1000;
        let tenths = self.0 % 1000 / 100;
        let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
        match seconds {
            0..10 if tenths > 0 => write!(f, "{seconds}.{tenths} s"),
            0..60 => write!(f, "{seconds} s"),
            60..3600 => write!(f, "{minutes} min {} s", seconds % 60),
            3600..86_400 => write!(f, "{hours} h {} min", minutes % 60),
            _ => write!(f, "{days} d {} h", hours % 24),
        }
    }
}

#[cfg(test)]
mod tests;
