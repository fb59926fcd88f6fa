//! Single values: how each is written and which are usable.
//!
//! The errors say what would be right, and quote the value only where it starts
//! with a digit and is short: no key and no token looks like that.

use std::time::Duration;

use alibaba_cloud::regions::{self, NoEndpoint};
use regex::{Regex, RegexBuilder};

use super::{Endpoint, is_loopback};
use crate::regions::service_host;

/// The metadata service of an ECS instance, which speaks plain http.
const METADATA: &str = "100.100.100.200";

const SCHEMES: &str = "must start with https://, or with http:// for a loopback address";
const PLAIN_HTTP: &str = "plain http is for loopback addresses alone; write https://";

/// The units of a duration, in milliseconds, in the order they are written.
const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

/// Longer ones overflow some clock sooner or later, and mean "never" anyway.
pub(super) const MAX_DURATION: Duration = Duration::from_secs(365 * 86_400);

/// Names of repositories are shorter.
const MAX_PATTERN: usize = 1024;

const DURATION_HELP: &str = "write a duration such as 60s or 1h30m";

/// Reads a duration in Prometheus' grammar, at least `min` and at most `max` long.
pub(super) fn duration(text: &str, min: Duration, max: Duration) -> Result<Duration, String> {
    if text.is_empty() {
        return Err(format!("is empty; {DURATION_HELP}"));
    }
    let value = quotable(text);
    if text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || b".-+".contains(&byte))
    {
        return Err(format!("{value}has no unit; {DURATION_HELP}"));
    }
    let length = units(text).ok_or_else(|| {
        format!(
            "{value}is not a duration; write whole numbers with the units y, w, d, h, m, s, ms, \
             each at most once and in this order, such as 60s or 1h30m"
        )
    })?;
    if length < min {
        return Err(format!(
            "{value}is too short; it must be at least {}",
            in_words(min)
        ));
    }
    if length > max {
        return Err(format!(
            "{value}is too long; it must be at most {}",
            in_words(max)
        ));
    }
    Ok(length)
}

/// The sum of `1h30m`, at most `u64::MAX` milliseconds; `None` where the grammar is broken.
fn units(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut total = 0_u64;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_lowercase).count();
        let (unit, tail) = tail.split_at(letters);
        // Searching on from the last unit is what holds them to the order.
        let (_, milliseconds) = units.find(|(name, _)| *name == unit)?;
        if number.is_empty() {
            return None;
        }
        // Digits alone fail to parse only where there are too many of them.
        let number: u64 = number.parse().unwrap_or(u64::MAX);
        total = total.saturating_add(number.saturating_mul(*milliseconds));
        rest = tail;
    }
    Some(Duration::from_millis(total))
}

/// `duration` as it is written in the file: `1h30m`.
pub(super) fn in_words(duration: Duration) -> String {
    let mut rest = duration.as_millis();
    let mut text = String::new();
    for (unit, milliseconds) in UNITS {
        let count = rest / u128::from(milliseconds);
        // Days and hours read better than weeks.
        if count > 0 && unit != "w" {
            text.extend([count.to_string().as_str(), unit]);
            rest %= u128::from(milliseconds);
        }
    }
    if text.is_empty() {
        "0s".to_owned()
    } else {
        text
    }
}

/// `"60" ` where the value is harmless for certain, else nothing.
pub(super) fn quotable(text: &str) -> String {
    let harmless = text.len() <= 16
        && text.starts_with(|first: char| first.is_ascii_digit() || first == '-')
        && text.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte)
        });
    if harmless {
        format!("\"{text}\" ")
    } else {
        String::new()
    }
}

/// Refuses what cannot be a region's id.
pub(super) fn plausible_region(region: &str) -> Result<(), String> {
    let plausible = (1..=64).contains(&region.len())
        && region
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if plausible {
        Ok(())
    } else {
        Err("not a region's id, which is of lower-case letters, digits and dashes, such as cn-hangzhou".to_owned())
    }
}

/// The service's endpoint in a known region.
pub(super) fn region_endpoint(region: &str, vpc: bool) -> Result<Endpoint, String> {
    let host = service_host(region, vpc).map_err(|missing| match missing {
        NoEndpoint::UnknownRegion => unknown_region(region, "endpoint"),
        NoEndpoint::NotInVpc | NoEndpoint::NotInRegion => {
            "this region has no endpoint within VPCs; set endpoint, or api.network to public"
                .to_owned()
        }
    });
    host.map(secure)
}

