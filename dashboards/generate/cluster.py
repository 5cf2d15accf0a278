"""One cluster: its nodes, its namespaces, its pods."""

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

IN = 'cluster="$cluster"'
ERRORS = f'{{type="Warning", {IN}}}'
THIS = {"cluster": "$cluster"}

CPU = f"rate(container_cpu_usage_seconds_total{{{CONTAINERS},{IN}}}[5m])"
MEMORY = f"container_memory_working_set_bytes{{{CONTAINERS},{IN}}}"
RESTARTS = f"increase(kube_pod_container_status_restarts_total{{{IN}}}[1h])"


def allocatable(resource, by=""):
    return f'sum {by}(kube_node_status_allocatable{{resource="{resource}",{IN}}})'


def now(b):
    b = b.with_panel(stat("Nodes", f"count(kube_node_info{{{IN}}})", "Nodes that the cluster has.", width=3))
    b = b.with_panel(
        stat(
            "Nodes not ready",
            f'sum(kube_node_status_condition{{condition="Ready",status!="true",{IN}}})',
            "Nodes whose condition Ready is false or unknown.",
            limits=NONE,
        )
    )
    b = b.with_panel(
        stat("Pods running", f'sum(kube_pod_status_phase{{phase="Running",{IN}}})', "Pods in the phase Running.")
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
            "CPU used",
            f"sum({CPU}) / {allocatable('cpu')}",
            "What containers use of the CPU that nodes can give to pods.",
            unit="percentunit",
            limits=FULL,
        )
    )
    b = b.with_panel(
        stat(
            "Memory used",
            f"sum({MEMORY}) / {allocatable('memory')}",
            "Working sets as a share of the memory that nodes can give to pods.",
            unit="percentunit",
            limits=FULL,
        )
    )
    b = b.with_panel(stat("Restarts in 1 h", f"sum({RESTARTS})", "Restarts of containers.", decimals=0, limits=SOME))
    return b.with_panel(
        stat(
            "Error events in 1 h",
            events_now(f"sum(count_over_time({ERRORS}[1h]))"),
            "Events of type Warning.",
            limits=SOME,
            link=("Open the events", address("events", cluster="${cluster}")),
        )
    )


def nodes(b):
    share = lambda used, of: f"sum by (node) ({used}) / {allocatable(of, 'by (node) ')}"
    return b.with_panel(
        listed(
            "Nodes",
            [
                ("ready", f'max by (node) (kube_node_status_condition{{condition="Ready",status="true",{IN}}})', "bool_yes_no", ()),
                ("pods", f"count by (node) (kube_pod_info{{{IN}}})", "short", ((100, "orange"),)),
                ("CPU", share(CPU, "cpu"), "percentunit", FULL),
                ("memory", share(MEMORY, "memory"), "percentunit", FULL),
                (
                    "CPU asked for",
                    f'sum by (node) (kube_pod_container_resource_requests{{resource="cpu",{IN}}}) / {allocatable("cpu", "by (node) ")}',
                    "percentunit",
                    FULL,
                ),
                (
                    "memory asked for",
                    f'sum by (node) (kube_pod_container_resource_requests{{resource="memory",{IN}}}) / {allocatable("memory", "by (node) ")}',
                    "percentunit",
                    FULL,
                ),
                ("up", f"time() - max by (node) (node_boot_time_seconds{{{IN}}})", "s", ()),
            ],
            "node",
            "What containers use, and ask for, as a share of what the node can give to pods.",
            width=16,
            height=9,
            this=THIS,
            sort="CPU",
        )
    ).with_panel(
        event_bars(
            "Error events by reason",
            f"topk(10, sum by (reason) (count_over_time({ERRORS}[1h])))",
            ["reason"],
            "Events of type Warning within the last hour.",
            width=8,
            height=9,
            cluster="${cluster}",
            reason="${__field.labels.reason}",
        )
    )


