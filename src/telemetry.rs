//! The log: one line an event on standard error, as logfmt or JSON.
//!
//! Only events of this workspace appear below `warn`: what libraries trace may
//! hold request headers, and with them signatures.

use std::error::Error;
use std::fmt::{self, Write as _};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

/// The crates of this workspace that log.
const OURS: [&str; 3] = [env!("CARGO_CRATE_NAME"), "alibaba_cloud", "exporter_web"];

/// How an event is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// `key=value` pairs
    Logfmt,
    /// One JSON object
    Json,
}

/// Where the time of an event comes from, Unix milliseconds.
type Now = fn() -> i64;

/// Installs the log for the whole process; `count` is told the level of each
/// event that is written. A second call changes nothing. Without a `level`
/// warnings appear, as fits a command that ends, but not those about keys that
/// are tried again: its own error tells that.
pub fn init(
    level: Option<Level>,
    format: Format,
    now: Now,
    count: impl Fn(&str) + Send + Sync + 'static,
) {
    let subscriber = subscriber(level, format, now, count, std::io::stderr);
    // Only a test installs a second one, and then the first one serves.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

fn subscriber<W>(
    level: Option<Level>,
    format: Format,
    now: Now,
    count: impl Fn(&str) + Send + Sync + 'static,
    writer: W,
) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    const RETRIED: &str = "alibaba_cloud::credentials::cached";
    let shown = level.unwrap_or(Level::WARN);
    let mut targets = Targets::new()
        .with_default(shown.min(Level::WARN))
        .with_targets(OURS.map(|target| (target, shown)));
    if level.is_none() {
        targets = targets.with_target(RETRIED, Level::ERROR);
    }
    let lines = tracing_subscriber::fmt::layer()
        .event_format(Line { format, now })
        .with_writer(writer);
    tracing_subscriber::registry()
        .with(targets)
        .with(Count(count))
        .with(lines)
}

/// An error and all its causes on one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some libraries repeat their cause in their own text.
        if !text.ends_with(&cause_text) {
            let _ = write!(text, ": {cause_text}");
        }
        source = cause.source();
    }
    text
}

struct Count<F>(F);

impl<S: Subscriber, F: Fn(&str) + Send + Sync + 'static> Layer<S> for Count<F> {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        (self.0)(name(*event.metadata().level()));
    }
}

fn name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

struct Line {
    format: Format,
    now: Now,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let time = jiff::Timestamp::from_millisecond((self.now)())
            .map_or_else(|_| String::new(), |time| format!("{time:.3}"));
        let mut fields = Fields::default();
        fields.0.insert("time".to_owned(), time.into());
        fields
            .0
            .insert("level".to_owned(), name(*event.metadata().level()).into());
        // Its place; the event has the text.
        fields.0.insert("msg".to_owned(), "".into());
        event.record(&mut fields);
        match self.format {
            Format::Logfmt => {
                let pairs = fields
                    .0
                    .iter()
                    .map(|(key, value)| format!("{key}={}", logfmt(value)));
                writeln!(writer, "{}", pairs.collect::<Vec<_>>().join(" "))
            }
            Format::Json => writeln!(writer, "{}", json(&Value::Object(fields.0))),
        }
    }
}

/// Text without quotes where it needs none.
fn logfmt(value: &Value) -> String {
    let is_special = |c: char| c.is_whitespace() || is_unsafe(c) || "\"=\\".contains(c);
    match value {
        Value::String(text) if !text.is_empty() && !text.contains(is_special) => text.clone(),
        value => json(value),
    }
}

/// JSON in which characters that a terminal obeys are escaped too.
fn json(value: &Value) -> String {
    let mut json = String::new();
    for c in value.to_string().chars() {
        if is_unsafe(c) {
            // All of them are in the first plane.
            json.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            json.push(c);
        }
    }
    json
}

