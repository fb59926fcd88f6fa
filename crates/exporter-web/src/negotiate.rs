//! Content negotiation: format and coding of the metrics. Pure functions of header
//! values, after RFC 9110, 12.4 and 12.5; what is malformed in a list is ignored,
//! its neighbors count.

use hyper::HeaderMap;
use hyper::header::{ACCEPT, ACCEPT_ENCODING, HeaderName};

use crate::compress::Coding;

/// A media type of the metrics page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    /// The text format 0.0.4.
    Text,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
    /// OpenMetrics 0.0.1.
    OpenMetrics001,
}

impl Media {
    /// The better of two that a client wants alike comes first.
    const ALL: [Self; 3] = [Self::Text, Self::OpenMetrics, Self::OpenMetrics001];

    /// The value of `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::OpenMetrics001 => "application/openmetrics-text; version=0.0.1; charset=utf-8",
        }
    }

    fn name(self) -> (&'static str, &'static str) {
        match self {
            Self::Text => ("text", "plain"),
            Self::OpenMetrics | Self::OpenMetrics001 => ("application", "openmetrics-text"),
        }
    }

    fn has_version(self, version: &str) -> bool {
        match self {
            // 1.0.0 allows more in names than 0.0.4, and ours need none of it.
            Self::Text => ["0.0.4", "1.0.0"].contains(&version),
            Self::OpenMetrics => version == "1.0.0",
            Self::OpenMetrics001 => version == "0.0.1",
        }
    }

    /// How closely a media range describes this, 0 for `*/*`; `None` if it is
    /// about something else.
    fn closeness(self, range: &Member<'_>) -> Option<u8> {
        let (wanted, subtype) = range.name.split_once('/')?;
        let is = |text: &str, name: &str| text.trim().eq_ignore_ascii_case(name);
        let (name, subname) = self.name();
        if is(wanted, "*") && is(subtype, "*") {
            return Some(0);
        }
        if !is(wanted, name) {
            return None;
        }
        if is(subtype, "*") {
            return Some(1);
        }
        if !is(subtype, subname) {
            return None;
        }
        match range.parameter("version") {
            None => Some(2),
            Some(version) => self.has_version(&version).then_some(3),
        }
    }
}

/// The media type to answer with: the one with the highest weight, then the one
/// that is named most closely, then the first named. Text, which every scraper
/// reads, where the client accepts nothing that there is.
pub fn media(headers: &HeaderMap) -> Media {
    let lines = lines(headers, &ACCEPT);
    let ranges: Vec<Member<'_>> = lines.iter().flat_map(|line| members(line)).collect();
    if ranges.is_empty() {
        return Media::Text;
    }
    let rated = Media::ALL.into_iter().filter_map(|media| {
        let matching = ranges.iter().enumerate().filter_map(|(place, range)| {
            let closeness = media.closeness(range)?;
            Some((closeness, range.weight, std::cmp::Reverse(place)))
        });
        // The closest range decides, even if it is the one that says no.
        let (closeness, weight, place) = matching.max()?;
        (weight > 0).then_some(((weight, closeness, place), media))
    });
    // `max_by_key` would take the last of those that are equal.
    let best = rated.reduce(|best, next| if next.0 > best.0 { next } else { best });
    best.map_or(Media::Text, |(_, media)| media)
}

/// The client takes neither the page as it is nor any coding of it.
#[derive(Debug, PartialEq, Eq)]
pub struct NotAcceptable;

/// The coding to answer with, `None` for the page as it is: the one with the
/// highest weight, among equals gzip, then zstd. A client that refuses the page
/// as it is gets a coding that it has not named, unless it has refused that too.
pub fn coding(headers: &HeaderMap) -> Result<Option<Coding>, NotAcceptable> {
    let lines = lines(headers, &ACCEPT_ENCODING);
    let wanted: Vec<Member<'_>> = lines.iter().flat_map(|line| members(line)).collect();
    let weight_of = |names: &[&str]| {
        let named = wanted.iter().filter(|member| {
            let is = |name: &&str| member.name.eq_ignore_ascii_case(name);
            names.iter().any(is)
        });
        named.map(|member| member.weight).max()
    };
    let others = weight_of(&["*"]);
    let rated = [
        (
            Some(Coding::Gzip),
            weight_of(&["gzip", "x-gzip"]).or(others),
        ),
        (Some(Coding::Zstd), weight_of(&["zstd"]).or(others)),
        (None, weight_of(&["identity"]).or(others)),
    ];
    let mut best = (None, 0);
    for (coding, weight) in rated {
        if weight.is_some_and(|weight| weight > best.1) {
            best = (coding, weight.unwrap_or_default());
        }
    }
    if best.1 > 0 {
        return Ok(best.0);
    }
    let [gzip, zstd, identity] = rated;
    let not_refused = [identity, gzip, zstd]
        .into_iter()
        .find(|(_, weight)| weight.is_none());
    not_refused.map(|(coding, _)| coding).ok_or(NotAcceptable)
}

/// The lines of a list, which are one list together.
fn lines<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Vec<&'a str> {
    let lines = headers.get_all(name).iter();
    lines.filter_map(|line| line.to_str().ok()).collect()
}

/// A well-formed member of a list with weights.
struct Member<'a> {
    name: &'a str,
    parameters: Vec<&'a str>,
    /// Thousandths.
    weight: u16,
}

impl Member<'_> {
    fn parameter(&self, name: &str) -> Option<String> {
        let value = find(&self.parameters, name)?;
        let quoted = value.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
        Some(quoted.map_or_else(|| value.to_owned(), |quoted| quoted.replace('\\', "")))
    }
}

fn members(line: &str) -> impl Iterator<Item = Member<'_>> {
    line.split(outside_quotes(',')).filter_map(|member| {
        let mut parts = member.split(outside_quotes(';')).map(str::trim);
        let name = parts.next().filter(|name| !name.is_empty())?;
        let parameters: Vec<_> = parts.collect();
        let weight = match find(&parameters, "q") {
            None => 1000,
            Some(text) => weight(text)?,
        };
        Some(Member {
            name,
            parameters,
            weight,
        })
    })
}

/// The value of a parameter, "" where it has none.
fn find<'a>(parameters: &[&'a str], name: &str) -> Option<&'a str> {
    let pairs = parameters
        .iter()
        .map(|one| one.split_once('=').unwrap_or((one, "")));
    pairs
        .map(|(this, value)| (this.trim(), value.trim()))
        .find(|(this, _)| this.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
}

fn outside_quotes(separator: char) -> impl FnMut(char) -> bool {
    let (mut quoted, mut escaped) = (false, false);
    move |c| {
        let literal = escaped;
        escaped = quoted && !literal && c == '\\';
        if c == '"' && !literal {
            quoted = !quoted;
        }
        c == separator && !quoted
    }
}

/// `0.5` → 500: from 0 to 1 with three decimals at most.
fn weight(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 3 || !decimals.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths = format!("{decimals:0<3}").parse().ok()?;
    match (whole, thousandths) {
        ("0", _) => Some(thousandths),
        ("1", 0) => Some(1000),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
