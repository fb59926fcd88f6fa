//! The time that one poll may take, over all its requests.

use std::time::Duration;

use tokio::time::Instant;

/// A deadline that waiting for the rate limit does not use up.
#[derive(Debug)]
pub struct Budget {
    total: Duration,
    ends: Instant,
}

impl Budget {
    /// `total` from now on.
    pub fn new(total: Duration) -> Self {
        Self {
            total,
            ends: Instant::now() + total,
        }
    }

    /// What is left; zero when it is used up.
    pub fn left(&self) -> Duration {
        self.ends.saturating_duration_since(Instant::now())
    }

    pub(super) fn total(&self) -> Duration {
        self.total
    }

    /// Gives back time that does not count.
    pub(super) fn give_back(&mut self, waited: Duration) {
        self.ends += waited;
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn time_passes_unless_it_is_given_back() {
        let mut budget = Budget::new(Duration::from_secs(10));
        advance(Duration::from_secs(4)).await;
        assert_eq!(budget.left(), Duration::from_secs(6));
        budget.give_back(Duration::from_secs(3));
        assert_eq!(budget.left(), Duration::from_secs(9));
        advance(Duration::from_secs(60)).await;
        assert_eq!(budget.left(), Duration::ZERO);
        assert_eq!(budget.total(), Duration::from_secs(10));
    }
}
