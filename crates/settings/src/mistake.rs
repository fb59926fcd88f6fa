//! What is wrong in a file: where, what, and what would be right.

use std::fmt;

/// Longer words are no keys and no ids of ours, and are never quoted.
const MAX_QUOTED: usize = 64;

/// One thing wrong in a file. The message never quotes what may be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The file's name, as it was given.
    pub file: String,
    /// From 1.
    pub line: u64,
    /// From 1, in characters.
    pub column: u64,
    /// The key's path, such as `instances[0].region`; "" for the file as a whole.
    pub path: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for Mistake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            line,
            column,
            path,
            message,
        } = self;
        write!(formatter, "{file}:{line}:{column}: ")?;
        if !path.is_empty() {
            write!(formatter, "{path}: ")?;
        }
        formatter.write_str(message)
    }
}

/// Whether a key, an id or a choice may be quoted. Upper case beside digits makes
/// it a pasted secret rather than a misspelled word.
pub(crate) fn is_presentable(word: &str) -> bool {
    let has = |class: fn(&u8) -> bool| word.bytes().any(|byte| class(&byte));
    (1..=MAX_QUOTED).contains(&word.len())
        && word
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
        && !(has(u8::is_ascii_uppercase) && has(u8::is_ascii_digit))
}

/// ` "word"` where `word` looks like a word that a person typed, else nothing.
/// For ids and closed sets alone: nothing that may be a secret comes here.
pub fn quoted(word: &str) -> String {
    if is_presentable(word) && word.len() <= 40 {
        format!(" \"{word}\"")
    } else {
        String::new()
    }
}

/// `, not "word"`, as [`quoted`].
pub fn not_quoted(word: &str) -> String {
    let quoted = quoted(word);
    if quoted.is_empty() {
        quoted
    } else {
        format!(", not{quoted}")
    }
}

/// `"60" ` where the value is harmless for certain, else nothing: it starts with
/// a digit and is short. No key and no token looks like that.
pub fn quotable(text: &str) -> String {
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

/// ` (did you mean NEAR?)` where a candidate is near.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    // This bounds the work on a pasted megabyte.
    if word.len() > MAX_QUOTED {
        return String::new();
    }
    let word = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| {
            let distance = strsim::osa_distance(&word, &candidate.to_lowercase());
            (distance, candidate)
        })
        .filter(|(distance, candidate)| *distance <= 1.max(candidate.len() / 3).min(4))
        .min_by_key(|(distance, _)| *distance)
        .map_or_else(String::new, |(_, near)| format!(" (did you mean {near}?)"))
}

/// What is said about a word that is not in a closed set.
pub fn one_of(word: &str, names: &[&str]) -> String {
    let meant = did_you_mean(word, names.iter().copied());
    let not = not_quoted(word);
    let names: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| !name.is_empty())
        .collect();
    format!("must be one of {}{not}{meant}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

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
        for (word, near) in [
            ("intervall", "interval"),
            ("INTERVAL", "interval"),
            ("itnerval", "interval"),
            ("time_out", "timeout"),
            ("finish_interval", "finished_interval"),
        ] {
            assert_eq!(did_you_mean(word, keys), format!(" (did you mean {near}?)"));
        }
        for word in ["retries", "", &"interval".repeat(9)] {
            assert_eq!(did_you_mean(word, keys), "");
        }
    }
}
