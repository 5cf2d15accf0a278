//! History beside VictoriaMetrics: the same questions over the same samples, both over HTTP.
//!
//! `make bench`, or this target alone with `--clusters N`, `--pods N` (of each cluster; 140 are about 5,000
//! series), `--days N`, `--runs N`, `--bucket URL` (a directory of its own otherwise) and `--alone yes`
//! (without VictoriaMetrics). What the issue asks for is `--clusters 3 --pods 140 --days 14`; the default is
//! a small run.
//!
//! In the order of a run: [`generate`] writes a simulated fleet's days as parts of a bucket; [`ours`] serves
//! them; [`victoria`] starts VictoriaMetrics and imports the same samples through its API; each of the
//! [`questions`] is asked of both, first cold, then warm in turns. Answers are compared before times are.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "figures go to the terminal")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench that can't go on ends")]

mod generate;
mod ours;
mod questions;
mod victoria;

use std::time::{Duration, Instant};

use generate::Shape;
use ours::Ours;
use questions::Question;
use victoria::Victoria;

struct Args {
    shape: Shape,
    runs: usize,
    bucket: Option<String>,
    alone: bool,
}

impl Args {
    fn parse(all: &[String]) -> Self {
        let shape = Shape { clusters: 2, pods: 20, days: 2, interval_ms: 30_000 };
        let mut args = Self { shape, runs: 5, bucket: None, alone: false };
        for pair in all.chunks(2) {
            let (name, value) = (pair[0].as_str(), pair.get(1).map_or("", String::as_str));
            let number = || value.parse::<u32>().unwrap_or_else(|_| panic!("{name} {value}?"));
            match name {
                "--clusters" => args.shape.clusters = number(),
                "--pods" => args.shape.pods = number(),
                "--days" => args.shape.days = number(),
                "--runs" => args.runs = number().max(1) as usize,
                "--bucket" => args.bucket = Some(value.to_owned()),
                "--alone" => args.alone = value == "yes",
                other => panic!("{other}: see the head of benches/history/main.rs"),
            }
        }
        args
    }
}

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let args = Args::parse(&args);
    let dir = tempfile::tempdir().unwrap();
    let own = format!("file://{}", dir.path().join("bucket").display());
    let url = args.bucket.clone().unwrap_or(own);
    let begun = Instant::now();
    let written = generate::write(&args.shape, &url).await;
    println!(
        "{} series, {} samples written in {:.1?}: {:.3} bytes a sample, index included",
        written.series,
        written.samples,
        begun.elapsed(),
        written.bytes as f64 / written.samples as f64
    );
    let victoria = match args.alone {
        true => None,
        false => Victoria::start(dir.path()).await,
    };
    if let Some(v) = &victoria {
        let begun = Instant::now();
        let sent = v.import(&args.shape).await;
        assert_eq!(sent, written.samples, "both have the same samples");
        let bytes = v.bytes() as f64 / sent as f64;
        println!(
            "VictoriaMetrics took {:.1?} to import: {bytes:.3} bytes a sample",
            begun.elapsed()
        );
    }
    let mut ours = Ours::start(&url).await;
    let header = ["question", "cold", "requests", "MB", "warm", "VictoriaMetrics", "ratio"];
    println!(
        "{:<34} {:>9} {:>8} {:>7} {:>9} {:>15} {:>6}",
        header[0], header[1], header[2], header[3], header[4], header[5], header[6]
    );
    for q in questions::all(&args.shape) {
        measure(&q, &mut ours, victoria.as_ref(), &url, args.runs).await;
    }
    println!("peak resident memory of this process: {} MiB", ours::peak_mib());
}

async fn measure(
    q: &Question,
    ours: &mut Ours,
    victoria: Option<&Victoria>,
    url: &str,
    runs: usize,
) {
    // Nothing is cached but the catalog.
    *ours = Ours::start(url).await;
    let (before, moved) = ours.counts();
    let begun = Instant::now();
    let answer = ours.ask(q).await;
    let cold = begun.elapsed();
    let (after, moved_after) = ours.counts();
    if let Some(v) = victoria {
        q.compare(&answer, &v.ask(q).await);
    }
    let (mut mine, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let begun = Instant::now();
        ours.ask(q).await;
        mine.push(begun.elapsed());
        if let Some(v) = victoria {
            let begun = Instant::now();
            v.ask(q).await;
            theirs.push(begun.elapsed());
        }
    }
    let (mine, theirs) = (median(mine), median(theirs));
    let ratio = mine.as_secs_f64() / theirs.as_secs_f64();
    let shown = match victoria {
        Some(_) => (format!("{theirs:.1?}"), format!("{ratio:.2}")),
        None => ("-".to_owned(), "-".to_owned()),
    };
    println!(
        "{:<34} {:>9} {:>8} {:>7.2} {:>9} {:>15} {:>6}",
        q.name,
        format!("{cold:.1?}"),
        after - before,
        (moved_after - moved) as f64 / 1e6,
        format!("{mine:.1?}"),
        shown.0,
        shown.1
    );
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort_unstable();
    all.get(all.len() / 2).copied().unwrap_or_default()
}
