//! What a poll is worth in the log: one line a change, not one a poll. A
//! trouble of the whole account (a wrong key, a dead network) is told once for
//! the account and not again for each of its tasks.

use crate::model::TaskStatus;
use crate::store::{Target, TaskEntry};

use super::SourceError;
use super::watch::{Answer, Polled};

pub(super) struct Notices {
    accounts: Vec<(String, Option<&'static str>)>,
}

impl Notices {
    pub(super) fn new(accounts: Vec<String>) -> Self {
        Self {
            accounts: accounts.into_iter().map(|name| (name, None)).collect(),
        }
    }

    /// Tells what `polled` changes; `before` is the task as it was known until now.
    pub(super) fn polled(&mut self, account: usize, before: &TaskEntry, polled: &Polled) {
        match &polled.outcome {
            Ok(answer) => {
                self.recovered(account, before);
                status(before, answer);
                task_error(before, answer);
            }
            Err(error) => self.failed(account, before, error),
        }
    }

    fn recovered(&mut self, account: usize, before: &TaskEntry) {
        let (name, trouble) = &mut self.accounts[account];
        if let Some(reason) = trouble.take() {
            tracing::info!(credentials = %name, reason, "the cloud answers these credentials again");
        } else if let Some(error) = &before.error
            && !is_of_account(error.reason)
        {
            let target = &before.target;
            tracing::info!(
                instance_id = %target.instance_id,
                task_id = %target.task_id,
                task = %target.task,
                reason = error.reason,
                "polling the task works again"
            );
        }
    }

    fn failed(&mut self, account: usize, before: &TaskEntry, error: &SourceError) {
        let target = &before.target;
        if is_of_account(error.reason) {
            let (name, trouble) = &mut self.accounts[account];
            if trouble.replace(error.reason) != Some(error.reason) {
                tracing::error!(
                    credentials = %name,
                    reason = error.reason,
                    error = %error.text,
                    "polling fails for these credentials; it goes on, and further tasks with the same reason are not logged"
                );
            }
        } else if before.error.as_ref().map(|error| error.reason) != Some(error.reason) {
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
}

/// Troubles that all tasks of an account share.
fn is_of_account(reason: &str) -> bool {
    matches!(
        reason,
        "auth" | "clock" | "connect" | "throttled" | "credentials"
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
    } else {
        tracing::info!(
            instance_id = %target.instance_id,
            task_id = %target.task_id,
            task = %target.task,
            status = now.as_str(),
            "the subscription task has a new status"
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
