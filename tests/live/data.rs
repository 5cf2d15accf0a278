//! The data of the differential test: clusters that hold the same metrics and the same local labels,
//! so that an answer that mixes them up is seen.

use periplus_model::{Labels, LabelsBuilder, stale_nan};

use super::prometheus::SeriesData;

/// A small source of numbers that is the same everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    /// A number in [0, 1).
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }

    pub(crate) fn chance(&mut self, share: f64) -> bool {
        self.unit() < share
    }
}

/// One cluster: its external labels and what its Prometheus servers should hold between them.
#[derive(Clone, Debug)]
pub(crate) struct ClusterData {
    pub(crate) external: Vec<(&'static str, &'static str)>,
    pub(crate) replicas: usize,
    pub(crate) series: Vec<SeriesData>,
}

/// All clusters' data, from `from_ms` to `until_ms`.
#[derive(Clone, Debug)]
pub(crate) struct Dataset {
    pub(crate) clusters: Vec<ClusterData>,
    pub(crate) from_ms: i64,
    pub(crate) until_ms: i64,
}

const SCRAPE_MS: i64 = 15_000;
/// How long the data goes back.
pub(crate) const SPAN_MS: i64 = 100 * 60_000;

const CLUSTERS: [(&str, &str, usize); 3] =
    [("paris", "europe", 2), ("madrid", "europe", 1), ("tokyo", "asia", 1)];

impl Dataset {
    /// The data of `seed`, ending at `until_s`.
    pub(crate) fn new(seed: u64, until_s: i64) -> Self {
        let until_ms = until_s * 1000;
        let from_ms = until_ms - SPAN_MS;
        let clusters = CLUSTERS
            .iter()
            .enumerate()
            .map(|(i, (cluster, region, replicas))| ClusterData {
                external: vec![("cluster", *cluster), ("region", *region)],
                replicas: *replicas,
                series: cluster_series(&mut Dice(seed ^ (i as u64) << 32), i, from_ms, until_ms),
            })
            .collect();
        Self { clusters, from_ms, until_ms }
    }

    /// What replica `replica` of a cluster holds: everything but its own gap. The gaps of two
    /// replicas are far apart, so each time is whole somewhere.
    pub(crate) fn held(&self, cluster: usize, replica: usize) -> Vec<SeriesData> {
        let c = &self.clusters[cluster];
        if c.replicas == 1 {
            return c.series.clone();
        }
        let gap_from = self.from_ms + (25 + 35 * replica as i64) * 60_000;
        let gap = gap_from..gap_from + 9 * 60_000;
        let outside =
            |s: &[(i64, f64)]| s.iter().copied().filter(|p| !gap.contains(&p.0)).collect();
        c.series.iter().map(|(l, s)| (l.clone(), outside(s))).collect()
    }

    /// What one Prometheus holding everything would hold: every series with its external labels.
    pub(crate) fn everything(&self) -> Vec<SeriesData> {
        let mut all = Vec::new();
        for c in &self.clusters {
            for (labels, samples) in &c.series {
                let mut b: LabelsBuilder = labels.to_builder();
                for (n, v) in &c.external {
                    b.set(*n, *v);
                }
                all.push((b.build(), samples.clone()));
            }
        }
        all
    }
}

fn cluster_series(dice: &mut Dice, cluster: usize, from_ms: i64, until_ms: i64) -> Vec<SeriesData> {
    let mut all = Vec::new();
    for job in ["api", "db"] {
        for instance in 0..3 {
            let name = format!("host-{instance}:80");
            let base = [("job", job), ("instance", name.as_str())];
            // Never on a whole or half second: a sample on the edge of a window belongs to it in
            // Prometheus 2 and not in 3.
            let offset = 100 + (dice.next() % 300) as i64;
            let times: Vec<i64> = (0..)
                .map(|n| from_ms + offset + n * SCRAPE_MS)
                .take_while(|t| *t < until_ms)
                .collect();
            instance_series(dice, cluster, &base, &times, &mut all);
        }
    }
    all
}

