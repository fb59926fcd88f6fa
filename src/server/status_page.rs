//! The page for people at `/`: what is wrong in words first, then every task,
//! the worst on top. One HTML document without scripts; works under any prefix
//! because its links are relative, and shows nothing of the cloud unescaped.
//!
//! Which state a task is in and what a filter leaves is `overview`'s.

use std::fmt::{self, Display, Write as _};
use std::sync::LazyLock;

use alibaba_cloud::clock;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::HeaderValue;
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest as _, Sha256};

use super::overview::{Filter, Item, Overview, State, Wanted as States};
use super::query;
use crate::model::{Assessment, Outcome, TaskStatus};
use crate::store::{ListingEntry, SubscriptionEntry, SubscriptionView, TaskEntry};
use crate::telemetry::is_unsafe;

/// Tasks on one page.
const PAGE: usize = 100;

const STYLE: &str = include_str!("status_page.css");

/// What the page shows beside the tasks, and which of them.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    /// Which page of tasks, from 1; one beyond the last is the last.
    pub(super) page: usize,
    /// What is searched for, as it was written.
    pub(super) text: String,
    /// Which tasks are listed. The verdict speaks of all.
    pub(super) filter: Filter,
    /// Where the metrics are.
    pub(super) telemetry_path: String,
    /// Whether every task was tried once.
    pub(super) ready: bool,
    /// Series that the limits kept off the metrics page when it was last made.
    pub(super) series_dropped: i64,
}

impl Wanted {
    /// What a query asks for; what it does not say well it does not say.
    pub(super) fn by(query: &str) -> Self {
        let (mut page, mut text, mut state) = (1, String::new(), States::All);
        for (name, value) in query::pairs(query) {
            match name.as_str() {
                "page" => page = value.parse().unwrap_or(1),
                "q" => text = value.trim().chars().take(Filter::TEXT_MAX).collect(),
                "state" => state = States::parse(&value).unwrap_or_default(),
                _ => {}
            }
        }
        Self {
            page,
            filter: Filter::new(&text, state),
            text,
            ..Self::default()
        }
    }

    /// The query of another page of this list.
    fn page(&self, page: usize) -> Link<'_> {
        Link {
            text: &self.text,
            state: self.filter.state,
            page,
        }
    }

    /// The query that lists other states.
    fn states(&self, state: States) -> Link<'_> {
        Link {
            state,
            ..self.page(1)
        }
    }
}

/// A query of this page, as it stands in a quoted attribute.
struct Link<'a> {
    text: &'a str,
    state: States,
    page: usize,
}

impl Display for Link<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "?";
        if !self.text.is_empty() {
            let text = utf8_percent_encode(self.text, NON_ALPHANUMERIC);
            write!(f, "{separator}q={text}")?;
            separator = "&amp;";
        }
        if self.state != States::All {
            write!(f, "{separator}state={}", self.state.key())?;
            separator = "&amp;";
        }
        if self.page > 1 {
            write!(f, "{separator}page={}", self.page)?;
            separator = "&amp;";
        }
        // An empty reference would keep the query that there is.
        f.write_str(if separator == "?" { "?" } else { "" })
    }
}

/// Allows the page's own style and its own form, and nothing else.
pub(super) fn content_security_policy() -> HeaderValue {
    static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
        let hash = STANDARD.encode(Sha256::digest(STYLE));
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; \
             form-action 'self'; frame-ancestors 'none'"
        );
        HeaderValue::from_str(&policy).expect("base64 is visible ASCII")
    });
    POLICY.clone()
}

/// How a state is shown.
trait Look {
    fn icon(self) -> char;
    fn word(self) -> &'static str;
    /// A class of the style sheet.
    fn tone(self) -> &'static str;
    /// Its part of the verdict; a number and its word stay on one line.
    fn of(self, count: usize) -> String;
}

