//! Values of settings: how each is written, and which are usable.
//!
//! The errors say what would be right, and quote the value only where it is
//! harmless for certain.

use std::ffi::OsString;
use std::fmt;
use std::ops::Deref;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
pub use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::{ExposeSecret as _, SecretString};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, SerializeMap as _, Serializer};

use crate::mistake::quotable;
use crate::read::{FILE_PATH, SECRET};
use crate::show::{FILE, MASK};

/// The units of a duration, in milliseconds, in the order they are written.
const UNITS: [(&str, u64); 7] = [
    ("y", YEAR),
    ("w", days(7)),
    ("d", days(1)),
    ("h", hours(1)),
    ("m", minutes(1)),
    ("s", seconds(1)),
    ("ms", 1),
];

/// The longest duration: longer ones overflow some clock sooner or later, and mean
/// "never" anyway.
pub const YEAR: u64 = days(365);

/// Not empty, and not below `~/`; without a lookahead, which many checkers lack.
pub(crate) const PATH_PATTERN: &str = "^([^~]|~[^/]|~$)";

const DURATION_HELP: &str = "write a duration such as 60s or 1h30m";

/// Milliseconds, for the bounds of a [`Period`].
pub const fn milliseconds(count: u64) -> u64 {
    count
}

/// Seconds in milliseconds.
pub const fn seconds(count: u64) -> u64 {
    count * 1000
}

/// Minutes in milliseconds.
pub const fn minutes(count: u64) -> u64 {
    seconds(60 * count)
}

/// Hours in milliseconds.
pub const fn hours(count: u64) -> u64 {
    minutes(60 * count)
}

/// Days in milliseconds.
pub const fn days(count: u64) -> u64 {
    hours(24 * count)
}

/// Implements serde and schemars for a type that is written as text, by its
/// `FromStr` (whose error is a `String`) and its `Display`.
#[macro_export]
macro_rules! text_value {
    ($type:ty, $expecting:literal, $schema:tt) => {
        impl<'de> $crate::private::serde::Deserialize<'de> for $type {
            fn deserialize<D: $crate::private::serde::Deserializer<'de>>(
                deserializer: D,
            ) -> Result<Self, D::Error> {
                struct Text;
                impl $crate::private::serde::de::Visitor<'_> for Text {
                    type Value = $type;
                    fn expecting(
                        &self,
                        formatter: &mut std::fmt::Formatter<'_>,
                    ) -> std::fmt::Result {
                        formatter.write_str($expecting)
                    }
                    fn visit_str<E: $crate::private::serde::de::Error>(
                        self,
                        text: &str,
                    ) -> Result<$type, E> {
                        text.parse().map_err(E::custom::<String>)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }

        impl $crate::private::serde::Serialize for $type {
            fn serialize<S: $crate::private::serde::Serializer>(
                &self,
                serializer: S,
            ) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl $crate::private::schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }
            fn json_schema(
                _: &mut $crate::private::schemars::SchemaGenerator,
            ) -> $crate::private::schemars::Schema {
                $crate::private::schemars::json_schema!($schema)
            }
        }
    };
}

/// A duration in Prometheus' grammar, of `MIN` to `MAX` milliseconds; `DEFAULT`
/// where none is written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Period<const DEFAULT: u64, const MIN: u64, const MAX: u64 = YEAR>(Duration);

impl<const DEFAULT: u64, const MIN: u64, const MAX: u64> Period<DEFAULT, MIN, MAX> {
    /// The value where another setting or a test decides it.
    pub const fn of(duration: Duration) -> Self {
        Self(duration)
    }

    fn check(text: &str) -> Result<Self, String> {
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
        let length = parse_units(text).ok_or_else(|| {
            format!(
                "{value}is not a duration; write whole numbers with the units y, w, d, h, m, s, ms, \
                 each at most once and in this order, such as 60s or 1h30m"
            )
        })?;
        let (min, max) = (Duration::from_millis(MIN), Duration::from_millis(MAX));
        if length < min {
            let min = in_words(min);
            return Err(format!("{value}is too short; it must be at least {min}"));
        }
        if length > max {
            let max = in_words(max);
            return Err(format!("{value}is too long; it must be at most {max}"));
        }
        Ok(Self(length))
    }
}

