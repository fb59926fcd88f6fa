//! What there is to do, and what a running scheduler is asked.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::Change;
use crate::follow;
use crate::model::{Causes, Words};
use crate::store::Target;
use crate::store::state::State;

/// A task to watch, and how.
#[derive(Clone, Debug)]
pub struct Watch {
    /// Which task.
    pub target: Arc<Target>,
    /// The interval while it can change by itself.
    pub interval: Duration,
    /// Tasks with one number share keys and rate limit.
    pub account: usize,
    /// The time between two listings, of a run that was found in a list and is
    /// not named by the configuration.
    pub followed: Option<Duration>,
}

/// An instance whose lists tell what to watch.
#[derive(Clone, Debug)]
pub struct Follow {
    /// What is followed of it.
    pub settings: follow::Settings,
    /// As in [`Watch`].
    pub account: usize,
}

/// What there is to do: all of it is due at once, unless the state from before
/// a restart knows better.
#[derive(Clone, Debug, Default)]
pub struct Work {
    /// Tasks that the configuration names.
    pub watches: Vec<Watch>,
    /// Instances of which it does not.
    pub follows: Vec<Follow>,
    /// What is known of them.
    pub state: State,
}

/// What holds for all tasks.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The cloud's words.
    pub words: Words,
    /// The causes of failures.
    pub causes: Causes,
    /// The interval of a followed run while it can change by itself.
    pub interval: Duration,
    /// The longest interval of a finished task.
    pub finished_interval: Duration,
    /// Polls under way for one account.
    pub concurrency: usize,
    /// Every configured instance, whether this shard has tasks of it or not.
    pub instances: Vec<Arc<str>>,
    /// Names of the accounts, for the log, by their number.
    pub accounts: Vec<String>,
}

/// Somebody who wants to know everything that is known and counted.
pub type StateRequest = oneshot::Sender<State>;

/// Somebody who wants to know whether the scheduler still goes round.
pub type AliveRequest = oneshot::Sender<()>;

/// What a running scheduler is asked. Each may be closed.
pub struct Requests<S> {
    /// Answered after the stop too.
    pub states: mpsc::Receiver<StateRequest>,
    /// A new configuration.
    pub changes: mpsc::Receiver<Change<S>>,
    /// Answered between two rounds.
    pub alive: mpsc::Receiver<AliveRequest>,
}

impl<S> Default for Requests<S> {
    /// Nobody asks.
    fn default() -> Self {
        Self {
            states: mpsc::channel(1).1,
            changes: mpsc::channel(1).1,
            alive: mpsc::channel(1).1,
        }
    }
}
