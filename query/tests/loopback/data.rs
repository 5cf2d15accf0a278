//! The data of a small fleet, from a seed.

use periplus_model::{Labels, SampleBuffer};

/// A sequence of numbers that look random.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

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

/// When the data begins and ends, Unix milliseconds.
pub(crate) const BEGIN_MS: i64 = 1_700_000_000_000;
pub(crate) const END_MS: i64 = BEGIN_MS + 60 * 60 * 1000;

pub(crate) type Series = Vec<(Labels, SampleBuffer)>;

/// A cluster: its external labels and its series without them.
pub(crate) struct Cluster {
    pub(crate) external: Labels,
    pub(crate) series: Series,
}

/// Four clusters on two continents.
pub(crate) fn clusters(seed: u64) -> Vec<Cluster> {
    let names = [("paris", "europe"), ("madrid", "europe"), ("tokyo", "asia"), ("mumbai", "asia")];
    names
        .iter()
        .enumerate()
        .map(|(i, (cluster, region))| Cluster {
            external: Labels::from_pairs([("cluster", *cluster), ("region", *region)]),
            series: series(&mut Dice(seed + i as u64), cluster),
        })
        .collect()
}

fn series(dice: &mut Dice, cluster: &str) -> Series {
    let mut out = Vec::new();
    for job in ["api", "db"] {
        for host in 0..3 {
            let instance = format!("host-{host}");
            let base = [("job", job), ("instance", instance.as_str())];
            let mut add = |name: &str, more: &[(&str, &str)], samples| {
                let mut pairs = vec![("__name__", name)];
                pairs.extend(base.iter().chain(more).copied());
                out.push((Labels::from_pairs(pairs), samples));
            };
            for room in ["attic", "cellar"] {
                add("temperature", &[("room", room)], gauge(dice, 0.0));
            }
            add("sparse", &[], gauge(dice, 0.6));
            let state = stepped(dice);
            add("state", &[], state);
            for code in ["200", "500"] {
                add("requests_total", &[("code", code)], counter(dice));
            }
            let buckets: Vec<SampleBuffer> = histogram(dice);
            for (le, b) in ["0.1", "1", "10", "+Inf"].iter().zip(&buckets) {
                add("latency_seconds_bucket", &[("le", le)], b.clone());
            }
            add("latency_seconds_count", &[], buckets[3].clone());
            add("latency_seconds_sum", &[], counter(dice));
            add("build_info", &[("version", if host == 0 { "1" } else { "2" })], ones());
            if cluster == "madrid" {
                add("only_in_madrid", &[], gauge(dice, 0.3));
            }
        }
    }
    out
}

/// Scrapes every 15 s, off the whole second so that no sample falls on the edge of a window.
fn times() -> impl Iterator<Item = i64> {
    (0..).map(|i| BEGIN_MS + 137 + i * 15_000).take_while(|t| *t < END_MS)
}

fn buffer(samples: impl Iterator<Item = (i64, f64)>) -> SampleBuffer {
    let mut b = SampleBuffer::new();
    samples.for_each(|(t, v)| b.push(t, v));
    b
}

fn gauge(dice: &mut Dice, missing: f64) -> SampleBuffer {
    let mut v = 10.0 + 20.0 * dice.unit();
    let mut samples = Vec::new();
    let mut here = true;
    for t in times() {
        v += dice.unit() - 0.5;
        if dice.chance(0.02) {
            here = !dice.chance(missing);
        }
        if here {
            samples.push((t, v));
        }
    }
    buffer(samples.into_iter())
}

fn stepped(dice: &mut Dice) -> SampleBuffer {
    let mut v = 0.0;
    let all: Vec<(i64, f64)> = times()
        .map(|t| {
            if dice.chance(0.05) {
                v = dice.below(4) as f64;
            }
            (t, v)
        })
        .collect();
    buffer(all.into_iter())
}

fn counter(dice: &mut Dice) -> SampleBuffer {
    let mut v = 1000.0 * dice.unit();
    let all: Vec<(i64, f64)> = times()
        .map(|t| {
            v = if dice.chance(0.01) { 0.0 } else { v + 10.0 * dice.unit() };
            (t, v)
        })
        .collect();
    buffer(all.into_iter())
}

fn histogram(dice: &mut Dice) -> Vec<SampleBuffer> {
    let mut v = [0.0f64; 4];
    let mut out = vec![SampleBuffer::new(); 4];
    for t in times() {
        let observed = dice.below(5) as f64;
        let bucket = dice.below(4);
        for (i, (v, b)) in v.iter_mut().zip(&mut out).enumerate() {
            *v += if i >= bucket { observed } else { 0.0 };
            b.push(t, *v);
        }
    }
    out
}

fn ones() -> SampleBuffer {
    buffer(times().map(|t| (t, 1.0)))
}

/// The same series without the samples in some times.
pub(crate) fn without(series: &Series, gaps: &[(i64, i64)]) -> Series {
    let keep = |t: i64| !gaps.iter().any(|(from, to)| (*from..=*to).contains(&t));
    series
        .iter()
        .map(|(l, b)| {
            let samples = b.ts.iter().copied().zip(b.values.iter().copied());
            (l.clone(), buffer(samples.filter(|(t, _)| keep(*t))))
        })
        .collect()
}
