//! How results are written: columns for people, aligned by the number of
//! characters, and single values.

use std::fmt::Write as _;

use crate::telemetry;

/// Rows under a header, two spaces apart, the last column as long as it likes.
pub(super) fn align(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(shown(cell).chars().count());
        }
    }
    let mut text = String::new();
    let header: Vec<String> = header.iter().map(|cell| (*cell).to_owned()).collect();
    for row in std::iter::once(&header).chain(rows) {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{:width$}  ", shown(cell));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A terminal obeys control characters and turns text around at others; a
/// value of the cloud must do neither.
pub(super) fn shown(cell: &str) -> String {
    let mut text = String::with_capacity(cell.len());
    for c in cell.chars() {
        if telemetry::is_unsafe(c) {
            text.extend(c.escape_unicode());
        } else {
            text.push(c);
        }
    }
    text
}

/// Those of two parts that are there.
pub(super) fn join(by: &str, a: &str, b: &str) -> String {
    let parts: Vec<&str> = [a, b].into_iter().filter(|part| !part.is_empty()).collect();
    parts.join(by)
}

/// Unix milliseconds in RFC 3339, UTC; zero and less mean "not known".
pub(super) fn time(millis: i64) -> Option<String> {
    let time = jiff::Timestamp::from_millisecond(millis).ok()?;
    (millis > 0).then(|| time.to_string())
}

/// Milliseconds as seconds.
#[expect(
    clippy::cast_precision_loss,
    reason = "durations are far below 2^53 ms"
)]
pub(super) fn seconds(millis: i64) -> f64 {
    millis as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_harmless() {
        let rows = vec![
            vec!["1.27".to_owned(), "é\u{1b}[31m".to_owned(), "x".to_owned()],
            vec!["1".to_owned(), String::new(), "y\u{202e}y".to_owned()],
        ];
        assert_eq!(
            align(&["TAG", "S", "RESULT"], &rows),
            [
                "TAG   S            RESULT\n",
                "1.27  é\\u{1b}[31m  x\n",
                "1                  y\\u{202e}y\n",
            ]
            .concat()
        );
    }

    #[test]
    fn a_time_that_is_not_known_is_no_time() {
        // 2026-01-02T03:04:05Z by `date -u -d @1767323045`.
        let known = time(1_767_323_045_250);
        assert_eq!(known.as_deref(), Some("2026-01-02T03:04:05.25Z"));
        for unknown in [0, -1, i64::MIN, i64::MAX] {
            assert_eq!(time(unknown), None);
        }
    }
}
