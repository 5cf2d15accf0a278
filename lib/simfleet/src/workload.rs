//! The workloads of a cluster and the slots their pods fill.

use crate::life::{Crashes, End, Events, Node, Pod, runs};
use crate::wave::{Pulse, Wave, between, mix, mix_str, unit};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

/// What kind of object owns the pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Deployment,
    StatefulSet,
    DaemonSet,
}

/// How the pods of a workload behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Temper {
    /// Follows the day, hardly ever restarts.
    Steady,
    /// Bursts far above its mean and slows its neighbours.
    Noisy,
    /// Leaks until it is killed for want of memory.
    Leaky,
    /// Exits with an error every few minutes.
    Crashing,
}

/// One line of the table of applications.
struct App {
    namespace: &'static str,
    name: &'static str,
    owner: Owner,
    pods: u32,
    /// Mean CPU of a pod, cores.
    cpu: f64,
    /// Mean working set of a pod, MiB.
    memory_mib: f64,
    /// Mean bytes per second received; sent is half as much again.
    network: f64,
    /// Mean requests per second; zero where it serves no HTTP.
    requests: f64,
    temper: Temper,
    /// Time between rollouts.
    rollout_ms: i64,
}

macro_rules! apps {
    ($($ns:literal $name:literal $owner:ident $pods:literal cpu $cpu:literal mib $mib:literal
       net $net:literal rps $rps:literal $temper:ident every $roll:literal h;)*) => {
        &[$(App { namespace: $ns, name: $name, owner: Owner::$owner, pods: $pods, cpu: $cpu,
            memory_mib: $mib, network: $net, requests: $rps, temper: Temper::$temper,
            rollout_ms: ($roll * HOUR_MS as f64) as i64 }),*]
    };
}

/// Where a large cluster needs more pods, the deployments are repeated with a number.
const APPS: &[App] = apps! {
    "shop" "frontend" Deployment 4 cpu 0.22 mib 310.0 net 410_000.0 rps 38.0 Steady every 31.0 h;
    "shop" "checkout" Deployment 4 cpu 0.16 mib 420.0 net 96_000.0 rps 11.0 Steady every 53.0 h;
    "shop" "search" Deployment 3 cpu 0.61 mib 1450.0 net 230_000.0 rps 22.0 Noisy every 77.0 h;
    "shop" "cart" Deployment 3 cpu 0.09 mib 190.0 net 61_000.0 rps 16.0 Steady every 42.0 h;
    "payments" "gateway" Deployment 2 cpu 0.12 mib 260.0 net 48_000.0 rps 7.0 Steady every 110.0 h;
    "payments" "ledger" StatefulSet 2 cpu 0.27 mib 980.0 net 71_000.0 rps 5.0 Steady every 190.0 h;
    "payments" "bank-adapter" Deployment 1 cpu 0.04 mib 150.0 net 6_000.0 rps 1.5 Crashing every 60.0 h;
    "ingress" "ingress-nginx" Deployment 2 cpu 0.31 mib 220.0 net 900_000.0 rps 75.0 Steady every 160.0 h;
    "kube-system" "coredns" Deployment 2 cpu 0.05 mib 45.0 net 21_000.0 rps 90.0 Steady every 300.0 h;
    "data" "kafka" StatefulSet 3 cpu 0.48 mib 2900.0 net 1_700_000.0 rps 0.0 Steady every 240.0 h;
    "data" "postgres" StatefulSet 2 cpu 0.39 mib 2400.0 net 320_000.0 rps 0.0 Steady every 280.0 h;
    "batch" "image-resizer" Deployment 2 cpu 0.74 mib 600.0 net 540_000.0 rps 0.0 Noisy every 0.3 h;
    "batch" "report-builder" Deployment 1 cpu 0.33 mib 700.0 net 12_000.0 rps 0.0 Leaky every 90.0 h;
    "monitoring" "prometheus" StatefulSet 1 cpu 0.29 mib 1800.0 net 150_000.0 rps 2.0 Steady every 170.0 h;
};

const DAEMONS: &[App] = apps! {
    "kube-system" "kube-proxy" DaemonSet 0 cpu 0.01 mib 28.0 net 2_000.0 rps 0.0 Steady every 400.0 h;
    "monitoring" "node-exporter" DaemonSet 0 cpu 0.02 mib 22.0 net 9_000.0 rps 0.0 Steady every 420.0 h;
};

