//! The cluster's objects, as kube-state-metrics reports them.

use crate::fleet::Cluster;
use crate::life::{End, Node, Pod, REBOOT_MS, Run};
use crate::series::{Collector, Family, Signal};
use crate::wave::mix;
use crate::workload::{Owner, Workload};

static POD_INFO: Family = Family::gauge("kube_pod_info", "What is known of a pod.");
static POD_OWNER: Family = Family::gauge("kube_pod_owner", "What owns a pod.");
static POD_PHASE: Family = Family::gauge("kube_pod_status_phase", "The pod's phase.");
static POD_READY: Family = Family::gauge("kube_pod_status_ready", "Whether the pod is ready.");
static POD_CREATED: Family =
    Family::gauge("kube_pod_created", "When the pod was created, in seconds since the epoch.");
static POD_START: Family =
    Family::gauge("kube_pod_start_time", "When the pod started, in seconds since the epoch.");
static CONTAINER_INFO: Family =
    Family::gauge("kube_pod_container_info", "What is known of a container.");
static RUNNING: Family =
    Family::gauge("kube_pod_container_status_running", "Whether the container is running.");
static WAITING: Family =
    Family::gauge("kube_pod_container_status_waiting", "Whether the container is waiting.");
static WAITING_REASON: Family =
    Family::gauge("kube_pod_container_status_waiting_reason", "Why the container is waiting.");
static READY: Family =
    Family::gauge("kube_pod_container_status_ready", "Whether the container is ready.");
static TERMINATED: Family =
    Family::gauge("kube_pod_container_status_terminated", "Whether the container has ended.");
static LAST_TERMINATED: Family = Family::gauge(
    "kube_pod_container_status_last_terminated_reason",
    "Why the container ended the last time.",
);
static RESTARTS: Family = Family::counter(
    "kube_pod_container_status_restarts_total",
    "How often the container was restarted.",
);
static REQUESTS: Family = Family::gauge(
    "kube_pod_container_resource_requests",
    "What the container asks for of a resource.",
);
static LIMITS: Family = Family::gauge(
    "kube_pod_container_resource_limits",
    "The most the container may take of a resource.",
);
static NODE_INFO: Family = Family::gauge("kube_node_info", "What is known of a node.");
static NODE_CONDITION: Family =
    Family::gauge("kube_node_status_condition", "The node's conditions.");
static NODE_CAPACITY: Family = Family::gauge("kube_node_status_capacity", "What a node has.");
static NODE_ALLOCATABLE: Family =
    Family::gauge("kube_node_status_allocatable", "What a node has left for pods.");
static NODE_CORDONED: Family =
    Family::gauge("kube_node_spec_unschedulable", "Whether new pods may not be put on the node.");
static DEPLOYMENT: [Family; 3] = [
    Family::gauge("kube_deployment_spec_replicas", "Pods wanted."),
    Family::gauge("kube_deployment_status_replicas", "Pods there are."),
    Family::gauge("kube_deployment_status_replicas_available", "Pods that are available."),
];
static STATEFULSET: [Family; 3] = [
    Family::gauge("kube_statefulset_replicas", "Pods wanted."),
    Family::gauge("kube_statefulset_status_replicas", "Pods there are."),
    Family::gauge("kube_statefulset_status_replicas_ready", "Pods that are ready."),
];
static DAEMONSET: [Family; 3] = [
    Family::gauge("kube_daemonset_status_desired_number_scheduled", "Pods wanted."),
    Family::gauge("kube_daemonset_status_current_number_scheduled", "Pods there are."),
    Family::gauge("kube_daemonset_status_number_ready", "Pods that are ready."),
];

const PHASES: [&str; 5] = ["Pending", "Running", "Succeeded", "Failed", "Unknown"];

pub(crate) fn collect(cluster: &Cluster, out: &mut Collector) {
    let range = out.range();
    for node in &cluster.nodes {
        node_state(node, range, out);
    }
    for of in &cluster.workloads {
        let (families, label) = match of.owner {
            Owner::Deployment => (&DEPLOYMENT, "deployment"),
            Owner::StatefulSet => (&STATEFULSET, "statefulset"),
            Owner::DaemonSet => (&DAEMONSET, "daemonset"),
        };
        for family in families {
            let labels = [("namespace", of.namespace), (label, of.name.as_str())];
            out.add(family, &labels, range, Signal::constant(f64::from(of.replicas)));
        }
    }
    for (of, pod) in cluster.pods(range) {
        pod_state(cluster, of, &pod, out);
        container_spec(cluster, of, &pod, out);
        container_state(of, &pod, out);
    }
}

