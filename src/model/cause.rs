//! Why a run failed, as one of a closed set of causes. The only place where the
//! API gives a reason is the task's free-text message, whose wording is
//! undocumented: patterns map it, the user's before the built-in ones.

use std::sync::LazyLock;

use regex::{Regex, RegexSet, RegexSetBuilder};

use super::truncated;

/// Bytes of a message that are searched; registries put the reason first.
const SEARCHED: usize = 8 * 1024;

/// Why a run failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The source limits the rate of pulls.
    RateLimited,
    /// A quota or the storage is used up.
    Quota,
    /// The source requires other credentials or denies access.
    Unauthorized,
    /// The source has no such repository, tag or platform.
    NotFound,
    /// The source cannot be reached, or not in time.
    Network,
    /// Everything else, a failure without a message included.
    Other,
}

impl Cause {
    /// Every cause, in the order in which their patterns are tried.
    pub const ALL: [Self; 6] = [
        Self::RateLimited,
        Self::Quota,
        Self::Unauthorized,
        Self::NotFound,
        Self::Network,
        Self::Other,
    ];

    /// The value of the label `cause`, and the key under `causes:`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limited",
            Self::Quota => "quota",
            Self::Unauthorized => "unauthorized",
            Self::NotFound => "not_found",
            Self::Network => "network",
            Self::Other => "other",
        }
    }
}

/// The built-in patterns, from messages of Docker Hub, GCR, Quay, Harbor,
/// containerd and the Docker engine as users report them.
const BUILT_IN: [(Cause, &str); 17] = [
    (
        Cause::RateLimited,
        r"too\s?many\s?requests|rate[ _-]?limit|rate (?:was )?exceeded|pull limit|throttl|\bqps\b",
    ),
    (
        Cause::RateLimited,
        r"(?:http|status|code|error)[^0-9]{0,20}429\b|^429\b|\brequests per (?:second|minute|hour|day|project)",
    ),
    (
        Cause::Quota,
        r"quota|no space left|enospc|disk (?:is )?full|out of (?:disk|storage)|insufficient (?:disk|storage|space)",
    ),
    (
        Cause::Quota,
        r"storage (?:limit|is full)|exceed\w*\b.{0,80}\b(?:upper limit|limit of|maximum number)",
    ),
    (
        Cause::Unauthorized,
        r"unauthori[sz]ed|unauthenticated|forbidden|\bdenied\b|docker login|no basic auth",
    ),
    (
        Cause::Unauthorized,
        r"(?:http|status|code|error)[^0-9]{0,20}40[13]\b|^40[13]\b|insufficient[ _]scope",
    ),
    (
        Cause::Unauthorized,
        r"authenticat\w+ (?:is )?(?:required|failed|failure)|authorization (?:failed|required)",
    ),
    (
        Cause::Unauthorized,
        r"(?:incorrect|invalid|wrong|bad) (?:username|user name|user|password|credential|token)",
    ),
    (
        Cause::Unauthorized,
        r"(?:token|credential|password)s? (?:has |have |is |are )?expired|(?:no|not have|lacks?|without) (?:the )?permission",
    ),
    (
        Cause::NotFound,
        r"(?:manifest|name|blob|repository|tag)[ _]unknown|unknown (?:manifest|repository|image|tag|blob)",
    ),
    (
        Cause::NotFound,
        r"(?:http|status|code|error)[^0-9]{0,20}404\b|^404\b|no such (?:image|manifest|repository|tag|artifact)|code = notfound",
    ),
    (
        Cause::NotFound,
        r"(?:^|[^a-z\s]|:\S+|\b(?:manifest|image|tag|reference|repository|repo|blob|digest|artifact|resource|object|name|project|namespace|package)s?)\s*(?:is |was |were )?not[ _]found|manifest for .+ not found",
    ),
    (
        Cause::NotFound,
        r"does(?: not|n't) exist|not known to registry|no matching manifest|no match for platform",
    ),
    (
        Cause::Network,
        r"time[ -]?out|timed[ -]?out|deadline exceeded|no such host|host not found|\bdns\b|resolve (?:the )?host|name resolution|service not known|server misbehaving",
    ),
    (
        Cause::Network,
        r"connection (?:was |is )?(?:refused|reset|closed|aborted|lost|error|failed)|dial tcp|unreachable|no route to host|\beof\b|broken pipe|proxyconnect",
    ),
    (
        Cause::Network,
        r"\btls\b|x509|certificate|network|\be(?:notfound|timedout|connrefused|connreset|hostunreach|netunreach|pipe|ai_again)\b",
    ),
    (
        Cause::Network,
        r"bad gateway|service (?:is )?(?:temporarily )?unavailable|(?:http|status|code|error)[^0-9]{0,20}50[234]\b|^50[234]\b",
    ),
];

static BUILT_IN_SET: LazyLock<RegexSet> = LazyLock::new(|| {
    let patterns = BUILT_IN.iter().map(|(_, pattern)| pattern);
    let set = RegexSetBuilder::new(patterns)
        .case_insensitive(true)
        .build();
    set.expect("the built-in patterns are valid")
});

/// Maps messages to causes: the patterns of the user, ordered by cause, and the
/// built-in ones behind them.
#[derive(Clone, Debug, Default)]
pub struct Causes(Vec<(Cause, Regex)>);

impl PartialEq for Causes {
    fn eq(&self, other: &Self) -> bool {
        let texts = |(cause, pattern): &(Cause, Regex)| (*cause, pattern.as_str().to_owned());
        self.0.iter().map(texts).eq(other.0.iter().map(texts))
    }
}

impl Eq for Causes {}

impl Causes {
    /// The built-in patterns behind those of the user.
    pub fn with(patterns: impl IntoIterator<Item = (Cause, Regex)>) -> Self {
        let mut patterns: Vec<_> = patterns.into_iter().collect();
        patterns.sort_by_key(|(cause, _)| *cause as usize);
        Self(patterns)
    }

    /// The cause that the message of a failed task names.
    pub fn of(&self, message: &str) -> Cause {
        let searched = truncated(message, SEARCHED);
        if searched.trim().is_empty() {
            return Cause::Other;
        }
        let of_user = self.0.iter().find(|(_, it)| it.is_match(searched));
        if let Some((cause, _)) = of_user {
            return *cause;
        }
        // The built-in patterns are ordered by cause.
        let first = BUILT_IN_SET.matches(searched).into_iter().next();
        first.map_or(Cause::Other, |index| BUILT_IN[index].0)
    }
}

#[cfg(test)]
mod tests;