/// A workload of one cluster.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) namespace: &'static str,
    pub(crate) name: String,
    pub(crate) owner: Owner,
    pub(crate) replicas: u32,
    pub(crate) cpu_cores: f64,
    pub(crate) memory_bytes: f64,
    pub(crate) network_bytes: f64,
    pub(crate) requests: f64,
    temper: Temper,
    rollouts: Events,
    seed: u64,
}

impl Workload {
    fn new(app: &App, suffix: u32, replicas: u32, cluster_seed: u64) -> Self {
        let name =
            if suffix == 0 { app.name.to_owned() } else { format!("{}-{}", app.name, suffix + 1) };
        let seed = mix_str(cluster_seed, &name);
        let size = |k: u64| between(seed, k, 0.6, 1.5);
        Self {
            namespace: app.namespace,
            owner: app.owner,
            replicas,
            cpu_cores: app.cpu * size(11),
            memory_bytes: (app.memory_mib * size(12) * 1024.0 * 1024.0 / 4096.0).round() * 4096.0,
            network_bytes: app.network * size(13),
            requests: app.requests * size(14),
            temper: app.temper,
            rollouts: Events { seed: mix(seed, 15), period_ms: app.rollout_ms, probability: 1.0 },
            seed,
            name,
        }
    }

    /// CPU a pod asks for, cores.
    pub(crate) fn cpu_request(&self) -> f64 {
        (self.cpu_cores * 12.0).ceil() / 10.0
    }

    /// Most memory a pod may take, bytes.
    pub(crate) fn memory_limit(&self) -> f64 {
        (self.memory_bytes * 1.6 / 67_108_864.0).ceil() * 67_108_864.0
    }

    /// Whether the pods burst and slow their neighbours.
    pub(crate) fn is_noisy(&self) -> bool {
        self.temper == Temper::Noisy
    }
}

/// The workloads of a cluster with the given number of nodes and pods in all.
pub(crate) fn workloads(cluster_seed: u64, nodes: u32, pods: u32) -> Vec<Workload> {
    let mut all = Vec::new();
    let mut left = pods;
    for app in DAEMONS {
        if left >= 3 * nodes {
            all.push(Workload::new(app, 0, nodes, cluster_seed));
            left -= nodes;
        }
    }
    let mut suffix = 0;
    while left > 0 {
        for app in APPS {
            let replicas = app.pods.min(left);
            if replicas > 0 {
                all.push(Workload::new(app, suffix, replicas, cluster_seed));
            }
            left -= replicas;
        }
        suffix += 1;
    }
    all
}

/// One place for a pod in a workload; pods follow one another in it.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    /// Which of the cluster's workloads.
    pub(crate) workload: usize,
    ordinal: u32,
    seed: u64,
    evictions: Option<Events>,
}

impl Slot {
    pub(crate) fn new(workload: usize, of: &Workload, ordinal: u32) -> Self {
        let seed = mix(of.seed, 100 + u64::from(ordinal));
        let evictions = (of.owner != Owner::DaemonSet).then_some(Events {
            seed: mix(seed, 1),
            period_ms: 61 * HOUR_MS,
            probability: 0.5,
        });
        Self { workload, ordinal, seed, evictions }
    }

    /// Whether the pod that ends at `t_ms` is evicted from its node, and not replaced by a rollout.
    pub(crate) fn evicts(&self, t_ms: i64) -> bool {
        self.evictions.is_some_and(|e| e.last_before(t_ms) == t_ms)
    }

    /// Since when the slot's pod at `t_ms` lives, and until when.
    fn tenure(&self, of: &Workload, t_ms: i64) -> (i64, i64) {
        // Pods of a rollout follow one another by half a minute.
        let stagger = i64::from(self.ordinal) * 30_000;
        let rollout = of.rollouts.last_before(t_ms - stagger) + stagger;
        let next_rollout = of.rollouts.next_after(t_ms - stagger) + stagger;
        match self.evictions {
            None => (rollout, next_rollout),
            Some(e) => (rollout.max(e.last_before(t_ms)), next_rollout.min(e.next_after(t_ms))),
        }
    }

    /// The pods that live in the slot at some time of the range.
    pub(crate) fn pods(
        &self,
        of: &Workload,
        nodes: &[Node],
        from_ms: i64,
        until_ms: i64,
    ) -> Vec<Pod> {
        let mut all = Vec::new();
        let mut t = from_ms;
        while t < until_ms {
            let (created, deleted) = self.tenure(of, t);
            all.push(self.pod(of, nodes, created, deleted));
            t = deleted;
        }
        all
    }

