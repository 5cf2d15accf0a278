//! The dashboards' files, read as Grafana reads them.

use std::path::Path;

use serde_json::Value;

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The query process, as a Prometheus.
    Metrics,
    /// The events hub, as a Loki.
    Events,
}

/// What a panel asks.
#[derive(Clone, Debug)]
pub(super) struct Question {
    pub(super) expr: String,
    pub(super) source: Source,
    /// For one moment, and not over time.
    pub(super) instant: bool,
}

#[derive(Clone, Debug)]
pub(super) struct Panel {
    pub(super) title: String,
    pub(super) kind: String,
    pub(super) description: String,
    /// Whether its numbers have a unit, or it shows none.
    pub(super) has_unit: bool,
    pub(super) questions: Vec<Question>,
}

#[derive(Clone, Debug)]
pub(super) struct Variable {
    pub(super) name: String,
    /// Who knows its values; none for the choice of a data source.
    pub(super) source: Option<Source>,
    pub(super) query: Value,
}

#[derive(Clone, Debug)]
pub(super) struct Board {
    pub(super) uid: String,
    pub(super) title: String,
    pub(super) panels: Vec<Panel>,
    pub(super) variables: Vec<Variable>,
    /// Addresses of other dashboards.
    pub(super) links: Vec<String>,
}

impl Board {
    /// All questions, each with its panel.
    pub(super) fn questions(&self) -> impl Iterator<Item = (&Panel, &Question)> {
        self.panels.iter().flat_map(|p| p.questions.iter().map(move |q| (p, q)))
    }
}

/// All of them.
pub(super) fn boards() -> Vec<Board> {
    let dir =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboards/provisioning/dashboards/periplus");
    let mut files: Vec<_> =
        std::fs::read_dir(&dir).expect("dashboards").map(|f| f.expect("an entry").path()).collect();
    files.sort();
    files.iter().map(|f| board(&std::fs::read(f).expect("a dashboard"))).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Data sources are variables, named here and nowhere else.
fn source(value: &Value) -> Source {
    let (kind, uid) = (value["type"].as_str(), value["uid"].as_str());
    match (kind, uid) {
        (Some("prometheus"), Some("${datasource}")) => Source::Metrics,
        (Some("loki"), Some("${events}")) => Source::Events,
        _ => panic!("a data source of its own: {value}"),
    }
}

fn board(bytes: &[u8]) -> Board {
    let json: Value = serde_json::from_slice(bytes).expect("JSON");
    let panels = list(&json["panels"]).iter().filter(|p| p["type"] != "row");
    let variables = list(&json["templating"]["list"]).iter().map(|v| Variable {
        name: text(&v["name"]),
        source: (v["type"] == "query").then(|| source(&v["datasource"])),
        query: v["query"].clone(),
    });
    let mut links = Vec::new();
    addresses(&json, &mut links);
    Board {
        uid: text(&json["uid"]),
        title: text(&json["title"]),
        panels: panels.map(panel).collect(),
        variables: variables.collect(),
        links,
    }
}

fn panel(json: &Value) -> Panel {
    let questions = list(&json["targets"]).iter().map(|t| {
        let source = source(&t["datasource"]);
        let instant = match source {
            Source::Metrics => t["instant"] == true,
            Source::Events => t["queryType"] == "instant",
        };
        Question { expr: text(&t["expr"]), source, instant }
    });
    let config = &json["fieldConfig"];
    let mut overrides = list(&config["overrides"]).iter().flat_map(|o| list(&o["properties"]));
    let mut changes = list(&json["transformations"]).iter();
    let no_numbers = changes.any(|t| t["options"]["excludeByName"]["Value"] == true);
    Panel {
        title: text(&json["title"]),
        kind: text(&json["type"]),
        description: text(&json["description"]),
        has_unit: no_numbers
            || config["defaults"]["unit"].is_string()
            || overrides.any(|p| p["id"] == "unit"),
        questions: questions.collect(),
    }
}

/// All addresses of dashboards anywhere below.
fn addresses(json: &Value, out: &mut Vec<String>) {
    match json {
        Value::Object(fields) => {
            out.extend(fields.get("url").and_then(Value::as_str).map(str::to_owned));
            fields.values().for_each(|v| addresses(v, out));
        }
        Value::Array(all) => all.iter().for_each(|v| addresses(v, out)),
        _ => {}
    }
}

/// An expression as Grafana sends it: with its own variables, then those of the dashboard.
pub(super) fn filled(expr: &str, values: &[(&str, String)]) -> String {
    let mut out = expr
        .replace("$__rate_interval", "2m")
        .replace("$__interval", "1m")
        .replace("$__range", "1h");
    for (name, value) in values {
        out = out.replace(&format!("${name}"), value);
    }
    out
}
