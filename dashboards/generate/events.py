"""Kubernetes' events of all clusters, from the events hub."""

from parts import (
    EVENTS,
    SOME,
    board as new_board,
    choice,
    event_bars,
    event_values,
    events_now,
    events_over_time,
    lines,
    logs,
    row,
    stat,
)

IN = 'cluster=~"$cluster", namespace=~"$namespace", reason=~"$reason", type=~"$type"'
ALL = f"{{{IN}}}"


def board():
    b = new_board(
        "events",
        "Events",
        "What goes wrong, in Kubernetes' own words: the events of all clusters, by cluster, reason and object.",
        [
            choice("cluster", "Cluster", event_values("cluster"), many=True, source=EVENTS),
            choice("namespace", "Namespace", event_values("namespace"), many=True, source=EVENTS).all_value(".*"),
            choice("reason", "Reason", event_values("reason"), many=True, source=EVENTS),
            choice("type", "Type", event_values("type"), many=True, source=EVENTS),
        ],
        ["fleet", "itself"],
    )
    during = f"count_over_time({ALL}[$__range])"
    b = b.with_panel(stat("Events", events_now(f"sum({during})"), "Within the time shown.", width=6))
    b = b.with_panel(
        stat(
            "Clusters with errors",
            events_now(f'sum by (cluster) (count_over_time({{type="Warning", {IN}}}[$__range]))', "{{cluster}}"),
            "Events of type Warning of each cluster within the time shown.",
            width=18,
            limits=SOME,
        )
    )
    b = b.with_panel(
        lines(
            "By reason",
            [(events_over_time(f"sum by (reason) (count_over_time({ALL}[$__interval]))", "{{reason}}"), "")],
            "Events by reason, when they last occurred.",
            stacked=True,
            bars=True,
            width=12,
        )
    )
    b = b.with_panel(
        lines(
            "By cluster",
            [(events_over_time(f"sum by (cluster) (count_over_time({ALL}[$__interval]))", "{{cluster}}"), "")],
            "Events by cluster, when they last occurred.",
            stacked=True,
            bars=True,
            width=12,
        )
    )
    b = b.with_row(row("Who has most"))
    why = "Within the time shown."
    for title, labels in [
        ("Clusters", ["cluster"]),
        ("Reasons", ["reason"]),
        ("Namespaces", ["cluster", "namespace"]),
    ]:
        b = b.with_panel(event_bars(title, f"topk(10, sum by ({', '.join(labels)}) ({during}))", labels, why, width=6))
    b = b.with_panel(
        event_bars(
            "Pods",
            f'topk(10, sum by (cluster, namespace, name) (count_over_time({{kind="Pod", {IN}}}[$__range])))',
            ["cluster", "namespace", "name"],
            why,
            to="pod",
            cluster="${__field.labels.cluster}",
            namespace="${__field.labels.namespace}",
            pod="${__field.labels.name}",
        )
    )
    b = b.with_row(row("Events"))
    return b.with_panel(logs("Events", ALL, "Newest first; a line's details have its cluster, reason and object.", height=16))
