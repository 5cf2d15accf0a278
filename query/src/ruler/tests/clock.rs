//! Rules on their schedule while somebody sets the clock.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::*;
use crate::ruler::metrics::Metrics;
use crate::ruler::schedule::{self, Clock};

/// How long each story is.
const END: Duration = Duration::from_secs(900);
/// When the clock is set.
const SET_AT: Duration = Duration::from_secs(75);

/// A clock that waits for nobody, and is set once.
struct Fast {
    now: Mutex<(Duration, i64)>,
    set_by_ms: i64,
    stop: CancellationToken,
}

impl Clock for Fast {
    fn wall_ms(&self) -> i64 {
        self.now.lock().1
    }

    fn steady(&self) -> Duration {
        self.now.lock().0
    }

    fn sleep(&self, wait: Duration) -> impl Future<Output = ()> + Send {
        let mut now = self.now.lock();
        let before = now.0;
        now.0 += wait;
        now.1 += i64::try_from(wait.as_millis()).expect("not long");
        if before < SET_AT && now.0 >= SET_AT {
            now.1 += self.set_by_ms;
        }
        if now.0 >= END {
            self.stop.cancel();
        }
        tokio::task::yield_now()
    }
}

/// The times of evaluations, and how long the alert was pending, with the clock set by so much.
async fn story(set_by_ms: i64) -> (Vec<i64>, i64, i64) {
    let stage = Arc::new(Stage::default());
    *stage.answer.lock() = answer(&["a"], &[]);
    let (g, stop) = (running(RULES), CancellationToken::new());
    let clock = Fast {
        now: Mutex::new((Duration::ZERO, 1_700_000_000_000)),
        set_by_ms,
        stop: stop.clone(),
    };
    let metrics = Metrics::default().group("g", 30_000, 1);
    schedule::run(&g, &env(&stage, Strategy::Abort), &metrics, &stop, &clock).await;
    let first = stage.told.lock().first().cloned().expect("it fires");
    let pending = first.fired_at.expect("it fires") - first.active_at;
    (stage.asked.lock().clone(), pending, clock.wall_ms())
}

#[tokio::test]
async fn a_clock_that_is_set_neither_stops_rules_nor_makes_up_for_time() {
    const HOUR: i64 = 3_600_000;
    for set_by in [0, 10_000, -10_000, 29_000, -29_000, HOUR, -HOUR, 24 * HOUR, -24 * HOUR] {
        let (asked, pending, wall) = story(set_by).await;
        // A quarter of an hour at 30 s: none twice, and none is made up for.
        assert!((28..=31).contains(&asked.len()), "{set_by}: {} evaluations", asked.len());
        let steps: Vec<i64> = asked.windows(2).map(|w| w[1] - w[0]).collect();
        let odd: Vec<i64> = steps.iter().copied().filter(|s| *s != 30_000).collect();
        match set_by.abs() < 30_000 {
            true => assert!(odd.is_empty(), "{set_by}: {steps:?}"),
            false => {
                assert_eq!(odd.len(), 1, "{set_by}: {steps:?}");
                assert!((odd[0] - set_by - 30_000).abs() <= 30_000, "{set_by}: {steps:?}");
            }
        }
        // Two minutes are two minutes, whatever the clock says.
        assert!((120_000..150_000).contains(&pending), "{set_by}: pending for {pending} ms");
        // Never ahead of the clock, and not behind it for long.
        let last = asked.last().copied().unwrap_or_default();
        assert!((0..=60_000).contains(&(wall - last)), "{set_by}: {last} at {wall}");
    }
}
