//! The Prometheus text format (version 0.0.4): what a scrape sees.

use std::fmt::Write as _;

use crate::series::Series;

/// The content type of [`text`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The values of the series that exist at `t_ms`, with `# HELP` and `# TYPE` before each family.
/// The series must be in order of family, as [`crate::Cluster::series`] gives them.
#[must_use]
pub fn text(series: &[Series], t_ms: i64) -> String {
    let mut out = String::with_capacity(series.len() * 160);
    let mut family = "";
    for s in series {
        let Some(value) = s.at(t_ms) else { continue };
        if s.family.name != family {
            family = s.family.name;
            let _ = writeln!(out, "# HELP {family} {}", s.family.help);
            let _ = writeln!(out, "# TYPE {family} {}", s.family.kind.as_str());
        }
        out.push_str(s.labels.metric_name().unwrap_or(family));
        let mut open = '{';
        for (name, value) in s.labels.without_name().iter() {
            out.push(open);
            open = ',';
            out.push_str(name);
            out.push_str("=\"");
            escape(value, &mut out);
            out.push('"');
        }
        if open == ',' {
            out.push('}');
        }
        // Rust prints a float so that it reads back as the same one, which is all the format asks.
        let _ = writeln!(out, " {value}");
    }
    out
}

fn escape(value: &str, out: &mut String) {
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{Fleet, FleetConfig, Target};

    const T: i64 = 1_790_000_000_000;

    #[test]
    fn families_come_once_and_values_are_finite() {
        let fleet = Fleet::new(FleetConfig::default());
        let cluster = &fleet.clusters()[0];
        for target in cluster.targets() {
            let text = super::text(&cluster.series(target, T, T + 60_000), T + 30_000);
            let mut types: Vec<&str> =
                text.lines().filter_map(|l| l.strip_prefix("# TYPE ")).collect();
            let all = types.len();
            types.sort_unstable();
            types.dedup();
            assert!(all > 0 && types.len() == all, "{target:?}");
            for line in text.lines().filter(|l| !l.starts_with('#')) {
                let value: f64 = line.rsplit_once(' ').expect(line).1.parse().expect(line);
                assert!(value.is_finite() && value >= 0.0, "{line}");
            }
        }
    }

    #[test]
    fn the_default_fleet_answers_the_main_questions() {
        let fleet = Fleet::new(FleetConfig { nodes: 2, ..FleetConfig::default() });
        let cluster = &fleet.clusters()[1];
        let node = super::text(&cluster.series(Target::Cadvisor { node: 0 }, T, T + 1), T);
        let state = super::text(&cluster.series(Target::KubeState, T, T + 1), T);
        for (text, part) in [
            (
                &node,
                "container_cpu_usage_seconds_total{container=\"frontend\",cpu=\"total\",id=\"/kube",
            ),
            (&node, "container_memory_working_set_bytes{container="),
            (&node, "container_network_receive_bytes_total{id="),
            (&state, "kube_pod_container_status_restarts_total{container=\"bank-adapter\""),
            (&state, "kube_node_status_condition{condition=\"Ready\""),
            (&state, "kube_pod_info{created_by_kind=\"ReplicaSet\""),
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }
}
