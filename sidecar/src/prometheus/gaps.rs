//! When a Prometheus had no samples though it should: found from the newest sample of `up`, step by step.
//!
//! `max(timestamp(up))` asked at every scrape interval gives the times at which something was scraped. Where
//! two of them lie further apart than two and a half intervals, nothing was ingested in between. The search
//! is incremental: each round asks only for what came since the last.

use periplus_model::TimeRange;

/// The gaps found so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gaps {
    /// Ascending, without overlap.
    found: Vec<TimeRange>,
    /// The newest scrape seen, Unix milliseconds.
    last: Option<i64>,
}

/// At most this many are remembered; the oldest go first.
const GAPS_MAX: usize = 1_000;

impl Gaps {
    /// Where the next round begins: a little before the newest scrape seen.
    pub(crate) fn next_start(&self, window_start: i64, interval: i64) -> i64 {
        self.last.map_or(window_start, |l| (l - 2 * interval).max(window_start))
    }

    /// Takes in the scrapes of a round (Unix milliseconds, ascending, doubles allowed).
    pub(crate) fn observe(&mut self, scrapes: &[i64], interval: i64) {
        let mut steps: Vec<i64> =
            scrapes.windows(2).map(|w| w[1] - w[0]).filter(|d| *d > 0).collect();
        steps.sort_unstable();
        // Where every target is scraped less often than the global interval says, that is no gap; a few
        // steps tell nothing of it.
        let usual = if steps.len() < 5 { None } else { steps.get((steps.len() - 1) / 2) };
        let usual = usual.copied().unwrap_or(interval);
        let allowed = interval.max(usual).saturating_mul(5) / 2;
        for t in scrapes {
            if let Some(last) = self.last {
                if *t <= last {
                    continue;
                }
                if *t - last > allowed {
                    self.found.push(TimeRange::new(last + 1, *t - 1));
                }
            }
            self.last = Some(*t);
        }
        let excess = self.found.len().saturating_sub(GAPS_MAX);
        self.found.drain(..excess);
    }

    /// The gaps within the window, and the open one when nothing came for too long.
    pub(crate) fn list(&self, window_start: i64, now: i64, interval: i64) -> Vec<TimeRange> {
        let mut out: Vec<TimeRange> =
            self.found.iter().filter(|g| g.max_t >= window_start).copied().collect();
        if let Some(last) = self.last
            && now - last > interval.saturating_mul(4)
        {
            out.push(TimeRange::new(last + 1, now));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes_are_found_once() {
        let mut gaps = Gaps::default();
        gaps.observe(&[0, 10, 10, 20, 30], 10);
        gaps.observe(&[20, 30, 90, 100, 110], 10);
        gaps.observe(&[90, 100, 110, 120], 10);
        assert_eq!(gaps.list(0, 125, 10), [TimeRange::new(31, 89)]);
        assert_eq!(gaps.list(100, 125, 10), []);
        assert_eq!(gaps.list(100, 200, 10), [TimeRange::new(121, 200)]);
        assert_eq!(gaps.next_start(0, 10), 100);
    }

    #[test]
    fn slow_targets_are_no_gaps() {
        let mut gaps = Gaps::default();
        gaps.observe(&[0, 60, 120, 180, 240, 300, 360], 10);
        assert_eq!(gaps.list(0, 361, 60), []);
        let mut young = Gaps::default();
        young.observe(&[0, 10, 140, 150], 10);
        assert_eq!(young.list(0, 151, 10), [TimeRange::new(11, 139)]);
    }
}
