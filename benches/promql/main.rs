//! The engine beside a Prometheus: the same range queries over the same block, both over HTTP.
//!
//! `PROMETHEUS3=/path/to/prometheus make bench`, or this target alone with `--runs N`,
//! `--pods N` (of each of three clusters), `--only TEXT` (queries that contain it) and `--data DIR`
//! (keeps the block for the next time). Without PROMETHEUS3 the engine is measured alone.
//!
//! In the order of a run: [`dataset`] writes a day of a simulated fleet as one block; [`server`] starts
//! the Prometheus on it, and this program once more as a process that answers from it ([`serve`]);
//! each of the [`queries`] is asked of both, [`compare`] holds the answers against each other, and only
//! then are the two timed, in turns. What is printed are ratios, by the clock and by the CPU time the
//! two processes took, which others on the machine disturb less. Only wrong answers fail a run.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "figures go to the terminal")]

mod compare;
mod dataset;
mod http;
mod queries;
mod serve;
mod server;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use http::Client;
use server::Server;

/// As in the binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct Args {
    runs: usize,
    pods: u32,
    only: String,
    data: Option<PathBuf>,
}

impl Args {
    fn parse(all: &[String]) -> Self {
        let mut args = Self { runs: 5, pods: 40, only: String::new(), data: None };
        for pair in all.chunks(2) {
            let (name, value) = (pair[0].as_str(), pair.get(1).map_or("", String::as_str));
            let number =
                || value.parse::<usize>().unwrap_or_else(|_| panic!("{name} {value}: no number"));
            match name {
                "--runs" => args.runs = number().max(1),
                "--pods" => args.pods = number() as u32,
                "--only" => args.only = value.to_owned(),
                "--data" => args.data = Some(PathBuf::from(value)),
                other => panic!("{other}: give --runs N, --pods N, --only TEXT or --data DIR"),
            }
        }
        args
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if let [role, block] = args.as_slice()
        && role == serve::ROLE
    {
        serve::run(block.as_ref());
        return ExitCode::SUCCESS;
    }
    let args = Args::parse(&args);
    let temporary = tempfile::tempdir().expect("a directory");
    let data = args.data.clone().unwrap_or_else(|| temporary.path().join("data"));
    let block = dataset::block(&data, args.pods);
    let prometheus = std::env::var_os("PROMETHEUS3")
        .map(|binary| Server::prometheus(binary.as_ref(), &data, temporary.path()));
    if prometheus.is_none() {
        println!("PROMETHEUS3 names no binary: nothing to compare with");
    }
    let ours = Server::ours(&block);
    let mut board = Board::default();
    for query in queries::ALL.iter().filter(|q| q.contains(&args.only)) {
        board.measure(query, prometheus.as_ref(), &ours, args.runs);
    }
    board.print(prometheus.as_ref(), &ours);
    if board.wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What was measured so far.
#[derive(Default)]
struct Board {
    by_clock: Vec<f64>,
    by_cpu: Vec<f64>,
    wrong: usize,
}

/// Times of one query at one server.
#[derive(Default)]
struct Times {
    clock: Vec<Duration>,
    cpu: Vec<Duration>,
}

impl Times {
    fn take(&mut self, client: &mut Client, server: &Server, query: &str) {
        let before = server.cpu();
        self.clock.push(client.ask(query).0);
        self.cpu.push(server.cpu().saturating_sub(before));
    }
}

impl Board {
    /// Compares the answers and times both, in turns.
    fn measure(&mut self, query: &str, prometheus: Option<&Server>, ours: &Server, runs: usize) {
        let mut here = Client::connect(ours.port);
        let (_, answer) = here.ask(query);
        let mut there = prometheus.map(|p| (p, Client::connect(p.port)));
        if let Some((_, client)) = &mut there {
            let (_, expected) = client.ask(query);
            if let Some(difference) = compare::difference(&expected, &answer) {
                println!("WRONG  {query}\n       {difference:.2000}");
                self.wrong += 1;
                return;
            }
        }
        let (mut a, mut b) = (Times::default(), Times::default());
        for _ in 0..runs {
            if let Some((server, client)) = &mut there {
                a.take(client, server, query);
            }
            b.take(&mut here, ours, query);
        }
        let (clock, cpu) = (median(b.clock), median(b.cpu));
        let size = answer.len() >> 10;
        if there.is_none() {
            println!("{clock:8.1} ms, {cpu:8.1} CPU ms, {size:6} KiB  {query}");
            return;
        }
        let (their_clock, their_cpu) = (median(a.clock), median(a.cpu));
        self.by_clock.push(their_clock / clock);
        self.by_cpu.push(their_cpu / cpu);
        println!(
            "{:6.2}x  {their_clock:8.1} / {clock:7.1} ms, CPU {:6.2}x  {their_cpu:8.1} / {cpu:7.1} ms, \
             {size:6} KiB  {query}",
            their_clock / clock,
            their_cpu / cpu,
        );
    }

    fn print(&mut self, prometheus: Option<&Server>, ours: &Server) {
        for (name, ratios) in [("clock", &mut self.by_clock), ("CPU time", &mut self.by_cpu)] {
            ratios.sort_by(f64::total_cmp);
            if let (Some(worst), middle) = (ratios.first(), ratios.len() / 2) {
                println!(
                    "by {name}: {:.2}x in the median, {worst:.2}x at worst, of {} queries",
                    ratios[middle],
                    ratios.len()
                );
            }
        }
        let (kept, all) = (ours.peak_kib() >> 10, prometheus.map_or(0, |p| p.peak_kib() >> 10));
        println!("peak memory: Prometheus {all} MiB, the engine {kept} MiB");
        if self.wrong > 0 {
            println!("{} answers are WRONG", self.wrong);
        }
    }
}

/// In milliseconds.
fn median(mut all: Vec<Duration>) -> f64 {
    all.sort();
    all.get(all.len() / 2).map_or(0.0, |d| d.as_secs_f64() * 1e3).max(1e-3)
}
