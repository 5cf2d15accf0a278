"""All clusters at once: who uses most, who is missing, what goes wrong."""

from parts import (
    CONTAINERS,
    FULL,
    NONE,
    SOME,
    address,
    board as new_board,
    choice,
    event_bars,
    events_now,
    events_over_time,
    label_values,
    lines,
    listed,
    logs,
    row,
    stat,
    top,
)

IN = 'cluster=~"$cluster"'
ERRORS = f'{{type="Warning", {IN}}}'

CPU = f"rate(container_cpu_usage_seconds_total{{{CONTAINERS},{IN}}}[5m])"
MEMORY = f"container_memory_working_set_bytes{{{CONTAINERS},{IN}}}"
RESTARTS = f"increase(kube_pod_container_status_restarts_total{{{IN}}}[1h])"


def network(by):
    one = lambda way: f'sum by ({by}) (rate(container_network_{way}_bytes_total{{pod!="",{IN}}}[5m]))'
    return f"{one('receive')} + {one('transmit')}"


def restarts_by_node():
    """Restarts know the pod; the node is joined in within each cluster."""
    return (
        f"sum by (cluster, node) (sum by (cluster, namespace, pod) ({RESTARTS})"
        " * on (cluster, namespace, pod) group_left (node)"
        f' max by (cluster, namespace, pod, node) (kube_pod_info{{node!="",{IN}}}))'
    )


def tops(b, what, unit, question, why, color, decimals=None):
    """The top tens of clusters, nodes and pods side by side."""
    for rows, labels, width in [
        ("clusters", ["cluster"], 4),
        ("nodes", ["cluster", "node"], 6),
        ("pods", ["cluster", "namespace", "pod"], 8),
    ]:
        b = b.with_panel(
            top(
                f"Top {rows} by {what}",
                f"topk(10, {question(', '.join(labels))})",
                labels,
                why,
                unit=unit,
                width=width,
                decimals=decimals,
                color=color,
            )
        )
    return b


def now(b):
    b = b.with_panel(
        stat("Clusters", f"count(count by (cluster) (up{{{IN}}}))", "Clusters that answer and have targets.")
    )
    b = b.with_panel(
        stat(
            "Streams missing",
            "max(periplus_query_fleet_missing_streams)",
            "Streams (clusters, or single Prometheus servers of them) that nobody can answer for now, as the query"
            " process sees it. Needs the query process's own metrics: see dashboards/README.md.",
            limits=NONE,
            link=("Open periplus itself", address("itself")),
        )
    )
    b = b.with_panel(
        stat(
            "Nodes not ready",
            f'sum(kube_node_status_condition{{condition="Ready",status!="true",{IN}}})',
            "Nodes whose condition Ready is false or unknown.",
            limits=NONE,
        )
    )
    b = b.with_panel(
        stat(
            "Pods not running",
            f'sum(kube_pod_status_phase{{phase=~"Pending|Unknown|Failed",{IN}}})',
            "Pods that are pending, failed or of unknown phase.",
            limits=SOME,
        )
    )
    b = b.with_panel(
        stat(
            "Crash loops",
            f'sum(kube_pod_container_status_waiting_reason{{reason="CrashLoopBackOff",{IN}}}) or vector(0)',
            "Containers that wait to be started again after they crashed.",
            limits=NONE,
        )
    )
    b = b.with_panel(
        stat("Restarts in 1 h", f"sum({RESTARTS})", "Restarts of containers within the last hour.", decimals=0, limits=SOME)
    )
    b = b.with_panel(
        stat(
            "Error events in 1 h",
            events_now(f"sum(count_over_time({ERRORS}[1h]))"),
            "Events of type Warning within the last hour, from the events hub.",
            limits=SOME,
            link=("Open the events", address("events")),
        )
    )
    return b.with_panel(
        stat(
            "Alerts firing",
            'count(ALERTS{alertstate="firing",alertname!="Watchdog"}) or vector(0)',
            "Alerts that fire, of the ruler and of every cluster's Prometheus; the Watchdog, which always fires, is left out.",
            limits=NONE,
        )
    )


