//! The dashboards that ship, held to what they promise: they are as generated, every expression parses and asks
//! for what exists, links lead somewhere; and over a running fleet every panel has data, nothing is fetched as series,
//! and every variable has values.

mod files;
mod running;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use periplus_promql::parse::{parse, selectors};
use periplus_simfleet::{Fleet, FleetConfig, ScrapeConfig};
use serde_json::Value;

use files::{Board, Question, Source, Variable, boards, filled};
use running::{Running, now_ms};

/// Panels that are empty while all is well; the test makes them not so.
const EMPTY_WHILE_WELL: &[(&str, &str)] = &[("periplus-fleet", "Missing clusters")];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn they_are_as_generated() {
    let python = root().join("target/tools/venv/bin/python3");
    let has = Command::new(&python).args(["-c", "import grafana_foundation_sdk"]).output();
    if !has.is_ok_and(|o| o.status.success()) {
        let text = "Grafana's foundation SDK is not there: script/setup test gets it";
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{text}");
        eprintln!("skipped: {text}");
        return;
    }
    let check =
        Command::new(&python).arg(root().join("dashboards/generate")).arg("--check").output();
    let check = check.expect("python runs");
    let told = String::from_utf8_lossy(&check.stderr);
    assert!(check.status.success(), "{told}");
}

/// What the simulated fleet serves over some hours: metrics, and the labels of each.
fn simulated() -> BTreeMap<String, BTreeSet<String>> {
    let fleet = Fleet::new(FleetConfig { clusters: 1, nodes: 2, ..FleetConfig::default() });
    let scrape = ScrapeConfig { interval_ms: 60_000, replica: 0 };
    let now = now_ms();
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for series in fleet.clusters()[0].scraped(now - 6 * 3_600_000, now, scrape) {
        let labels = all.entry(series.labels.metric_name().unwrap_or_default().into()).or_default();
        labels.extend(series.labels.iter().map(|(name, _)| name.to_owned()));
        labels.insert("cluster".into());
    }
    all
}