impl<const DEFAULT: u64, const MIN: u64, const MAX: u64> Default for Period<DEFAULT, MIN, MAX> {
    fn default() -> Self {
        Self(Duration::from_millis(DEFAULT))
    }
}

impl<const DEFAULT: u64, const MIN: u64, const MAX: u64> Deref for Period<DEFAULT, MIN, MAX> {
    type Target = Duration;

    fn deref(&self) -> &Duration {
        &self.0
    }
}

impl<const DEFAULT: u64, const MIN: u64, const MAX: u64> fmt::Debug for Period<DEFAULT, MIN, MAX> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl<const DEFAULT: u64, const MIN: u64, const MAX: u64> Serialize for Period<DEFAULT, MIN, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&in_words(self.0))
    }
}

impl<'de, const DEFAULT: u64, const MIN: u64, const MAX: u64> Deserialize<'de>
    for Period<DEFAULT, MIN, MAX>
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PeriodVisitor)
    }
}

struct PeriodVisitor<const DEFAULT: u64, const MIN: u64, const MAX: u64>;

impl<const DEFAULT: u64, const MIN: u64, const MAX: u64> Visitor<'_>
    for PeriodVisitor<DEFAULT, MIN, MAX>
{
    type Value = Period<DEFAULT, MIN, MAX>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a duration such as 60s or 1h30m")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Period::check(text).map_err(E::custom)
    }

    // A number lacks its unit, and is told so.
    fn visit_i128<E: de::Error>(self, number: i128) -> Result<Self::Value, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
        self.visit_str(&number.to_string())
    }
}

impl<const DEFAULT: u64, const MIN: u64, const MAX: u64> JsonSchema for Period<DEFAULT, MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Period".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "x-type": "duration",
            "minLength": 1,
            "pattern": "^([0-9]+y)?([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$",
            "x-minimum": in_words(Duration::from_millis(MIN)),
            "x-maximum": in_words(Duration::from_millis(MAX)),
        })
    }
}

/// The sum of `1h30m`, at most `u64::MAX` milliseconds; `None` where the grammar is broken.
fn parse_units(text: &str) -> Option<Duration> {
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

/// `duration` as it is written in a file: `1h30m`.
pub fn in_words(duration: Duration) -> String {
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

/// A whole number of `MIN` to `MAX`; `DEFAULT` where none is written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Count<const DEFAULT: u32, const MIN: u32, const MAX: u32>(u32);

impl<const DEFAULT: u32, const MIN: u32, const MAX: u32> Count<DEFAULT, MIN, MAX> {
    /// The value where a test decides it.
    pub const fn of(count: u32) -> Self {
        Self(count)
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The number, to count things in memory.
    pub const fn size(self) -> usize {
        self.0 as usize
    }
}

impl<const DEFAULT: u32, const MIN: u32, const MAX: u32> Default for Count<DEFAULT, MIN, MAX> {
    fn default() -> Self {
        Self(DEFAULT)
    }
}

impl<const DEFAULT: u32, const MIN: u32, const MAX: u32> fmt::Debug for Count<DEFAULT, MIN, MAX> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl<const DEFAULT: u32, const MIN: u32, const MAX: u32> Serialize for Count<DEFAULT, MIN, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(self.0)
    }
}

impl<'de, const DEFAULT: u32, const MIN: u32, const MAX: u32> Deserialize<'de>
    for Count<DEFAULT, MIN, MAX>
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Whole(MIN, MAX)).map(Self)
    }
}

struct Whole(u32, u32);

impl Visitor<'_> for Whole {
    type Value = u32;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a number")
    }

    fn visit_i128<E: de::Error>(self, number: i128) -> Result<u32, E> {
        let Self(min, max) = self;
        match u32::try_from(number) {
            Ok(count) if (min..=max).contains(&count) => Ok(count),
            _ => {
                let not = not(&number);
                Err(E::custom(format!(
                    "must be a whole number from {min} to {max}{not}"
                )))
            }
        }
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<u32, E> {
        let (Self(min, max), not) = (self, not(&number));
        Err(E::custom(format!(
            "must be a whole number from {min} to {max}{not}"
        )))
    }
}

/// `, not 5` where the number is short.
pub fn not(number: &dyn fmt::Debug) -> String {
    let number = format!("{number:?}");
    if number.len() <= 16 {
        format!(", not {number}")
    } else {
        String::new()
    }
}

