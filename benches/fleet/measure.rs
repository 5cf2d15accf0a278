//! Asking again and again, and what came of it.

use std::time::{Duration, Instant};

use super::ask::{When, ask, client};
use super::endpoint::Proxy;

/// Times of one question, sorted.
pub(crate) struct Figures {
    times: Vec<Duration>,
}

impl Figures {
    fn new(mut times: Vec<Duration>) -> Self {
        times.sort();
        Self { times }
    }

    /// The time that half the runs stayed below.
    pub(crate) fn median(&self) -> Duration {
        self.times[self.times.len() / 2]
    }

    /// One line, with the ratio to a reference of the same run.
    pub(crate) fn print(&self, name: &str, reference: Option<&Self>) {
        let ms = |d: Duration| d.as_secs_f64() * 1e3;
        let at = |share: f64| ms(self.times[((self.times.len() - 1) as f64 * share) as usize]);
        let ratio = reference.map_or(String::new(), |r| {
            format!(", {:.2} x direct", ms(self.median()) / ms(r.median()))
        });
        println!(
            "    {name:<26} median {:.1} ms (10 % below {:.1}, 90 % below {:.1}){ratio}",
            ms(self.median()),
            at(0.1),
            at(0.9)
        );
    }
}

/// Asks `expr` at `url` some times, after a few that do not count.
pub(crate) async fn measure(url: &str, expr: &str, when: When, runs: usize) -> Figures {
    let client = client();
    let mut times = Vec::with_capacity(runs);
    for run in 0..runs + 5 {
        let began = Instant::now();
        let answer = ask(&client, url, expr, when).await.expect("an answer");
        let took = began.elapsed();
        assert!(answer.is_success() && answer.rows() >= 10, "{:.500}", answer.body.to_string());
        assert!(answer.warnings().is_empty(), "{:?}", answer.warnings());
        if run >= 5 {
            times.push(took);
        }
    }
    Figures::new(times)
}

/// The same of all servers at once: until the last has answered.
pub(crate) async fn measure_direct(
    urls: &[String],
    expr: &str,
    when: When,
    runs: usize,
) -> Figures {
    let client = client();
    let mut times = Vec::with_capacity(runs);
    for run in 0..runs + 5 {
        let began = Instant::now();
        let answers = urls.iter().map(|url| ask(&client, url, expr, when));
        for answer in futures::future::join_all(answers).await {
            assert!(answer.expect("an answer").is_success());
        }
        if run >= 5 {
            times.push(began.elapsed());
        }
    }
    Figures::new(times)
}

/// Bytes that one question moves from the endpoints behind the proxies.
pub(crate) async fn moved(proxies: &[Proxy], url: &str, expr: &str, when: When) -> u64 {
    let client = client();
    // The first sets connections up.
    for _ in 0..3 {
        let answer = ask(&client, url, expr, when).await.expect("an answer");
        assert!(answer.is_success());
    }
    let total = || proxies.iter().map(Proxy::answered).sum::<u64>();
    let runs = 10;
    let before = total();
    for _ in 0..runs {
        ask(&client, url, expr, when).await.expect("an answer");
    }
    (total() - before) / runs
}
