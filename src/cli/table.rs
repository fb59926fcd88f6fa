//! How results are written: columns for people, aligned by display width, and
//! single values.

use comfy_table::{Table, presets};
use serde::Serialize;
use serde_json::Value;

use super::Error;
use crate::telemetry;
use alibaba_cloud::clock::rfc3339;

/// Rows under a header, two spaces apart and never wrapped. Each column has a
/// header and the [`cell`] of these keys.
pub(super) fn table(columns: &[(&str, &str)], rows: &[Value]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(columns.iter().map(|(header, _)| header));
    for row in rows {
        table.add_row(columns.iter().map(|(_, keys)| cell(row, keys, " ")));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt() + "\n"
}

/// The values of `keys`, which spaces separate, as far as the row has them.
pub(super) fn cell(row: &Value, keys: &str, separator: &str) -> String {
    let values = keys.split(' ').map(|key| match &row[key] {
        Value::Null => String::new(),
        Value::String(text) => harmless(text),
        // Without the fraction of a whole number.
        value => value
            .as_f64()
            .map_or_else(|| value.to_string(), |number| number.to_string()),
    });
    let values: Vec<_> = values.filter(|value| !value.is_empty()).collect();
    values.join(separator)
}

/// Escapes what a terminal obeys, and characters that change the direction of text.
fn harmless(text: &str) -> String {
    let mut harmless = String::with_capacity(text.len());
    for c in text.chars() {
        if telemetry::is_unsafe(c) {
            harmless.extend(c.escape_unicode());
        } else {
            harmless.push(c);
        }
    }
    harmless
}

pub(super) fn json(answer: &impl Serialize) -> Result<String, Error> {
    let json = serde_json::to_string_pretty(answer);
    json.map(|json| json + "\n")
        .map_err(|error| Error::failed(&error))
}

pub(super) fn yaml(answer: &impl Serialize) -> Result<String, Error> {
    serde_saphyr::to_string(answer).map_err(|error| Error::failed(&error))
}

/// RFC 3339 in UTC; zero and less mean "unknown".
pub(super) fn time(unix_ms: i64) -> Option<String> {
    rfc3339(unix_ms).filter(|_| unix_ms > 0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_harmless() {
        let rows = [
            json!({ "tag": "1.27", "status": "é\u{1b}[31m", "result": "x" }),
            json!({ "tag": 1.0, "status": null, "result": "y\u{202e}y" }),
        ];
        assert_eq!(
            table(
                &[("TAG", "tag"), ("S", "status"), ("RESULT", "result")],
                &rows
            ),
            [
                "TAG   S            RESULT\n",
                "1.27  é\\u{1b}[31m  x\n",
                "1                  y\\u{202e}y\n",
            ]
            .concat()
        );
    }

    #[test]
    fn columns_are_aligned_by_display_width() {
        // Each of these characters takes two columns of a terminal; the accent takes none.
        let rows = [
            json!({ "provider": "GCR", "source": "base/pause", "tag": "1" }),
            json!({ "provider": "镜像", "source": "仓库", "tag": "2" }),
            json!({ "provider": "", "source": "e\u{301}", "tag": "3" }),
        ];
        assert_eq!(
            table(&[("SOURCE", "provider source"), ("TAG", "tag")], &rows),
            [
                "SOURCE          TAG\n",
                "GCR base/pause  1\n",
                "镜像 仓库       2\n",
                "e\u{301}               3\n",
            ]
            .concat()
        );
    }

    #[test]
    fn long_cells_are_not_wrapped() {
        let long = "a ".repeat(500) + "b";
        let rows = [json!({ "message": long, "tag": "1" })];
        let text = table(&[("MESSAGE", "message"), ("TAG", "tag")], &rows);
        assert_eq!(text.lines().nth(1), Some(format!("{long}  1").as_str()));
        assert_eq!(text.lines().count(), 2);
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
