//! One machine, as its node exporter reports it.

use crate::cadvisor::machine_cpu;
use crate::fleet::Cluster;
use crate::life::Node;
use crate::series::{Collector, Family, Signal};
use crate::wave::{Wave, between, mix};

static CPU: Family =
    Family::counter("node_cpu_seconds_total", "Time each CPU spent in each mode, in seconds.");
static LOAD: [Family; 3] = [
    Family::gauge("node_load1", "Load average of one minute."),
    Family::gauge("node_load5", "Load average of five minutes."),
    Family::gauge("node_load15", "Load average of fifteen minutes."),
];
static BOOT: Family =
    Family::gauge("node_boot_time_seconds", "When the machine booted, in seconds since the epoch.");
static TIME: Family =
    Family::gauge("node_time_seconds", "The machine's clock, in seconds since the epoch.");
static UNAME: Family = Family::gauge("node_uname_info", "What uname says.");
static SWITCHES: Family =
    Family::counter("node_context_switches_total", "Context switches since the boot.");
static FORKS: Family = Family::counter("node_forks_total", "Forks since the boot.");
static MEMORY: [(Family, f64); 9] = [
    (Family::gauge("node_memory_MemTotal_bytes", "MemTotal of /proc/meminfo."), 1.0),
    (Family::gauge("node_memory_MemFree_bytes", "MemFree of /proc/meminfo."), 0.11),
    (Family::gauge("node_memory_MemAvailable_bytes", "MemAvailable of /proc/meminfo."), 0.42),
    (Family::gauge("node_memory_Buffers_bytes", "Buffers of /proc/meminfo."), 0.02),
    (Family::gauge("node_memory_Cached_bytes", "Cached of /proc/meminfo."), 0.28),
    (Family::gauge("node_memory_Slab_bytes", "Slab of /proc/meminfo."), 0.03),
    (Family::gauge("node_memory_Dirty_bytes", "Dirty of /proc/meminfo."), 0.0004),
    (Family::gauge("node_memory_SwapTotal_bytes", "SwapTotal of /proc/meminfo."), 0.0),
    (Family::gauge("node_memory_SwapFree_bytes", "SwapFree of /proc/meminfo."), 0.0),
];
/// Name, help, share of the bytes.
static NETWORK: [(Family, f64); 8] = [
    (Family::counter("node_network_receive_bytes_total", "Bytes received."), 1.0),
    (Family::counter("node_network_transmit_bytes_total", "Bytes sent."), 1.4),
    (Family::counter("node_network_receive_packets_total", "Packets received."), 1.0 / 910.0),
    (Family::counter("node_network_transmit_packets_total", "Packets sent."), 1.4 / 910.0),
    (Family::counter("node_network_receive_drop_total", "Packets dropped receiving."), 1e-9),
    (Family::counter("node_network_transmit_drop_total", "Packets dropped sending."), 0.0),
    (Family::counter("node_network_receive_errs_total", "Errors receiving."), 0.0),
    (Family::counter("node_network_transmit_errs_total", "Errors sending."), 0.0),
];
static NETWORK_UP: Family = Family::gauge("node_network_up", "1 where the device is up.");
static FS_SIZE: Family = Family::gauge("node_filesystem_size_bytes", "Size, in bytes.");
static FS_FREE: Family = Family::gauge("node_filesystem_free_bytes", "Free space, in bytes.");
static FS_AVAIL: Family =
    Family::gauge("node_filesystem_avail_bytes", "Space for users without privileges, in bytes.");
static FS_FILES: Family = Family::gauge("node_filesystem_files", "File nodes.");
static FS_FILES_FREE: Family = Family::gauge("node_filesystem_files_free", "Free file nodes.");
static FS_READONLY: Family = Family::gauge("node_filesystem_readonly", "1 where read-only.");
static DISK_READ: Family = Family::counter("node_disk_read_bytes_total", "Bytes read.");
static DISK_WRITTEN: Family = Family::counter("node_disk_written_bytes_total", "Bytes written.");
static DISK_IO: Family =
    Family::counter("node_disk_io_time_seconds_total", "Time spent on I/O, in seconds.");

/// Mode and its share: of the used time, or (idle) of what is left.
const BUSY_MODES: [(&str, f64); 7] = [
    ("user", 0.66),
    ("system", 0.22),
    ("iowait", 0.05),
    ("softirq", 0.04),
    ("nice", 0.01),
    ("irq", 0.01),
    ("steal", 0.01),
];

pub(crate) fn collect(cluster: &Cluster, node_index: usize, out: &mut Collector) {
    let node = &cluster.nodes[node_index];
    let (from_ms, until_ms) = out.range();
    for life in node.uptimes(from_ms, until_ms) {
        cpu(cluster, node, life, out);
        memory(node, life, out);
        network(cluster, node, life, out);
        disks(node, life, out);
        let uname = [
            ("domainname", "(none)"),
            ("machine", "x86_64"),
            ("nodename", node.name.as_str()),
            ("release", "6.12.48-cloud-amd64"),
            ("sysname", "Linux"),
        ];
        out.add(&UNAME, &uname, life, Signal::constant(1.0));
        out.add(&BOOT, &[], life, Signal::constant((life.0 / 1000) as f64));
        out.add(&TIME, &[], life, Signal::clock());
    }
}