def tops(b):
    network = " + ".join(
        f'sum by (namespace, pod) (rate(container_network_{way}_bytes_total{{pod!="",{IN}}}[5m]))' for way in ("receive", "transmit")
    )
    for what, unit, question, why, color, decimals in [
        ("CPU", "suffix: cores", f"sum by (namespace, pod) ({CPU})", "Cores used, mean over 5 minutes.", "blue", 2),
        ("memory", "bytes", f"sum by (namespace, pod) ({MEMORY})", "Working set.", "purple", None),
        ("network", "Bps", network, "Received and sent, mean over 5 minutes.", "green", None),
        ("restarts", "none", f"(sum by (namespace, pod) ({RESTARTS})) > 0", "Restarts within the last hour.", "red", 0),
    ]:
        b = b.with_panel(
            top(
                f"Top pods by {what}",
                f"topk(10, {question})",
                ["namespace", "pod"],
                why,
                unit=unit,
                width=6,
                decimals=decimals,
                this=THIS,
                color=color,
            )
        )
    for what, unit, question, why, color in [
        ("CPU", "suffix: cores", f"sum by (namespace) ({CPU})", "Cores used, mean over 5 minutes.", "blue"),
        ("memory", "bytes", f"sum by (namespace) ({MEMORY})", "Working set.", "purple"),
    ]:
        b = b.with_panel(
            top(f"Top namespaces by {what}", f"topk(10, {question})", ["namespace"], why, unit=unit, width=6, this=THIS, color=color)
        )
    kinds = [
        ("deployment", "kube_deployment_spec_replicas", "kube_deployment_status_replicas_available"),
        ("statefulset", "kube_statefulset_replicas", "kube_statefulset_status_replicas_ready"),
    ]
    for kind, wanted, there in kinds:
        b = b.with_panel(
            top(
                f"{kind.capitalize()}s by missing replicas",
                f"topk(10, sum by (namespace, {kind}) ({wanted}{{{IN}}} - {there}{{{IN}}}))",
                ["namespace", kind],
                "Replicas that are wanted and not available; all zero while all is well.",
                unit="none",
                width=6,
                color="orange",
            )
        )
    return b


def over_time(b):
    per = CPU.replace("5m", "$__rate_interval")
    b = b.with_panel(lines("CPU by node", [(f"sum by (node) ({per})", "{{node}}")], "Cores used by containers.", unit="suffix: cores", stacked=True))
    b = b.with_panel(lines("Memory by node", [(f"sum by (node) ({MEMORY})", "{{node}}")], "Working sets of containers.", unit="bytes", stacked=True))
    network = lambda way: f'sum(rate(node_network_{way}_bytes_total{{device!~"lo|cni.*|veth.*|cali.*",{IN}}}[$__rate_interval]))'
    b = b.with_panel(
        lines(
            "Network of the nodes",
            [(network("receive"), "received"), (network("transmit"), "sent")],
            "Bytes a second over the nodes' devices, without loopback and pods' devices.",
            unit="Bps",
        )
    )
    b = b.with_panel(
        lines("Pods by phase", [(f"sum by (phase) (kube_pod_status_phase{{{IN}}})", "{{phase}}")], "How many pods are in which phase.", stacked=True)
    )
    b = b.with_panel(
        lines(
            "Restarts",
            [(f"sum by (namespace) (increase(kube_pod_container_status_restarts_total{{{IN}}}[5m]))", "{{namespace}}")],
            "Restarts of containers in 5 minutes.",
            stacked=True,
            bars=True,
        )
    )
    return b.with_panel(
        lines(
            "Error events by reason",
            [(events_over_time(f"sum by (reason) (count_over_time({ERRORS}[$__interval]))", "{{reason}}"), "")],
            "Events of type Warning, when they last occurred.",
            stacked=True,
            bars=True,
        )
    )


def board():
    b = new_board(
        "cluster",
        "Cluster",
        "One cluster: how full it is, who uses it, what goes wrong in it.",
        [choice("cluster", "Cluster", label_values("kube_node_info", "cluster"))],
        ["fleet", "events"],
    )
    b = nodes(now(b))
    b = tops(b.with_row(row("Who uses it")))
    b = over_time(b.with_row(row("Over time")))
    return b.with_panel(logs("Latest Error events", ERRORS, "Newest first."))