impl Look for State {
    fn icon(self) -> char {
        match self {
            Self::Failing | Self::Failed => '✕',
            Self::PollFailing => '!',
            Self::Stale => '⌛',
            Self::Running => '▸',
            Self::Unknown => '?',
            Self::NotPolled => '…',
            Self::Empty => '–',
            Self::Succeeded => '✓',
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Failing => "failing",
            Self::Failed => "failed",
            Self::PollFailing => "poll failing",
            Self::Stale => "stale",
            Self::Running => "running",
            Self::Unknown => "unknown",
            Self::NotPolled => "not polled yet",
            Self::Empty => "empty",
            Self::Succeeded => "succeeded",
        }
    }

    fn tone(self) -> &'static str {
        match self {
            Self::Failing | Self::Failed => "bad",
            Self::PollFailing | Self::Stale => "warn",
            Self::Running => "busy",
            Self::Unknown => "odd",
            Self::NotPolled | Self::Empty => "calm",
            Self::Succeeded => "good",
        }
    }

    fn of(self, count: usize) -> String {
        let plural = if count == 1 { "" } else { "s" };
        match self {
            Self::Failing => format!("{count}\u{a0}subscription{plural} failing"),
            Self::Failed => format!("{count}\u{a0}task{plural} failed"),
            Self::PollFailing => format!("{count}\u{a0}poll{plural} failing"),
            Self::Succeeded => format!("{count}\u{a0}task{plural} succeeded"),
            _ => format!("{count}\u{a0}{}", self.word()),
        }
    }
}

/// The whole document.
pub(super) fn render(overview: &Overview<'_>, wanted: &Wanted) -> String {
    let of_filter: Vec<&Item<'_>>;
    let all: Vec<&Item<'_>> = overview.items.iter().collect();
    let listed = if wanted.filter.is_everything() {
        &all
    } else {
        let listed = all.iter().filter(|item| wanted.filter.takes(item));
        of_filter = listed.copied().collect();
        &of_filter
    };
    let pages = listed.len().div_ceil(PAGE).max(1);
    let page = wanted.page.clamp(1, pages);
    let first = (page - 1) * PAGE;
    let shown = Shown {
        items: &listed[first..listed.len().min(first + PAGE)],
        listed: listed.len(),
        first,
        page,
        pages,
    };

    let mut out = String::with_capacity(8 * 1024 + 2 * 1024 * shown.items.len());
    document(&mut out, overview, wanted, &shown).expect("a String takes everything");
    out
}

/// The part of the list that stands on this page.
struct Shown<'a> {
    items: &'a [&'a Item<'a>],
    /// How many there are on all pages.
    listed: usize,
    first: usize,
    page: usize,
    pages: usize,
}

fn document(
    out: &mut String,
    overview: &Overview<'_>,
    wanted: &Wanted,
    shown: &Shown<'_>,
) -> fmt::Result {
    let verdict = Verdict::of(overview);
    let headline = &verdict.headline;
    write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{headline} – aliyun-acr-exporter</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <header>\n<p class=\"product\">aliyun-acr-exporter <span>{version}</span></p>\n\
         <nav aria-label=\"Other pages\"><a href=\".{metrics}\">Metrics</a> \
         <a href=\"./config\">Configuration</a> <a href=\"./api/v1/tasks\">JSON</a> \
         <a href=\"./-/ready\">Readiness</a></nav>\n</header>\n\
         <main>\n<h1 class=\"{tone}\">{headline}</h1>\n",
        version = env!("CARGO_PKG_VERSION"),
        tone = verdict.tone,
        metrics = Escaped(&wanted.telemetry_path),
    )?;
    if !verdict.rest.is_empty() {
        writeln!(out, "<p>The rest: {}.</p>", verdict.rest)?;
    }
    for listing in &overview.listings {
        listing_trouble(out, listing, overview.now.steady_ms)?;
    }
    write!(
        out,
        "<p class=\"about\">As of {}.",
        Moment(overview.now.wall_ms)
    )?;
    if !wanted.ready {
        out.push_str(" Not ready: not every task was tried yet, or the exporter is stopping.");
    }
    if wanted.series_dropped > 0 {
        write!(
            out,
            " The limits keep {} series off the metrics page.",
            wanted.series_dropped
        )?;
    }
    out.push_str("</p>\n");
    if !overview.items.is_empty() {
        choice(out, overview, wanted)?;
        list(out, overview, wanted, shown)?;
    }
    out.push_str("</main>\n</body>\n</html>\n");
    Ok(())
}