fn labels(name: &str, base: &[(&str, &str)], more: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(
        [("__name__", name)].iter().chain(base).chain(more).copied().collect::<Vec<_>>(),
    )
}

fn instance_series(
    dice: &mut Dice,
    cluster: usize,
    base: &[(&str, &str)],
    times: &[i64],
    all: &mut Vec<SeriesData>,
) {
    // By this a sidecar finds gaps.
    all.push((labels("up", base, &[]), times.iter().map(|t| (*t, 1.0)).collect()));
    for room in ["a", "b"] {
        let mut v = 20.0 + 10.0 * dice.unit();
        let walk = times.iter().map(|t| {
            v += dice.unit() - 0.5;
            (*t, v)
        });
        let walk = walk.collect();
        all.push((labels("temperature", base, &[("room", room)]), walk));
    }
    for code in ["200", "404", "500"] {
        let (mut v, reset) = (dice.unit() * 100.0, 0.01 * dice.unit());
        let counted = times.iter().map(|t| {
            v = if dice.chance(reset) { 0.0 } else { v + (dice.unit() * 9.0).floor() };
            (*t, v)
        });
        let counted = counted.collect();
        all.push((labels("requests_total", base, &[("code", code)]), counted));
    }
    histogram(dice, base, times, all);
    all.push((labels("sparse", base, &[]), sparse(dice, times)));
    let special = [f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 0.0, -1.5, 1e300];
    let odd = times
        .iter()
        .map(|t| (*t, if dice.chance(0.3) { *dice.pick(&special) } else { dice.unit() - 0.5 }));
    let odd = odd.collect();
    all.push((labels("odd", base, &[]), odd));
    let state = times.iter().map(|t| (*t, dice.below(3) as f64)).collect();
    all.push((labels("state", base, &[]), state));
    let version = format!("v{}", dice.below(2));
    let one = times.iter().map(|t| (*t, 1.0)).collect();
    all.push((labels("build_info", base, &[("version", &version)]), one));
    if cluster == 1 {
        let v = times.iter().map(|t| (*t, dice.unit())).collect();
        all.push((labels("only_in_madrid", base, &[]), v));
    }
}

fn histogram(dice: &mut Dice, base: &[(&str, &str)], times: &[i64], all: &mut Vec<SeriesData>) {
    const BOUNDS: [(&str, f64); 5] =
        [("0.1", 0.1), ("0.5", 0.5), ("1", 1.0), ("5", 5.0), ("+Inf", f64::INFINITY)];
    let mut counts = [0.0; BOUNDS.len()];
    let mut sum = 0.0;
    let mut buckets: Vec<Vec<(i64, f64)>> = vec![Vec::new(); BOUNDS.len()];
    let (mut sums, mut totals) = (Vec::new(), Vec::new());
    for t in times {
        for _ in 0..dice.below(6) {
            let took = dice.unit() * dice.unit() * 8.0;
            sum += took;
            for (count, (_, bound)) in counts.iter_mut().zip(BOUNDS) {
                *count += f64::from(u8::from(took <= bound));
            }
        }
        for (bucket, count) in buckets.iter_mut().zip(counts) {
            bucket.push((*t, count));
        }
        sums.push((*t, sum));
        totals.push((*t, counts[BOUNDS.len() - 1]));
    }
    for (bucket, (le, _)) in buckets.into_iter().zip(BOUNDS) {
        all.push((labels("latency_seconds_bucket", base, &[("le", le)]), bucket));
    }
    all.push((labels("latency_seconds_sum", base, &[]), sums));
    all.push((labels("latency_seconds_count", base, &[]), totals));
}

/// Comes and goes: some ends are marked, some are not.
fn sparse(dice: &mut Dice, times: &[i64]) -> Vec<(i64, f64)> {
    let mut out = Vec::new();
    let mut here = true;
    for t in times {
        let was = here;
        if dice.chance(0.03) {
            here = !here;
        }
        if here {
            out.push((*t, dice.unit() * 50.0));
        } else if was && dice.chance(0.6) {
            out.push((*t, stale_nan()));
        }
    }
    out
}
