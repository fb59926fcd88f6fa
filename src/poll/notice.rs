//! What a poll is worth in the log: one line a change, not one a poll. A
//! trouble that many tasks of an account tend to share (a wrong key, a dead
//! network) is told for the first of them and not again for the others, until
//! the last of them is rid of it.

use std::collections::HashMap;

use crate::model::TaskStatus;
use crate::store::{Target, TaskEntry};

use super::SourceError;
use super::watch::{Answer, Polled};

pub(super) struct Notices {
    accounts: Vec<Account>,
}

struct Account {
    name: String,
    /// How many tasks have each shared trouble now.
    troubled: HashMap<&'static str, usize>,
}

impl Notices {
    pub(super) fn new(accounts: Vec<String>) -> Self {
        let account = |name| Account {
            name,
            troubled: HashMap::new(),
        };
        Self {
            accounts: accounts.into_iter().map(account).collect(),
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

impl Account {
    fn failed(&mut self, target: &Target, error: &SourceError) {
        if is_shared(error.reason) {
            let tasks = self.troubled.entry(error.reason).or_default();
            *tasks += 1;
            if *tasks == 1 {
                tracing::error!(
                    credentials = %self.name,
                    instance_id = %target.instance_id,
                    task_id = %target.task_id,
                    task = %target.task,
                    reason = error.reason,
                    error = %error.text,
                    "polling fails and goes on; further tasks of these credentials with the same reason are not logged"
                );
            }
        } else {
            tracing::warn!(
                instance_id = %target.instance_id,
                task_id = %target.task_id,
                task = %target.task,
                reason = error.reason,
                error = %error.text,
                "polling the task fails"
            );
        }
    }

    /// `works`: it is rid of the trouble without having another one now.
    fn recovered(&mut self, target: &Target, reason: &'static str, works: bool) {
        if is_shared(reason) {
            let tasks = self.troubled.entry(reason).or_default();
            *tasks = tasks.saturating_sub(1);
            if *tasks == 0 {
                tracing::info!(
                    credentials = %self.name,
                    reason,
                    "no task of these credentials fails for this reason any more"
                );
            }
        } else if works {
            tracing::info!(
                instance_id = %target.instance_id,
                task_id = %target.task_id,
                task = %target.task,
                reason,
                "polling the task works again"
            );
        }
    }
}

/// Troubles that many tasks of an account tend to have at once.
fn is_shared(reason: &str) -> bool {
    matches!(
        reason,
        "auth" | "clock" | "connect" | "throttled" | "timeout" | "server" | "credentials"
    )
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
            reason = error.reason,
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