/// The endpoint of STS for a known region.
pub(super) fn sts_endpoint(region: &str, vpc: bool) -> Result<Endpoint, String> {
    let host = regions::sts_host(Some(region), vpc).map_err(|missing| match missing {
        NoEndpoint::UnknownRegion => unknown_region(region, "sts_endpoint"),
        NoEndpoint::NotInVpc => "STS has no endpoint within VPCs in this region; use another region, set sts_endpoint, or api.network to public".to_owned(),
        NoEndpoint::NotInRegion => {
            "STS has no known endpoint in this region; use another region, or set sts_endpoint"
                .to_owned()
        }
    });
    host.map(secure)
}

fn secure(host: String) -> Endpoint {
    Endpoint {
        tls: true,
        authority: host,
    }
}

/// `key` is how to use a region that the table does not have.
fn unknown_region(region: &str, key: &str) -> String {
    let meant = did_you_mean(region, regions::ids());
    format!("unknown region{meant}; set {key} for a region this version does not know")
}

/// Where the metadata service answers unless told otherwise.
pub(super) fn default_metadata_endpoint() -> Endpoint {
    Endpoint {
        tls: false,
        authority: METADATA.to_owned(),
    }
}

/// Reads `https://host[:port]`, `http://loopback[:port]` or a bare `host[:port]`.
pub(super) fn endpoint(text: &str) -> Result<Endpoint, String> {
    let (tls, authority) = if text.contains("://") {
        scheme(text).ok_or(SCHEMES)?
    } else {
        (true, text)
    };
    let endpoint = origin(tls, authority)?;
    if !tls && !is_loopback(endpoint.host()) {
        return Err(PLAIN_HTTP.to_owned());
    }
    Ok(endpoint)
}

/// As [`endpoint`], with plain http to the metadata service as well, and never
/// without a scheme, since https would be a wrong guess.
pub(super) fn metadata_endpoint(text: &str) -> Result<Endpoint, String> {
    let (tls, authority) = scheme(text).ok_or_else(schemes_of_keys)?;
    let endpoint = origin(tls, authority)?;
    keys_may_come_from(tls, &endpoint)?;
    Ok(endpoint)
}

fn schemes_of_keys() -> String {
    format!("must start with https://, or with http:// for a loopback address or {METADATA}")
}

/// The metadata service is reached on the instance's own link.
fn keys_may_come_from(tls: bool, server: &Endpoint) -> Result<(), String> {
    if tls || is_loopback(server.host()) || server.host() == METADATA {
        Ok(())
    } else {
        Err(format!(
            "plain http is for loopback addresses and {METADATA} alone; write https://"
        ))
    }
}

/// Refuses what is no URI of a server that may be asked for keys.
pub(super) fn credentials_uri(text: &str) -> Result<(), String> {
    let (tls, rest) = scheme(text).ok_or_else(schemes_of_keys)?;
    let of_uris =
        |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/?[]@!$&'()*+,;=%".contains(&byte);
    if !rest.bytes().all(of_uris) {
        return Err(
            "holds a character that has no place in this URI, such as a space or #; write it as %XX".to_owned(),
        );
    }
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let server = origin(tls, host)
        .map_err(|_| "not a URI; write https://HOST/PATH or https://HOST:PORT/PATH".to_owned())?;
    keys_may_come_from(tls, &server)
}

/// Whether TLS is asked for, and what follows `https://` or `http://`.
fn scheme(text: &str) -> Option<(bool, &str)> {
    let (scheme, rest) = text.split_once("://")?;
    let tls = scheme.eq_ignore_ascii_case("https");
    (tls || scheme.eq_ignore_ascii_case("http")).then_some((tls, rest))
}

