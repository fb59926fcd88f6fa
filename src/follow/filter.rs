//! Which repositories of an instance are followed.

use regex::Regex;

use crate::model::Subscription;

/// Which repositories are followed: those that an `include` matches, all where
/// there is none, but none that an `exclude` matches. Each is a pair of
/// patterns, of the namespace and of the repository that is synchronised into.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Anchored.
    pub include: Vec<(Regex, Regex)>,
    /// Anchored.
    pub exclude: Vec<(Regex, Regex)>,
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        fn same(ours: &[(Regex, Regex)], theirs: &[(Regex, Regex)]) -> bool {
            let texts = |(namespace, name): &(Regex, Regex)| {
                (namespace.as_str().to_owned(), name.as_str().to_owned())
            };
            ours.iter().map(texts).eq(theirs.iter().map(texts))
        }
        same(&self.include, &other.include) && same(&self.exclude, &other.exclude)
    }
}

impl Eq for Filter {}

impl Filter {
    pub(super) fn passes(&self, subscription: &Subscription) -> bool {
        let Subscription {
            repo_namespace,
            repo_name,
            ..
        } = subscription;
        let matches = |(namespace, name): &(Regex, Regex)| {
            namespace.is_match(repo_namespace) && name.is_match(repo_name)
        };
        (self.include.is_empty() || self.include.iter().any(matches))
            && !self.exclude.iter().any(matches)
    }
}
