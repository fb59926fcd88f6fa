//! What a poll is worth in the log: one line a change, not one a poll. A
//! trouble that many tasks of an account tend to share (a wrong key, a dead
//! network) is told for the first of them and not again for the others, until
//! the last of them is rid of it.

use std::collections::HashMap;
use std::time::Duration;

use crate::model::TaskStatus;
use crate::reason::Reason;
use crate::store::{ListingEntry, Target, TaskEntry};

use super::SourceError;
use super::watch::{Answer, Polled};

pub(super) struct Notices {
    accounts: Vec<Account>,
}

struct Account {
    name: String,
    /// How many tasks and lists have each shared trouble now.
    troubled: HashMap<Reason, usize>,
}

impl Notices {
    pub(super) fn new(accounts: Vec<String>) -> Self {
        Self {
            accounts: accounts.into_iter().map(Account::new).collect(),
        }
    }

    /// Tells what `polled` changes; `before` is the task as it was known until now.
    pub(super) fn polled(&mut self, account: usize, before: &TaskEntry, polled: &Polled) {
        let account = &mut self.accounts[account];
        let was = before.error.as_ref().map(|error| error.reason);
        let is = polled.outcome.as_ref().err();
        if is.map(|error| error.reason) != was {
            if let Some(error) = is {
                account.failed(&before.target, error);
            }
            if let Some(reason) = was {
                account.recovered(&before.target, reason, is.is_none());
            }
        }
        if let Ok(answer) = &polled.outcome {
            status(before, answer);
            task_error(before, answer);
        }
    }
}

impl Notices {
    /// A task that is not watched any more has no trouble either.
    pub(super) fn left(&mut self, account: usize, task: &TaskEntry) {
        if let Some(error) = task
            .error
            .as_ref()
            .filter(|error| error.reason.is_account_wide())
        {
            self.accounts[account].passed(error.reason);
        }
    }

    /// A list that is not read any more has no trouble either.
    pub(super) fn list_left(&mut self, account: usize, list: &ListingEntry) {
        if let Some(error) = list
            .error
            .as_ref()
            .filter(|error| error.reason.is_account_wide())
        {
            self.accounts[account].passed(error.reason);
        }
    }

    /// A task or list with this trouble, if any, has changed its account.
    pub(super) fn moved(&mut self, from: usize, to: usize, reason: Option<Reason>) {
        if let Some(reason) = reason.filter(|reason| reason.is_account_wide()) {
            let troubled = self.accounts[from].troubled.entry(reason).or_default();
            *troubled = troubled.saturating_sub(1);
            *self.accounts[to].troubled.entry(reason).or_default() += 1;
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

    /// Tells what a listing changes; `before` is as it was until now.
    pub(super) fn listing(
        &mut self,
        account: usize,
        before: &ListingEntry,
        error: Option<&SourceError>,
    ) {
        let account = &mut self.accounts[account];
        let was = before.error.as_ref().map(|error| error.reason);
        let is = error.map(|error| error.reason);
        if is == was {
            return;
        }
        let instance_id = &before.instance_id;
        if let Some(error) = error {
            let SourceError { reason, text } = error;
            if !reason.is_account_wide() {
                tracing::error!(
                    %instance_id,
                    reason = reason.as_str(),
                    error = %text,
                    "the subscriptions of the instance cannot be listed: what is known of them becomes stale, new runs are not seen"
                );
            } else if account.troubled_first(*reason) {
                tracing::error!(
                    credentials = %account.name,
                    %instance_id,
                    reason = reason.as_str(),
                    error = %text,
                    "listing the subscriptions of the instance fails and goes on; tasks of these credentials with the same reason are not logged"
                );
            }
        }
        match was {
            Some(reason) if reason.is_account_wide() => account.passed(reason),
            Some(reason) if error.is_none() => {
                tracing::info!(%instance_id, reason = reason.as_str(), "the subscriptions of the instance can be listed again");
            }
            _ => {}
        }
    }
}

impl Account {
    fn new(name: String) -> Self {
        Self {
            name,
            troubled: HashMap::new(),
        }
    }

    /// Notes one more with a shared trouble; `true` for the first.
    fn troubled_first(&mut self, reason: Reason) -> bool {
        let troubled = self.troubled.entry(reason).or_default();
        *troubled += 1;
        *troubled == 1
    }

    /// Notes one less with a shared trouble.
    fn passed(&mut self, reason: Reason) {
        let troubled = self.troubled.entry(reason).or_default();
        *troubled = troubled.saturating_sub(1);
        if *troubled == 0 {
            tracing::info!(
                credentials = %self.name,
                reason = reason.as_str(),
                "nothing of these credentials fails for this reason any more"
            );
        }
    }

    fn failed(&mut self, target: &Target, error: &SourceError) {
        if error.reason.is_account_wide() {
            if self.troubled_first(error.reason) {
                tracing::error!(
                    credentials = %self.name,
                    instance_id = %target.instance_id,
                    task_id = %target.task_id,
                    task = %target.task,
                    reason = error.reason.as_str(),
                    error = %error.text,
                    "polling fails and goes on; further tasks of these credentials with the same reason are not logged"
                );
            }
        } else {
            tracing::warn!(
                instance_id = %target.instance_id,
                task_id = %target.task_id,
                task = %target.task,
                reason = error.reason.as_str(),
                error = %error.text,
                "polling the task fails"
            );
        }
    }

    /// `works`: it is rid of the trouble without having another one now.
    fn recovered(&mut self, target: &Target, reason: Reason, works: bool) {
        if reason.is_account_wide() {
            self.passed(reason);
        } else if works {
            tracing::info!(
                instance_id = %target.instance_id,
                task_id = %target.task_id,
                task = %target.task,
                reason = reason.as_str(),
                "polling the task works again"
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

/// Without the task itself there are no source labels and no message: worth
/// one line for each task and spell, at the first poll and after good ones.
fn task_error(before: &TaskEntry, answer: &Answer) {
    if let Some(Err(error)) = &answer.task
        && before.task_error != Some(error.reason)
    {
        let target = &before.target;
        tracing::warn!(
            instance_id = %target.instance_id,
            task_id = %target.task_id,
            task = %target.task,
            reason = error.reason.as_str(),
            error = %error.text,
            "the task itself could not be read: its source, its message and its own verdict are missing"
        );
    }
}

/// A word that is in no list, the first time.
pub(super) fn unrecognized(target: &Target, field: &str, word: &str) {
    let word: String = word.chars().take(64).collect();
    tracing::warn!(
        instance_id = %target.instance_id,
        task_id = %target.task_id,
        field,
        value = %word,
        "the cloud uses a word that is in no list; add it under status: in the configuration"
    );
}

/// The same in the list of tasks.
pub(super) fn unrecognized_in_list(instance_id: &str, field: &str, word: &str) {
    let word: String = word.chars().take(64).collect();
    tracing::warn!(
        instance_id,
        field,
        value = %word,
        "the list of tasks uses a word that is in no list; add it under status: in the configuration"
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
