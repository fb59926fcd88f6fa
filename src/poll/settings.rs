//! `poll:`

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use settings::{Count, Period, Place, hours, in_words, milliseconds, minutes, seconds};

/// How often and how patiently tasks are polled.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename = "PollSettings", default, deny_unknown_fields)]
pub struct Settings {
    /// Between two polls of a task that is empty or still runs.
    pub interval: Period<{ minutes(1) }, { seconds(1) }>,
    /// A finished task is polled after its interval, then after twice as long each time, up to
    /// this. At least `poll.interval`, to which it rises where it is left out.
    pub finished_interval: Period<{ hours(1) }, { seconds(1) }>,
    /// One poll of one task with all its pages and retries; waiting for the rate limit is not
    /// counted.
    pub deadline: Period<{ minutes(2) }, { milliseconds(1) }>,
    /// One API request, connecting included. At most `poll.deadline`, to which it falls where it
    /// is left out.
    pub timeout: Period<{ seconds(10) }, { milliseconds(1) }>,
    /// API requests in flight, all accounts together.
    pub concurrency: Count<8, 1, 1000>,
    /// A floor: data is stale once it is older than this and than three intervals of its task.
    pub stale_after: Period<{ minutes(5) }, { seconds(1) }>,
}

impl Settings {
    /// Checks the values against one another; a default gives way to what is written.
    pub fn check(&mut self, at: &Place<'_>) {
        if *self.finished_interval < *self.interval {
            let place = at.get("finished_interval");
            if !place.is_written() {
                self.finished_interval = Period::of(*self.interval);
            } else if place.is_sound() && at.get("interval").is_sound() {
                let interval = in_words(*self.interval);
                place.refuse(format!(
                    "must not be shorter than poll.interval ({interval})"
                ));
            }
        }
        if *self.timeout > *self.deadline {
            let place = at.get("timeout");
            if !place.is_written() {
                self.timeout = Period::of(*self.deadline);
            } else if place.is_sound() && at.get("deadline").is_sound() {
                let deadline = in_words(*self.deadline);
                place.refuse(format!(
                    "must not be longer than poll.deadline ({deadline})"
                ));
            }
        }
    }
}