/// Reads `host[:port]`, with a slash at the end where somebody wrote one.
fn origin(tls: bool, authority: &str) -> Result<Endpoint, String> {
    let authority = authority.strip_suffix('/').unwrap_or(authority);
    if authority.contains('@') {
        return Err("a user or password has no place here; start with the host".to_owned());
    }
    if authority.contains(['/', '?', '#']) {
        return Err("a path or query has no place here; end with the host or its port".to_owned());
    }
    let wrong = || "not an endpoint; write https://HOST or https://HOST:PORT".to_owned();
    let (host, port) = split_port(authority).ok_or_else(wrong)?;
    if !is_host(host) {
        return Err(wrong());
    }
    let host = host.to_ascii_lowercase();
    let own_port = if tls { 443 } else { 80 };
    let authority = match port {
        Some(port) if port != own_port => format!("{host}:{port}"),
        _ => host,
    };
    Ok(Endpoint { tls, authority })
}

/// Splits `host:port` and `[::1]:port`.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let host_end = authority.rfind(']').map_or(0, |bracket| bracket + 1);
    match authority[host_end..].find(':') {
        None => Some((authority, None)),
        Some(colon) => {
            let (host, port) = authority.split_at(host_end + colon);
            let port = &port[1..];
            let digits = port.bytes().all(|byte| byte.is_ascii_digit());
            let port = port.parse().ok().filter(|port| *port > 0 && digits)?;
            Some((host, Some(port)))
        }
    }
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
    {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A last label of digits makes it an IPv4 address, or a mistyped one.
    let is_numeric = host
        .rsplit('.')
        .next()
        .is_some_and(|label| label.parse::<u64>().is_ok());
    host.len() <= 253
        && host.split('.').all(is_label)
        && (!is_numeric || host.parse::<std::net::Ipv4Addr>().is_ok())
}

/// Refuses what cannot be an id that starts with `prefix`.
pub(super) fn id(text: &str, prefix: &str) -> Result<(), String> {
    let body = text.strip_prefix(prefix).unwrap_or_default();
    let is_id = !body.is_empty()
        && text.len() <= 128
        && body
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if is_id {
        Ok(())
    } else {
        Err(format!(
            "not an id; it starts with {prefix}, then come letters, digits, - and _, at most 128 characters in all"
        ))
    }
}

/// Reads a regular expression that is to match a whole name.
pub(super) fn pattern(text: &str) -> Result<Regex, String> {
    if text.is_empty() {
        return Err(
            "is empty, which matches no name; leave the key out to match every name".to_owned(),
        );
    }
    // By itself first: `a)(b` is none, though it becomes one between brackets.
    regex(text, "mirror|base-.*")?;
    // A dot is any character: nothing else would do for every name there is.
    Regex::new(&format!("(?s)^(?:{text})$")).map_err(|error| not_a_regex(&error, "mirror|base-.*"))
}

/// Reads a regular expression that is searched in a message without regard to case.
pub(super) fn search_pattern(text: &str) -> Result<Regex, String> {
    if text.is_empty() {
        return Err("is empty, which matches every message; remove it".to_owned());
    }
    regex(text, "quota|no space left")
}

fn regex(text: &str, example: &str) -> Result<Regex, String> {
    if text.chars().count() > MAX_PATTERN {
        return Err(format!("is longer than {MAX_PATTERN} characters"));
    }
    let regex = RegexBuilder::new(text).case_insensitive(true).build();
    regex.map_err(|error| not_a_regex(&error, example))
}

fn not_a_regex(error: &regex::Error, example: &str) -> String {
    // What stands before the last line repeats the value.
    let why = error.to_string();
    let why = why.rsplit('\n').next().unwrap_or_default();
    let why = why.strip_prefix("error: ").unwrap_or(why);
    format!(
        "not a regular expression ({why}); write one such as {example}, and \\ before a \
         character that is meant as it stands"
    )
}

/// Refuses what cannot be `acs:ram::ACCOUNT:KIND/NAME`; what account and name may
/// be is the cloud's business.
pub(super) fn arn(text: &str, kind: &str) -> Result<(), String> {
    let parts = text
        .strip_prefix("acs:ram::")
        .and_then(|rest| rest.split_once(':'))
        .and_then(|(account, rest)| Some((account, rest.strip_prefix(kind)?.strip_prefix('/')?)));
    let is_arn = parts.is_some_and(|(account, name)| !account.is_empty() && !name.is_empty())
        && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_arn {
        Ok(())
    } else {
        Err(format!(
            "not an ARN of the form acs:ram::ACCOUNT:{kind}/NAME"
        ))
    }
}

