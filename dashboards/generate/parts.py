"""What the dashboards are made of: variables, links between them, and one function for each kind of panel.

Everything a dashboard says goes through Grafana's foundation SDK, so that names of fields and options are
those that Grafana knows.
"""

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    logs as logs_panel,
    loki,
    prometheus,
    stat as stat_panel,
    table as table_panel,
    timeseries,
)
from grafana_foundation_sdk.models import common as c
from grafana_foundation_sdk.models import dashboard as d
from grafana_foundation_sdk.models import prometheus as p

METRICS = c.DataSourceRef(type_val="prometheus", uid="${datasource}")
EVENTS = c.DataSourceRef(type_val="loki", uid="${events}")

# Containers as cAdvisor counts them, without the pod's group and without Docker's sandbox, which
# would count everything twice.
CONTAINERS = 'container!="",container!="POD"'

TAG = "periplus"
REFRESH = "1m"

# The label of a row leads to the dashboard of what it names.
UID = {
    "fleet": "periplus-fleet",
    "cluster": "periplus-cluster",
    "node": "periplus-node",
    "pod": "periplus-pod",
    "events": "periplus-events",
    "itself": "periplus-itself",
}


# --- links ---


def address(to, **variables):
    """The address of a dashboard with its variables; data sources and time go along."""
    given = "".join(f"&var-{name}={value}" for name, value in variables.items())
    return f"/d/{UID[to]}?${{datasource:queryparam}}&${{events:queryparam}}{given}&${{__url_time_range}}"


def row_links(labels, this=None):
    """For each label that has a dashboard, a link to it for the row of a table; `this` holds the
    variables that this dashboard fixes, such as cluster="$cluster"."""
    this = this or {}
    value = {label: f"${{__data.fields.{label}:percentencode}}" for label in labels}
    value |= {name: f"${{{name}}}" for name in this}
    out = {}
    for to, needs in [("cluster", ["cluster"]), ("node", ["cluster", "node"]), ("pod", ["cluster", "namespace", "pod"])]:
        if to in labels and all(n in value for n in needs):
            out[to] = (f"Open this {to}", address(to, **{n: value[n] for n in needs}))
    return out


def between(*to):
    """The links at the top of a dashboard."""
    names = {
        "fleet": "Fleet",
        "cluster": "Cluster",
        "events": "Events",
        "itself": "periplus itself",
    }
    return [
        dashboard.DashboardLink(names[t])
        .type(d.DashboardLinkType.LINK)
        .icon("dashboard")
        .url(f"/d/{UID[t]}")
        .include_vars(True)
        .keep_time(True)
        for t in to
    ]


# --- variables ---


def sources():
    """The two data sources: the fleet's metrics and the fleet's events."""
    return [
        dashboard.DatasourceVariable("datasource").label("Metrics").type("prometheus"),
        dashboard.DatasourceVariable("events").label("Events").type("loki"),
    ]