fn pod_state(cluster: &Cluster, of: &Workload, pod: &Pod, out: &mut Collector) {
    let life = (pod.created_ms, pod.deleted_ms);
    let node = &cluster.nodes[pod.node];
    let kind = match of.owner {
        Owner::Deployment => "ReplicaSet",
        Owner::StatefulSet => "StatefulSet",
        Owner::DaemonSet => "DaemonSet",
    };
    // A deployment's pods belong to the replica set whose name is the pod's less its last word.
    let owner = match of.owner {
        Owner::Deployment => pod.name.rsplit_once('-').map_or(of.name.as_str(), |(set, _)| set),
        _ => of.name.as_str(),
    };
    let base = [("namespace", of.namespace), ("pod", &pod.name), ("uid", &pod.uid)];
    let with = |more: &[(&'static str, &str)], out: &mut Collector, family, life, v: f64| {
        let labels: Vec<(&str, &str)> = base.iter().copied().chain(more.iter().copied()).collect();
        out.add(family, &labels, life, Signal::constant(v));
    };
    let info = [
        ("created_by_kind", kind),
        ("created_by_name", owner),
        ("host_ip", node.ip.as_str()),
        ("host_network", "false"),
        ("node", node.name.as_str()),
        ("pod_ip", pod.ip.as_str()),
    ];
    with(&info, out, &POD_INFO, life, 1.0);
    let owned = [("owner_is_controller", "true"), ("owner_kind", kind), ("owner_name", owner)];
    with(&owned, out, &POD_OWNER, life, 1.0);
    with(&[], out, &POD_CREATED, life, (pod.created_ms / 1000) as f64);
    with(&[], out, &POD_START, life, (pod.created_ms / 1000) as f64);
    let started = pod.runs.first().map_or(pod.deleted_ms, |r| r.from_ms);
    for phase in PHASES {
        let is = |p: &str| f64::from(u8::from(phase == p));
        with(&[("phase", phase)], out, &POD_PHASE, (pod.created_ms, started), is("Pending"));
        with(&[("phase", phase)], out, &POD_PHASE, (started, pod.deleted_ms), is("Running"));
    }
    for condition in ["true", "false", "unknown"] {
        let is = |c: &str| f64::from(u8::from(condition == c));
        for (from, until, up) in spans(pod) {
            let v = if up { is("true") } else { is("false") };
            with(&[("condition", condition)], out, &POD_READY, (from, until), v);
        }
    }
}

/// A pod's life cut where its container starts and ends, with whether it runs.
fn spans(pod: &Pod) -> Vec<(i64, i64, bool)> {
    let mut all = Vec::with_capacity(2 * pod.runs.len() + 1);
    let mut at = pod.created_ms;
    for run in &pod.runs {
        all.push((at, run.from_ms, false));
        all.push((run.from_ms, run.until_ms, true));
        at = run.until_ms;
    }
    all.push((at, pod.deleted_ms, false));
    all
}

fn container_labels<'a>(of: &'a Workload, pod: &'a Pod) -> [(&'static str, &'a str); 4] {
    [("container", &of.name), ("namespace", of.namespace), ("pod", &pod.name), ("uid", &pod.uid)]
}

fn container_spec(cluster: &Cluster, of: &Workload, pod: &Pod, out: &mut Collector) {
    let life = (pod.created_ms, pod.deleted_ms);
    let base = container_labels(of, pod);
    let image = format!("registry.example.com/{}/{}:v{}", of.namespace, of.name, pod.seed % 40 + 1);
    let info =
        [&base[..], &[("image", image.as_str()), ("container_id", pod.uid.as_str())]].concat();
    out.add(&CONTAINER_INFO, &info, life, Signal::constant(1.0));
    let node = cluster.nodes[pod.node].name.as_str();
    for (family, factor) in [(&REQUESTS, 1.0), (&LIMITS, 2.0)] {
        let memory = if family == &LIMITS { of.memory_limit() } else { of.memory_limit() / 2.0 };
        for (resource, unit, value) in
            [("cpu", "core", of.cpu_request() * factor), ("memory", "byte", memory)]
        {
            let labels =
                [&base[..], &[("node", node), ("resource", resource), ("unit", unit)]].concat();
            out.add(family, &labels, life, Signal::constant(value));
        }
    }
}

