//! `status:` and `causes:`, which add to the built-in tables.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use regex::{Regex, RegexBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use settings::{Place, text_value};

/// More is no pattern that a person wrote.
const MAX_PATTERN: usize = 1024;

/// Words of the cloud, added to the built-in ones; case does not matter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StatusWords {
    /// Words for "still runs".
    pub running: Vec<Word>,
    /// Words for "is over", without a verdict.
    pub finished: Vec<Word>,
    /// Words for success.
    pub succeeded: Vec<Word>,
    /// Words for failure.
    pub failed: Vec<Word>,
}

impl StatusWords {
    /// Refuses a word that is written twice.
    pub fn check(at: &Place<'_>) {
        let mut lines = HashMap::new();
        for key in ["running", "finished", "succeeded", "failed"] {
            for place in at.get(key).items() {
                let Some(word) = place.text() else { continue };
                if let Some(first) = lines.insert(word.to_uppercase(), place.line()) {
                    place.refuse(format!(
                        "duplicate word; the first one is at line {first}; case does not matter"
                    ));
                }
            }
        }
    }
}

/// One word of the cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word(pub String);

text_value!(Word, "a text", { "type": "string", "pattern": "^\\S([\\s\\S]*\\S)?$", "maxLength": 128 });

impl FromStr for Word {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        if word.is_empty() || word.trim() != word || word.len() > 128 {
            return Err(
                "must be a word without surrounding white space, at most 128 bytes long".to_owned(),
            );
        }
        Ok(Self(word.to_owned()))
    }
}

impl fmt::Display for Word {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Regular expressions, searched in the message of a failed task before the built-in ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CausePatterns {
    /// The source limits the rate of pulls.
    #[schemars(extend("examples" = [["pull rate exceeded"]]))]
    pub rate_limited: Vec<Search>,
    /// A quota or the storage is used up.
    pub quota: Vec<Search>,
    /// The source denies access.
    pub unauthorized: Vec<Search>,
    /// The source has no such repository or tag.
    pub not_found: Vec<Search>,
    /// The source cannot be reached.
    pub network: Vec<Search>,
    /// Messages that a built-in pattern puts into the wrong class.
    pub other: Vec<Search>,
}

/// A regular expression that is searched without regard to case.
#[derive(Clone, Debug)]
pub struct Search(pub Regex);

text_value!(Search, "a text", { "type": "string", "x-type": "regular expression", "minLength": 1, "maxLength": 1024 });

impl FromStr for Search {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("is empty, which matches every message; remove it".to_owned());
        }
        regular_expression(text, text, "quota|no space left").map(Self)
    }
}

impl fmt::Display for Search {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0.as_str())
    }
}

impl PartialEq for Search {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

/// The regular expression `whole`, which is made of `text`, without regard to case.
pub(crate) fn regular_expression(text: &str, whole: &str, example: &str) -> Result<Regex, String> {
    if text.chars().count() > MAX_PATTERN {
        return Err(format!("is longer than {MAX_PATTERN} characters"));
    }
    let is_search = text == whole;
    let regex = RegexBuilder::new(whole).case_insensitive(is_search).build();
    regex.map_err(|error| {
        // Before its last line the error repeats the value.
        let why = error.to_string();
        let why = why.rsplit('\n').next().unwrap_or_default();
        let why = why.strip_prefix("error: ").unwrap_or(why);
        format!(
            "not a regular expression ({why}); write one such as {example}, and \\ before a \
             character that means itself"
        )
    })
}
