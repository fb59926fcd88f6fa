//! What a poll is worth in the log: one line a change, not one a poll. A
//! failure that everything of an account tends to share (a wrong key, a missing
//! permission, a dead network) is logged for the first task or list that has it
//! and once more when the last one is rid of it.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use alibaba_cloud::Reason;

use crate::model::TaskStatus;
use crate::store::{ListingEntry, Target, TaskEntry};

use super::watch::{Answer, Polled};
use super::{Item, SourceError};

pub(super) struct Notices {
    accounts: Vec<Account>,
}

struct Account {
    name: String,
    /// Which tasks and lists share each failure now.
    failing: HashMap<Shared, HashSet<Item>>,
}

/// What tasks and lists of one account fail for together.
type Shared = (Reason, Scope);

/// What of an account fails. Permissions are granted by operation: where one is
/// missing, the others may be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Scope {
    /// Polls and listings alike.
    Everything,
    /// Reading the rows of tasks.
    Polls,
    /// Reading the task itself, without which its rows count all the same.
    Details,
    /// Reading the lists of instances.
    Listings,
}

impl Scope {
    fn cleared(self) -> &'static str {
        match self {
            Self::Everything => "errors cleared",
            Self::Polls => "errors of polls cleared",
            Self::Details => "errors of task details cleared",
            Self::Listings => "errors of listings cleared",
        }
    }

    /// What an error of this scope shares with others; nothing where it is the
    /// task's or the instance's alone.
    fn shared(self, reason: Reason) -> Option<Shared> {
        let scope = match self {
            Self::Polls | Self::Listings if reason != Reason::Forbidden => Self::Everything,
            scope => scope,
        };
        reason.is_account_wide().then_some((reason, scope))
    }
}

impl Notices {
    pub(super) fn new(accounts: Vec<String>) -> Self {
        Self {
            accounts: accounts.into_iter().map(Account::new).collect(),
        }
    }

    /// Logs what `polled` changes; `before` is the task as it was known until now.
    pub(super) fn polled(
        &mut self,
        account: usize,
        item: Item,
        before: &TaskEntry,
        polled: &Polled,
    ) {
        let account = &mut self.accounts[account];
        let target = &before.target;
        let was = before.error.as_ref().map(|error| error.reason);
        let is = polled.outcome.as_ref().err();
        if let Some(error) = is {
            account.poll_failed(item, target, was, error);
        }
        if let Some(reason) = was.filter(|was| is.is_none_or(|error| error.reason != *was)) {
            match Scope::Polls.shared(reason) {
                Some(shared) => account.cleared(shared, item),
                None if is.is_none() => tracing::info!(
                    instance_id = %target.instance_id,
                    task_id = %target.task_id,
                    task = %target.task,
                    reason = reason.as_str(),
                    "poll succeeded again"
                ),
                None => {}
            }
        }
        if let Ok(answer) = &polled.outcome {
            status(before, answer);
        }
        account.details(item, before, polled);
    }

    /// What is not asked for any more does not fail either.
    pub(super) fn left(&mut self, account: usize, item: Item) {
        let account = &mut self.accounts[account];
        let failing = account.failing.iter();
        let failing = failing.filter(|(_, items)| items.contains(&item));
        let shared: Vec<Shared> = failing.map(|(shared, _)| *shared).collect();
        for shared in shared {
            account.cleared(shared, item);
        }
    }

    /// A task or list has changed its account or its place.
    pub(super) fn moved(&mut self, from: (usize, Item), to: (usize, Item)) {
        let failing = self.accounts[from.0].failing.iter_mut();
        let shared: Vec<Shared> = failing
            .filter_map(|(shared, items)| items.remove(&from.1).then_some(*shared))
            .collect();
        for shared in shared {
            let failing = self.accounts[to.0].failing.entry(shared).or_default();
            failing.insert(to.1);
        }
    }

    /// The number of an account, a new one where it is not known.
    pub(super) fn account(&mut self, name: &str) -> usize {
        let known = self.accounts.iter().position(|one| one.name == name);
        known.unwrap_or_else(|| {
            self.accounts.push(Account::new(name.to_owned()));
            self.accounts.len() - 1
        })
    }

    /// Logs what a listing changes; `before` is as it was until now.
    pub(super) fn listing(
        &mut self,
        account: usize,
        item: Item,
        before: &ListingEntry,
        error: Option<&SourceError>,
    ) {
        let account = &mut self.accounts[account];
        let was = before.error.as_ref().map(|error| error.reason);
        let is = error.map(|error| error.reason);
        let instance_id = &before.instance_id;
        if let Some(SourceError { reason, text }) = error {
            match Scope::Listings.shared(*reason) {
                None if is == was => {}
                None => tracing::error!(
                    %instance_id,
                    reason = reason.as_str(),
                    error = %text,
                    "failed to list subscriptions, will retry; their data becomes stale and new runs are not found"
                ),
                Some(shared) if account.failed_first(shared, item) => tracing::error!(
                    credentials = %account.name,
                    %instance_id,
                    reason = reason.as_str(),
                    error = %text,
                    "failed to list subscriptions, will retry; not logging the same failure of other instances and tasks with these credentials"
                ),
                Some(_) => {}
            }
        }
        if let Some(reason) = was.filter(|_| is != was) {
            match Scope::Listings.shared(reason) {
                Some(shared) => account.cleared(shared, item),
                None if error.is_none() => tracing::info!(
                    %instance_id,
                    reason = reason.as_str(),
                    "listed subscriptions again"
                ),
                None => {}
            }
        }
    }
}