fn container_state(of: &Workload, pod: &Pod, out: &mut Collector) {
    let labels = container_labels(of, pod);
    for (from, until, up) in spans(pod) {
        let (on, off) = (f64::from(u8::from(up)), f64::from(u8::from(!up)));
        out.add(&RUNNING, &labels, (from, until), Signal::constant(on));
        out.add(&READY, &labels, (from, until), Signal::constant(on));
        out.add(&WAITING, &labels, (from, until), Signal::constant(off));
        if !up {
            let first = from == pod.created_ms;
            let reason = if first { "ContainerCreating" } else { "CrashLoopBackOff" };
            let with = [&labels[..], &[("reason", reason)]].concat();
            out.add(&WAITING_REASON, &with, (from, until), Signal::constant(1.0));
        }
    }
    out.add(&TERMINATED, &labels, (pod.created_ms, pod.deleted_ms), Signal::constant(0.0));
    restarts(pod, &labels, out);
}

/// The count rises when the next run begins, and the reason of the last end is known from then on.
fn restarts(pod: &Pod, labels: &[(&str, &str)], out: &mut Collector) {
    let Some(first) = pod.runs.first() else { return };
    let early = Signal::constant(0.0);
    out.add(&RESTARTS, labels, (pod.created_ms, first.from_ms), early);
    for (i, run) in pod.runs.iter().enumerate() {
        let until = pod.runs.get(i + 1).map_or(pod.deleted_ms, |next: &Run| next.from_ms);
        let life = (run.from_ms, until);
        out.add(&RESTARTS, labels, life, Signal::constant(f64::from(run.restarts)));
        if let Some(end) = run.last_end {
            for reason in [End::OutOfMemory, End::Error] {
                if reason == end {
                    let with = [labels, &[("reason", reason.reason())]].concat();
                    out.add(&LAST_TERMINATED, &with, life, Signal::constant(1.0));
                }
            }
        }
    }
}

fn node_state(node: &Node, range: (i64, i64), out: &mut Collector) {
    let name = node.name.as_str();
    let uid = format!("{:016x}", mix(node.seed, 3));
    let info = [
        ("node", name),
        ("kernel_version", "6.12.48-cloud-amd64"),
        ("os_image", "Debian GNU/Linux 13 (trixie)"),
        ("container_runtime_version", "containerd://2.1.4"),
        ("kubelet_version", "v1.33.5"),
        ("kubeproxy_version", "deprecated"),
        ("provider_id", uid.as_str()),
        ("internal_ip", node.ip.as_str()),
    ];
    out.add(&NODE_INFO, &info, range, Signal::constant(1.0));
    out.add(&NODE_CORDONED, &[("node", name)], range, Signal::constant(0.0));
    let cores = f64::from(node.cores);
    for (resource, unit, has, left) in [
        ("cpu", "core", cores, cores - 0.1),
        ("memory", "byte", node.memory_bytes, node.memory_bytes - 1.1e9),
        ("pods", "integer", 110.0, 110.0),
    ] {
        let labels = [("node", name), ("resource", resource), ("unit", unit)];
        out.add(&NODE_CAPACITY, &labels, range, Signal::constant(has));
        out.add(&NODE_ALLOCATABLE, &labels, range, Signal::constant(left.floor()));
    }
    for condition in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        for status in ["true", "false", "unknown"] {
            let labels = [("condition", condition), ("node", name), ("status", status)];
            let usual = if condition == "Ready" { "true" } else { "false" };
            let v = |s: &str| Signal::constant(f64::from(u8::from(status == s)));
            let mut at = range.0;
            for (up, down) in node.uptimes(range.0, range.1) {
                // The control plane learns of a node that went away only when it stops reporting.
                out.add(
                    &NODE_CONDITION,
                    &labels,
                    (at.max(up - REBOOT_MS + 40_000), up),
                    v("unknown"),
                );
                out.add(&NODE_CONDITION, &labels, (up, down + 40_000), v(usual));
                at = down + 40_000;
            }
        }
    }
}
