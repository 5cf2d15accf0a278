//! What the applications say of themselves: requests by code, and how long they took.

use crate::fleet::Cluster;
use crate::life::{Pod, Run};
use crate::series::{Collector, Family, Signal};
use crate::wave::{Wave, between, mix};
use crate::workload::Workload;

static REQUESTS: Family =
    Family::counter("http_requests_total", "Requests answered, by status code.");
static DURATION: Family = Family::histogram(
    "http_request_duration_seconds",
    "How long requests took to answer, in seconds.",
);

/// Upper bounds of the histogram's buckets, and the middle they are spread around.
const BOUNDS: [(&str, f64); 11] = [
    ("0.005", 0.005),
    ("0.01", 0.01),
    ("0.025", 0.025),
    ("0.05", 0.05),
    ("0.1", 0.1),
    ("0.25", 0.25),
    ("0.5", 0.5),
    ("1", 1.0),
    ("2.5", 2.5),
    ("5", 5.0),
    ("+Inf", f64::INFINITY),
];

pub(crate) fn collect(cluster: &Cluster, out: &mut Collector) {
    let range = out.range();
    for (of, pod) in cluster.pods(range) {
        if of.requests == 0.0 {
            continue;
        }
        for run in &pod.runs {
            if run.from_ms < range.1 && run.until_ms > range.0 {
                run_series(of, &pod, run, out);
            }
        }
    }
}

fn run_series(of: &Workload, pod: &Pod, run: &Run, out: &mut Collector) {
    let life = (run.from_ms, run.until_ms);
    let base = [("namespace", of.namespace), ("pod", pod.name.as_str()), ("service", &of.name)];
    let rate = Wave::new(mix(pod.seed, 80), of.requests * between(pod.seed, 81, 0.8, 1.2), 0.45);
    let errors = between(pod.seed, 82, 0.0005, 0.01);
    for (code, share) in [("200", 1.0 - 2.0 * errors), ("404", errors * 0.7), ("500", errors)] {
        let labels = [&base[..], &[("code", code), ("method", "GET")]].concat();
        let signal = Signal::count(rate.scaled(share), run.from_ms, 1.0);
        out.add(&REQUESTS, &labels, life, signal);
    }
    // Every bucket counts a share of the same requests, so the counts stay in order.
    let median = between(pod.seed, 83, 0.02, 0.2);
    for (le, bound) in BOUNDS {
        let share = if bound.is_finite() {
            let x = (bound / median).powf(1.6);
            x / (1.0 + x)
        } else {
            1.0
        };
        let labels = [&base[..], &[("le", le)]].concat();
        let signal = Signal::count(rate.scaled(share), run.from_ms, 1.0);
        out.add_named(&DURATION, "http_request_duration_seconds_bucket", &labels, life, signal);
    }
    let count = Signal::count(rate, run.from_ms, 1.0);
    out.add_named(&DURATION, "http_request_duration_seconds_count", &base, life, count);
    let sum = Signal::count(rate.scaled(median * 1.35), run.from_ms, 1e-6);
    out.add_named(&DURATION, "http_request_duration_seconds_sum", &base, life, sum);
}