/// Characters that a terminal obeys, or that break a line or turn text around
/// where it is shown.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The fields of an event, in order.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        let key = match field.name() {
            "message" => "msg",
            name => name,
        };
        self.0.insert(key.to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.put(field, chain(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no infinities.
        let finite = value.is_finite().then(|| Value::from(value));
        self.put(field, finite.unwrap_or_else(|| value.to_string().into()));
    }
}

#[cfg(test)]
pub mod capture;
#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn nothing_in_a_value_is_obeyed_by_a_terminal() {
        let hostile = "a\u{9b}31m\u{7f}b\u{202e}c\u{2028}d\u{85}";
        let told = "\"a\\u009b31m\\u007fb\\u202ec\\u2028d\\u0085\"";
        assert_eq!(json(&hostile.into()), told);
        assert_eq!(json(&"grün 中文".into()), "\"grün 中文\"");
    }

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(
        level: impl Into<Option<Level>>,
        format: Format,
        emit: impl FnOnce(),
    ) -> (String, Vec<String>) {
        let memory = Memory::default();
        let counted = Arc::new(Mutex::new(Vec::new()));
        let writer = memory.clone();
        let sink = Arc::clone(&counted);
        let subscriber = subscriber(
            level.into(),
            format,
            || 1_767_323_045_006,
            move |level| sink.lock().unwrap().push(level.to_owned()),
            move || writer.clone(),
        );
        tracing::subscriber::with_default(subscriber, emit);
        let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
        let counted = counted.lock().unwrap().clone();
        (text, counted)
    }

    #[test]
    fn logfmt_quotes_what_needs_it() {
        let (text, counted) = logged(Level::INFO, Format::Logfmt, || {
            tracing::info!(
                bare = "cri-a",
                empty = "",
                odd = "a \"b\"\nc=d",
                n = 7,
                "it works"
            );
        });
        assert_eq!(
            text,
            "time=2026-01-02T03:04:05.006Z level=info msg=\"it works\" bare=cri-a empty=\"\" \
             odd=\"a \\\"b\\\"\\nc=d\" n=7\n"
        );
        assert_eq!(counted, ["info"]);
    }

    #[test]
    fn json_is_one_object_a_line() {
        let (text, _) = logged(Level::INFO, Format::Json, || {
            tracing::warn!(n = 7, ok = true, ratio = 0.5, odd = "a\n\u{1}", "x");
        });
        assert_eq!(
            text,
            "{\"time\":\"2026-01-02T03:04:05.006Z\",\"level\":\"warn\",\"msg\":\"x\",\"n\":7,\
             \"ok\":true,\"ratio\":0.5,\"odd\":\"a\\n\\u0001\"}\n"
        );
    }

    #[test]
    fn levels_below_the_chosen_one_and_libraries_stay_silent() {
        let (text, counted) = logged(Level::TRACE, Format::Logfmt, || {
            tracing::trace!("ours");
            tracing::trace!(target: "alibaba_cloud::rpc", "ours too");
            tracing::trace!(target: "exporter_web::source", "ours too");
            tracing::trace!(target: "hyper", "authorization: secret");
            tracing::warn!(target: "hyper", "theirs");
        });
        assert!(text.contains("ours too") && text.contains("theirs") && !text.contains("secret"));
        assert_eq!(counted, ["trace", "trace", "trace", "warn"]);
        let (text, counted) = logged(Level::WARN, Format::Logfmt, || tracing::info!("quiet"));
        assert_eq!((text.as_str(), counted.len()), ("", 0));
    }

    #[test]
    fn a_command_that_ends_is_warned_but_not_of_keys_that_are_tried_again() {
        let emit = || {
            tracing::warn!("ours");
            tracing::info!("quiet");
            tracing::warn!(target: "alibaba_cloud::credentials::cached", "again");
            tracing::error!(target: "alibaba_cloud::credentials::cached", "worse");
        };
        assert_eq!(logged(None, Format::Logfmt, emit).1, ["warn", "error"]);
        let asked = logged(Level::WARN, Format::Logfmt, emit).1;
        assert_eq!(asked, ["warn", "warn", "error"]);
    }

    #[test]
    fn an_error_is_told_with_its_causes_once_each() {
        #[derive(Debug, thiserror::Error)]
        #[error("request failed")]
        struct Outer(#[source] Middle);
        #[derive(Debug, thiserror::Error)]
        #[error("connection refused: {0}")]
        struct Middle(#[source] std::io::Error);
        let error = Outer(Middle(std::io::Error::other("os error 111")));
        let expected = "request failed: connection refused: os error 111";
        assert_eq!(chain(&error), expected);
        let (text, _) = logged(Level::INFO, Format::Logfmt, || {
            tracing::info!(error = &error as &dyn Error, "x");
        });
        assert!(text.contains(&format!("error=\"{expected}\"")), "{text}");
    }
}