/// The form and the links that choose what is listed.
fn choice(out: &mut String, overview: &Overview<'_>, wanted: &Wanted) -> fmt::Result {
    let state = wanted.filter.state;
    out.push_str("<form role=\"search\" aria-label=\"Tasks\">\n");
    write!(
        out,
        "<label for=\"q\">Name, id, repository or error</label>\n\
         <input id=\"q\" name=\"q\" type=\"search\" value=\"{}\" maxlength=\"{}\" \
         autocomplete=\"off\" spellcheck=\"false\" enterkeyhint=\"search\">\n",
        Escaped(&wanted.text),
        Filter::TEXT_MAX,
    )?;
    if state != States::All {
        writeln!(
            out,
            "<input name=\"state\" type=\"hidden\" value=\"{}\">",
            state.key()
        )?;
    }
    out.push_str(
        "<button>Filter</button>\n</form>\n<nav class=\"states\" aria-label=\"Tasks by state\">",
    );
    let attention: usize = State::ALL
        .into_iter()
        .filter(|state| state.is_wrong())
        .map(|state| overview.count(state))
        .sum();
    let mut link = |states: States, count: usize, look: &dyn Display, tone: &str| {
        let current = if states == state {
            " aria-current=\"true\""
        } else {
            ""
        };
        write!(
            out,
            "<a class=\"{tone}\" href=\"{}\"{current}>{look} <b>{count}</b></a> ",
            wanted.states(states)
        )
    };
    link(States::All, overview.items.len(), &"all", "calm")?;
    if attention > 0 || state == States::Attention {
        link(States::Attention, attention, &"need attention", "calm")?;
    }
    for one in State::ALL {
        let count = overview.count(one);
        if count > 0 || state == States::One(one) {
            let look = format!(
                "<span aria-hidden=\"true\">{}</span> {}",
                one.icon(),
                one.word()
            );
            link(States::One(one), count, &look, one.tone())?;
        }
    }
    out.push_str("</nav>\n");
    Ok(())
}

fn list(
    out: &mut String,
    overview: &Overview<'_>,
    wanted: &Wanted,
    shown: &Shown<'_>,
) -> fmt::Result {
    let &Shown {
        items,
        listed,
        first,
        page,
        pages,
    } = shown;
    let all = overview.items.len();
    if !wanted.filter.is_everything() {
        let nothing = Link {
            text: "",
            ..wanted.states(States::All)
        };
        let tasks = if listed == 1 { "task" } else { "tasks" };
        writeln!(
            out,
            "<p class=\"about\" role=\"status\">{} {tasks} of {all} {}. \
             <a href=\"{nothing}\">Show all</a></p>",
            if listed == 0 {
                "No".to_owned()
            } else {
                listed.to_string()
            },
            if listed == 1 { "matches" } else { "match" },
        )?;
    }
    if pages > 1 {
        writeln!(
            out,
            "<p class=\"about\">Tasks {}–{} of {listed}, the most urgent first.</p>",
            first + 1,
            first + items.len(),
        )?;
    }
    if !items.is_empty() {
        out.push_str(
            "<table>\n<thead><tr><th scope=\"col\">State</th><th scope=\"col\">Task</th>\
             <th scope=\"col\">Artifacts</th><th scope=\"col\">Started</th>\
             <th scope=\"col\">Took</th><th scope=\"col\">Data from</th>\
             <th scope=\"col\">Next poll</th></tr></thead>\n",
        );
        for item in items {
            row(out, &Row::of(item, overview), overview.now.wall_ms)?;
        }
        out.push_str("</table>\n");
    }
    if pages > 1 {
        out.push_str("<nav class=\"pages\" aria-label=\"Pages of tasks\">");
        if page > 1 {
            let previous = wanted.page(page - 1);
            write!(out, "<a rel=\"prev\" href=\"{previous}\">Previous</a> ")?;
        }
        write!(out, "<span>Page {page} of {pages}</span>")?;
        if page < pages {
            let next = wanted.page(page + 1);
            write!(out, " <a rel=\"next\" href=\"{next}\">Next</a>")?;
        }
        out.push_str("</nav>\n");
    }
    Ok(())
}

