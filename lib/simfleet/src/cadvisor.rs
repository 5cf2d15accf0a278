//! The containers of one node, as cAdvisor inside its kubelet reports them.
//!
//! As there: a container's series carry `container`, `id`, `image` and `name`; the pod's own group
//! has them empty except `id`, and carries the network, which containers share; `id="/"` is the
//! whole machine.

use crate::fleet::Cluster;
use crate::life::{Node, Pod, Run};
use crate::series::{Collector, Family, Signal};
use crate::wave::{Wave, between, mix, unit};
use crate::workload::{Workload, bursts, cpu};

static CPU: Family = Family::counter(
    "container_cpu_usage_seconds_total",
    "CPU time the group has used, in seconds.",
);
static PERIODS: Family = Family::counter(
    "container_cpu_cfs_periods_total",
    "Enforcement periods of the CPU limit that have passed.",
);
static THROTTLED: Family = Family::counter(
    "container_cpu_cfs_throttled_periods_total",
    "Enforcement periods in which the group was held back.",
);
static THROTTLED_S: Family = Family::counter(
    "container_cpu_cfs_throttled_seconds_total",
    "Time for which the group was held back, in seconds.",
);
static WORKING_SET: Family =
    Family::gauge("container_memory_working_set_bytes", "Memory in active use, in bytes.");
static RSS: Family = Family::gauge("container_memory_rss", "Anonymous memory, in bytes.");
static CACHE: Family = Family::gauge("container_memory_cache", "Page cache, in bytes.");
static USAGE: Family =
    Family::gauge("container_memory_usage_bytes", "All memory charged to the group, in bytes.");
static FAILCNT: Family =
    Family::counter("container_memory_failcnt", "How often the memory limit was hit.");
static OOM: Family = Family::counter(
    "container_oom_events_total",
    "Out of memory events observed for the container.",
);
static MEMORY_LIMIT: Family =
    Family::gauge("container_spec_memory_limit_bytes", "Memory limit, in bytes.");
static CPU_SHARES: Family = Family::gauge("container_spec_cpu_shares", "CPU shares.");
static START: Family = Family::gauge(
    "container_start_time_seconds",
    "When the container started, in seconds since the epoch.",
);
static READS: Family = Family::counter("container_fs_reads_bytes_total", "Bytes read.");
static WRITES: Family = Family::counter("container_fs_writes_bytes_total", "Bytes written.");
static PROCESSES: Family = Family::gauge("container_processes", "Processes in the container.");
static CORES: Family = Family::gauge("machine_cpu_cores", "Logical CPU cores.");
static MEMORY: Family = Family::gauge("machine_memory_bytes", "Memory installed, in bytes.");

/// Bytes, packets, dropped packets, errors, of each direction.
static RECEIVE: [Family; 4] = [
    Family::counter("container_network_receive_bytes_total", "Bytes received."),
    Family::counter("container_network_receive_packets_total", "Packets received."),
    Family::counter(
        "container_network_receive_packets_dropped_total",
        "Packets dropped while receiving.",
    ),
    Family::counter("container_network_receive_errors_total", "Errors met while receiving."),
];
static TRANSMIT: [Family; 4] = [
    Family::counter("container_network_transmit_bytes_total", "Bytes sent."),
    Family::counter("container_network_transmit_packets_total", "Packets sent."),
    Family::counter(
        "container_network_transmit_packets_dropped_total",
        "Packets dropped while sending.",
    ),
    Family::counter("container_network_transmit_errors_total", "Errors met while sending."),
];

pub(crate) fn collect(cluster: &Cluster, node_index: usize, out: &mut Collector) {
    let node = &cluster.nodes[node_index];
    let (from_ms, until_ms) = out.range();
    machine(cluster, node, out);
    for (of, pod) in cluster.pods((from_ms, until_ms)) {
        if pod.node != node_index {
            continue;
        }
        network(of, &pod, node, out);
        for run in &pod.runs {
            if run.from_ms < until_ms && run.until_ms > from_ms {
                container(of, &pod, run, node, out);
            }
        }
    }
}

fn group(pod: &Pod) -> String {
    format!(
        "/kubepods.slice/kubepods-burstable.slice/kubepods-pod{}.slice",
        pod.uid.replace('-', "_")
    )
}

fn container(of: &Workload, pod: &Pod, run: &Run, node: &Node, out: &mut Collector) {
    let hash = mix(pod.seed, u64::from(run.restarts));
    let name =
        format!("{:016x}{:016x}{:016x}{:016x}", hash, mix(hash, 1), mix(hash, 2), mix(hash, 3));
    let pod_group = group(pod);
    let id = format!("{pod_group}/cri-containerd-{name}.scope");
    let image = format!("registry.example.com/{}/{}:v{}", of.namespace, of.name, pod.seed % 40 + 1);
    let labels = [
        ("container", of.name.as_str()),
        ("id", id.as_str()),
        ("image", image.as_str()),
        ("name", name.as_str()),
        ("namespace", of.namespace),
        ("pod", pod.name.as_str()),
    ];
    let whole =
        [("id", pod_group.as_str()), ("namespace", of.namespace), ("pod", pod.name.as_str())];
    let life = (run.from_ms, run.until_ms);
    let cpu = cpu(of, pod, node);
    for labels in [&labels[..], &whole[..]] {
        let with_cpu = [labels, &[("cpu", "total")]].concat();
        out.add(&CPU, &with_cpu, life, Signal::count(cpu, run.from_ms, 1e-6));
    }
    memory(of, pod, run, &labels, &whole, out);
    throttling(of, pod, run, node, &labels, out);
    let seconds = (run.from_ms / 1000) as f64;
    out.add(&START, &labels, life, Signal::constant(seconds));
    out.add(&CPU_SHARES, &labels, life, Signal::constant((of.cpu_request() * 1024.0).floor()));
    out.add(&PROCESSES, &labels, life, Signal::constant((1 + pod.seed % 5) as f64));
    let disk = [&labels[..], &[("device", "/dev/nvme0n1")]].concat();
    let io = Wave::new(mix(pod.seed, 40), 3_000.0 + of.network_bytes / 20.0, 0.3);
    out.add(&READS, &disk, life, Signal::count(io.scaled(0.4), run.from_ms, 4096.0));
    out.add(&WRITES, &disk, life, Signal::count(io, run.from_ms, 4096.0));
}

