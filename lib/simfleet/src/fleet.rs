//! The fleet, its clusters, and the targets a Prometheus of a cluster scrapes.

use periplus_model::Labels;

use crate::life::{Events, Node, Pod};
use crate::series::{Collector, Series};
use crate::wave::{mix, mix_str, unit};
use crate::workload::{Slot, Workload, workloads};
use crate::{app, cadvisor, node_exporter, state_metrics};

/// How large a fleet is and which of all possible fleets it is.
#[derive(Clone, Copy, Debug)]
pub struct FleetConfig {
    /// Which fleet: the same seed gives the same fleet, whatever the time or the machine.
    pub seed: u64,
    /// Clusters.
    pub clusters: u32,
    /// Nodes of each cluster, at least one.
    pub nodes: u32,
    /// Pods of each cluster at any time.
    pub pods: u32,
}

impl Default for FleetConfig {
    fn default() -> Self {
        Self { seed: 1, clusters: 3, nodes: 4, pods: 40 }
    }
}

/// Simulated clusters.
#[derive(Clone, Debug)]
pub struct Fleet {
    clusters: Vec<Cluster>,
}

impl Fleet {
    /// Builds the fleet.
    #[must_use]
    pub fn new(config: FleetConfig) -> Self {
        let clusters = (0..config.clusters).map(|i| Cluster::new(config, i)).collect();
        Self { clusters }
    }

    /// Its clusters.
    #[must_use]
    pub fn clusters(&self) -> &[Cluster] {
        &self.clusters
    }
}

/// Name stem, region, zone, provider.
const PLACES: &[(&str, &str, &str, &str)] = &[
    ("prod-frankfurt", "eu-central-1", "eu-central-1a", "aws"),
    ("prod-belgium", "europe-west1", "europe-west1-b", "gcp"),
    ("prod-virginia", "us-east-1", "us-east-1c", "aws"),
    ("prod-amsterdam", "westeurope", "westeurope-2", "azure"),
    ("prod-tokyo", "asia-northeast1", "asia-northeast1-a", "gcp"),
    ("edge-lyon", "lyon", "lyon-rack-7", "onprem"),
    ("prod-sydney", "ap-southeast-2", "ap-southeast-2b", "aws"),
    ("edge-porto", "porto", "porto-hall-1", "onprem"),
    ("prod-iowa", "us-central1", "us-central1-f", "gcp"),
    ("prod-paris", "francecentral", "francecentral-1", "azure"),
];

/// One simulated cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    name: String,
    place: usize,
    pub(crate) seed: u64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) workloads: Vec<Workload>,
    pub(crate) slots: Vec<Slot>,
}

/// What a Prometheus of the cluster scrapes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// The containers of one node, as its kubelet serves them.
    Cadvisor {
        /// Which of the cluster's nodes.
        node: usize,
    },
    /// One node's node exporter.
    NodeExporter {
        /// Which of the cluster's nodes.
        node: usize,
    },
    /// The cluster's kube-state-metrics.
    KubeState,
    /// The HTTP metrics of the applications.
    Apps,
}

impl Cluster {
    fn new(config: FleetConfig, index: u32) -> Self {
        let place = index as usize % PLACES.len();
        let round = index as usize / PLACES.len();
        let stem = PLACES[place].0;
        let name = if round == 0 { stem.to_owned() } else { format!("{stem}-{}", round + 1) };
        let seed = mix_str(config.seed, &name);
        let node_count = config.nodes.max(1);
        let nodes = (0..node_count).map(|i| node(&name, seed, index, i)).collect();
        let workloads = workloads(seed, node_count, config.pods);
        let slots = workloads
            .iter()
            .enumerate()
            .flat_map(|(i, w)| (0..w.replicas).map(move |ordinal| Slot::new(i, w, ordinal)))
            .collect();
        Self { name, place, seed, nodes, workloads, slots }
    }

    /// The cluster's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The external labels a Prometheus of this cluster has, less `replica`.
    #[must_use]
    pub fn external_labels(&self) -> Labels {
        let (_, region, zone, provider) = PLACES[self.place];
        Labels::from_pairs([
            ("cluster", self.name.as_str()),
            ("region", region),
            ("zone", zone),
            ("provider", provider),
        ])
    }