/// Our own metrics are looked for by `tests/tidy.rs` in the sources, and below in what processes serve.
#[test]
fn expressions_parse_and_ask_for_what_exists() {
    let known = simulated();
    let mut wrong = Vec::new();
    let mut count = 0;
    for board in boards() {
        let values: Vec<(&str, String)> =
            board.variables.iter().map(|v| (v.name.as_str(), "x".to_owned())).collect();
        for (panel, question) in board.questions() {
            let place = format!("{}: {}", board.title, panel.title);
            let text = filled(&question.expr, &values);
            if text.contains('$') {
                wrong.push(format!("{place}: nothing fills {text}"));
            }
            if question.source == Source::Events {
                continue;
            }
            count += 1;
            let expr = match parse(&text) {
                Ok(expr) => expr,
                Err(e) => {
                    wrong.push(format!("{place}: {e}"));
                    continue;
                }
            };
            for selector in selectors(&expr) {
                let name = selector.name.as_str();
                if name.starts_with("periplus_") || name == "ALERTS" {
                    continue;
                }
                let Some(labels) = known.get(name) else {
                    wrong.push(format!("{place}: the fleet has no metric {name:?}"));
                    continue;
                };
                let names = selector.matchers.iter().map(|m| m.name.as_str());
                for label in names.filter(|n| *n != "__name__" && !labels.contains(*n)) {
                    wrong.push(format!("{place}: {name} has no label {label}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 150, "{count} expressions only");
}

/// Every panel says what it shows and in what unit; a top ten is one of one moment, evaluated where the data is.
#[test]
fn panels_say_what_they_show() {
    let mut wrong = Vec::new();
    for board in boards() {
        for panel in &board.panels {
            let place = format!("{}: {}", board.title, panel.title);
            if panel.description.len() < 10 || panel.questions.is_empty() {
                wrong.push(format!("{place}: no description or no question"));
            }
            if !panel.has_unit && panel.kind != "logs" {
                wrong.push(format!("{place}: no unit"));
            }
            if panel.title.starts_with("Top ") {
                let one = &panel.questions[0];
                if !one.instant || !one.expr.starts_with("topk(10, ") {
                    wrong.push(format!("{place}: {} is no top ten of one moment", one.expr));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn links_lead_to_dashboards_and_their_variables() {
    let boards = boards();
    assert_eq!(boards.len(), 6);
    let of: BTreeMap<&str, &Board> = boards.iter().map(|b| (b.uid.as_str(), b)).collect();
    let (mut wrong, mut count) = (Vec::new(), 0);
    for board in &boards {
        for link in &board.links {
            count += 1;
            let address = link.trim_start_matches("/d/");
            let (uid, parameters) = address.split_once('?').unwrap_or((address, ""));
            let Some(to) = of.get(uid) else {
                wrong.push(format!("{}: {link} leads nowhere", board.title));
                continue;
            };
            let named = parameters.split('&').filter_map(|p| p.strip_prefix("var-"));
            for name in named.filter_map(|p| p.split_once('=').map(|(name, _)| name)) {
                if !to.variables.iter().any(|v| v.name == name) {
                    wrong.push(format!("{}: {} has no variable {name}", board.title, to.title));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Each row of each top ten, each node, each pod.
    assert!(count > 80, "{count} links only");
}

#[test]
fn grafana_finds_what_it_is_told_of() {
    let folder = root().join("dashboards/provisioning");
    let read = |file: &str| std::fs::read_to_string(folder.join(file)).expect(file);
    let provider = read("dashboards/periplus.yaml");
    let path = provider.lines().find_map(|l| l.trim().strip_prefix("path: ")).expect("a path");
    // Where the folder is mounted or copied to.
    let inside = path.strip_prefix("/etc/grafana/provisioning/").expect("the usual place");
    assert!(folder.join(inside).join("fleet.json").is_file(), "{inside}");
    let sources = read("datasources/periplus.yaml");
    for kind in ["prometheus", "loki"] {
        assert!(sources.contains(&format!("type: {kind}\n")), "no {kind}");
    }
}

/// Whether there is any data for a question, at a time or for the hour before it.
async fn has_data(
    running: &Running,
    question: &Question,
    text: &str,
    now_ms: i64,
) -> Result<(), String> {
    let answer = running.ask(question.source, question.instant, text, now_ms).await?;
    let result = answer["data"]["result"].as_array();
    match result.is_some_and(|rows| !rows.is_empty()) {
        true => Ok(()),
        false => Err(format!("no data: {answer}").chars().take(300).collect()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_panel_has_data_in_a_running_fleet() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut running = Running::start(dir.path()).await;
    let boards = boards();
    let mut open: Vec<(String, &Question, String)> = Vec::new();
    for board in &boards {
        let values = running.values(board);
        for (panel, question) in board.questions() {
            if !EMPTY_WHILE_WELL.contains(&(board.uid.as_str(), panel.title.as_str())) {
                let place = format!("{}: {}", board.title, panel.title);
                open.push((place, question, filled(&question.expr, &values)));
            }
        }
    }
    assert!(open.len() > 190, "{} questions only", open.len());
    let deadline = Instant::now() + Duration::from_secs(180);
    loop {
        let now = running.advance().await;
        let (mut without, mut told) = (Vec::new(), Vec::new());
        for (place, question, text) in open {
            if let Err(why) = has_data(&running, question, &text, now).await {
                told.push(format!("{place}\n    {text}\n    {why}"));
                without.push((place, question, text));
            }
        }
        if without.is_empty() {
            break;
        }
        assert!(Instant::now() < deadline, "{} panels:\n{}", told.len(), told.join("\n"));
        open = without;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    for board in &boards {
        everything_is_pushed(&running, board).await;
        for variable in &board.variables {
            has_values(&running, board, variable).await;
        }
    }
    recorded_series_are_there(&mut running, dir.path()).await;
    a_missing_cluster_is_shown(&mut running, &boards).await;
}

/// No selector of any panel is fetched as series: each lies within what endpoints evaluate.
async fn everything_is_pushed(running: &Running, board: &Board) {
    let values = running.values(board);
    for (panel, question) in board.questions().filter(|(_, q)| q.source == Source::Metrics) {
        let text = filled(&question.expr, &values);
        let plan = running.explain(&text).await;
        let pushed: Vec<(u64, u64)> = plan["data"]["pushed"]
            .as_array()
            .unwrap_or_else(|| panic!("{text}: {plan}"))
            .iter()
            .filter_map(|f| {
                let from = f["position"].as_u64()?;
                Some((from, from + f["query"].as_str()?.len() as u64))
            })
            .collect();
        let expr = parse(&text).expect("it parses");
        for selector in selectors(&expr) {
            let (from, until) = (u64::from(selector.span.start), u64::from(selector.span.end));
            assert!(
                pushed.iter().any(|p| p.0 <= from && until <= p.1),
                "{}: {}: {} is fetched: {}",
                board.title,
                panel.title,
                &text[from as usize..until as usize],
                plan["data"]["evaluated_here"]
            );
        }
    }
}

/// As Grafana asks for the values of a variable.
async fn has_values(running: &Running, board: &Board, variable: &Variable) {
    let Some(source) = variable.source else { return };
    let values = running.values(board);
    let found = match source {
        Source::Metrics => {
            let query = variable.query["query"].as_str().expect("a query");
            let inner = query.strip_prefix("label_values(").and_then(|q| q.strip_suffix(')'));
            let (selector, label) = inner.and_then(|q| q.rsplit_once(", ")).expect("label_values");
            running.label_values(source, label, &filled(selector, &values)).await
        }
        Source::Events => {
            let label = variable.query["label"].as_str().expect("a label");
            running.label_values(source, label, "").await
        }
    };
    let place = format!("{}: ${}", board.title, variable.name);
    assert!(!found.is_empty(), "{place} has no values");
    let chosen = values.iter().find(|(name, _)| *name == variable.name);
    let chosen = chosen.map(|(_, value)| value.as_str()).expect("a value");
    // All, or the one that the test looks at.
    assert!(chosen.starts_with('.') || found.iter().any(|v| v == chosen), "{place}: {found:?}");
}

/// The recording rules that ship give series in a running fleet.
async fn recorded_series_are_there(running: &mut Running, dir: &Path) {
    let mut names = Vec::new();
    for file in std::fs::read_dir(dir.join("rules")).expect("rules") {
        let text = std::fs::read_to_string(file.expect("an entry").path()).expect("a rule file");
        let lines = text.lines().filter_map(|l| l.trim().strip_prefix("- record: "));
        names.extend(lines.map(str::to_owned));
    }
    assert!(names.len() >= 8, "{names:?}");
    let deadline = Instant::now() + Duration::from_secs(120);
    while let Some(name) = names.last() {
        let now = running.advance().await;
        let answer = running.ask(Source::Metrics, true, name, now).await;
        if answer.is_ok_and(|a| a["data"]["result"].as_array().is_some_and(|r| !r.is_empty())) {
            names.pop();
            continue;
        }
        assert!(Instant::now() < deadline, "nothing is recorded as {names:?}");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

async fn a_missing_cluster_is_shown(running: &mut Running, boards: &[Board]) {
    let gone = running.lose_a_cluster();
    let deadline = Instant::now() + Duration::from_secs(120);
    for (uid, title) in EMPTY_WHILE_WELL {
        let board = boards.iter().find(|b| b.uid == *uid).expect("a board");
        let panel = board.panels.iter().find(|p| p.title == *title).expect("a panel");
        let text = filled(&panel.questions[0].expr, &running.values(board));
        loop {
            let answer =
                running.ask(Source::Metrics, true, &text, now_ms()).await.unwrap_or_default();
            let rows = answer["data"]["result"].as_array().cloned().unwrap_or_default();
            let named = |row: &Value| row["metric"]["cluster"] == gone.as_str();
            if rows.iter().any(named) {
                break;
            }
            assert!(Instant::now() < deadline, "{title} does not show {gone}: {answer}");
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }
}
