//! `follow:`

use std::fmt;
use std::str::FromStr;

use regex::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use settings::{Count, Period, Place, days, minutes, seconds, text_value};

use crate::model::settings::regular_expression;
use crate::store::ArtifactSeries;

/// How the tasks of an instance are found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename = "FollowSettings", default, deny_unknown_fields)]
pub struct Settings {
    /// Between two listings of rules and tasks.
    pub interval: Period<{ minutes(5) }, { seconds(1) }>,
    /// Repositories to follow: those that one of these matches; all of them where there is none.
    #[schemars(extend("examples" = [[{"repo_namespace": "mirror", "repo_name": "base-.*"}]]))]
    pub include: Vec<Pattern>,
    /// Repositories that are left out all the same.
    pub exclude: Vec<Pattern>,
    /// Newest runs of a subscription that get task series.
    pub runs: Count<1, 1, 1000>,
    /// A run that began longer ago gets no task series.
    pub max_age: Period<{ days(30) }, { seconds(1) }>,
    /// Runs of the instance that get task series, the newest first; 0 is none. Subscriptions
    /// always have theirs.
    pub max_tasks: Count<1000, 0, 100_000>,
    /// Which artifacts of followed runs get series of their own. Every run has a new id, so
    /// these series turn over.
    pub artifacts: ArtifactSeries,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            interval: Period::default(),
            include: Vec::new(),
            exclude: Vec::new(),
            runs: Count::default(),
            max_age: Period::default(),
            max_tasks: Count::default(),
            artifacts: ArtifactSeries::Failed,
        }
    }
}

/// Names of repositories: a key that is not written matches every name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("minProperties" = 1))]
pub struct Pattern {
    /// The namespace that is synchronized into; left out, every one.
    #[serde(default)]
    pub repo_namespace: Option<WholeName>,
    /// The repository that is synchronized into; left out, every one.
    #[serde(default)]
    pub repo_name: Option<WholeName>,
}

impl Pattern {
    /// Whether both names match.
    pub fn matches(&self, repo_namespace: &str, repo_name: &str) -> bool {
        let matches = |pattern: &Option<WholeName>, name: &str| {
            pattern.as_ref().is_none_or(|it| it.0.is_match(name))
        };
        matches(&self.repo_namespace, repo_namespace) && matches(&self.repo_name, repo_name)
    }
}

impl Settings {
    /// Checks what serde cannot see.
    pub fn check(at: &Place<'_>) {
        for place in [at.get("include"), at.get("exclude")]
            .iter()
            .flat_map(Place::items)
        {
            let entries = place.entries();
            let is_empty = entries.iter().all(|(_, value)| !value.is_written());
            // An unknown key alone is a mistake already.
            if place.is_sound() && is_empty && place.is_filled() != entries.is_empty() {
                place.refuse(
                    "must have repo_namespace, repo_name or both; repo_name: .* is every repository",
                );
            }
        }
    }
}

/// A regular expression that matches a whole name.
#[derive(Clone, Debug)]
pub struct WholeName(Regex);

text_value!(WholeName, "a text", { "type": "string", "x-type": "regular expression", "minLength": 1, "maxLength": 1024 });

impl FromStr for WholeName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err(
                "is empty, which matches no name; leave the key out to match every name".to_owned(),
            );
        }
        // By itself first: `a)(b` is none, though it becomes one between brackets.
        regular_expression(text, text, "mirror|base-.*")?;
        // A dot is any character: nothing else would do for every name there is.
        regular_expression(text, &format!("(?s)^(?:{text})$"), "mirror|base-.*").map(Self)
    }
}

impl fmt::Display for WholeName {
    /// Without the anchors that reading has put around it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let anchored = self.0.as_str();
        let written = anchored
            .strip_prefix("(?s)^(?:")
            .and_then(|rest| rest.strip_suffix(")$"));
        formatter.write_str(written.unwrap_or(anchored))
    }
}

impl PartialEq for WholeName {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let pattern = text.parse::<WholeName>().expect(text);
            assert_eq!(pattern.0.is_match(name), matches, "{text} {name}");
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
            let error = text.parse::<WholeName>().expect_err(text);
            assert!(!error.contains('\n') && !error.contains("# b"), "{error}");
        }
        assert!(long[..1024].parse::<WholeName>().is_ok());
    }
}
