//! The Kubernetes events of a cluster, as kubelets, scheduler and controllers write them about the lives of its
//! pods and nodes: what restarts in the metrics backs off here, at the same time.

use crate::fleet::Cluster;
use crate::life::{End, Node, Pod, REBOOT_MS, Run};
use crate::wave::{mix, mix_str};
use crate::workload::{Slot, Workload, uid};

/// How long an event lives after its last write: the API server's usual time to live.
const TTL_MS: i64 = 3_600_000;

/// How often a kubelet says again that it is backing off.
const BACK_OFF_MS: i64 = 10_000;

/// The control plane misses a node that went away after this time.
const MISSED_MS: i64 = 40_000;

/// The object an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Regarding {
    /// `Pod` or `Node`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Its uid; a node's is its name.
    pub uid: String,
    /// The container within, as `spec.containers{NAME}`; empty for none.
    pub field_path: String,
}

/// One write of an event: it is new where `count` is 1, else it is the event of the same name, changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventWrite {
    /// When it is written, in milliseconds.
    pub at_ms: i64,
    /// Its first occurrence, in milliseconds.
    pub first_ms: i64,
    /// How often it has happened.
    pub count: u32,
    /// The event's namespace.
    pub namespace: &'static str,
    /// The event's own name.
    pub name: String,
    /// The event's uid. The same name comes with a new uid when the time to live has ended the old one.
    pub uid: String,
    /// The object.
    pub regarding: Regarding,
    /// `Normal` or `Warning`.
    pub type_: &'static str,
    /// Why.
    pub reason: &'static str,
    /// What, in words.
    pub message: String,
    /// Who writes it.
    pub component: &'static str,
    /// On which node; empty for controllers.
    pub host: String,
}

/// What all writes of one event share.
struct Said<'a> {
    namespace: &'static str,
    regarding: Regarding,
    type_: &'static str,
    reason: &'static str,
    message: String,
    component: &'static str,
    host: &'a str,
}

impl Cluster {
    /// The events written in a range (milliseconds, the end excluded), in order of time. Costs time for each pod that
    /// lives in it or ended shortly before.
    #[must_use]
    pub fn events(&self, from_ms: i64, until_ms: i64) -> Vec<EventWrite> {
        let mut all = Vec::new();
        for node in &self.nodes {
            node_events(node, (from_ms, until_ms), &mut all);
        }
        for slot in &self.slots {
            let of = &self.workloads[slot.workload];
            for pod in slot.pods(of, &self.nodes, from_ms - 1_000, until_ms) {
                pod_events(self, slot, of, &pod, &mut all);
            }
        }
        all.retain(|e| (from_ms..until_ms).contains(&e.at_ms));
        all.sort_by(|a, b| (a.at_ms, &a.name).cmp(&(b.at_ms, &b.name)));
        all.dedup();
        all
    }
}

/// The writes of one event at some times, in order.
fn say(said: &Said<'_>, times: &[i64], out: &mut Vec<EventWrite>) {
    let key = mix_str(mix_str(mix_str(7, &said.regarding.uid), said.reason), &said.message);
    let Some(&first_ms) = times.first() else { return };
    // Recorders name an event after its object and the time at which they first saw it.
    let name = format!("{}.{:016x}", said.regarding.name, mix(key, first_ms as u64));
    let mut uid = String::new();
    let mut last_ms = i64::MIN;
    for (n, &at_ms) in times.iter().enumerate() {
        if last_ms == i64::MIN || at_ms - last_ms > TTL_MS {
            uid = uid_of(mix(key, at_ms as u64));
        }
        last_ms = at_ms;
        out.push(EventWrite {
            at_ms,
            first_ms,
            count: n as u32 + 1,
            namespace: said.namespace,
            name: name.clone(),
            uid: uid.clone(),
            regarding: said.regarding.clone(),
            type_: said.type_,
            reason: said.reason,
            message: said.message.clone(),
            component: said.component,
            host: said.host.to_owned(),
        });
    }
}

fn uid_of(seed: u64) -> String {
    uid(mix(seed, 1), mix(seed, 2))
}