    fn pod(&self, of: &Workload, nodes: &[Node], created_ms: i64, deleted_ms: i64) -> Pod {
        let seed = mix(self.seed, created_ms as u64);
        let rollout = of.rollouts.last_before(created_ms) as u64;
        let node = match of.owner {
            Owner::DaemonSet => self.ordinal as usize % nodes.len(),
            _ => mix(seed, 1) as usize % nodes.len(),
        };
        let name = match of.owner {
            Owner::Deployment => {
                format!("{}-{}-{}", of.name, word(mix(of.seed, rollout), 9), word(mix(seed, 2), 5))
            }
            Owner::StatefulSet => format!("{}-{}", of.name, self.ordinal),
            Owner::DaemonSet => format!("{}-{}", of.name, word(mix(seed, 2), 5)),
        };
        let (a, b) = (mix(seed, 3), mix(seed, 4));
        let uid = uid(a, b);
        let ip = format!("10.{}.{}.{}", 64 + node % 64, a % 250 + 1, b % 250 + 1);
        let runs = runs(created_ms, deleted_ms, self.crashes(of), &nodes[node]);
        Pod { name, uid, ip, node, seed, created_ms, deleted_ms, runs }
    }

    fn crashes(&self, of: &Workload) -> Crashes {
        let seed = mix(self.seed, 9);
        let (period_ms, probability, end) = match of.temper {
            Temper::Crashing => (11 * MINUTE_MS, 0.8, End::Error),
            Temper::Leaky => (26 * MINUTE_MS, 0.9, End::OutOfMemory),
            Temper::Steady | Temper::Noisy => (47 * HOUR_MS, 0.2, End::Error),
        };
        Crashes { events: Events { seed, period_ms, probability }, end }
    }
}

/// The bursts of the noisy pods of a node; its other pods are held back at the same times.
pub(crate) fn bursts(node: &Node) -> Pulse {
    let height = between(node.seed, 21, 2.5, 4.0);
    Pulse { seed: mix(node.seed, 20), cell_s: 2400.0, probability: 0.75, height, duty: 0.09 }
}

/// The CPU use of a pod, cores.
pub(crate) fn cpu(of: &Workload, pod: &Pod, node: &Node) -> Wave {
    let base = of.cpu_cores * between(pod.seed, 31, 0.8, 1.25);
    let wave = Wave::new(mix(pod.seed, 30), base, 0.3);
    if of.is_noisy() { wave.with_pulse(bursts(node)) } else { wave }
}

/// A UUID (version 4) of two random numbers.
pub(crate) fn uid(a: u64, b: u64) -> String {
    format!(
        "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
        a >> 32,
        a >> 16 & 0xffff,
        a & 0xfff,
        b >> 48 & 0xfff,
        b & 0xffff_ffff_ffff
    )
}

/// A lower-case word as Kubernetes appends to names: no vowels, nothing that looks like another.
fn word(seed: u64, len: u64) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    (0..len).map(|i| char::from(LETTERS[(unit(seed, i) * LETTERS.len() as f64) as usize])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_are_as_many_as_asked_for() {
        for (nodes, pods) in [(1, 1), (4, 40), (10, 20), (8, 300)] {
            let total: u32 = workloads(5, nodes, pods).iter().map(|w| w.replicas).sum();
            assert_eq!(total, pods);
        }
    }

    #[test]
    fn rates_of_bursting_pods_stay_positive() {
        for seed in 0..500 {
            let p = Pulse { height: between(seed, 21, 2.5, 4.0), ..bursts(&node(seed)) };
            assert!(p.lowered() < 1.0 - 0.3 - 0.16 - 0.05, "{}", p.lowered());
        }
    }

    #[test]
    fn pods_follow_one_another_without_overlap() {
        let (nodes, all) = ([node(1), node(2)], workloads(5, 2, 60));
        for (i, w) in all.iter().enumerate() {
            let slot = Slot::new(i, w, 1);
            let t = 1_760_000_000_000;
            let pods = slot.pods(w, &nodes, t, t + 40 * 24 * HOUR_MS);
            assert!(pods.windows(2).all(|p| p[0].deleted_ms == p[1].created_ms), "{}", w.name);
            assert!(pods.len() > 1, "{}", w.name);
        }
    }

    fn node(seed: u64) -> Node {
        Node {
            name: format!("n{seed}"),
            ip: "10.0.0.1".into(),
            seed,
            cores: 8,
            memory_bytes: 3.2e10,
            reboots: Events { seed, period_ms: 216 * HOUR_MS, probability: 1.0 },
        }
    }
}
