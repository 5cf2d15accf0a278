"""One node: what it is busy with, who is on it, what it says of itself."""

from parts import (
    CONTAINERS,
    FULL,
    NONE,
    board as new_board,
    choice,
    label_values,
    lines,
    listed,
    logs,
    row,
    stat,
    top,
    words,
)

IN = 'cluster="$cluster",node="$node"'
THIS = {"cluster": "$cluster"}
PER = "$__rate_interval"

CPU = f"rate(container_cpu_usage_seconds_total{{{CONTAINERS},{IN}}}[5m])"
MEMORY = f"container_memory_working_set_bytes{{{CONTAINERS},{IN}}}"


def now(b):
    b = b.with_panel(
        stat(
            "Ready",
            f'max(kube_node_status_condition{{condition="Ready",status="true",{IN}}})',
            "The node's condition Ready.",
            mappings=words(v0=("no", "red"), v1=("yes", "green")),
        )
    )
    b = b.with_panel(
        stat(
            "Under pressure",
            f'sum(kube_node_status_condition{{condition=~".*Pressure",status="true",{IN}}})',
            "How many of the conditions MemoryPressure, DiskPressure and PIDPressure hold.",
            limits=NONE,
        )
    )
    b = b.with_panel(
        stat(
            "CPU busy",
            f'1 - avg(rate(node_cpu_seconds_total{{mode="idle",{IN}}}[5m]))',
            "Share of the machine's CPU that is not idle, mean over 5 minutes.",
            unit="percentunit",
            limits=FULL,
        )
    )
    b = b.with_panel(
        stat(
            "Memory used",
            f"1 - sum(node_memory_MemAvailable_bytes{{{IN}}}) / sum(node_memory_MemTotal_bytes{{{IN}}})",
            "Share of the machine's memory that is not available.",
            unit="percentunit",
            limits=FULL,
        )
    )
    b = b.with_panel(
        stat(
            "Fullest file system",
            f'max(1 - node_filesystem_avail_bytes{{fstype!="tmpfs",{IN}}} / node_filesystem_size_bytes{{fstype!="tmpfs",{IN}}})',
            "The largest share used of any file system but tmpfs.",
            unit="percentunit",
            limits=FULL,
        )
    )
    b = b.with_panel(stat("Pods", f"count(kube_pod_info{{{IN}}})", "Pods on the node.", limits=((100, "orange"),)))
    b = b.with_panel(stat("Cores", f"max(machine_cpu_cores{{{IN}}})", "CPU cores of the machine."))
    return b.with_panel(
        stat("Up for", f"time() - max(node_boot_time_seconds{{{IN}}})", "Since the machine booted.", unit="s")
    )


def machine(b):
    b = b.with_panel(
        lines(
            "CPU by mode",
            [(f'sum by (mode) (rate(node_cpu_seconds_total{{mode!="idle",{IN}}}[{PER}]))', "{{mode}}")],
            "Cores by what they are busy with.",
            unit="suffix: cores",
            stacked=True,
        )
    )
    b = b.with_panel(
        lines(
            "Load and cores",
            [
                (f"max(node_load1{{{IN}}})", "load, 1 minute"),
                (f"max(node_load15{{{IN}}})", "load, 15 minutes"),
                (f"max(machine_cpu_cores{{{IN}}})", "cores"),
            ],
            "Processes that run or want to, beside how many can.",
        )
    )
    b = b.with_panel(
        lines(
            "Memory",
            [
                (f"sum(node_memory_MemTotal_bytes{{{IN}}})", "total"),
                (f"sum(node_memory_MemTotal_bytes{{{IN}}}) - sum(node_memory_MemAvailable_bytes{{{IN}}})", "used"),
                (f"sum(node_memory_Cached_bytes{{{IN}}})", "page cache"),
                (f"sum({MEMORY})", "containers"),
            ],
            "The machine's memory; used is what is not available.",
            unit="bytes",
        )
    )
    network = lambda way: f'sum by (device) (rate(node_network_{way}_bytes_total{{device!="lo",{IN}}}[{PER}]))'
    b = b.with_panel(
        lines(
            "Network by device",
            [(network("receive"), "{{device}} received"), (network("transmit"), "{{device}} sent")],
            "Bytes a second.",
            unit="Bps",
        )
    )
    disk = lambda way: f"sum by (device) (rate(node_disk_{way}_bytes_total{{{IN}}}[{PER}]))"
    b = b.with_panel(
        lines(
            "Disks",
            [(disk("read"), "{{device}} read"), (disk("written"), "{{device}} written")],
            "Bytes a second.",
            unit="Bps",
        )
    )
    return b.with_panel(
        lines(
            "File systems",
            [
                (
                    f'max by (mountpoint) (1 - node_filesystem_avail_bytes{{fstype!="tmpfs",{IN}}}'
                    f' / node_filesystem_size_bytes{{fstype!="tmpfs",{IN}}})',
                    "{{mountpoint}}",
                )
            ],
            "Share used of each file system.",
            unit="percentunit",
            most=1,
            limits=FULL,
        )
    )


def pods(b):
    network = " + ".join(
        f'sum by (namespace, pod) (rate(container_network_{way}_bytes_total{{pod!="",{IN}}}[5m]))' for way in ("receive", "transmit")
    )
    for what, unit, question, why, color, decimals in [
        ("CPU", "suffix: cores", f"sum by (namespace, pod) ({CPU})", "Cores used, mean over 5 minutes.", "blue", 2),
        ("memory", "bytes", f"sum by (namespace, pod) ({MEMORY})", "Working set.", "purple", None),
        ("network", "Bps", network, "Received and sent, mean over 5 minutes.", "green", None),
    ]:
        b = b.with_panel(
            top(
                f"Top pods by {what}",
                f"topk(10, {question})",
                ["namespace", "pod"],
                why,
                unit=unit,
                width=8,
                decimals=decimals,
                this=THIS,
                color=color,
            )
        )
    per = CPU.replace("5m", PER)
    b = b.with_panel(
        lines("CPU by pod", [(f"topk(20, sum by (pod) ({per}))", "{{pod}}")], "The 20 largest at each moment.", unit="suffix: cores", stacked=True, width=12)
    )
    return b.with_panel(
        lines("Memory by pod", [(f"topk(20, sum by (pod) ({MEMORY}))", "{{pod}}")], "The 20 largest at each moment.", unit="bytes", stacked=True, width=12)
    )


def board():
    b = new_board(
        "node",
        "Node",
        "One node of a cluster: the machine, and the pods on it. Series of kubelets and node exporters need the label node.",
        [
            choice("cluster", "Cluster", label_values("kube_node_info", "cluster")),
            choice("node", "Node", label_values('kube_node_info{cluster="$cluster"}', "node")),
        ],
        ["fleet", "cluster", "events"],
    )
    b = now(b)
    b = b.with_panel(
        listed(
            "Conditions",
            [(None, f'max by (condition, status) (kube_node_status_condition{{{IN}}} == 1)', "none", ())],
            ["condition", "status"],
            "What the node says of itself, as kube-state-metrics knows it.",
            width=8,
            height=8,
        )
    )
    b = b.with_panel(
        logs(
            "Events of the node",
            '{cluster="$cluster", kind="Node"} | name="$node"',
            "What Kubernetes says of the node: reboots, pressure, processes killed for want of memory. Newest first.",
            width=16,
            height=8,
        )
    )
    b = machine(b.with_row(row("Machine")))
    return pods(b.with_row(row("Pods")))