/// How things stand as a whole.
struct Verdict {
    tone: &'static str,
    /// What is wrong, or where nothing is, everything.
    headline: String,
    /// The tasks beside those of the headline.
    rest: String,
}

impl Verdict {
    fn of(overview: &Overview<'_>) -> Self {
        let listings = &overview.listings;
        let failing = listings.iter().filter(|it| it.error.is_some()).count();
        let failing = match failing {
            0 => None,
            1 => Some("1\u{a0}listing failing".to_owned()),
            count => Some(format!("{count}\u{a0}listings failing")),
        };
        let Some(worst) = overview.items.first() else {
            let nothing = if listings.is_empty() {
                "No task is configured"
            } else {
                "No task is known"
            };
            return Self {
                tone: if failing.is_some() { "warn" } else { "calm" },
                headline: failing.unwrap_or_else(|| nothing.to_owned()),
                rest: String::new(),
            };
        };
        let list = |wanted: fn(State) -> bool| {
            let parts: Vec<String> = State::ALL
                .into_iter()
                .filter(|state| wanted(*state))
                .map(|state| (state, overview.count(state)))
                .filter(|(_, count)| *count > 0)
                .map(|(state, count)| state.of(count))
                .collect();
            parts
        };
        let mut wrong = list(State::is_wrong);
        let mut tone = worst.state.tone();
        if let Some(failing) = failing {
            wrong.push(failing);
            if worst.state > State::PollFailing {
                tone = "warn";
            }
        }
        let (headline, rest) = if wrong.is_empty() {
            (list(|_| true), Vec::new())
        } else {
            // Where something unknown is all that is wrong, it need not come first.
            if tone != "warn" && tone != "bad" {
                tone = "odd";
            }
            (wrong, list(|state| !state.is_wrong()))
        };
        Self {
            tone,
            headline: headline.join(", "),
            rest: rest.join(", "),
        }
    }
}

/// What keeps runs of a followed instance from being seen.
fn listing_trouble(out: &mut String, listing: &ListingEntry, steady_ms: i64) -> fmt::Result {
    let instance = Escaped(&listing.instance_id);
    if let Some(error) = &listing.error {
        write!(
            out,
            "<p class=\"listing warn\"><b>The lists of {instance} cannot be read ({}",
            Escaped(error.reason.as_str())
        )?;
        match Ago::aged(listing.last_success_ms, listing.data_age_ms(steady_ms)) {
            Some(read) => write!(out, ", last read {read}")?,
            None => out.push_str(", never read yet"),
        }
        writeln!(out, "):</b> {}</p>", Escaped(&error.text))?;
    }
    match listing.tasks_dropped {
        0 => Ok(()),
        dropped => {
            let runs = if dropped == 1 { "run" } else { "runs" };
            writeln!(
                out,
                "<p class=\"listing calm\"><b>{instance}:</b> {dropped}\u{a0}{runs} left out by max_tasks.</p>"
            )
        }
    }
}

/// What stands in the cells of an item.
struct Row<'a> {
    item: &'a Item<'a>,
    name: String,
    instance: &'a str,
    id: &'a str,
    /// Into what and from where, as far as the cloud has told: namespace, name,
    /// provider, source.
    labels: Option<[&'a str; 4]>,
    start_ms: Option<i64>,
    took: Option<Took>,
    /// When what is shown was read.
    read: Option<Ago>,
    next_ms: Option<i64>,
}

