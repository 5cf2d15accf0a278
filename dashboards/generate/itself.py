"""periplus's own health, from the metrics of its processes."""

from parts import NONE, board as new_board, lines, listed, row, stat

PER = "$__rate_interval"


def rate(metric, by=""):
    grouped = f"sum by ({by}) " if by else "sum"
    return f"{grouped}(rate({metric}[{PER}]))"


def counted(metric, by):
    """A rate of what may never have happened yet: nothing is zero, not no data."""
    return f"{rate(metric, by)} or vector(0)"


def quantile(q, metric, by=""):
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, sum by ({labels}) (rate({metric}[{PER}])))"


def now(b):
    b = b.with_panel(stat("Endpoints up", 'max(periplus_query_endpoints{health="up"})', "Endpoints that answer the query process."))
    b = b.with_panel(
        stat(
            "Endpoints down",
            'max(sum by (instance) (periplus_query_endpoints{health!="up"}))',
            "Endpoints that do not answer, or answer what the query process refuses.",
            limits=NONE,
        )
    )
    b = b.with_panel(
        stat("Streams missing", "max(periplus_query_fleet_missing_streams)", "Streams of the fleet that nobody can answer for.", limits=NONE)
    )
    b = b.with_panel(
        stat(
            "Prometheus unwell",
            "count(periplus_sidecar_prometheus_healthy == 0) or vector(0)",
            "Prometheus servers that their sidecars find unwell.",
            limits=NONE,
        )
    )
    b = b.with_panel(
        stat("Oldest block to ship", "max(periplus_ship_oldest_unshipped_seconds)", "Age of the end of the oldest block that is not in the bucket.", unit="s", limits=((3 * 3600, "orange"), (12 * 3600, "red")))
    )
    b = b.with_panel(
        stat("Compaction behind", "max(periplus_compactor_backlog_minutes)", "Since the end of the oldest block that is not converted.", unit="m", limits=((36 * 60, "orange"), (72 * 60, "red")))
    )
    b = b.with_panel(
        stat("Quarantined", "max(periplus_compactor_quarantined)", "Blocks, days of blocks and parts that nothing is made from.", limits=NONE)
    )
    return b.with_panel(
        stat("Hubs that lead", "sum(periplus_hub_leads)", "Events hubs that take in and answer: one, or nobody answers.", limits=((2, "red"),))
    )


def query(b):
    b = b.with_panel(
        lines("Requests answered", [(rate("periplus_query_http_requests_total", "code"), "{{code}}")], "HTTP requests a second by status.", unit="reqps", stacked=True)
    )
    asked = 'periplus_query_http_request_duration_seconds_bucket{reason=~"/api/v1/query|/api/v1/query_range"}'
    b = b.with_panel(
        lines(
            "Time to answer queries",
            [(quantile(0.5, asked), "half below"), (quantile(0.99, asked), "99 % below")],
            "Instant and range queries.",
            unit="s",
        )
    )
    b = b.with_panel(
        lines(
            "Queries",
            [
                ("sum(periplus_query_running)", "running now"),
                (rate("periplus_query_coalesced_total"), "answered with another's, a second"),
                (rate("periplus_query_endpoint_requests_total"), "requests to endpoints, a second"),
            ],
            "What runs, what need not be asked twice, and what is asked of endpoints.",
        )
    )
    b = b.with_panel(
        lines("Endpoints by health", [("max by (health) (periplus_query_endpoints)", "{{health}}")], "As the query process sees them.", stacked=True)
    )
    b = b.with_panel(
        lines(
            "Partial answers",
            [(rate("periplus_query_partial_answers_total"), "answers a second"), ("max(periplus_query_fleet_missing_streams)", "streams missing")],
            "Answers that lacked somebody, and how many streams nobody can answer for.",
            limits=((1, "red"),),
        )
    )
    return b.with_panel(
        lines("Failed queries", [(counted("periplus_query_failures_total", "reason"), "{{reason}}")], "Queries a second that ended without an answer, by why.", stacked=True)
    )


