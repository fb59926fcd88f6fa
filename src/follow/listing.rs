//! How far a task list is read. It has no filter and may be long, and its order
//! is documented nowhere: so the order is learned from what was seen, and only a
//! list that is newest first is left before its end.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::model::{ListedRun, TaskInfo, Words};

/// The runs of an instance, as far as they were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunList {
    /// In the cloud's order.
    pub runs: Vec<ListedRun>,
    /// Whether these are all of them.
    pub whole: bool,
    /// Pages that it took, each a request at least.
    pub pages: u32,
}

/// What is known of a list's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Nothing yet.
    Unknown,
    /// As far as it was seen.
    NewestFirst,
    /// Any other.
    Another,
}

impl Order {
    pub(super) fn newest_first(self) -> Option<bool> {
        match self {
            Self::Unknown => None,
            Self::NewestFirst => Some(true),
            Self::Another => Some(false),
        }
    }

    pub(super) fn from_newest_first(newest_first: Option<bool>) -> Self {
        match newest_first {
            None => Self::Unknown,
            Some(true) => Self::NewestFirst,
            Some(false) => Self::Another,
        }
    }
}

/// The order of `runs`, of which `before` is known. A whole list can prove that
/// it is newest first, any part of it that it is not. Runs that wait have no
/// start and prove nothing.
pub(super) fn seen_order(runs: &[ListedRun], before: Order, whole: bool) -> Order {
    let starts = runs.iter().filter_map(|run| run.info.start_ms);
    let starts: Vec<i64> = starts.filter(|start| *start > 0).collect();
    let mut pairs = starts.windows(2);
    if pairs.any(|pair| pair[0] < pair[1]) {
        return Order::Another;
    }
    let proves = starts.windows(2).any(|pair| pair[0] > pair[1]);
    match before {
        _ if whole && proves => Order::NewestFirst,
        // Too few runs to tell: the next list may be of any order.
        _ if whole => Order::Unknown,
        before => before,
    }
}

/// Decides page by page whether the next one is worth a request.
#[derive(Clone, Debug)]
pub struct Plan {
    whole: bool,
    known: Arc<HashMap<Arc<str>, Arc<TaskInfo>>>,
    overdue: HashSet<Arc<str>>,
    words: Words,
}

impl Plan {
    /// Reads all of the list where it is to be `whole`, else at least until each
    /// of `overdue` was seen and one page tells nothing new about `known` runs.
    pub(super) fn new(
        whole: bool,
        known: Arc<HashMap<Arc<str>, Arc<TaskInfo>>>,
        overdue: HashSet<Arc<str>>,
        words: Words,
    ) -> Self {
        Self {
            whole,
            known,
            overdue,
            words,
        }
    }

    /// Whether the list is read to its end, whatever it says.
    pub fn whole(&self) -> bool {
        self.whole
    }

    /// Whether there is reason to read on behind `page`: it holds something new
    /// or unfinished, or something must be seen that did not come yet.
    pub fn go_on(&mut self, page: &[ListedRun]) -> bool {
        let mut news = false;
        for run in page {
            self.overdue.remove(&run.task_id);
            news |= match self.known.get(&run.task_id) {
                Some(known) => *known != run.info || !run.info.status(&self.words).is_over(),
                None => true,
            };
        }
        self.whole || news || !self.overdue.is_empty()
    }
}