/// A length of time, milliseconds.
enum Took {
    /// From start to end.
    Whole(i64),
    /// From start to now.
    SoFar(i64),
}

impl<'a> Row<'a> {
    fn of(item: &'a Item<'a>, overview: &Overview<'a>) -> Self {
        match (item.task, &item.subscription) {
            (Some(task), _) => Self::of_task(item, task, overview.now),
            (None, Some(view)) => Self::of_subscription(item, view.entry, overview),
            (None, None) => unreachable!("an item is one or the other"),
        }
    }

    fn of_task(item: &'a Item<'a>, task: &'a TaskEntry, now: clock::Moment) -> Self {
        let data = task.data.as_ref();
        let start_ms = data.and_then(|data| data.start_ms);
        let took = data.and_then(|data| match data.duration_ms() {
            Some(millis) => Some(Took::Whole(millis)),
            None => so_far(data.status, start_ms, now.wall_ms),
        });
        let labels = task.info.as_deref().map(|info| {
            [
                info.repo_namespace.as_str(),
                &info.repo_name,
                &info.source_provider,
                &info.source_repository,
            ]
        });
        Self {
            item,
            name: task.target.task.as_ref().to_owned(),
            instance: &task.target.instance_id,
            id: &task.target.task_id,
            labels,
            start_ms,
            took,
            read: Ago::aged(task.last_success_ms, task.data_age_ms(now.steady_ms)),
            next_ms: task.next_poll_ms,
        }
    }

    fn of_subscription(
        item: &'a Item<'a>,
        entry: &'a SubscriptionEntry,
        overview: &Overview<'a>,
    ) -> Self {
        let labels = &entry.subscription;
        let run = entry.last_run.as_ref();
        let start_ms = run.and_then(|run| run.start_ms);
        let took = run.and_then(|run| match run.duration_ms {
            Some(millis) => Some(Took::Whole(millis)),
            None => so_far(run.status, start_ms, overview.now.wall_ms),
        });
        let listing = overview
            .listings
            .iter()
            .find(|listing| listing.instance_id == entry.instance_id);
        Self {
            item,
            name: format!("{}/{}", labels.repo_namespace, labels.repo_name),
            instance: &entry.instance_id,
            id: run.map_or("no run yet", |run| &run.task_id),
            labels: Some([
                &labels.repo_namespace,
                &labels.repo_name,
                &labels.source_provider,
                &labels.source_repository,
            ]),
            start_ms,
            took,
            read: listing.and_then(|listing| {
                let age = listing.data_age_ms(overview.now.steady_ms);
                Ago::aged(listing.last_success_ms, age)
            }),
            next_ms: listing.and_then(|listing| listing.next_ms),
        }
    }
}

fn so_far(status: TaskStatus, start_ms: Option<i64>, now_ms: i64) -> Option<Took> {
    let start_ms = start_ms.filter(|start_ms| *start_ms <= now_ms)?;
    (status == TaskStatus::Running).then(|| Took::SoFar(now_ms - start_ms))
}

