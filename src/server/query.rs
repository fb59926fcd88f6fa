//! The query of a request: what a form or a script has written, decoded.

use percent_encoding::percent_decode_str;

/// Its names and values, in order; what is not UTF-8 becomes U+FFFD.
pub(super) fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (decoded(name), decoded(value)))
}

fn decoded(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded() {
        for (query, expected) in [
            ("", &[][..]),
            ("&&", &[]),
            ("a=1&b", &[("a", "1"), ("b", "")]),
            ("q=a+b%20c%2Bd&q=x=y", &[("q", "a b c+d"), ("q", "x=y")]),
            ("%71=%E9%95%9C%E5%83%8F", &[("q", "镜像")]),
            ("q=%FF&r=%4", &[("q", "\u{fffd}"), ("r", "%4")]),
            ("=1", &[("", "1")]),
        ] {
            let found: Vec<_> = pairs(query).collect();
            let found: Vec<_> = found
                .iter()
                .map(|(a, b)| (a.as_str(), b.as_str()))
                .collect();
            assert_eq!(found, expected, "{query}");
        }
    }
}
