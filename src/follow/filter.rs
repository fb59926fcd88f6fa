//! Which repositories are followed.

use super::settings::Pattern;
use crate::model::Subscription;

/// Those that an `include` matches, all where there is none, but none that an
/// `exclude` matches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Repositories to follow.
    pub include: Vec<Pattern>,
    /// Repositories that are left out all the same.
    pub exclude: Vec<Pattern>,
}

impl Filter {
    pub(super) fn passes(&self, subscription: &Subscription) -> bool {
        let Subscription {
            repo_namespace,
            repo_name,
            ..
        } = subscription;
        let matches = |pattern: &Pattern| pattern.matches(repo_namespace, repo_name);
        (self.include.is_empty() || self.include.iter().any(matches))
            && !self.exclude.iter().any(matches)
    }
}