fn row(out: &mut String, row: &Row<'_>, now_ms: i64) -> fmt::Result {
    let state = row.item.state;
    write!(
        out,
        "<tbody class=\"{tone}\">\n<tr><td class=\"state\"><span class=\"badge\">\
         <span aria-hidden=\"true\">{icon}</span> {word}</span></td>\
         <th scope=\"row\"><span class=\"name\">{name}</span> \
         <span class=\"ids\"><span>{instance}</span> / <span>{id}</span></span>",
        tone = state.tone(),
        icon = state.icon(),
        word = state.word(),
        name = Escaped(&row.name),
        instance = Escaped(row.instance),
        id = Escaped(row.id),
    )?;
    labels(out, row)?;
    success(out, row.item, now_ms)?;
    out.push_str("</th><td data-label=\"Artifacts\"><span>");
    match row.item.task.and_then(|task| task.data.as_ref()) {
        Some(data) => counts(out, data)?,
        None => out.push('–'),
    }
    out.push_str("</span></td><td data-label=\"Started\"><span>");
    match row.start_ms {
        Some(start_ms) => write!(out, "{}", Ago(start_ms, now_ms))?,
        None => out.push('–'),
    }
    out.push_str("</span></td><td data-label=\"Took\"><span>");
    took(out, row)?;
    out.push_str("</span></td><td data-label=\"Data from\"><span>");
    match &row.read {
        Some(read) => write!(out, "{read}")?,
        None => out.push_str("never"),
    }
    out.push_str("</span></td><td data-label=\"Next poll\"><span>");
    match row.next_ms {
        Some(due_ms) if due_ms > now_ms => write!(out, "{}", Ago(due_ms, now_ms))?,
        Some(_) => out.push_str("now"),
        None => out.push('–'),
    }
    out.push_str("</span></td></tr>\n");
    details(out, row.item, now_ms)?;
    out.push_str("</tbody>\n");
    Ok(())
}

/// From where to where, as far as the cloud has told.
fn labels(out: &mut String, row: &Row<'_>) -> fmt::Result {
    let Some([namespace, name, provider, source]) = row.labels else {
        return Ok(());
    };
    let target = format!("{namespace}/{name}");
    if target == "/" {
        return Ok(());
    }
    out.push_str(" <span class=\"repository\">");
    // A subscription's own name says it already.
    if target != row.name {
        write!(out, "{} ", Escaped(&target))?;
    }
    if !source.is_empty() {
        write!(out, "from {} {}", Escaped(provider), Escaped(source))?;
    }
    out.push_str("</span>");
    Ok(())
}

fn counts(out: &mut String, data: &Assessment) -> fmt::Result {
    if data.artifacts.is_empty() {
        out.push_str("none");
        return Ok(());
    }
    let outcomes = [
        (Outcome::Failed, "failed", "bad"),
        (Outcome::Running, "running", "busy"),
        (Outcome::Unknown, "unknown", "odd"),
        (Outcome::Succeeded, "ok", "good"),
    ];
    let mut rest = data.artifacts.len();
    for (outcome, word, tone) in outcomes {
        let count = data.count(outcome);
        if count > 0 {
            rest = rest.saturating_sub(count as usize);
            let comma = if rest > 0 { "," } else { "" };
            write!(
                out,
                "<span class=\"count {tone}\">{count} {word}{comma}</span> "
            )?;
        }
    }
    Ok(())
}

fn took(out: &mut String, row: &Row<'_>) -> fmt::Result {
    let now = match &row.took {
        Some(Took::Whole(millis)) => {
            write!(out, "{}", Span(*millis))?;
            *millis
        }
        Some(Took::SoFar(millis)) => {
            write!(out, "{} so far", Span(*millis))?;
            *millis
        }
        None => {
            out.push('–');
            return Ok(());
        }
    };
    let Some(view) = &row.item.subscription else {
        return Ok(());
    };
    let mut millis = view.entry.recent_durations_ms().collect::<Vec<_>>();
    if millis.len() < 2 {
        return Ok(());
    }
    let usual = Usual::of(&millis);
    let last = view.entry.last_finished_run.as_ref();
    let marked = match &row.took {
        Some(Took::SoFar(_)) => {
            millis.push(now);
            true
        }
        // An older run is somewhere among them, unless it is too old.
        _ => last.is_some_and(|run| *run.task_id == *row.id),
    };
    out.push_str(" <span class=\"usual\">");
    bars(out, &millis, marked, &usual)?;
    write!(out, "median {}</span>", Span(usual.median))
}

/// What runs of a subscription usually take, milliseconds.
struct Usual {
    count: usize,
    shortest: i64,
    median: i64,
    longest: i64,
}

