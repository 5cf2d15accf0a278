//! Nobody takes alerts for ten minutes: nothing is lost that still holds, and nothing old is told.

use super::*;
use crate::ruler::notify::tests::Waiting;

const STEP_MS: i64 = 30_000;

#[tokio::test]
async fn ten_minutes_without_an_alertmanager() {
    let stage = Arc::new(Stage::default());
    let waiting = Arc::new(Waiting::new(8));
    let (g, mut env) = (running(RULES), env(&stage, Strategy::Warn));
    env.notify = Arc::<Waiting>::clone(&waiting);
    let down = |n: i64| -> Vec<&str> {
        let all = [("a", 0..14), ("b", 12..99), ("c", 10..17), ("d", 0..99)];
        all.iter().filter(|(_, when)| when.contains(&n)).map(|(name, _)| *name).collect()
    };
    for n in 0..8 {
        step(&g, &stage, &env, n, answer(&down(n), &[])).await;
    }
    let told: Vec<String> = waiting.take().into_iter().map(|(name, _)| name).collect();
    assert!(told.contains(&"a".to_owned()) && told.contains(&"d".to_owned()), "{told:?}");
    // Ten minutes, in which a and c end, and b begins to fire.
    for n in 8..28 {
        step(&g, &stage, &env, n, answer(&down(n), &[])).await;
        assert!(waiting.len() <= 4, "one entry an alert, not one a try: {}", waiting.len());
    }
    let now = 27 * STEP_MS;
    let told = waiting.take();
    let ends = |name: &str| {
        let mut of = told.iter().filter(|(n, _)| n == name);
        let ends = of.next().map(|(_, ends)| *ends).unwrap_or_else(|| panic!("{name}: {told:?}"));
        assert_eq!(of.next(), None, "{name} is told once");
        ends
    };
    // keep_firing_for holds a and c for a minute.
    assert_eq!(ends("a"), 16 * STEP_MS);
    assert_eq!(ends("c"), 19 * STEP_MS);
    assert!(ends("b") > now && ends("d") > now, "{told:?}");
    assert_eq!(waiting.dropped(), 0);
}
