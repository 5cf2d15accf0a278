//! Waiting longer after each failure, never in step with others.

use std::time::Duration;

/// Delays that double from `least` to `most`, each drawn from the upper half of its range, so that watchers
/// which failed together do not come back together.
#[derive(Clone, Debug)]
pub struct Backoff {
    least: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    /// Nothing has failed yet.
    #[must_use]
    pub const fn new(least: Duration, most: Duration) -> Self {
        Self { least, most, failures: 0 }
    }

    /// Something worked.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }

    /// Failures in a row.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// One more failure: how long to wait. What the server asks for (`Retry-After`) is the least, up to ten times
    /// the longest delay of ours.
    pub fn next(&mut self, asked: Option<Duration>) -> Duration {
        let full = self.least.saturating_mul(1 << self.failures.min(20)).min(self.most);
        self.failures = self.failures.saturating_add(1);
        let drawn = full.mul_f64(rand::random_range(0.5..=1.0));
        let asked = asked.unwrap_or_default().min(self.most.saturating_mul(10));
        drawn.max(asked.mul_f64(rand::random_range(1.0..=1.2)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_and_are_bounded() {
        let mut b = Backoff::new(Duration::from_millis(100), Duration::from_secs(3));
        for n in 0..40 {
            let full = Duration::from_millis(100 << n.min(10)).min(Duration::from_secs(3));
            let got = b.next(None);
            assert!(got >= full / 2 && got <= full, "{n}: {got:?}");
        }
        let asked = b.next(Some(Duration::from_secs(20)));
        assert!(asked >= Duration::from_secs(20) && asked <= Duration::from_secs(24), "{asked:?}");
        assert!(b.next(Some(Duration::from_secs(100_000))) <= Duration::from_secs(36));
        b.reset();
        assert!(b.next(None) <= Duration::from_millis(100));
    }
}
