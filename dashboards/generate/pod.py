"""One pod: what it uses beside what it may, and why it restarts."""

from parts import (
    CONTAINERS,
    SOME,
    address,
    board as new_board,
    choice,
    events_now,
    label_values,
    lines,
    listed,
    logs,
    row,
    stat,
    words,
)

IN = 'cluster="$cluster",namespace="$namespace",pod="$pod"'
PER = "$__rate_interval"
EVENTS = '{cluster="$cluster", namespace="$namespace", kind="Pod"} | name="$pod"'


def container(metric, more=""):
    return f"{metric}{{{CONTAINERS},{IN}{more}}}"


def now(b):
    b = b.with_panel(
        stat(
            "Ready",
            f'max(kube_pod_status_ready{{condition="true",{IN}}})',
            "The pod's condition Ready.",
            mappings=words(v0=("no", "red"), v1=("yes", "green")),
        )
    )
    b = b.with_panel(stat("Age", f"time() - max(kube_pod_created{{{IN}}})", "Since the pod was created.", unit="s"))
    b = b.with_panel(
        stat("Restarts", f"sum(kube_pod_container_status_restarts_total{{{IN}}})", "Restarts of its containers since it was created.", limits=SOME)
    )
    b = b.with_panel(
        stat(
            "Restarts in 1 h",
            f"sum(increase(kube_pod_container_status_restarts_total{{{IN}}}[1h]))",
            "Restarts of its containers within the last hour.",
            decimals=0,
            limits=SOME,
        )
    )
    b = b.with_panel(
        stat(
            "CPU of its limit",
            f"sum(rate({container('container_cpu_usage_seconds_total')}[5m]))"
            f' / sum(kube_pod_container_resource_limits{{resource="cpu",{IN}}})',
            "What its containers use of the CPU they may use, mean over 5 minutes. Empty without a limit.",
            unit="percentunit",
            limits=((0.9, "orange"),),
        )
    )
    b = b.with_panel(
        stat(
            "Memory of its limit",
            f"sum({container('container_memory_working_set_bytes')})"
            f' / sum(kube_pod_container_resource_limits{{resource="memory",{IN}}})',
            "Working set as a share of the limit at which containers are killed. Empty without a limit.",
            unit="percentunit",
            limits=((0.8, "orange"), (0.95, "red")),
        )
    )
    b = b.with_panel(
        stat(
            "CPU held back",
            f"sum(rate({container('container_cpu_cfs_throttled_periods_total')}[5m]))"
            f" / sum(rate({container('container_cpu_cfs_periods_total')}[5m]))",
            "Share of the scheduler's periods in which its limit held it back, mean over 5 minutes.",
            unit="percentunit",
            limits=((0.25, "orange"), (0.5, "red")),
        )
    )
    return b.with_panel(
        stat(
            "Events in 1 h",
            events_now(f"sum(count_over_time({EVENTS} [1h]))"),
            "Events about the pod within the last hour.",
            link=("Open the events", address("events", cluster="${cluster}", namespace="${namespace}")),
        )
    )


def state(b):
    b = b.with_panel(
        listed(
            "Where it runs",
            [(None, f"max by (node, host_ip, pod_ip, created_by_kind, created_by_name) (kube_pod_info{{{IN}}})", "none", ())],
            ["node", "host_ip", "pod_ip", "created_by_kind", "created_by_name"],
            "The node leads to its dashboard.",
            width=12,
            height=5,
            this={"cluster": "$cluster"},
        )
    )
    return b.with_panel(
        listed(
            "Why its containers ended last",
            [
                (
                    "times restarted",
                    f"max by (container, reason) (kube_pod_container_status_last_terminated_reason{{{IN}}})"
                    f" * on (container) group_left sum by (container) (kube_pod_container_status_restarts_total{{{IN}}})",
                    "none",
                    (),
                )
            ],
            ["container", "reason"],
            "Empty where no container ever ended.",
            width=12,
            height=5,
            none="No container has ended",
        )
    )


def over_time(b):
    resource = lambda kind, of: f'sum(kube_pod_container_resource_{kind}{{resource="{of}",{IN}}})'
    b = b.with_panel(
        lines(
            "CPU",
            [
                (f"sum by (container) (rate({container('container_cpu_usage_seconds_total')}[{PER}]))", "{{container}}"),
                (resource("requests", "cpu"), "asked for"),
                (resource("limits", "cpu"), "limit"),
            ],
            "Cores used by each container, beside what the pod asks for and may use.",
            unit="suffix: cores",
        )
    )
    b = b.with_panel(
        lines(
            "Memory",
            [
                (f"sum by (container) ({container('container_memory_working_set_bytes')})", "{{container}}"),
                (f"sum by (container) ({container('container_memory_rss')})", "{{container}} anonymous"),
                (resource("requests", "memory"), "asked for"),
                (resource("limits", "memory"), "limit"),
            ],
            "Working set of each container, beside what the pod asks for and may use.",
            unit="bytes",
        )
    )
    b = b.with_panel(
        lines(
            "CPU held back",
            [
                (
                    f"sum by (container) (rate({container('container_cpu_cfs_throttled_periods_total')}[{PER}]))"
                    f" / sum by (container) (rate({container('container_cpu_cfs_periods_total')}[{PER}]))",
                    "{{container}}",
                )
            ],
            "Share of the scheduler's periods in which a container was held back.",
            unit="percentunit",
            most=1,
        )
    )
    network = lambda way, what: f"sum(rate(container_network_{way}_{what}_total{{{IN}}}[{PER}]))"
    b = b.with_panel(
        lines(
            "Network",
            [(network("receive", "bytes"), "received"), (network("transmit", "bytes"), "sent")],
            "Bytes a second of the whole pod.",
            unit="Bps",
        )
    )
    b = b.with_panel(
        lines(
            "Dropped packets",
            [(network("receive", "packets_dropped"), "receiving"), (network("transmit", "packets_dropped"), "sending")],
            "Packets a second.",
            unit="pps",
        )
    )
    disk = lambda way: f"sum(rate({container(f'container_fs_{way}_bytes_total')}[{PER}]))"
    b = b.with_panel(
        lines("Disk", [(disk("reads"), "read"), (disk("writes"), "written")], "Bytes a second.", unit="Bps")
    )
    b = b.with_panel(
        lines(
            "Restarts",
            [(f"sum by (container) (kube_pod_container_status_restarts_total{{{IN}}})", "{{container}}")],
            "Restarts of each container since the pod was created.",
            width=12,
        )
    )
    return b.with_panel(
        lines(
            "Containers running",
            [
                (f"sum by (container) (kube_pod_container_status_running{{{IN}}})", "{{container}} running"),
                (f"sum by (container) (kube_pod_container_status_ready{{{IN}}})", "{{container}} ready"),
            ],
            "1 while a container runs, or is ready.",
            width=12,
            most=1,
        )
    )


def board():
    b = new_board(
        "pod",
        "Pod",
        "One pod: what it uses beside what it may, why it restarts, and what Kubernetes says of it.",
        [
            choice("cluster", "Cluster", label_values("kube_node_info", "cluster")),
            choice("namespace", "Namespace", label_values('kube_pod_info{cluster="$cluster"}', "namespace")),
            choice("pod", "Pod", label_values('kube_pod_info{cluster="$cluster",namespace="$namespace"}', "pod")),
        ],
        ["fleet", "cluster", "events"],
    )
    b = state(now(b))
    b = b.with_panel(logs("Events of the pod", EVENTS, "What Kubernetes says of the pod, newest first.", height=8))
    return over_time(b.with_row(row("Over time")))