def sidecars(b):
    b = b.with_panel(
        lines(
            "Subtrees evaluated, by where",
            [(rate("periplus_sidecar_evaluations_total", "path"), "{{path}}")],
            "hot: from the sidecar's own newest minutes; prometheus: by Prometheus's API; engine: by our engine over remote read.",
            stacked=True,
        )
    )
    b = b.with_panel(
        lines(
            "Time to answer, by method",
            [(quantile(0.99, "periplus_sidecar_request_duration_seconds_bucket", "method"), "{{method}}")],
            "99 % of a sidecar's requests take less.",
            unit="s",
        )
    )
    b = b.with_panel(
        lines(
            "Chunks streamed",
            [(rate("periplus_sidecar_chunk_bytes_streamed_total"), "sent"), (rate("periplus_sidecar_remote_read_bytes_total"), "remote read")],
            "Bytes a second of raw series: what could not be pushed down.",
            unit="Bps",
        )
    )
    b = b.with_panel(
        listed(
            "Sidecars furthest behind",
            [("newest sample is old", "topk(10, max by (cluster, prometheus) (periplus_sidecar_prometheus_lag_seconds))", "s", ((120, "orange"), (600, "red")))],
            ["cluster", "prometheus"],
            "Age of the newest sample of each Prometheus.",
            width=8,
        )
    )
    b = b.with_panel(
        listed(
            "Sidecars with gaps",
            [("gaps", "topk(10, max by (cluster, prometheus) (periplus_sidecar_prometheus_gaps))", "short", ((1, "orange"),))],
            ["cluster", "prometheus"],
            "Known gaps in a Prometheus's data; a replica without one is asked there.",
            width=8,
        )
    )
    return b.with_panel(
        listed(
            "Hot windows",
            [("memory", "topk(10, max by (cluster, prometheus) (periplus_sidecar_hot_window_bytes))", "bytes", ())],
            ["cluster", "prometheus"],
            "Memory of the newest minutes that sidecars keep; 0 where a sidecar does not follow the log.",
            width=8,
        )
    )


def blocks(b):
    b = b.with_panel(
        listed(
            "Shipping furthest behind",
            [("newest shipped sample is old", "topk(10, max by (cluster, instance) (periplus_ship_lag_seconds))", "s", ((4 * 3600, "orange"), (12 * 3600, "red")))],
            ["cluster", "instance"],
            "Age of the newest sample in the bucket, by blocks alone: two to four hours while all is well.",
            width=8,
            height=8,
        )
    )
    b = b.with_panel(
        lines(
            "Blocks to ship",
            [("sum(periplus_ship_unshipped_blocks)", "to be shipped"), ("sum(periplus_ship_bad_blocks)", "unreadable"), ("sum(periplus_ship_covered_in_part_blocks)", "covered in part")],
            "Local blocks of all sidecars that are not in the bucket.",
        )
    )
    b = b.with_panel(
        lines(
            "Shipping",
            [(rate("periplus_ship_bytes_total"), "bytes a second"), (f"{rate('periplus_ship_failures_total')} or vector(0)", "failures a second")],
            "Bytes a second sent to the bucket, and what failed.",
            unit="short",
        )
    )
    b = b.with_panel(
        lines(
            "Compactor's backlog",
            [("max(periplus_compactor_backlog_blocks)", "blocks"), ("max(periplus_compactor_waiting_steps)", "steps"), ("max(periplus_compactor_partial_blocks)", "uploads under way")],
            "What is planned and not done.",
        )
    )
    b = b.with_panel(
        lines(
            "Compactor's work",
            [(rate("periplus_compactor_samples_total"), "samples"), (f"{rate('periplus_compactor_failures_total')} or vector(0)", "failures")],
            "Samples a second written to the history, and steps a second that failed.",
        )
    )
    return b.with_panel(
        lines(
            "Compactor's last round",
            [("time() - max by (instance) (periplus_compactor_last_round_timestamp_seconds)", "{{instance}}")],
            "Since a round last ended without failure.",
            unit="s",
            limits=((7200, "orange"),),
        )
    )


def bucket(b):
    b = b.with_panel(
        lines("Bucket operations", [(rate("periplus_bucket_operations_total", "operation"), "{{operation}}")], "Operations a second.", unit="ops", stacked=True)
    )
    b = b.with_panel(
        lines(
            "Bucket failures",
            [(counted('periplus_bucket_operations_total{result!~"ok|not_found|conflict"}', "result"), "{{result}}"), (rate("periplus_bucket_retries_total"), "tried again")],
            "Operations a second that failed, by how, and that were tried again.",
        )
    )
    return b.with_panel(
        lines("Bucket times", [(quantile(0.99, "periplus_bucket_operation_seconds_bucket", "operation"), "{{operation}}")], "99 % take less, retries included.", unit="s")
    )


