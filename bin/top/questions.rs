//! The main questions, each as PromQL, in this one place.
//!
//! | question | what is counted |
//! |---|---|
//! | cpu | cores: rate of CPU seconds of all containers |
//! | memory | bytes: working set of all containers |
//! | network | bytes per second: received and sent by all pods |
//! | restarts | restarts of all containers within the window |
//!
//! They rest on what kubelet (cAdvisor) and kube-state-metrics serve under the labels that
//! kube-prometheus gives them; the label that names the cluster comes from the external labels, and
//! `node` on the kubelet's series from the scrape's relabelling. Choices worth knowing:
//! - cAdvisor also reports the pod's whole group (no `container`) and, with Docker, the sandbox
//!   (`container="POD"`): both are left out, or everything would count twice.
//! - Network is counted for pods only. A pod on the host's network shows the host's counters.
//! - Restarts know the pod, not the node; the node is joined in from `kube_pod_info`.
//! - Rows that restarted not at all are left out.

use clap::ValueEnum;

/// What is ranked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum What {
    /// CPU, in cores.
    Cpu,
    /// Memory in active use.
    Memory,
    /// Bytes per second, received and sent.
    Network,
    /// Restarts of containers.
    Restarts,
}

/// What the rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    /// Whole clusters.
    Cluster,
    /// Nodes.
    Node,
    /// Pods.
    Pod,
}

/// One question, with all that it depends on.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) what: What,
    pub(crate) by: By,
    /// How many rows.
    pub(crate) k: u32,
    /// Over how long rates and restarts are taken, as PromQL writes it.
    pub(crate) window: String,
    /// The label that names the cluster.
    pub(crate) cluster_label: String,
    /// The label that names the node.
    pub(crate) node_label: String,
}

const CONTAINERS: &str = r#"container!="",container!="POD""#;

impl What {
    /// The window where none is given.
    pub(crate) fn default_window(self) -> &'static str {
        match self {
            Self::Restarts => "1h",
            Self::Cpu | Self::Memory | Self::Network => "5m",
        }
    }

    /// The heading of its column.
    pub(crate) fn heading(self) -> &'static str {
        match self {
            Self::Cpu => "CPU",
            Self::Memory => "MEMORY",
            Self::Network => "NETWORK",
            Self::Restarts => "RESTARTS",
        }
    }
}

impl Question {
    /// The labels that name a row, in the order of the table's columns.
    pub(crate) fn row_labels(&self) -> Vec<&str> {
        let cluster = self.cluster_label.as_str();
        match self.by {
            By::Cluster => vec![cluster],
            By::Node => vec![cluster, &self.node_label],
            By::Pod => vec![cluster, "namespace", "pod"],
        }
    }

    /// The question in PromQL.
    pub(crate) fn promql(&self) -> String {
        let labels = self.row_labels().join(", ");
        let w = &self.window;
        let inner = match self.what {
            What::Cpu => format!(
                "sum by ({labels}) (rate(container_cpu_usage_seconds_total{{{CONTAINERS}}}[{w}]))"
            ),
            What::Memory => {
                format!("sum by ({labels}) (container_memory_working_set_bytes{{{CONTAINERS}}})")
            }
            What::Network => {
                let one = |direction| {
                    format!(
                        "sum by ({labels}) (rate(container_network_{direction}_bytes_total\
                         {{pod!=\"\"}}[{w}]))"
                    )
                };
                format!("{} + {}", one("receive"), one("transmit"))
            }
            What::Restarts => format!("({}) > 0", self.restarts(&labels)),
        };
        format!("topk({}, {inner})", self.k)
    }

    fn restarts(&self, labels: &str) -> String {
        let w = &self.window;
        let cluster = &self.cluster_label;
        let counted = "kube_pod_container_status_restarts_total";
        if self.by != By::Node {
            return format!("sum by ({labels}) (increase({counted}[{w}]))");
        }
        let node = &self.node_label;
        format!(
            "sum by ({labels}) (sum by ({cluster}, namespace, pod) (increase({counted}[{w}])) \
             * on ({cluster}, namespace, pod) group_left ({node}) \
             max by ({cluster}, namespace, pod, {node}) (kube_pod_info{{{node}!=\"\"}}))"
        )
    }

    /// What the question asks, in words.
    pub(crate) fn title(&self) -> String {
        let rows = match self.by {
            By::Cluster => "clusters",
            By::Node => "nodes",
            By::Pod => "pods",
        };
        let w = &self.window;
        match self.what {
            What::Cpu => format!("Top {} {rows} by CPU (mean over {w})", self.k),
            What::Memory => format!("Top {} {rows} by memory (working set)", self.k),
            What::Network => {
                format!("Top {} {rows} by network (received and sent, mean over {w})", self.k)
            }
            What::Restarts => format!("Top {} {rows} by container restarts in {w}", self.k),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(what: What, by: By) -> String {
        Question {
            what,
            by,
            k: 10,
            window: what.default_window().into(),
            cluster_label: "cluster".into(),
            node_label: "node".into(),
        }
        .promql()
    }

    #[test]
    fn cpu_by_pod() {
        assert_eq!(
            ask(What::Cpu, By::Pod),
            "topk(10, sum by (cluster, namespace, pod) \
             (rate(container_cpu_usage_seconds_total{container!=\"\",container!=\"POD\"}[5m])))"
        );
    }

    #[test]
    fn every_question_keeps_the_cluster() {
        for what in What::value_variants() {
            for by in By::value_variants() {
                let promql = ask(*what, *by);
                assert!(promql.starts_with("topk(10, ") && promql.contains("(cluster"), "{promql}");
            }
        }
    }
}