fn cpu(cluster: &Cluster, node: &Node, life: (i64, i64), out: &mut Collector) {
    let used = machine_cpu(cluster, node);
    let cores = f64::from(node.cores);
    for core in 0..node.cores {
        let own = used.scaled(1.0 / cores);
        let cpu = core.to_string();
        for (mode, share) in BUSY_MODES {
            let signal = Signal::count(own.scaled(share), life.0, 0.01);
            out.add(&CPU, &[("cpu", &cpu), ("mode", mode)], life, signal);
        }
        // What is not used is idle: the wave turned upside down around what is left.
        let idle_base = 1.0 - own.base;
        let mut idle = own;
        idle.base = idle_base;
        let turned = -own.base / idle_base;
        idle.daily *= turned;
        idle.slow.amplitude *= turned;
        idle.fast.amplitude *= turned;
        if let Some(p) = &mut idle.pulse {
            p.height *= turned;
        }
        out.add(&CPU, &[("cpu", &cpu), ("mode", "idle")], life, Signal::count(idle, life.0, 0.01));
    }
    for (family, damping) in LOAD.iter().zip([1.0, 0.7, 0.4]) {
        let mut load = used.scaled(1.3);
        load.fast.amplitude *= damping;
        load.slow.amplitude *= damping;
        out.add(family, &[], life, Signal::level(load, 0.01));
    }
    let work = used.scaled(9_000.0);
    out.add(&SWITCHES, &[], life, Signal::count(work, life.0, 1.0));
    out.add(&FORKS, &[], life, Signal::count(work.scaled(0.001), life.0, 1.0));
}

fn memory(node: &Node, life: (i64, i64), out: &mut Collector) {
    for (i, (family, share)) in MEMORY.iter().enumerate() {
        let bytes = node.memory_bytes * share;
        let signal = if *share == 1.0 || *share == 0.0 {
            Signal::constant(bytes)
        } else {
            Signal::level(Wave::new(mix(node.seed, 50 + i as u64), bytes, 0.06), 4096.0)
        };
        out.add(family, &[], life, signal);
    }
}

fn network(cluster: &Cluster, node: &Node, life: (i64, i64), out: &mut Collector) {
    let pods: f64 = cluster.workloads.iter().map(|w| w.network_bytes * f64::from(w.replicas)).sum();
    let share = pods / cluster.nodes.len() as f64;
    for (device, factor) in [("eth0", 1.1), ("lo", 0.05), ("cni0", 0.9)] {
        let wave = Wave::new(mix(node.seed, 60), share * factor, 0.35);
        for (family, part) in &NETWORK {
            let signal = if *part == 0.0 {
                Signal::constant(0.0)
            } else {
                Signal::count(wave.scaled(*part), life.0, 1.0)
            };
            out.add(family, &[("device", device)], life, signal);
        }
        out.add(&NETWORK_UP, &[("device", device)], life, Signal::constant(1.0));
    }
}

fn disks(node: &Node, life: (i64, i64), out: &mut Collector) {
    for (i, (mount, gib, full)) in
        [("/", 40.0, 0.5), ("/var/lib/containerd", 200.0, 0.6)].iter().enumerate()
    {
        let device = format!("/dev/nvme{i}n1p1");
        let labels = [("device", device.as_str()), ("fstype", "ext4"), ("mountpoint", *mount)];
        let size = gib * 1024.0 * 1024.0 * 1024.0;
        let seed = mix(node.seed, 70 + i as u64);
        let free = Wave::new(seed, size * (1.0 - full * between(seed, 1, 0.6, 1.3)), 0.01);
        out.add(&FS_SIZE, &labels, life, Signal::constant(size));
        out.add(&FS_FREE, &labels, life, Signal::level(free, 4096.0));
        out.add(&FS_AVAIL, &labels, life, Signal::level(free.scaled(0.95), 4096.0));
        out.add(&FS_FILES, &labels, life, Signal::constant(size / 16_384.0));
        out.add(&FS_FILES_FREE, &labels, life, Signal::level(free.scaled(1.0 / 17_000.0), 1.0));
        out.add(&FS_READONLY, &labels, life, Signal::constant(0.0));
        let disk = format!("nvme{i}n1");
        let io = Wave::new(mix(seed, 2), 2.4e6, 0.3);
        let labels = [("device", disk.as_str())];
        out.add(&DISK_READ, &labels, life, Signal::count(io.scaled(0.3), life.0, 512.0));
        out.add(&DISK_WRITTEN, &labels, life, Signal::count(io, life.0, 512.0));
        out.add(&DISK_IO, &labels, life, Signal::count(io.scaled(3e-8), life.0, 0.001));
    }
}