impl Usual {
    /// Of at least one duration.
    fn of(millis: &[i64]) -> Self {
        let mut sorted = millis.to_vec();
        sorted.sort_unstable();
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            i64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Self {
            count: sorted.len(),
            shortest: sorted[0],
            median,
            longest: sorted[sorted.len() - 1],
        }
    }
}

/// One bar each; the last one is the run of this row where it is `marked`.
fn bars(out: &mut String, millis: &[i64], marked: bool, usual: &Usual) -> fmt::Result {
    const HEIGHT: i64 = 14;
    /// Of a bar and the gap behind it.
    const STEP: usize = 3;
    let highest = millis.iter().copied().max().unwrap_or(0).max(1);
    let width = STEP * millis.len() - 1;
    write!(
        out,
        "<svg role=\"img\" width=\"{width}\" height=\"{HEIGHT}\" viewBox=\"0 0 {width} {HEIGHT}\">\
         <title>The last {} runs took {} to {}{}.</title>",
        usual.count,
        Span(usual.shortest),
        Span(usual.longest),
        if marked {
            "; the bar at the end is this run"
        } else {
            ""
        },
    )?;
    let (others, this) = millis.split_at(millis.len() - usize::from(marked));
    let bar = |out: &mut String, (index, millis): (usize, &i64)| {
        // Rounded, and never nothing.
        let height =
            (millis.saturating_mul(HEIGHT).saturating_add(highest / 2) / highest).clamp(1, HEIGHT);
        write!(out, "M{} {HEIGHT}v-{height}h2v{height}z", STEP * index)
    };
    out.push_str("<path d=\"");
    for one in others.iter().enumerate() {
        bar(out, one)?;
    }
    out.push_str("\"/>");
    if let Some(this) = this.first() {
        out.push_str("<path class=\"this\" d=\"");
        bar(out, (others.len(), this))?;
        out.push_str("\"/>");
    }
    out.push_str("</svg> ");
    Ok(())
}

/// What a person needs who has to do something about it.
fn details(out: &mut String, item: &Item<'_>, now_ms: i64) -> fmt::Result {
    if let Some(view) = &item.subscription {
        runs(out, item, view, now_ms)?;
    }
    let Some(entry) = item.task else {
        return Ok(());
    };
    let failed = entry
        .data
        .as_ref()
        .is_some_and(|data| data.status == TaskStatus::Failed);
    let message = entry
        .info
        .as_ref()
        .map(|info| info.message.trim())
        .filter(|message| failed && !message.is_empty());
    if let Some(message) = message {
        detail(
            out,
            format_args!("The cloud says:"),
            format_args!("{}", Escaped(message)),
        )?;
    }
    if let Some(error) = &entry.error {
        let reason = Escaped(error.reason.as_str());
        let text = Escaped(&error.text);
        match entry.last_poll_ms {
            Some(polled_ms) => detail(
                out,
                format_args!(
                    "The last poll failed ({reason}, {}):",
                    Ago(polled_ms, now_ms)
                ),
                format_args!("{text}"),
            )?,
            None => detail(
                out,
                format_args!("The last poll failed ({reason}):"),
                format_args!("{text}"),
            )?,
        }
    }
    if item.fresh.is_none() && entry.data.is_some() {
        detail(
            out,
            format_args!("Stale:"),
            format_args!("what is shown here is old and no longer on the metrics page."),
        )?;
    }
    Ok(())
}

/// When the subscription was last well; where it is not, `runs` tells it.
fn success(out: &mut String, item: &Item<'_>, now_ms: i64) -> fmt::Result {
    match &item.subscription {
        Some(view) if item.state != State::Failing => write!(
            out,
            " <span class=\"repository\">subscription: {}</span>",
            LastSuccess(view.entry, now_ms)
        ),
        _ => Ok(()),
    }
}