fn pod_events(cluster: &Cluster, slot: &Slot, of: &Workload, pod: &Pod, out: &mut Vec<EventWrite>) {
    let node = &cluster.nodes[pod.node];
    let about = |field_path: String| Regarding {
        kind: "Pod",
        name: pod.name.clone(),
        uid: pod.uid.clone(),
        field_path,
    };
    let container = format!("spec.containers{{{}}}", of.name);
    let kubelet = |type_, reason, message| Said {
        namespace: of.namespace,
        regarding: about(container.clone()),
        type_,
        reason,
        message,
        component: "kubelet",
        host: &node.name,
    };
    let scheduled = Said {
        namespace: of.namespace,
        regarding: about(String::new()),
        type_: "Normal",
        reason: "Scheduled",
        message: format!("Successfully assigned {}/{} to {}", of.namespace, pod.name, node.name),
        component: "default-scheduler",
        host: "",
    };
    say(&scheduled, &[pod.created_ms + 40], out);
    let image = format!("registry.example.com/{}/{}:v{}", of.namespace, of.name, pod.seed % 40 + 1);
    let starts: Vec<i64> = pod.runs.iter().map(|r| r.from_ms).collect();
    let before = |ms: i64| starts.iter().map(|t| t - ms).collect::<Vec<_>>();
    let pulled = format!("Container image \"{image}\" already present on machine");
    say(&kubelet("Normal", "Pulled", pulled), &before(300), out);
    say(
        &kubelet("Normal", "Created", format!("Created container: {}", of.name)),
        &before(150),
        out,
    );
    say(&kubelet("Normal", "Started", format!("Started container {}", of.name)), &starts, out);
    crashes(of, pod, node, &kubelet, out);
    if of.requests > 0.0 {
        // What listens late is found not to listen yet.
        let late: Vec<i64> = pod
            .runs
            .iter()
            .filter(|r| r.until_ms - r.from_ms > 5_000)
            .map(|r| r.from_ms + 1_000)
            .collect();
        let message = format!(
            "Readiness probe failed: Get \"http://{}:8080/ready\": dial tcp {}:8080: connect: connection refused",
            pod.ip, pod.ip
        );
        say(&kubelet("Warning", "Unhealthy", message), &late, out);
    }
    if slot.evicts(pod.deleted_ms) {
        let message = format!(
            "The node was low on resource: memory. Threshold quantity: 100Mi, available: {}Ki. Container {} was using \
             {}Ki, request is {}Ki, has larger consumption of memory.",
            mix(pod.seed, 41) % 90_000,
            of.name,
            (of.memory_bytes * 1.3 / 1024.0) as u64,
            (of.memory_limit() / 2048.0) as u64
        );
        say(
            &Said { regarding: about(String::new()), ..kubelet("Warning", "Evicted", message) },
            &[pod.deleted_ms - 700],
            out,
        );
    }
    let killing = kubelet("Normal", "Killing", format!("Stopping container {}", of.name));
    say(&killing, &[pod.deleted_ms - 500], out);
}

/// A container that ended is started again after a pause, through which the kubelet says that it waits.
fn crashes<'a>(
    of: &Workload,
    pod: &Pod,
    node: &'a Node,
    kubelet: &impl Fn(&'static str, &'static str, String) -> Said<'a>,
    out: &mut Vec<EventWrite>,
) {
    let mut waits = Vec::new();
    for pair in pod.runs.windows(2) {
        let [ended, next] = pair else { continue };
        if next.from_ms - ended.until_ms >= REBOOT_MS {
            // The node rebooted: its kubelet says nothing meanwhile.
            continue;
        }
        let mut at = ended.until_ms + 1_000;
        while at < next.from_ms {
            waits.push(at);
            at += BACK_OFF_MS;
        }
        if next.last_end == Some(End::OutOfMemory) {
            say(&out_of_memory(of, pod, node, ended), &[ended.until_ms + 100], out);
        }
    }
    let message = format!(
        "Back-off restarting failed container {} in pod {}_{}({})",
        of.name, pod.name, of.namespace, pod.uid
    );
    say(&kubelet("Warning", "BackOff", message), &waits, out);
}