/// Refuses what STS takes for no name of a session.
pub(super) fn role_session_name(text: &str) -> Result<(), String> {
    let is_name = (2..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b".@_-".contains(&byte));
    if is_name {
        Ok(())
    } else {
        Err("must be of 2 to 64 letters, digits, ., @, _ and -".to_owned())
    }
}

/// Refuses what is no role's name; it becomes a part of a path.
pub(super) fn role_name(text: &str) -> Result<(), String> {
    let is_name = (1..=64).contains(&text.len())
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if is_name {
        Ok(())
    } else {
        Err("not a role's name, which starts with a letter or digit, then come letters, digits, ., _ and -, at most 64 characters in all; the ARN has no place here".to_owned())
    }
}

/// Refuses a path that means another file than it seems to.
pub(super) fn path(text: &str) -> Result<(), String> {
    if text.is_empty() {
        Err("is empty; write the path of a file".to_owned())
    } else if text.starts_with("~/") {
        Err("~ is not replaced; write the whole path".to_owned())
    } else {
        Ok(())
    }
}

/// Refuses what is no name.
pub(super) fn name(text: &str) -> Result<(), String> {
    if text.is_empty() || text.trim() != text {
        Err("must be a name without surrounding white space".to_owned())
    } else {
        Ok(())
    }
}

/// Refuses what is not JSON of a policy's shape.
pub(super) fn policy(text: &str) -> Result<(), String> {
    serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text)
        .map(|_| ())
        .map_err(|_| {
            r#"must be a RAM policy in JSON, such as {"Version": "1", "Statement": […]}"#.to_owned()
        })
}

/// ` (did you mean NEAR?)` where a candidate is near.
pub(super) fn did_you_mean<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> String {
    nearest(word, candidates).map_or_else(String::new, |near| format!(" (did you mean {near}?)"))
}