/// What the runs of a subscription say about this one.
fn runs(
    out: &mut String,
    item: &Item<'_>,
    view: &SubscriptionView<'_>,
    now_ms: i64,
) -> fmt::Result {
    let entry = view.entry;
    if item.state == State::Failing {
        let head = match entry.consecutive_failed_runs {
            0 | 1 => "The last run failed:".to_owned(),
            count => format!("The last {count} runs failed:"),
        };
        let newest = entry.last_run.as_ref().map(|run| run.status);
        let again = if newest == Some(TaskStatus::Running) {
            "; a new run is under way"
        } else {
            ""
        };
        return detail(
            out,
            format_args!("{head}"),
            format_args!("{}{again}.", LastSuccess(entry, now_ms)),
        );
    }
    let newer_succeeded = entry.last_finished_run.as_ref().is_some_and(|run| {
        let this = item.task.and_then(|task| task.data.as_ref()?.start_ms);
        view.fresh && run.status == TaskStatus::Succeeded && run.start_ms > this
    });
    if item.state == State::Failed && newer_succeeded {
        detail(
            out,
            format_args!("Since then"),
            format_args!("a newer run of this subscription succeeded."),
        )?;
    }
    Ok(())
}

struct LastSuccess<'a>(&'a SubscriptionEntry, i64);

impl Display for LastSuccess<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(entry, now_ms) = *self;
        if let Some(at_ms) = entry.last_success_ms {
            return write!(f, "last success {}", Ago(at_ms, now_ms));
        }
        f.write_str("no success is known")?;
        match entry.created_ms {
            Some(since_ms) => write!(f, ", subscribed {}", Ago(since_ms, now_ms)),
            None => Ok(()),
        }
    }
}

fn detail(out: &mut String, head: fmt::Arguments<'_>, text: fmt::Arguments<'_>) -> fmt::Result {
    writeln!(
        out,
        "<tr class=\"detail\"><td></td><td colspan=\"6\"><b>{head}</b> {text}</td></tr>"
    )
}

/// Text as it may stand in an element or a quoted attribute.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let special = |c: char| "&<>\"'".contains(c) || is_unsafe(c);
        let mut rest = self.0;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| special(*c)) {
            f.write_str(&rest[..at])?;
            f.write_str(match c {
                '&' => "&amp;",
                '<' => "&lt;",
                '>' => "&gt;",
                '"' => "&quot;",
                '\'' => "&#39;",
                '\n' => "\n",
                '\t' => "\t",
                // Not shown, and it must not turn around what is.
                _ => "\u{fffd}",
            })?;
            rest = &rest[at + c.len_utf8()..];
        }
        f.write_str(rest)
    }
}

/// A moment in UTC, to the second.
struct Moment(i64);

impl Moment {
    fn timestamp(&self) -> Option<Timestamp> {
        Timestamp::from_second(self.0.div_euclid(1000)).ok()
    }
}

impl Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.timestamp() {
            Some(moment) => write!(f, "{}", moment.strftime("%Y-%m-%d %H:%M:%S UTC")),
            None => f.write_str("a time out of range"),
        }
    }
}

/// A moment as seen from now, the moment itself in the title.
struct Ago(i64, i64);

impl Ago {
    /// A moment whose age is known better than the wall clock has it.
    fn aged(moment_ms: Option<i64>, age_ms: Option<i64>) -> Option<Self> {
        let moment_ms = moment_ms?;
        Some(Self(moment_ms, moment_ms.saturating_add(age_ms?)))
    }
}

impl Display for Ago {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(moment_ms, now_ms) = *self;
        let exact = Moment(moment_ms);
        let distance = now_ms.saturating_sub(moment_ms);
        write!(f, "<time title=\"{exact}\"")?;
        if let Some(moment) = exact.timestamp() {
            write!(f, " datetime=\"{moment}\"")?;
        }
        f.write_str(">")?;
        // To the second: nobody waits for tenths.
        let seconds = Span(distance.saturating_abs() / 1000 * 1000);
        match distance {
            -999..=999 => f.write_str("now")?,
            1000.. => write!(f, "{seconds} ago")?,
            _ => write!(f, "in {seconds}")?,
        }
        f.write_str("</time>")
    }
}

/// A length of time, 0 or more, in its two largest units.
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
