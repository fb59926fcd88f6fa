//! What OpenMetrics 1.0 writes otherwise than the text format, which `text`
//! asks for where it matters. Of what it may hold besides, nothing is written:
//! no `_created`, no exemplars, no timestamps.

use super::float;
use crate::metrics::catalog::Kind;

/// The end of each page.
pub(super) const END: &[u8] = b"# EOF\n";

/// The name of a family, which of a counter ends before its samples' `_total`.
pub(super) fn family_name(name: &str, kind: Kind) -> &str {
    match kind {
        Kind::Counter => name.strip_suffix("_total").unwrap_or(name),
        Kind::Gauge | Kind::Histogram => name,
    }
}

/// The bound of a bucket: `1.0` where text writes `1`. Bounds are far from
/// where the canonical form begins to need an exponent.
pub(super) fn bound(bound: f64) -> String {
    if bound.is_finite() {
        format!("{bound:?}")
    } else {
        float(bound)
    }
}

/// The unit that a family's name ends with, "" without one.
pub(super) fn unit_of(family_name: &str) -> &'static str {
    let unit_ends = |unit: &&str| {
        let before = family_name.strip_suffix(*unit);
        before.is_some_and(|before| before.ends_with('_'))
    };
    ["seconds", "bytes"]
        .into_iter()
        .find(unit_ends)
        .unwrap_or("")
}