def events(b):
    b = b.with_panel(
        lines("Events taken in", [(rate("periplus_hub_events_total", "outcome"), "{{outcome}}")], "Events a second by what became of them.", stacked=True)
    )
    b = b.with_panel(
        lines("Batches", [(rate("periplus_hub_batches_total", "outcome"), "{{outcome}}")], "Batches a second by how they ended.", stacked=True)
    )
    b = b.with_panel(
        lines(
            "Hub's memory and log",
            [("max(periplus_hub_memory_bytes)", "rows in memory"), ("max(periplus_hub_log_bytes)", "log")],
            "The log shrinks when rows are moved to the bucket; it grows while the bucket is away.",
            unit="bytes",
        )
    )
    b = b.with_panel(
        lines(
            "How late events arrive",
            [("max(periplus_hub_receipt_lag_seconds)", "hub: newest"), ("max by (cluster) (periplus_events_watch_lag_seconds)", "{{cluster}}")],
            "From an event's last time to its receipt, at the watchers and at the hub.",
            unit="s",
        )
    )
    b = b.with_panel(
        listed(
            "Watchers",
            [("silent for", "topk(10, max by (cluster, instance) (periplus_events_watch_age_seconds))", "s", ((300, "orange"), (900, "red")))],
            ["cluster", "instance"],
            "Since the API server last gave a sign of life.",
            width=8,
            height=8,
        )
    )
    return b.with_panel(
        lines(
            "Spools and gaps",
            [
                ("sum by (cluster) (periplus_events_spool_events)", "{{cluster}} waiting"),
                (f"{rate('periplus_events_spool_dropped_total')} or vector(0)", "dropped a second"),
                (rate("periplus_hub_gaps_total"), "gaps reported a second"),
            ],
            "Events that wait for the hub, and what was lost.",
        )
    )


def rules(b):
    b = b.with_panel(
        listed(
            "Slowest groups",
            [("of its interval", "topk(10, max by (rule_group) (periplus_rule_group_last_duration_seconds / periplus_rule_group_interval_seconds))", "percentunit", ((0.5, "orange"), (0.9, "red")))],
            ["rule_group"],
            "How much of a group's interval its last evaluation took.",
            width=8,
            height=8,
        )
    )
    b = b.with_panel(
        lines(
            "Rules evaluated",
            [(rate("periplus_rule_evaluations_total"), "evaluated"), (rate("periplus_rule_evaluation_failures_total"), "failed"), (rate("periplus_rule_evaluations_partial_total"), "over partial answers")],
            "Rules a second.",
        )
    )
    b = b.with_panel(
        lines(
            "Groups that were due",
            [(rate("periplus_rule_group_iterations_total"), "due"), (rate("periplus_rule_group_iterations_missed_total"), "missed")],
            "Evaluations of groups a second; missed ones took place too late or not at all.",
        )
    )
    b = b.with_panel(
        lines(
            "Notifications",
            [
                (f"{rate('periplus_notifications_sent_total')} or vector(0)", "sent"),
                (f"{rate('periplus_notifications_errors_total')} or vector(0)", "failed"),
                (f"{rate('periplus_notifications_dropped_total')} or vector(0)", "dropped"),
            ],
            "Alerts a second on their way to Alertmanagers.",
        )
    )
    b = b.with_panel(
        lines(
            "Alertmanagers",
            [("min(periplus_notifications_alertmanagers_discovered)", "known"), ("sum(periplus_notifications_queue_length) or vector(0)", "alerts waiting")],
            "Alertmanagers that are told, and what waits for them.",
        )
    )
    return b.with_panel(
        listed(
            "What runs",
            [("processes", "count by (component, version) (periplus_build_info)", "short", ())],
            ["component", "version"],
            "Processes by role and version.",
            width=8,
            height=8,
        )
    )


def board():
    b = new_board(
        "itself",
        "periplus itself",
        "The health of periplus's own processes. Their metrics are at --admin; dashboards/README.md says how to have them scraped.",
        [],
        ["fleet", "events"],
    )
    b = now(b)
    for title, panels in [
        ("Query", query),
        ("Sidecars", sidecars),
        ("Shipping and compaction", blocks),
        ("Bucket", bucket),
        ("Events", events),
        ("Rules and alerts", rules),
    ]:
        b = panels(b.with_row(row(title)))
    return b
