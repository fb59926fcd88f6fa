//! The page for people at `/`: what is wrong in words first, then every task,
//! the worst on top. One HTML document without scripts; works under any prefix
//! because its links are relative, and shows nothing of the cloud unescaped.

use std::fmt::{self, Display, Write as _};
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::HeaderValue;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::model::{Assessment, Outcome, TaskStatus};
use crate::store::{ListingEntry, TaskEntry, TaskView, View};

/// Tasks on one page.
const PAGE: usize = 200;

const STYLE: &str = include_str!("status_page.css");

/// What the page shows beside the tasks.
pub(super) struct Wanted {
    /// Which page of tasks, from 1; one beyond the last is the last.
    pub(super) page: usize,
    /// Where the metrics are.
    pub(super) telemetry_path: String,
    /// Whether every task was tried once.
    pub(super) ready: bool,
}

/// The page that a query asks for; the first where it does not say.
pub(super) fn page_of(query: &str) -> usize {
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix("page=")?.parse().ok())
        .unwrap_or(1)
}

/// Allows the page's own style and nothing else.
pub(super) fn content_security_policy() -> HeaderValue {
    static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
        let hash = STANDARD.encode(Sha256::digest(STYLE));
        let policy = format!(
            "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'"
        );
        HeaderValue::from_str(&policy).expect("base64 is visible ASCII")
    });
    POLICY.clone()
}

/// How a task is shown, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Failed,
    PollFailing,
    Stale,
    Running,
    Unknown,
    NotPolled,
    Empty,
    Succeeded,
}

impl State {
    const ALL: [Self; 8] = [
        Self::Failed,
        Self::PollFailing,
        Self::Stale,
        Self::Running,
        Self::Unknown,
        Self::NotPolled,
        Self::Empty,
        Self::Succeeded,
    ];

    fn of(task: &TaskView<'_>) -> Self {
        match task.fresh.map(|data| data.status) {
            Some(TaskStatus::Failed) => Self::Failed,
            _ if task.entry.up() == Some(false) => Self::PollFailing,
            Some(TaskStatus::Running) => Self::Running,
            Some(TaskStatus::Unknown) => Self::Unknown,
            Some(TaskStatus::Empty) => Self::Empty,
            Some(TaskStatus::Succeeded) => Self::Succeeded,
            None if task.entry.data.is_some() => Self::Stale,
            None => Self::NotPolled,
        }
    }