impl<const DEFAULT: u32, const MIN: u32, const MAX: u32> JsonSchema for Count<DEFAULT, MIN, MAX> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Count".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": MIN, "maximum": MAX })
    }
}

/// A text that is never shown. It can be compared, to see what a new file changes.
#[derive(Clone, Debug)]
pub struct Hidden(SecretString);

impl From<SecretString> for Hidden {
    fn from(text: SecretString) -> Self {
        Self(text)
    }
}

impl From<Hidden> for SecretString {
    fn from(hidden: Hidden) -> Self {
        hidden.0
    }
}

impl Deref for Hidden {
    type Target = SecretString;

    fn deref(&self) -> &SecretString {
        &self.0
    }
}

impl PartialEq for Hidden {
    fn eq(&self, other: &Self) -> bool {
        self.0.expose_secret() == other.0.expose_secret()
    }
}

impl Eq for Hidden {}

/// A secret: written at `KEY`, or in the file that `KEY_file` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret {
    /// Written in the settings.
    Inline(Hidden),
    /// In a file of its own.
    File(PathBuf),
}

impl Secret {
    /// The path, where the secret is in a file.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Inline(_) => None,
        }
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(SECRET, SecretVisitor { is_word: true })
    }
}

struct SecretVisitor {
    is_word: bool,
}

impl<'de> Visitor<'de> for SecretVisitor {
    type Value = Secret;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
        let text = if self.is_word {
            let word = text.trim();
            if word.is_empty() {
                return Err(E::custom(
                    "is empty; write the value, or name a file instead",
                ));
            }
            if word.contains(|c: char| c.is_whitespace() || c.is_control()) {
                let message = "must not hold white space or control characters";
                return Err(E::custom(message));
            }
            word
        } else {
            text
        };
        Ok(Secret::Inline(SecretString::from(text).into()))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, file: D) -> Result<Secret, D::Error> {
        let visitor = PathVisitor {
            may_be_empty: !self.is_word,
        };
        file.deserialize_newtype_struct(FILE_PATH, visitor)
            .map(|path| Secret::File(path.0))
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Inline(_) => serializer.serialize_str(MASK),
            Self::File(path) => {
                let mut file = serializer.serialize_map(Some(1))?;
                file.serialize_entry(FILE, &path.to_string_lossy())?;
                file.end()
            }
        }
    }
}

impl JsonSchema for Secret {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }

    /// `complete_schema` puts `KEY_file` beside it.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-type": "secret", "pattern": "^\\s*\\S+\\s*$" })
    }
}

/// A secret of several lines, such as a private key in PEM, or of none; else as
/// [`Secret`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretText(pub Secret);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let visitor = SecretVisitor { is_word: false };
        deserializer
            .deserialize_newtype_struct(SECRET, visitor)
            .map(Self)
    }
}

/// The path of a file; a relative one starts in the folder of the settings' file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilePath(pub PathBuf);

impl Deref for FilePath {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl<'de> Deserialize<'de> for FilePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_newtype_struct(FILE_PATH, PathVisitor::default())
    }
}

#[derive(Default)]
struct PathVisitor {
    may_be_empty: bool,
}

impl Visitor<'_> for PathVisitor {
    type Value = FilePath;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<FilePath, E> {
        if text.is_empty() && !self.may_be_empty {
            Err(E::custom("is empty; write the path of a file"))
        } else if text.starts_with("~/") {
            Err(E::custom("~ is not replaced; write the whole path"))
        } else {
            Ok(FilePath(text.into()))
        }
    }

    // A path need not be text, where the folder of the file is not.
    fn visit_byte_buf<E: de::Error>(self, path: Vec<u8>) -> Result<FilePath, E> {
        Ok(FilePath(OsString::from_vec(path).into()))
    }
}

impl Serialize for FilePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.to_string_lossy())
    }
}

impl JsonSchema for FilePath {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "FilePath".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-type": "path", "pattern": PATH_PATTERN })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Any = Period<0, { seconds(1) }>;

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
                Any::check(text).map(|period| *period),
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
            assert!(Any::check(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn durations_are_shown_as_they_are_written() {
        for text in ["1ms", "1s", "1m", "1h", "1y", "1h30m", "14d", "1m30s500ms"] {
            let length = parse_units(text).expect(text);
            assert_eq!(in_words(length), text);
        }
        assert_eq!(in_words(Duration::ZERO), "0s");
    }
}
