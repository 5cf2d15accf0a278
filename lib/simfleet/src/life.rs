//! Who lives when: node boots, the pods that fill a slot one after another, the runs of a container.
//!
//! Everything here is found from the time alone. Events of one kind (a rollout, an eviction, a
//! reboot, a crash) happen once in each cell of a fixed length, at a random place of the cell, so
//! the last one before any time and the next one after it are found without looking further.

use crate::wave::{mix, unit};

/// Milliseconds a node is away for a reboot.
pub(crate) const REBOOT_MS: i64 = 90_000;

/// Events of one kind: at most one in every cell of `period_ms`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Events {
    pub(crate) seed: u64,
    pub(crate) period_ms: i64,
    /// Share of cells that hold an event.
    pub(crate) probability: f64,
}

impl Events {
    fn in_cell(self, k: i64) -> Option<i64> {
        (unit(self.seed, k as u64) < self.probability).then(|| {
            let place = 0.9 * unit(mix(self.seed, 5), k as u64);
            k * self.period_ms + (place * self.period_ms as f64) as i64
        })
    }

    /// The events in a range, in order.
    pub(crate) fn within(self, from_ms: i64, until_ms: i64) -> impl Iterator<Item = i64> {
        let first = from_ms.div_euclid(self.period_ms);
        let last = until_ms.div_euclid(self.period_ms);
        (first..=last)
            .filter_map(move |k| self.in_cell(k))
            .filter(move |t| (from_ms..until_ms).contains(t))
    }

    /// The last event at or before a time.
    pub(crate) fn last_before(self, t_ms: i64) -> i64 {
        let k = t_ms.div_euclid(self.period_ms);
        (0..1000)
            .filter_map(|back| self.in_cell(k - back))
            .find(|t| *t <= t_ms)
            .unwrap_or((k - 1000) * self.period_ms)
    }

    /// The first event after a time.
    pub(crate) fn next_after(self, t_ms: i64) -> i64 {
        let k = t_ms.div_euclid(self.period_ms);
        (0..1000)
            .filter_map(|on| self.in_cell(k + on))
            .find(|t| *t > t_ms)
            .unwrap_or((k + 1000) * self.period_ms)
    }
}

/// A machine of a cluster.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) ip: String,
    pub(crate) seed: u64,
    pub(crate) cores: u32,
    pub(crate) memory_bytes: f64,
    pub(crate) reboots: Events,
}

impl Node {
    /// The node's uptimes that touch a range: from when it answers to when it goes down.
    pub(crate) fn uptimes(&self, from_ms: i64, until_ms: i64) -> Vec<(i64, i64)> {
        let mut ups = Vec::new();
        let mut boot = self.reboots.last_before(from_ms);
        while boot < until_ms {
            let next = self.reboots.next_after(boot);
            ups.push((boot + REBOOT_MS, next));
            boot = next;
        }
        ups
    }
}

/// Why a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It used more memory than its limit.
    OutOfMemory,
    /// It exited by itself.
    Error,
}

impl End {
    /// The reason as kube-state-metrics labels it.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::OutOfMemory => "OOMKilled",
            Self::Error => "Error",
        }
    }
}

/// One run of a pod's container.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) from_ms: i64,
    pub(crate) until_ms: i64,
    /// How many runs the pod had before this one.
    pub(crate) restarts: u32,
    /// How the run before this one ended.
    pub(crate) last_end: Option<End>,
    /// Whether this run ends for want of memory (and leaks until then).
    pub(crate) leaks: bool,
}

/// One pod: it fills its slot from its creation to its deletion.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) ip: String,
    pub(crate) node: usize,
    pub(crate) seed: u64,
    pub(crate) created_ms: i64,
    pub(crate) deleted_ms: i64,
    pub(crate) runs: Vec<Run>,
}

/// How a container crashes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crashes {
    pub(crate) events: Events,
    pub(crate) end: End,
}

/// The runs of a container in a pod that lives from `created_ms` to `deleted_ms` on `node`.
pub(crate) fn runs(created_ms: i64, deleted_ms: i64, crashes: Crashes, node: &Node) -> Vec<Run> {
    let mut ends: Vec<(i64, End, i64)> = crashes
        .events
        .within(created_ms, deleted_ms)
        .map(|t| (t, crashes.end, 12_000 + (t % 30_000)))
        .chain(
            node.reboots.within(created_ms, deleted_ms).map(|t| (t, End::Error, REBOOT_MS + 5_000)),
        )
        .collect();
    ends.sort_by_key(|e| e.0);
    let mut from_ms = created_ms + 2_000 + created_ms % 9_000;
    let mut all: Vec<Run> = Vec::with_capacity(ends.len() + 1);
    let mut last_end = None;
    for (t, end, pause_ms) in ends {
        if t <= from_ms {
            continue;
        }
        let leaks = end == End::OutOfMemory;
        all.push(Run { from_ms, until_ms: t, restarts: all.len() as u32, last_end, leaks });
        last_end = Some(end);
        from_ms = t + pause_ms;
    }
    if from_ms < deleted_ms {
        let restarts = all.len() as u32;
        all.push(Run { from_ms, until_ms: deleted_ms, restarts, last_end, leaks: false });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_agree() {
        let e = Events { seed: 3, period_ms: 1000, probability: 0.6 };
        let all: Vec<i64> = e.within(1_000_000, 1_100_000).collect();
        assert!(all.len() > 40 && all.windows(2).all(|w| w[0] < w[1]));
        for w in all.windows(2) {
            assert_eq!(e.next_after(w[0]), w[1]);
            assert_eq!(e.last_before(w[1] - 1), w[0]);
            assert_eq!(e.last_before(w[1]), w[1]);
        }
    }

    #[test]
    fn uptimes_have_gaps_between() {
        let node = Node {
            name: "n".into(),
            ip: "10.0.0.1".into(),
            seed: 1,
            cores: 4,
            memory_bytes: 1e9,
            reboots: Events { seed: 8, period_ms: 3_600_000, probability: 1.0 },
        };
        let ups = node.uptimes(1_000_000_000, 1_036_000_000);
        assert!(ups.len() >= 9);
        assert!(ups.windows(2).all(|w| w[1].0 == w[0].1 + REBOOT_MS));
    }
}