def choice(name, label, query, *, many=False, source=METRICS):
    """A variable whose values a data source knows."""
    v = (
        dashboard.QueryVariable(name)
        .label(label)
        .datasource(source)
        .query(query)
        .refresh(d.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(d.VariableSort.ALPHABETICAL_ASC)
        .multi(many)
        .include_all(many)
    )
    if many:
        # Not ".*": what has no such label at all is not meant.
        v = v.all_value(".+").current(d.VariableOption(selected=True, text=["All"], value=["$__all"]))
    return v


def label_values(metric, label):
    return {"query": f"label_values({metric}, {label})", "refId": "values"}


def event_values(label, stream=""):
    return {"label": label, "stream": stream, "type": 1, "refId": "values"}


def board(to, title, description, variables, links):
    """A dashboard to put panels into."""
    b = (
        dashboard.Dashboard(title)
        .uid(UID[to])
        .description(description)
        .tags([TAG])
        .editable()
        .timezone("browser")
        .refresh(REFRESH)
        .time("now-1h", "now")
        .tooltip(d.DashboardCursorSync.CROSSHAIR)
    )
    for v in sources() + variables:
        b = b.with_variable(v)
    for link in between(*links):
        b = b.link(link)
    return b


def row(title):
    return dashboard.Row(title)


# --- questions ---


def instant(expr, ref="A"):
    """PromQL at one moment, as a table."""
    return (
        prometheus.Dataquery()
        .expr(expr)
        .ref_id(ref)
        .datasource(METRICS)
        .instant()
        .format(p.PromQueryFormat.TABLE)
        .legend_format("__auto")
    )


def over_time(expr, legend, ref):
    return (
        prometheus.Dataquery()
        .expr(expr)
        .ref_id(ref)
        .datasource(METRICS)
        .range()
        .format(p.PromQueryFormat.TIME_SERIES)
        .legend_format(legend)
    )


def events_now(expr, legend="", ref="A"):
    """LogQL that counts, at one moment."""
    return loki.Dataquery().expr(expr).ref_id(ref).datasource(EVENTS).query_type("instant").legend_format(legend)


def events_over_time(expr, legend, ref="A"):
    return loki.Dataquery().expr(expr).ref_id(ref).datasource(EVENTS).query_type("range").legend_format(legend)


# --- panels ---


def steps(*limits):
    """Thresholds: green, then from each limit on the colour beside it."""
    all_steps = [d.Threshold(value=None, color="green")]
    all_steps += [d.Threshold(value=value, color=color) for value, color in limits]
    return dashboard.ThresholdsConfig().mode(d.ThresholdsMode.ABSOLUTE).steps(all_steps)


# Where anything but none is bad.
NONE = ((1, "red"),)
SOME = ((1, "orange"),)
# Shares of something that must not be used up.
FULL = ((0.8, "orange"), (0.95, "red"))


def stat(title, query, description, *, unit="short", limits=(), decimals=None, width=3, height=4, link=None, mappings=(), graph=False):
    """One number."""
    if isinstance(query, str):
        query = instant(query)
    panel = (
        stat_panel.Panel()
        .title(title)
        .description(description)
        .datasource(query.build().datasource)
        .with_target(query)
        .unit(unit)
        .span(width)
        .height(height)
        .color_mode(c.BigValueColorMode.VALUE)
        .graph_mode(c.BigValueGraphMode.AREA if graph else c.BigValueGraphMode.NONE)
        .thresholds(steps(*limits))
        .color_scheme(dashboard.FieldColor().mode(d.FieldColorModeId.THRESHOLDS))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    )
    if decimals is not None:
        panel = panel.decimals(decimals)
    if mappings:
        panel = panel.mappings(list(mappings))
    if link:
        panel = panel.data_links([dashboard.DashboardLink(link[0]).type(d.DashboardLinkType.LINK).url(link[1])])
    return panel


def _links(links):
    return [{"title": title, "url": url} for title, url in links]


def _table(title, description, width, height):
    return (
        table_panel.Panel()
        .title(title)
        .description(description)
        .datasource(METRICS)
        .span(width)
        .height(height)
        .cell_height(c.TableCellHeight.SM)
        .filterable(False)
    )


GAUGE = {"type": "gauge", "mode": "basic", "valueDisplayMode": "text"}


def top(title, expr, labels, description, *, unit, width, height=11, decimals=None, this=None, color="blue"):
    """A top ten: a table of labels and a bar; each label, and the row as a whole, leads on.

    The question is an instant one: the members of a top ten are those of one moment."""
    links = row_links(labels, this)
    whole = next((links[to] for to in ("pod", "node", "cluster") if to in links), None)
    value = [
        d.DynamicConfigValue(id_val="unit", value=unit),
        d.DynamicConfigValue(id_val="min", value=0),
        d.DynamicConfigValue(id_val="custom.cellOptions", value=GAUGE),
        d.DynamicConfigValue(id_val="color", value={"mode": "fixed", "fixedColor": color}),
        d.DynamicConfigValue(id_val="custom.width", value=150),
    ]
    if decimals is not None:
        value.append(d.DynamicConfigValue(id_val="decimals", value=decimals))
    if whole:
        value.append(d.DynamicConfigValue(id_val="links", value=_links([whole])))
    order = {label: n for n, label in enumerate(labels)} | {"Value": len(labels)}
    panel = (
        _table(title, description, width, height)
        .with_target(instant(expr))
        .with_transformation(
            d.DataTransformerConfig(
                id_val="organize",
                options={"excludeByName": {"Time": True}, "indexByName": order, "renameByName": {}},
            )
        )
        .sort_by([common.TableSortByFieldState().display_name("Value").desc(True)])
        .override_by_name("Value", value)
    )
    for label in labels:
        if label in links:
            panel = panel.override_by_name(label, [d.DynamicConfigValue(id_val="links", value=_links([links[label]]))])
        elif whole:
            panel = panel.override_by_name(label, [d.DynamicConfigValue(id_val="links", value=_links([whole]))])
    return panel


def listed(title, columns, by, description, *, width=24, height=10, this=None, sort=None, none=None):
    """A table with a row for each value of the label `by` (or combination of labels, with one column).

    `columns`: name, question, unit, thresholds. A column with thresholds is coloured by them; one without a name only
    says that the row is there, and is not shown."""
    labels = [by] if isinstance(by, str) else by
    links = row_links(labels, this)
    panel = _table(title, description, width, height)
    names, hidden = {}, {"Time": True}
    for n, (name, expr, unit, limits) in enumerate(columns):
        ref = chr(ord("A") + n)
        panel = panel.with_target(instant(expr, ref))
        if name is None:
            hidden["Value"] = True
            continue
        names["Value" if len(columns) == 1 else f"Value #{ref}"] = name
        look = [d.DynamicConfigValue(id_val="unit", value=unit)]
        if limits:
            colours = [{"color": "green", "value": None}]
            colours += [{"color": colour, "value": at} for at, colour in limits]
            look += [
                d.DynamicConfigValue(id_val="thresholds", value={"mode": "absolute", "steps": colours}),
                d.DynamicConfigValue(id_val="color", value={"mode": "thresholds"}),
                d.DynamicConfigValue(id_val="custom.cellOptions", value={"type": "color-text"}),
            ]
        panel = panel.override_by_name(name, look)
    if len(columns) > 1:
        panel = panel.with_transformation(
            d.DataTransformerConfig(id_val="joinByField", options={"byField": labels[0], "mode": "outer"})
        ).with_transformation(
            d.DataTransformerConfig(
                id_val="filterFieldsByName", options={"include": {"pattern": f"^({labels[0]}|Value.*)$"}}
            )
        )
    # By the names that fields have before they are renamed.
    order = {name: n for n, name in enumerate(labels + list(names))}
    panel = panel.with_transformation(
        d.DataTransformerConfig(
            id_val="organize",
            options={"excludeByName": hidden, "indexByName": order, "renameByName": names},
        )
    )
    for label in labels:
        if label in links:
            panel = panel.override_by_name(label, [d.DynamicConfigValue(id_val="links", value=_links([links[label]]))])
    if sort:
        panel = panel.sort_by([common.TableSortByFieldState().display_name(sort).desc(True)])
    if none:
        panel = panel.no_value(none)
    return panel


def lines(title, questions, description, *, unit="short", stacked=False, width=8, height=8, least=0, most=None, bars=False, limits=(), legend_table=False):
    """Lines over time. `questions`: pairs of PromQL (or a ready question) and legend."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .unit(unit)
        .span(width)
        .height(height)
        .fill_opacity(25 if stacked or bars else 8)
        .line_width(1)
        .show_points(c.VisibilityMode.NEVER)
        .draw_style(c.GraphDrawStyle.BARS if bars else c.GraphDrawStyle.LINE)
        .tooltip(common.VizTooltipOptions().mode(c.TooltipDisplayMode.MULTI).sort(c.SortOrder.DESCENDING))
        .legend(
            common.VizLegendOptions()
            .display_mode(c.LegendDisplayMode.TABLE if legend_table else c.LegendDisplayMode.LIST)
            .placement(c.LegendPlacement.RIGHT if legend_table else c.LegendPlacement.BOTTOM)
            .show_legend(True)
            .calcs(["lastNotNull", "max"] if legend_table else [])
        )
        .thresholds(steps(*limits))
    )
    if limits:
        panel = panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(c.GraphThresholdsStyleMode.DASHED))
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(c.StackingMode.NORMAL).group("A"))
    if least is not None:
        panel = panel.min(least)
    if most is not None:
        panel = panel.max(most)
    source = METRICS
    for n, (question, legend) in enumerate(questions):
        ref = chr(ord("A") + n)
        if isinstance(question, str):
            question = over_time(question, legend, ref)
        else:
            source = question.build().datasource
        panel = panel.with_target(question)
    return panel.datasource(source)


def event_bars(title, expr, shown, description, *, to="events", width=6, height=11, **variables):
    """A top ten of events as bars, each of which leads on."""
    name = " · ".join(f"${{__field.labels.{label}}}" for label in shown)
    values = variables or {label: f"${{__field.labels.{label}}}" for label in shown if label in ("cluster", "namespace", "reason")}
    return (
        bargauge.Panel()
        .title(title)
        .description(description)
        .datasource(EVENTS)
        .with_target(events_now(expr, " · ".join(f"{{{{{label}}}}}" for label in shown)))
        .unit("short")
        .decimals(0)
        .min(0)
        .span(width)
        .height(height)
        .orientation(c.VizOrientation.HORIZONTAL)
        .display_mode(c.BarGaugeDisplayMode.BASIC)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .display_name(name)
        .color_scheme(dashboard.FieldColor().mode(d.FieldColorModeId.FIXED).fixed_color("orange"))
        .data_links(
            [
                dashboard.DashboardLink("Open these events")
                .type(d.DashboardLinkType.LINK)
                .url(address(to, **values))
            ]
        )
    )


def logs(title, expr, description, *, width=24, height=10):
    """The events themselves, newest first."""
    return (
        logs_panel.Panel()
        .title(title)
        .description(description)
        .datasource(EVENTS)
        .with_target(loki.Dataquery().expr(expr).ref_id("A").datasource(EVENTS).query_type("range").max_lines(200))
        .span(width)
        .height(height)
        .show_time(True)
        .show_labels(False)
        .show_common_labels(False)
        .wrap_log_message(True)
        .enable_log_details(True)
        .prettify_log_message(False)
        .sort_order(c.LogsSortOrder.DESCENDING)
        .dedup_strategy(c.LogsDedupStrategy.NONE)
    )


def words(**of_value):
    """Values shown as words: words(v0=("no", "red"), v1=("yes", "green"))."""
    options = {
        value.removeprefix("v"): d.ValueMappingResult(text=text, color=color, index=n)
        for n, (value, (text, color)) in enumerate(of_value.items())
    }
    return [d.ValueMap(options=options)]
