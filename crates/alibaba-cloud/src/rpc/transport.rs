//! An answer of the API on its way: how much of it is read, and how long it
//! asks us to wait. Connections are `http`'s, the meaning is left to the parent.

use std::time::Duration;

use reqwest::Response;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use super::error::Failure;
use crate::http::{self, date_millis, text};

/// A page of 100 rows has some 30 KB.
const ANSWER_MAX: usize = 32 << 20;
/// No hint of the cloud makes us wait longer.
const HINT_MAX: Duration = Duration::from_secs(60);

/// Reads the body, up to [`ANSWER_MAX`] bytes.
pub(super) async fn body(response: Response) -> Result<Vec<u8>, Failure> {
    Ok(http::body(response, ANSWER_MAX).await?)
}

/// How long the cloud asks us to wait, a minute at most: its own headers in
/// milliseconds first, then the standard one in seconds or as a date.
pub(super) fn hint(headers: &HeaderMap, now_millis: i64) -> Option<Duration> {
    let millis = |text: &str| text.trim().parse().ok().map(Duration::from_millis);
    let own = text(headers, "x-acs-retry-after").and_then(millis);
    let limits = ["x-ratelimit-user-api", "x-ratelimit-user"]
        .into_iter()
        .filter_map(|name| text(headers, name))
        .filter_map(|limit| millis(limit_field(limit, "TimeLeft")?))
        .max();
    let standard = || {
        let text = text(headers, RETRY_AFTER.as_str())?.trim();
        text.parse().ok().map(Duration::from_secs).or_else(|| {
            let millis = u64::try_from(date_millis(text)? - now_millis).ok()?;
            Some(Duration::from_millis(millis))
        })
    };
    own.or(limits)
        .or_else(standard)
        .map(|hint| hint.min(HINT_MAX))
}

/// A field of `Limit:1,Remain:0,TimeLeft:2000,Reset:…`.
fn limit_field<'a>(limit: &'a str, name: &str) -> Option<&'a str> {
    limit.split(',').find_map(|field| {
        let (key, value) = field.split_once(':')?;
        key.trim().eq_ignore_ascii_case(name).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| {
                (
                    name.parse().expect("a name"),
                    value.parse().expect("a value"),
                )
            })
            .collect()
    }

    // 1994-11-06T08:49:37Z, the date of RFC 9110, section 5.6.7.
    const DATE_MS: i64 = 784_111_777_000;

    #[test]
    fn the_cloud_s_hints_are_understood() {
        for (lines, expected) in [
            (&[][..], None),
            (&[("x-acs-retry-after", "1500")], Some(1500)),
            (&[("retry-after", "2")], Some(2000)),
            (
                &[("retry-after", "Sun, 06 Nov 1994 08:49:42 GMT")],
                Some(5000),
            ),
            // Already over.
            (&[("retry-after", "Sun, 06 Nov 1994 08:49:12 GMT")], None),
            (&[("retry-after", "soon")], None),
            (
                &[(
                    "x-ratelimit-user-api",
                    "Limit:1,Remain:0,TimeLeft:2000,Reset:1732434000",
                )],
                Some(2000),
            ),
            (
                &[
                    ("x-ratelimit-user-api", "Limit:1,Remain:0,TimeLeft:200"),
                    ("x-ratelimit-user", "Limit: 9, Remain: 0, timeleft: 900"),
                    ("retry-after", "7"),
                ],
                Some(900),
            ),
            (
                &[("x-acs-retry-after", "100"), ("retry-after", "7")],
                Some(100),
            ),
            (
                &[("x-acs-retry-after", "-1"), ("retry-after", "7")],
                Some(7000),
            ),
            (&[("x-ratelimit-user", "Limit,Remain:0")], None),
            (&[("x-acs-retry-after", "86400000")], Some(60_000)),
            (&[("retry-after", "18446744073709551615")], Some(60_000)),
        ] {
            let expected = expected.map(Duration::from_millis);
            assert_eq!(hint(&headers(lines), DATE_MS), expected, "{lines:?}");
        }
    }
}