impl Account {
    fn new(name: String) -> Self {
        Self {
            name,
            failing: HashMap::new(),
        }
    }

    /// Notes a shared failure; `true` for the first that has it.
    fn failed_first(&mut self, shared: Shared, item: Item) -> bool {
        let items = self.failing.entry(shared).or_default();
        items.insert(item) && items.len() == 1
    }

    /// Notes the end of a shared failure, and logs that of the last that had it.
    fn cleared(&mut self, shared: Shared, item: Item) {
        let Some(items) = self.failing.get_mut(&shared) else {
            return;
        };
        if items.remove(&item) && items.is_empty() {
            let (reason, scope) = shared;
            tracing::info!(
                credentials = %self.name,
                reason = reason.as_str(),
                "{}", scope.cleared()
            );
        }
    }

    /// `was`: why the poll before failed.
    fn poll_failed(
        &mut self,
        item: Item,
        target: &Target,
        was: Option<Reason>,
        error: &SourceError,
    ) {
        let SourceError { reason, text } = error;
        match Scope::Polls.shared(*reason) {
            None if was == Some(*reason) => {}
            None => tracing::warn!(
                instance_id = %target.instance_id,
                task_id = %target.task_id,
                task = %target.task,
                reason = reason.as_str(),
                error = %text,
                "failed to poll task"
            ),
            Some(shared) if self.failed_first(shared, item) => tracing::error!(
                credentials = %self.name,
                instance_id = %target.instance_id,
                task_id = %target.task_id,
                task = %target.task,
                reason = reason.as_str(),
                error = %text,
                "failed to poll task, will retry; not logging the same failure of other tasks with these credentials"
            ),
            Some(_) => {}
        }
    }

    /// Without the task itself there are no source labels and no message.
    fn details(&mut self, item: Item, before: &TaskEntry, polled: &Polled) {
        let Some(asked) = &polled.task else {
            return;
        };
        let is = asked.as_ref().err().map(|error| error.reason);
        let was = before.task_error.filter(|was| Some(*was) != is);
        if let Some(shared) = was.and_then(|was| Scope::Details.shared(was)) {
            self.cleared(shared, item);
        }
        let Err(SourceError { reason, text }) = asked else {
            return;
        };
        let first = match Scope::Details.shared(*reason) {
            Some(shared) => self.failed_first(shared, item),
            // Where the task is gone the failed poll says so.
            None => before.task_error != is && polled.outcome.is_ok(),
        };
        if first {
            let target = &before.target;
            tracing::warn!(
                credentials = %self.name,
                instance_id = %target.instance_id,
                task_id = %target.task_id,
                task = %target.task,
                reason = reason.as_str(),
                error = %text,
                "failed to read task details, will retry; source, message and verdict of the task are missing"
            );
        }
    }
}

fn status(before: &TaskEntry, answer: &Answer) {
    let known = before.data.as_ref().map(|data| data.status);
    let now = answer.assessment.status;
    if known == Some(now) {
        return;
    }
    let target = &before.target;
    let cloud_message = answer
        .info
        .as_ref()
        .map_or("", |info| info.message.as_str());
    if now == TaskStatus::Failed {
        tracing::warn!(
            instance_id = %target.instance_id,
            task_id = %target.task_id,
            task = %target.task,
            status = now.as_str(),
            artifacts_failed = answer.assessment.count(crate::model::Outcome::Failed),
            cloud_message,
            "the subscription task has failed"
        );
    } else if known.is_some() {
        tracing::info!(
            instance_id = %target.instance_id,
            task_id = %target.task_id,
            task = %target.task,
            status = now.as_str(),
            "the subscription task has a new status"
        );
    } else {
        // Every task has a first status at the start: no news.
        tracing::debug!(
            instance_id = %target.instance_id,
            task_id = %target.task_id,
            task = %target.task,
            status = now.as_str(),
            "the subscription task was read"
        );
    }
}

/// A status word that no mapping covers.
pub(super) fn unrecognized(target: &Target, field: &str, word: &str) {
    tracing::warn!(
        instance_id = %target.instance_id,
        task_id = %target.task_id,
        field,
        value = %word,
        "unrecognized status value; map it under `status:`"
    );
}

/// The same in the list of tasks.
pub(super) fn unrecognized_in_list(instance_id: &str, field: &str, word: &str) {
    tracing::warn!(
        instance_id,
        field,
        value = %word,
        "unrecognized status value in the list of tasks; map it under `status:`"
    );
}

/// What the order of a list makes it cost.
pub(super) fn list_order(instance_id: &str, newest_first: bool, pages: u32, interval: Duration) {
    if newest_first {
        tracing::debug!(instance_id, "the list of tasks is newest first");
        return;
    }
    let listings = 86_400.0 / interval.as_secs_f64();
    let calls_a_day = (f64::from(pages) * listings).round();
    tracing::warn!(
        instance_id,
        pages,
        calls_a_day,
        "the list of tasks is not newest first, so that each listing reads all of its pages; a longer follow.interval costs less"
    );
}

/// `follow.max_tasks` bites, or does not any more.
pub(super) fn tasks_dropped(instance_id: &str, before: usize, now: usize) {
    if before == 0 && now > 0 {
        tracing::warn!(
            instance_id,
            dropped = now,
            "follow.max_tasks keeps the series of the oldest runs off the page; their subscriptions stay"
        );
    } else if before > 0 && now == 0 {
        tracing::info!(instance_id, "follow.max_tasks leaves no run out any more");
    }
}

#[cfg(test)]
mod tests;