    /// All targets, in a fixed order.
    #[must_use]
    pub fn targets(&self) -> Vec<Target> {
        let nodes = 0..self.nodes.len();
        nodes
            .flat_map(|node| [Target::Cadvisor { node }, Target::NodeExporter { node }])
            .chain([Target::KubeState, Target::Apps])
            .collect()
    }

    /// The labels a scrape adds to the series of a target.
    #[must_use]
    pub fn target_labels(&self, target: Target) -> Labels {
        let node = |i: usize| (self.nodes[i].name.as_str(), self.nodes[i].ip.as_str());
        match target {
            Target::Cadvisor { node: i } => Labels::from_pairs([
                ("job", "kubelet"),
                ("metrics_path", "/metrics/cadvisor"),
                ("node", node(i).0),
                ("instance", &format!("{}:10250", node(i).1)),
            ]),
            Target::NodeExporter { node: i } => Labels::from_pairs([
                ("job", "node-exporter"),
                ("node", node(i).0),
                ("instance", &format!("{}:9100", node(i).1)),
            ]),
            Target::KubeState => {
                Labels::from_pairs([("job", "kube-state-metrics"), ("instance", "10.64.0.9:8080")])
            }
            Target::Apps => Labels::from_pairs([("job", "apps"), ("instance", "10.64.0.10:8080")]),
        }
    }

    /// Where the demo serves a target: a path that names it.
    #[must_use]
    pub fn target_path(&self, target: Target) -> String {
        match target {
            Target::Cadvisor { node } => {
                format!("/nodes/{}/metrics/cadvisor", self.nodes[node].name)
            }
            Target::NodeExporter { node } => format!("/nodes/{}/metrics", self.nodes[node].name),
            Target::KubeState => "/kube-state-metrics".to_owned(),
            Target::Apps => "/apps".to_owned(),
        }
    }

    /// Whether a target answers at a time: those on a node do not while it reboots.
    #[must_use]
    pub fn is_up(&self, target: Target, t_ms: i64) -> bool {
        match target {
            Target::Cadvisor { node } | Target::NodeExporter { node } => self.nodes[node]
                .uptimes(t_ms, t_ms + 1)
                .iter()
                .any(|(from, until)| (*from..*until).contains(&t_ms)),
            Target::KubeState | Target::Apps => true,
        }
    }

    /// The series a target serves at some time of the range (milliseconds, the end excluded), in
    /// order of family and labels, without the target's labels. Costs time and memory for each
    /// series and each segment, none for the length of the range.
    #[must_use]
    pub fn series(&self, target: Target, from_ms: i64, until_ms: i64) -> Vec<Series> {
        let mut out = Collector::new(from_ms, until_ms);
        match target {
            Target::Cadvisor { node } => cadvisor::collect(self, node, &mut out),
            Target::NodeExporter { node } => node_exporter::collect(self, node, &mut out),
            Target::KubeState => state_metrics::collect(self, &mut out),
            Target::Apps => app::collect(self, &mut out),
        }
        out.finish()
    }

    /// The pods that live at some time of the range, with their workloads.
    pub(crate) fn pods(&self, range: (i64, i64)) -> impl Iterator<Item = (&Workload, Pod)> {
        self.slots.iter().flat_map(move |slot| {
            let of = &self.workloads[slot.workload];
            slot.pods(of, &self.nodes, range.0, range.1).into_iter().map(move |p| (of, p))
        })
    }
}

fn node(cluster: &str, cluster_seed: u64, cluster_index: u32, i: u32) -> Node {
    let seed = mix(cluster_seed, 1000 + u64::from(i));
    let (cores, gib) = [(4, 16.0), (8, 32.0), (16, 64.0)][(unit(seed, 1) * 3.0) as usize];
    Node {
        name: format!("{cluster}-node-{}", i + 1),
        ip: format!("10.{}.{}.{}", cluster_index % 60, i / 250, i % 250 + 1),
        seed,
        cores,
        memory_bytes: gib * 1024.0 * 1024.0 * 1024.0 - 389_107_712.0,
        reboots: Events { seed: mix(seed, 2), period_ms: 9 * 86_400_000, probability: 1.0 },
    }
}
