//! When a group is evaluated: at one moment of its interval that follows from its name, as Prometheus
//! has it, so that the load is spread and two rulers with the same files take the same times.

use std::time::{Duration, Instant};

use periplus_model::Labels;
use tokio_util::sync::CancellationToken;
use xxhash_rust::xxh64::xxh64;

use super::group::{Env, Running};
use super::metrics::GroupMetrics;
use super::now_ms;
use super::rule::Group;

/// The last moment at or before `now_ms` at which the group is to be evaluated.
#[must_use]
pub fn slot(group: &Group, now_ms: i64) -> i64 {
    let file = group.file.to_string_lossy();
    let labels = Labels::from_pairs([("file", &*file), ("name", &group.name)]);
    let interval = i128::from(group.interval_ms.max(1)) * 1_000_000;
    let hash = i128::from(xxh64(labels.as_packed().as_bytes(), 0));
    let offset = hash % interval;
    let now = i128::from(now_ms) * 1_000_000;
    let slot = (now - offset).div_euclid(interval) * interval + offset;
    i64::try_from(slot / 1_000_000).unwrap_or(now_ms)
}

/// What tells the time, and waits.
pub(super) trait Clock: Sync {
    /// What people read, Unix milliseconds; somebody may set it.
    fn wall_ms(&self) -> i64;
    /// What nobody sets, since some moment.
    fn steady(&self) -> Duration;
    /// Comes back after so long on the steady clock.
    fn sleep(&self, wait: Duration) -> impl Future<Output = ()> + Send;
}

/// The machine's clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Machine(Instant);

impl Machine {
    pub(super) fn new() -> Self {
        Self(Instant::now())
    }
}

impl Clock for Machine {
    fn wall_ms(&self) -> i64 {
        now_ms()
    }

    fn steady(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, wait: Duration) -> impl Future<Output = ()> + Send {
        tokio::time::sleep(wait)
    }
}

/// The two clocks, read together: what the wall clock should say follows from the other.
#[derive(Clone, Copy, Debug)]
struct Clocks {
    wall_ms: i64,
    steady: Duration,
}

impl Clocks {
    fn read(clock: &impl Clock) -> Self {
        Self { wall_ms: clock.wall_ms(), steady: clock.steady() }
    }

    /// How far the wall clock was set since, in milliseconds.
    fn jump_since(&self, before: &Self) -> i64 {
        let steady = self.steady.saturating_sub(before.steady);
        let steady = i64::try_from(steady.as_millis()).unwrap_or(i64::MAX);
        (self.wall_ms - before.wall_ms) - steady
    }
}

/// Evaluates a group until it is told to stop.
///
/// An evaluation that takes longer than the interval makes the ones it runs into missed; they are
/// counted, not caught up with. When the clock is set by more than an interval, alerts keep how long
/// they have been active: their times are moved along.
pub(super) async fn run(
    running: &Running,
    env: &Env,
    metrics: &GroupMetrics,
    stop: &CancellationToken,
    clock: &impl Clock,
) {
    let interval = running.group.interval_ms.max(1);
    let mut ts = slot(&running.group, clock.wall_ms()) + interval;
    let mut clocks = Clocks::read(clock);
    if !wait_until(ts, interval, stop, clock).await {
        return;
    }
    loop {
        let begun = Instant::now();
        let outcome = running.evaluate(ts, env).await;
        metrics.evaluated(&outcome, begun.elapsed());
        if stop.is_cancelled() || !wait_until(ts + interval, interval, stop, clock).await {
            return;
        }
        let now = Clocks::read(clock);
        let jump = now.jump_since(&clocks);
        clocks = now;
        if jump.abs() >= interval {
            tracing::warn!(group = running.group.name, jump_ms = jump, "the clock was set");
            running.state.lock().shift(jump);
            ts = slot(&running.group, now.wall_ms);
            continue;
        }
        let behind = (now.wall_ms - ts).div_euclid(interval).max(1);
        metrics.missed(u64::try_from(behind - 1).unwrap_or(0));
        ts += behind * interval;
    }
}

/// Waits for a time of the wall clock, never longer than an interval, and once more for one that was set back
/// by less than that meanwhile, so that nothing is evaluated before its time. False when told to stop.
async fn wait_until(
    t_ms: i64,
    interval: i64,
    stop: &CancellationToken,
    clock: &impl Clock,
) -> bool {
    for again in [false, true] {
        let left = t_ms - clock.wall_ms();
        // A clock that is far behind was set, which the caller finds out.
        if again && !(1..interval).contains(&left) {
            break;
        }
        let wait = Duration::from_millis(left.clamp(0, interval).unsigned_abs());
        tokio::select! {
            () = clock.sleep(wait) => {}
            () = stop.cancelled() => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(interval_ms: i64) -> Group {
        Group {
            file: "rules/a.yml".into(),
            name: "g".into(),
            interval_ms,
            query_offset_ms: None,
            limit: 0,
            strategy: None,
            rules: Vec::new(),
        }
    }

    #[test]
    fn slots_are_an_interval_apart_and_never_ahead() {
        let g = group(30_000);
        let first = slot(&g, 1_700_000_000_000);
        for now in (1_700_000_000_000i64..1_700_000_300_000).step_by(777) {
            let at = slot(&g, now);
            assert!(at <= now && now - at <= 30_000, "{now} {at}");
            assert_eq!((at - first) % 30_000, 0);
        }
        // The moment lies within a millisecond, which counts as come once it is over.
        assert_eq!(slot(&g, first + 1), first);
    }
}