/// The candidate that `word` was probably meant to be.
fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Nothing we know is longer; this bounds the work on a pasted megabyte.
    if word.len() > 64 {
        return None;
    }
    let word = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (distance(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= 1.max(candidate.len() / 3).min(4))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Edits between two words: insert, remove, replace, or swap two neighbours.
fn distance(from: &str, to: &str) -> usize {
    let from: Vec<char> = from.chars().collect();
    let to: Vec<char> = to.chars().collect();
    let mut rows = vec![(0..=to.len()).collect::<Vec<usize>>()];
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut best = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn durations_follow_the_grammar_of_prometheus() {
        let good = [
            ("90s", 90_000),
            ("1h30m", 5_400_000),
            ("30d", 2_592_000_000),
            ("1500ms", 1_500),
            ("1s500ms", 1_500),
            ("1w2d3h4m5s6ms", 788_645_006),
            ("1y", 31_536_000_000),
            ("0h1s", 1_000),
            ("007s", 7_000),
        ];
        for (text, milliseconds) in good {
            assert_eq!(
                duration(text, SECOND, MAX_DURATION),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        let bad = [
            "",
            " ",
            "s",
            "60",
            "0",
            "-1s",
            "+1s",
            "1 s",
            " 1s",
            "1s ",
            "1S",
            "1M",
            "1m1h",
            "1s1s",
            "1ms1s",
            "1.5h",
            "1h30",
            "h1",
            "1us",
            "1min",
            "999ms",
            "0s",
            "366d",
            "1y1ms",
            "\u{661}s",
            "18446744073709551616s",
            "18446744073709551615y",
        ];
        for text in bad {
            assert!(duration(text, SECOND, MAX_DURATION).is_err(), "{text:?}");
        }
    }

    #[test]
    fn durations_are_shown_as_they_are_written() {
        for text in ["1ms", "1s", "1m", "1h", "1y", "1h30m", "14d", "1m30s500ms"] {
            let length = units(text).expect(text);
            assert_eq!(in_words(length), text);
        }
        assert_eq!(in_words(Duration::ZERO), "0s");
    }

    #[test]
    fn endpoints_have_a_scheme_and_a_host_and_nothing_else() {
        let good = [
            ("cr.example.com", "https://cr.example.com"),
            ("cr.example.com:8443", "https://cr.example.com:8443"),
            ("https://cr.example.com:443", "https://cr.example.com"),
            ("HTTPS://CR.example.com/", "https://cr.example.com"),
            ("https://10.0.0.1:8443", "https://10.0.0.1:8443"),
            ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
            ("[::1]", "https://[::1]"),
            ("localhost:18080", "https://localhost:18080"),
            ("http://localhost:18080", "http://localhost:18080"),
            ("http://127.8.9.1:80", "http://127.8.9.1"),
            ("http://[::1]:18080", "http://[::1]:18080"),
        ];
        for (text, url) in good {
            assert_eq!(
                endpoint(text).map(|endpoint| endpoint.url()),
                Ok(url.to_owned()),
                "{text}"
            );
        }
        let bad = [
            "",
            "https://",
            "http://",
            "://",
            ":8443",
            "https://:8443",
            "cr.example.com:",
            "cr.example.com:0",
            "cr.example.com:65536",
            "cr.example.com:+80",
            "cr.example.com:80:80",
            "::1",
            "[::1",
            "::1]",
            "[::1]x",
            "[::1]:x",
            "[localhost]",
            "cr..example.com",
            ".com",
            "-cr.example.com",
            "cr example.com",
            "cr.example.com ",
            "例え.jp",
            "10.0.0",
            "256.0.0.1",
            "https://user@cr.example.com",
            "https://user:pass@localhost",
            "cr.example.com/api",
            "cr.example.com?a=b",
            "cr.example.com#a",
            "ftp://localhost",
            "unix:///run/socket",
            "http://cr.example.com",
            "http://10.0.0.1",
            "http://localhost.example.com",
            "http://127.0.0.1.example.com",
            "http://[::ffff:10.0.0.1]",
            "https://cr\\example.com",
        ];
        for text in bad {
            assert!(endpoint(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn the_metadata_service_is_asked_in_plain_http() {
        let good = [
            ("http://100.100.100.200", "http://100.100.100.200"),
            ("HTTP://100.100.100.200:80/", "http://100.100.100.200"),
            ("http://100.100.100.200:8080", "http://100.100.100.200:8080"),
            ("http://localhost:18082", "http://localhost:18082"),
            ("http://[::1]:18082", "http://[::1]:18082"),
            (
                "https://metadata.example.com",
                "https://metadata.example.com",
            ),
        ];
        for (text, url) in good {
            assert_eq!(
                metadata_endpoint(text).map(|endpoint| endpoint.url()),
                Ok(url.to_owned()),
                "{text}"
            );
        }
        let bad = [
            "",
            "100.100.100.200",
            "localhost",
            "http://100.100.100.201",
            "http://100.100.100.200.example.com",
            "http://100.100.100.200@example.com",
            "http://metadata.example.com",
            "http://169.254.169.254",
            "http://localhost/latest",
            "ftp://100.100.100.200",
        ];
        for text in bad {
            assert!(metadata_endpoint(text).is_err(), "{text:?}");
        }
        assert!(
            endpoint("http://100.100.100.200").is_err(),
            "there alone, nowhere else"
        );
    }

    /// Above all: what looks like a loopback address and is none.
    #[test]
    fn keys_are_asked_for_over_tls_or_at_a_loopback_address() {
        let good = [
            "https://keys.example.com",
            "https://keys.example.com:8443/prod?token=a%20b&c=/?@:",
            "https://user:pass@keys.example.com/",
            "https://u@ser:pass@keys.example.com",
            "HTTP://LocalHost:8080/keys",
            "http://127.0.0.1?keys",
            "http://user:pass@[::1]:8080/keys",
            "http://100.100.100.200/",
            "http://100.100.100.200/latest/meta-data/ram/security-credentials/reader",
        ];
        for text in good {
            assert_eq!(credentials_uri(text), Ok(()), "{text}");
        }
        let bad = [
            "",
            "localhost/keys",
            "ftp://localhost/keys",
            "http://",
            "http:///keys",
            "http://:8080/keys",
            "http://localhost:0/keys",
            "http://localhost:x/keys",
            "http://keys.example.com",
            "http://localhost@keys.example.com/",
            "http://localhost:80@keys.example.com/",
            "http://localhost.example.com/",
            "http://127.0.0.1.example.com/",
            "http://2130706433/",
            "http://0x7f000001/",
            "http://127.1/",
            "http://100.100.100.201/",
            "http://100.100.100.200.example.com/",
            "http://100.100.100.200@keys.example.com/",
            "http://localhost\\@keys.example.com/",
            "http://keys.example.com/?@localhost",
            "http://keys.example.com/@localhost",
            "http://keys.example.com#@localhost",
            "http://localhost/#fragment",
            "http://localhost/a b",
            "http://localhost/\n",
            "http://localhost/é",
            "http://loc%61lhost/",
        ];
        for text in bad {
            assert!(credentials_uri(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn patterns_match_whole_names() {
        let matching = [
            ("mirror", "mirror", true),
            ("mirror", "mirrors", false),
            ("mirror", "a-mirror", false),
            ("a|b", "b", true),
            ("a|b", "ab", false),
            ("^a$|^b$", "b", true),
            ("base-.*", "base-", true),
            ("(?i)Mirror", "mirror", true),
            (".*", "odd\nname", true),
            (r"k8s\.gcr\.io", "k8sxgcrxio", false),
        ];
        for (text, name, matches) in matching {
            let pattern = pattern(text).expect(text);
            assert_eq!(pattern.is_match(name), matches, "{text} {name}");
        }
        let long = "a".repeat(1025);
        for text in [
            "",
            "*",
            "(",
            "a)(b",
            "[a",
            "a\n(b",
            "(?x)a # b",
            "(.{999}){999}",
            &long,
        ] {
            let error = pattern(text).expect_err(text);
            assert!(!error.contains('\n') && !error.contains("# b"), "{error}");
        }
        assert!(pattern(&long[..1024]).is_ok());
    }

    #[test]
    fn names_of_the_cloud_are_judged_loosely() {
        let arns = [
            ("acs:ram::1234567890123456:role/reader", true),
            ("acs:ram::alias.onaliyun.com:role/path/reader", true),
            ("acs:ram:::role/reader", false),
            ("acs:ram::123:role/", false),
            ("acs:ram::123:role", false),
            ("acs:ram::123:roles/reader", false),
            ("acs:ram::123:x:role/reader", false),
            ("acs:ram::123:role/a b", false),
            ("acs:ram::123:role/é", false),
            ("acs:ram::123:oidc-provider/ack", false),
            ("arn:aws:iam::123:role/reader", false),
            ("", false),
        ];
        for (text, good) in arns {
            assert_eq!(arn(text, "role").is_ok(), good, "{text}");
        }
        assert_eq!(
            arn("acs:ram::123:oidc-provider/ack", "oidc-provider"),
            Ok(())
        );

        let long = "a".repeat(65);
        let sessions = [("ab", true), ("a.b@c_d-9", true), (&long[..64], true)];
        let no_sessions = [("", false), ("a", false), ("a b", false), ("a/b", false)];
        for (text, good) in sessions.into_iter().chain(no_sessions) {
            assert_eq!(role_session_name(text).is_ok(), good, "{text}");
        }
        assert!(role_session_name(&long).is_err());

        let names = [("a", true), ("A-b.c_9", true), (&long[..64], true)];
        let no_names = [("", false), (".", false), ("..", false), ("a/b", false)];
        for (text, good) in names.into_iter().chain(no_names) {
            assert_eq!(role_name(text).is_ok(), good, "{text}");
        }
        assert!(role_name(&long).is_err());
    }

    #[test]
    fn only_what_starts_with_a_digit_and_is_short_is_quoted() {
        for text in ["60", "1.5h", "-5s", "0123456789abcdef"] {
            assert_eq!(quotable(text), format!("\"{text}\" "));
        }
        for text in ["", "secret", "5Secret", "0123456789abcdef0", "5 s", "5\n"] {
            assert_eq!(quotable(text), "");
        }
    }

    #[test]
    fn suggestions_are_near() {
        let keys = ["interval", "finished_interval", "timeout"];
        let near = |word| nearest(word, keys);
        assert_eq!(near("intervall"), Some("interval"));
        assert_eq!(near("INTERVAL"), Some("interval"));
        assert_eq!(near("itnerval"), Some("interval"));
        assert_eq!(near("time_out"), Some("timeout"));
        assert_eq!(near("finish_interval"), Some("finished_interval"));
        assert_eq!(near("retries"), None);
        assert_eq!(near(""), None);
        // By hand: kitten, sitten, sittin, sitting.
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("ab", "ba"), 1);
        assert_eq!(distance("", "abc"), 3);
    }
}