fn memory(
    of: &Workload,
    pod: &Pod,
    run: &Run,
    labels: &[(&str, &str)],
    whole: &[(&str, &str)],
    out: &mut Collector,
) {
    let life = (run.from_ms, run.until_ms);
    let base = of.memory_bytes * between(pod.seed, 33, 0.9, 1.15);
    let level = |share: f64| {
        if run.leaks {
            let full = (run.until_ms, of.memory_limit() * share);
            Signal::ramp((run.from_ms, base * 0.5 * share), full, 4096.0)
        } else {
            Signal::level(Wave::new(mix(pod.seed, 32), base * share, 0.05), 4096.0)
        }
    };
    for labels in [labels, whole] {
        out.add(&WORKING_SET, labels, life, level(1.0));
        out.add(&RSS, labels, life, level(0.82));
        out.add(&CACHE, labels, life, level(0.27));
        out.add(&USAGE, labels, life, level(1.14));
    }
    out.add(&FAILCNT, labels, life, Signal::constant(0.0));
    out.add(&OOM, labels, life, Signal::constant(0.0));
    out.add(&MEMORY_LIMIT, labels, life, Signal::constant(of.memory_limit()));
}

/// The noisy pods of a node hold its others back while they burst.
fn throttling(
    of: &Workload,
    pod: &Pod,
    run: &Run,
    node: &Node,
    labels: &[(&str, &str)],
    out: &mut Collector,
) {
    let life = (run.from_ms, run.until_ms);
    let periods = Wave::new(mix(pod.seed, 34), 9.0, 0.0);
    let share = if of.is_noisy() { 0.02 } else { 0.004 };
    let held = periods.scaled(share).with_pulse(bursts(node));
    out.add(&PERIODS, labels, life, Signal::count(periods, run.from_ms, 1.0));
    out.add(&THROTTLED, labels, life, Signal::count(held, run.from_ms, 1.0));
    out.add(&THROTTLED_S, labels, life, Signal::count(held.scaled(0.04), run.from_ms, 1e-6));
}

/// The pod's network lives with the pod, not with its containers' runs.
fn network(of: &Workload, pod: &Pod, node: &Node, out: &mut Collector) {
    let Some(first) = pod.runs.first() else { return };
    let id = group(pod);
    let labels = [
        ("id", id.as_str()),
        ("interface", "eth0"),
        ("namespace", of.namespace),
        ("pod", pod.name.as_str()),
    ];
    let since = first.from_ms - 1500;
    let mut bytes =
        Wave::new(mix(pod.seed, 35), of.network_bytes * between(pod.seed, 36, 0.7, 1.3), 0.4);
    if of.is_noisy() {
        bytes = bytes.with_pulse(crate::wave::Pulse { height: 2.0, ..bursts(node) });
    }
    for (families, factor) in [(&RECEIVE, 1.0), (&TRANSMIT, 1.5)] {
        let bytes = bytes.scaled(factor);
        let packets = bytes.scaled(1.0 / 910.0);
        let dropped = packets.scaled(3e-6);
        let life = (since, pod.deleted_ms);
        out.add(&families[0], &labels, life, Signal::count(bytes, since, 1.0));
        out.add(&families[1], &labels, life, Signal::count(packets, since, 1.0));
        out.add(&families[2], &labels, life, Signal::count(dropped, since, 1.0));
        out.add(&families[3], &labels, life, Signal::constant(0.0));
    }
}

fn machine(cluster: &Cluster, node: &Node, out: &mut Collector) {
    let (from_ms, until_ms) = out.range();
    let used = machine_cpu(cluster, node);
    let memory =
        Wave::new(mix(node.seed, 41), node.memory_bytes * between(node.seed, 42, 0.4, 0.7), 0.04);
    for life in node.uptimes(from_ms, until_ms) {
        let root = [("id", "/")];
        out.add(&CPU, &[("cpu", "total"), ("id", "/")], life, Signal::count(used, life.0, 1e-6));
        out.add(&WORKING_SET, &root, life, Signal::level(memory, 4096.0));
        out.add(&USAGE, &root, life, Signal::level(memory.scaled(1.2), 4096.0));
        out.add(&CORES, &[], life, Signal::constant(f64::from(node.cores)));
        out.add(&MEMORY, &[], life, Signal::constant(node.memory_bytes));
    }
}

/// The CPU a whole machine uses, cores: of the size and rhythm its pods would give, bursts included.
pub(crate) fn machine_cpu(cluster: &Cluster, node: &Node) -> Wave {
    let asked: f64 = cluster.workloads.iter().map(|w| w.cpu_cores * f64::from(w.replicas)).sum();
    let share = asked / cluster.nodes.len() as f64 * between(node.seed, 43, 0.8, 1.2);
    let base = (share + 0.15).min(0.3 * f64::from(node.cores));
    let pulse = crate::wave::Pulse { height: 1.0 + unit(node.seed, 44), ..bursts(node) };
    Wave::new(mix(node.seed, 45), base, 0.28).with_pulse(pulse)
}