    fn icon(self) -> char {
        match self {
            Self::Failed => '✕',
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

    /// A class of the style sheet.
    fn tone(self) -> &'static str {
        match self {
            Self::Failed => "bad",
            Self::PollFailing | Self::Stale => "warn",
            Self::Running => "busy",
            Self::Unknown => "odd",
            Self::NotPolled | Self::Empty => "calm",
            Self::Succeeded => "good",
        }
    }

    /// Whether somebody may have to do something.
    fn is_wrong(self) -> bool {
        matches!(
            self,
            Self::Failed | Self::PollFailing | Self::Stale | Self::Unknown
        )
    }

    /// Its part of the verdict; a number and its word stay on one line.
    fn of_tasks(self, count: usize) -> String {
        let tasks = if count == 1 { "task" } else { "tasks" };
        match self {
            Self::Failed => format!("{count}\u{a0}{tasks} failed"),
            Self::PollFailing if count == 1 => "1\u{a0}poll failing".to_owned(),
            Self::PollFailing => format!("{count}\u{a0}polls failing"),
            Self::Succeeded => format!("{count}\u{a0}{tasks} succeeded"),
            _ => format!("{count}\u{a0}{}", self.word()),
        }
    }
}

/// The whole document.
pub(super) fn render(view: &View<'_>, wanted: &Wanted) -> String {
    let mut tasks: Vec<(State, &TaskView<'_>)> = view
        .tasks
        .iter()
        .map(|task| (State::of(task), task))
        .collect();
    // Stable: within a state they stay ordered by instance and id.
    tasks.sort_by_key(|(state, _)| *state);
    let pages = tasks.len().div_ceil(PAGE).max(1);
    let page = wanted.page.clamp(1, pages);
    let first = (page - 1) * PAGE;
    let shown = &tasks[first..tasks.len().min(first + PAGE)];

    let mut out = String::with_capacity(4096 + 2048 * shown.len());
    let written = document(&mut out, view, wanted, &tasks, shown, (page, pages, first));
    written.expect("a String takes everything");
    out
}

fn document(
    out: &mut String,
    view: &View<'_>,
    wanted: &Wanted,
    tasks: &[(State, &TaskView<'_>)],
    shown: &[(State, &TaskView<'_>)],
    (page, pages, first): (usize, usize, usize),
) -> fmt::Result {
    let verdict = Verdict::of(tasks, &view.listings);
    let headline = &verdict.headline;
    write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{headline} – aliyun-acr-exporter</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <header>\n<p class=\"product\">aliyun-acr-exporter <span>{version}</span></p>\n\
         <nav aria-label=\"Pages\"><a href=\".{metrics}\">Metrics</a> \
         <a href=\"./-/healthy\">Health</a> <a href=\"./-/ready\">Readiness</a></nav>\n</header>\n\
         <main>\n<h1 class=\"{tone}\">{headline}</h1>\n",
        version = env!("CARGO_PKG_VERSION"),
        tone = verdict.tone,
        metrics = Escaped(&wanted.telemetry_path),
    )?;

    if !verdict.rest.is_empty() {
        writeln!(out, "<p>The rest: {}.</p>", verdict.rest)?;
    }
    for listing in &view.listings {
        listing_trouble(out, listing, view.now_ms)?;
    }
    write!(out, "<p class=\"about\">As of {}.", Moment(view.now_ms))?;
    if !wanted.ready {
        out.push_str(" Not ready: not every task was tried yet, or the exporter is stopping.");
    }
    if view.dropped > 0 {
        write!(
            out,
            " The limits keep {} series off the metrics page.",
            view.dropped
        )?;
    }
    if pages > 1 {
        let last = first + shown.len();
        write!(
            out,
            " Tasks {}–{last} of {}, the most urgent first.",
            first + 1,
            tasks.len()
        )?;
    }
    out.push_str("</p>\n");

    if !shown.is_empty() {
        out.push_str(
            "<table>\n<thead><tr><th scope=\"col\">State</th><th scope=\"col\">Task</th>\
             <th scope=\"col\">Artifacts</th><th scope=\"col\">Started</th>\
             <th scope=\"col\">Took</th><th scope=\"col\">Data from</th>\
             <th scope=\"col\">Next poll</th></tr></thead>\n",
        );
        for (state, task) in shown {
            row(out, *state, task, view.now_ms)?;
        }
        out.push_str("</table>\n");
    }
    if pages > 1 {
        out.push_str("<nav class=\"pages\" aria-label=\"Pages of tasks\">");
        if page > 1 {
            write!(
                out,
                "<a rel=\"prev\" href=\"?page={}\">Previous</a> ",
                page - 1
            )?;
        }
        write!(out, "<span>Page {page} of {pages}</span>")?;
        if page < pages {
            write!(out, " <a rel=\"next\" href=\"?page={}\">Next</a>", page + 1)?;
        }
        out.push_str("</nav>\n");
    }
    out.push_str("</main>\n</body>\n</html>\n");
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
    fn of(tasks: &[(State, &TaskView<'_>)], listings: &[&ListingEntry]) -> Self {
        let failing = listings.iter().filter(|it| it.error.is_some()).count();
        let failing = match failing {
            0 => None,
            1 => Some("1\u{a0}listing failing".to_owned()),
            count => Some(format!("{count}\u{a0}listings failing")),
        };
        let Some((worst, _)) = tasks.first() else {
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
                .map(|state| (state, tasks.iter().filter(|task| task.0 == state).count()))
                .filter(|(_, count)| *count > 0)
                .map(|(state, count)| state.of_tasks(count))
                .collect();
            parts
        };
        let mut wrong = list(State::is_wrong);
        let mut tone = worst.tone();
        if let Some(failing) = failing {
            wrong.push(failing);
            if *worst > State::PollFailing {
                tone = "warn";
            }
        }
        let (headline, rest) = if wrong.is_empty() {
            (list(|_| true), Vec::new())
        } else {
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
fn listing_trouble(out: &mut String, listing: &ListingEntry, now_ms: i64) -> fmt::Result {
    let instance = Escaped(&listing.instance_id);
    if let Some(error) = &listing.error {
        write!(
            out,
            "<p class=\"listing warn\"><b>The lists of {instance} cannot be read ({}",
            Escaped(error.reason)
        )?;
        match listing.last_success_ms {
            Some(read_ms) => write!(out, ", last read {}", Ago(read_ms, now_ms))?,
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

fn row(out: &mut String, state: State, task: &TaskView<'_>, now_ms: i64) -> fmt::Result {
    let entry = task.entry;
    let target = &entry.target;
    let data = entry.data.as_deref();
    write!(
        out,
        "<tbody class=\"{tone}\">\n<tr><td class=\"state\"><span class=\"badge\">\
         <span aria-hidden=\"true\">{icon}</span> {word}</span></td>\
         <th scope=\"row\"><span class=\"name\">{name}</span> \
         <span class=\"ids\"><span>{instance}</span> / <span>{id}</span></span>",
        tone = state.tone(),
        icon = state.icon(),
        word = state.word(),
        name = Escaped(&target.task),
        instance = Escaped(&target.instance_id),
        id = Escaped(&target.task_id),
    )?;
    repository(out, entry)?;
    out.push_str("</th><td data-label=\"Artifacts\"><span>");
    match data {
        Some(data) => counts(out, data)?,
        None => out.push('–'),
    }
    out.push_str("</span></td><td data-label=\"Started\"><span>");
    match data.and_then(|data| data.start_ms) {
        Some(start_ms) => write!(out, "{}", Ago(start_ms, now_ms))?,
        None => out.push('–'),
    }
    out.push_str("</span></td><td data-label=\"Took\"><span>");
    match data {
        Some(data) => took(out, data, now_ms)?,
        None => out.push('–'),
    }
    out.push_str("</span></td><td data-label=\"Data from\"><span>");
    match entry.last_success_ms {
        Some(polled_ms) => write!(out, "{}", Ago(polled_ms, now_ms))?,
        None => out.push_str("never"),
    }
    out.push_str("</span></td><td data-label=\"Next poll\"><span>");
    match entry.next_poll_ms {
        Some(due_ms) if due_ms > now_ms => write!(out, "{}", Ago(due_ms, now_ms))?,
        Some(_) => out.push_str("now"),
        None => out.push('–'),
    }
    out.push_str("</span></td></tr>\n");
    details(out, task, now_ms)?;
    out.push_str("</tbody>\n");
    Ok(())
}

/// From where to where, as far as the cloud has told.
fn repository(out: &mut String, entry: &TaskEntry) -> fmt::Result {
    let Some(info) = entry.info.as_deref() else {
        return Ok(());
    };
    if info.repo_name.is_empty() && info.repo_namespace.is_empty() {
        return Ok(());
    }
    write!(
        out,
        " <span class=\"repository\">{}/{}",
        Escaped(&info.repo_namespace),
        Escaped(&info.repo_name)
    )?;
    if !info.source_repository.is_empty() {
        write!(
            out,
            " from {} {}",
            Escaped(&info.source_provider),
            Escaped(&info.source_repository)
        )?;
    }
    out.push_str("</span>");
    Ok(())
}

fn counts(out: &mut String, data: &Assessment) -> fmt::Result {
    if data.artifacts.is_empty() {
        out.push_str("none");
        return Ok(());
    }
    let mut separator = "";
    for (outcome, word, tone) in [
        (Outcome::Failed, "failed", "bad"),
        (Outcome::Running, "running", "busy"),
        (Outcome::Unknown, "unknown", "odd"),
        (Outcome::Succeeded, "ok", "good"),
    ] {
        let count = data.count(outcome);
        if count > 0 {
            write!(
                out,
                "{separator}<span class=\"count {tone}\">{count} {word}</span>"
            )?;
            separator = ", ";
        }
    }
    Ok(())
}

fn took(out: &mut String, data: &Assessment, now_ms: i64) -> fmt::Result {
    if let Some(duration_ms) = data.duration_ms() {
        return write!(out, "{}", Span(duration_ms));
    }
    match data.start_ms {
        Some(start_ms) if data.status == TaskStatus::Running && start_ms <= now_ms => {
            write!(out, "{} so far", Span(now_ms - start_ms))
        }
        _ => {
            out.push('–');
            Ok(())
        }
    }
}

/// What a person needs who has to do something about it.
fn details(out: &mut String, task: &TaskView<'_>, now_ms: i64) -> fmt::Result {
    let entry = task.entry;
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
        writeln!(
            out,
            "<tr class=\"detail\"><td></td><td colspan=\"6\"><b>The cloud says:</b> {}</td></tr>",
            Escaped(message)
        )?;
    }
    if let Some(error) = &entry.error {
        write!(
            out,
            "<tr class=\"detail\"><td></td><td colspan=\"6\"><b>The last poll failed ({}",
            Escaped(error.reason)
        )?;
        if let Some(polled_ms) = entry.last_poll_ms {
            write!(out, ", {}", Ago(polled_ms, now_ms))?;
        }
        writeln!(out, "):</b> {}</td></tr>", Escaped(&error.text))?;
    }
    if task.fresh.is_none() && entry.data.is_some() {
        out.push_str(
            "<tr class=\"detail\"><td></td><td colspan=\"6\"><b>Stale:</b> what is shown here is old \
             and no longer on the metrics page.</td></tr>\n",
        );
    }
    Ok(())
}

/// Text as it may stand in an element or a quoted attribute.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(['&', '<', '>', '"', '\'']) {
            f.write_str(&rest[..at])?;
            f.write_str(match rest.as_bytes()[at] {
                b'&' => "&amp;",
                b'<' => "&lt;",
                b'>' => "&gt;",
                b'"' => "&quot;",
                _ => "&#39;",
            })?;
            rest = &rest[at + 1..];
        }
        f.write_str(rest)
    }
}

/// A moment in UTC, to the second.
struct Moment(i64);

impl Moment {
    fn exact(&self) -> Option<String> {
        let moment = Timestamp::from_second(self.0.div_euclid(1000)).ok()?;
        Some(moment.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
    }
}

impl Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.exact() {
            Some(exact) => f.write_str(&exact),
            None => f.write_str("a time out of range"),
        }
    }
}

/// A moment as seen from now, the moment itself in the title.
struct Ago(i64, i64);

impl Display for Ago {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(moment_ms, now_ms) = *self;
        let exact = Moment(moment_ms);
        let distance = now_ms.saturating_sub(moment_ms);
        write!(f, "<time title=\"{exact}\">")?;
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