fn out_of_memory<'a>(of: &Workload, pod: &Pod, node: &'a Node, run: &Run) -> Said<'a> {
    let pid = mix(pod.seed, run.until_ms as u64) % 60_000 + 2_000;
    let kib = (of.memory_limit() / 1024.0) as u64;
    Said {
        namespace: "default",
        regarding: about_node(node),
        type_: "Warning",
        reason: "OOMKilling",
        message: format!(
            "Memory cgroup out of memory: Killed process {pid} ({}) total-vm:{}kB, anon-rss:{kib}kB, file-rss:0kB",
            of.name,
            kib * 2
        ),
        component: "kernel-monitor",
        host: &node.name,
    }
}

fn about_node(node: &Node) -> Regarding {
    Regarding {
        kind: "Node",
        name: node.name.clone(),
        uid: node.name.clone(),
        field_path: String::new(),
    }
}

fn node_events(node: &Node, (from_ms, until_ms): (i64, i64), out: &mut Vec<EventWrite>) {
    for down in node.reboots.within(from_ms - 2 * REBOOT_MS, until_ms) {
        let said = |type_, reason, message: String, component, host| Said {
            namespace: "default",
            regarding: about_node(node),
            type_,
            reason,
            message,
            component,
            host,
        };
        let name = node.name.as_str();
        let not_ready = format!("Node {name} status is now: NodeNotReady");
        say(
            &said("Normal", "NodeNotReady", not_ready, "node-controller", ""),
            &[down + MISSED_MS],
            out,
        );
        let up = down + REBOOT_MS;
        let rebooted = format!(
            "Node {name} has been rebooted, boot id: {}",
            uid_of(mix(node.seed, up as u64))
        );
        say(&said("Warning", "Rebooted", rebooted, "kubelet", name), &[up], out);
        let ready = format!("Node {name} status is now: NodeReady");
        say(&said("Normal", "NodeReady", ready, "kubelet", name), &[up + 4_000], out);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::fleet::{Fleet, FleetConfig, Target};

    const T: i64 = 1_760_000_000_000;
    const HOUR: i64 = 3_600_000;

    fn cluster() -> Cluster {
        Fleet::new(FleetConfig::default()).clusters()[0].clone()
    }

    #[test]
    fn parts_of_a_range_give_what_the_whole_gives() {
        let cluster = cluster();
        let whole = cluster.events(T, T + 6 * HOUR);
        let mut parts = Vec::new();
        let mut at = T;
        for n in 0.. {
            let next = (at + 1 + n * 7_919 % 600_000).min(T + 6 * HOUR);
            parts.extend(cluster.events(at, next));
            at = next;
            if at == T + 6 * HOUR {
                break;
            }
        }
        assert!(whole.len() > 200, "{}", whole.len());
        assert_eq!(parts, whole);
    }

    #[test]
    fn restarts_and_back_off_go_together() {
        let cluster = cluster();
        let events = cluster.events(T, T + 6 * HOUR);
        let mut waits: BTreeMap<&str, u32> = BTreeMap::new();
        for e in events.iter().filter(|e| e.reason == "BackOff") {
            *waits.entry(e.regarding.name.as_str()).or_default() += 1;
        }
        assert!(!waits.is_empty());
        // Who restarted in the metrics has backed off, and nobody else has.
        let series = cluster.series(Target::KubeState, T, T + 6 * HOUR);
        for (pod, n) in &waits {
            let waiting = series.iter().any(|s| {
                s.labels.get("reason") == Some("CrashLoopBackOff")
                    && s.labels.get("pod") == Some(*pod)
            });
            assert!(waiting, "{pod} backed off {n} times");
        }
        assert!(events.iter().any(|e| e.reason == "OOMKilling" && e.regarding.kind == "Node"));
    }

    #[test]
    fn an_event_counts_up_and_keeps_its_uid_while_it_lives() {
        let events = cluster().events(T, T + 24 * HOUR);
        let mut last: BTreeMap<&str, &EventWrite> = BTreeMap::new();
        for e in &events {
            if let Some(before) = last.insert(&e.name, e) {
                assert_eq!(e.count, before.count + 1, "{}", e.name);
                assert_eq!(e.uid == before.uid, e.at_ms - before.at_ms <= TTL_MS, "{}", e.name);
                assert_eq!(e.first_ms, before.first_ms);
            }
        }
    }
}