def clusters(b):
    b = b.with_panel(
        listed(
            "Clusters",
            [
                ("nodes", f"count by (cluster) (kube_node_info{{{IN}}})", "short", ()),
                ("pods", f'sum by (cluster) (kube_pod_status_phase{{phase="Running",{IN}}})', "short", ()),
                (
                    "CPU",
                    f"sum by (cluster) ({CPU}) / sum by (cluster) (kube_node_status_allocatable{{resource=\"cpu\",{IN}}})",
                    "percentunit",
                    FULL,
                ),
                (
                    "memory",
                    f"sum by (cluster) ({MEMORY}) / sum by (cluster) (kube_node_status_allocatable{{resource=\"memory\",{IN}}})",
                    "percentunit",
                    FULL,
                ),
                (
                    "CPU asked for",
                    f'sum by (cluster) (kube_pod_container_resource_requests{{resource="cpu",{IN}}})'
                    f' / sum by (cluster) (kube_node_status_allocatable{{resource="cpu",{IN}}})',
                    "percentunit",
                    FULL,
                ),
                ("restarts in 1 h", f"sum by (cluster) ({RESTARTS})", "none", ()),
                ("targets down", f"count by (cluster) (up{{{IN}}}) - sum by (cluster) (up{{{IN}}})", "short", NONE),
            ],
            "cluster",
            "Every cluster that answers. CPU and memory are what containers use, as a share of what nodes can give"
            " to pods; a cluster's name leads to its dashboard.",
            width=16,
            height=9,
            sort="CPU",
        )
    )
    return b.with_panel(
        listed(
            "Missing clusters",
            [(None, "group by (cluster) (periplus_cluster_missing)", "none", ())],
            ["cluster"],
            "Clusters that are known but do not answer: nothing on this dashboard counts them. From the ruler, which"
            " finds them missing; empty while every cluster answers. GET /api/v1/endpoints of the query process says"
            " since when and why.",
            width=8,
            height=9,
            none="Every cluster answers",
        )
    )


def board():
    b = new_board(
        "fleet",
        "Fleet overview",
        "Top tens over all clusters, Error events beside them, and who is missing. Every row leads to its cluster,"
        " node or pod.",
        [choice("cluster", "Cluster", label_values("kube_node_info", "cluster"), many=True)],
        ["events", "itself"],
    )
    b = clusters(now(b))
    hour = f"count_over_time({ERRORS}[1h])"

    b = b.with_row(row("CPU"))
    b = tops(b, "CPU", "suffix: cores", lambda by: f"sum by ({by}) ({CPU})", "Cores used by containers, mean over 5 minutes.", "blue", 2)
    b = b.with_panel(
        event_bars("Error events by cluster", f"topk(10, sum by (cluster) ({hour}))", ["cluster"], "Events of type Warning within the last hour.")
    )
    b = b.with_row(row("Memory"))
    b = tops(b, "memory", "bytes", lambda by: f"sum by ({by}) ({MEMORY})", "Working set of containers.", "purple")
    b = b.with_panel(
        event_bars("Error events by reason", f"topk(10, sum by (reason) ({hour}))", ["reason"], "Events of type Warning within the last hour.")
    )
    b = b.with_row(row("Network"))
    b = tops(b, "network", "Bps", network, "Received and sent by pods, mean over 5 minutes. A pod on the host's network shows the host's.", "green")
    b = b.with_panel(
        event_bars(
            "Error events by namespace",
            f"topk(10, sum by (cluster, namespace) ({hour}))",
            ["cluster", "namespace"],
            "Events of type Warning within the last hour.",
        )
    )
    b = b.with_row(row("Restarts"))
    question = lambda by: f"({restarts_by_node()}) > 0" if by == "cluster, node" else f"(sum by ({by}) ({RESTARTS})) > 0"
    b = tops(b, "restarts", "none", question, "Restarts of containers within the last hour.", "red", 0)
    b = b.with_panel(
        event_bars(
            "Error events by pod",
            f'topk(10, sum by (cluster, namespace, name) (count_over_time({{type="Warning", kind="Pod", {IN}}}[1h])))',
            ["cluster", "namespace", "name"],
            "Events of type Warning about pods within the last hour.",
            to="pod",
            cluster="${__field.labels.cluster}",
            namespace="${__field.labels.namespace}",
            pod="${__field.labels.name}",
        )
    )
    b = b.with_row(row("Over time"))
    per = "$__rate_interval"
    b = b.with_panel(
        lines("CPU by cluster", [(f"sum by (cluster) ({CPU.replace('5m', per)})", "{{cluster}}")], "Cores used by containers.", unit="suffix: cores", stacked=True)
    )
    b = b.with_panel(
        lines("Memory by cluster", [(f"sum by (cluster) ({MEMORY})", "{{cluster}}")], "Working set of containers.", unit="bytes", stacked=True)
    )
    b = b.with_panel(
        lines(
            "Error events by cluster",
            [(events_over_time(f"sum by (cluster) (count_over_time({ERRORS}[$__interval]))", "{{cluster}}"), "")],
            "Events of type Warning, when they last occurred.",
            stacked=True,
            bars=True,
        )
    )
    return b.with_panel(logs("Latest Error events", ERRORS, "Newest first; a line's details have its cluster, reason and object."))
