//! An answer as a table, or as JSON.

use std::fmt::Write as _;

use super::answer::Answer;
use super::questions::Question;
use super::units::human;

/// Title, columns as wide as needed, and beneath them what is missing.
pub(crate) fn table(question: &Question, answer: &Answer) -> String {
    let mut lines: Vec<Vec<String>> = Vec::with_capacity(answer.rows.len() + 1);
    let mut head = vec!["#".to_owned()];
    head.extend(question.row_labels().iter().map(|l| l.to_uppercase()));
    head.push(question.what.heading().to_owned());
    lines.push(head);
    for (i, row) in answer.rows.iter().enumerate() {
        let mut line = vec![(i + 1).to_string()];
        line.extend(row.names.iter().map(|n| printable(n)));
        line.push(human(question.what, row.value));
        lines.push(line);
    }
    let columns = lines[0].len();
    let widths: Vec<usize> = (0..columns)
        .map(|c| lines.iter().map(|l| l[c].chars().count()).max().unwrap_or(0))
        .collect();
    let mut out = format!("{}\n", question.title());
    for line in &lines {
        out.push(' ');
        for (c, text) in line.iter().enumerate() {
            let pad = " ".repeat(widths[c] - text.chars().count());
            // Numbers to the right, names to the left.
            let right = c == 0 || c + 1 == columns;
            let _ = if right { write!(out, " {pad}{text} ") } else { write!(out, " {text}{pad} ") };
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
    if answer.rows.is_empty() {
        out.push_str("  (nothing)\n");
    }
    for warning in &answer.warnings {
        let _ = writeln!(out, "  ! {}", printable(warning));
    }
    out
}

/// Text that cannot move the cursor or colour the terminal.
fn printable(s: &str) -> String {
    s.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// One JSON object: the question, its PromQL, the rows and the warnings.
pub(crate) fn json(question: &Question, answer: &Answer) -> String {
    let labels = question.row_labels();
    let rows: Vec<serde_json::Value> = answer
        .rows
        .iter()
        .map(|r| {
            let mut row: serde_json::Map<String, serde_json::Value> = labels
                .iter()
                .zip(&r.names)
                .map(|(l, n)| ((*l).to_owned(), n.clone().into()))
                .collect();
            // JSON has no infinities; the API writes such values as text, and so does this.
            let number = serde_json::Number::from_f64(r.value);
            row.insert(
                "value".into(),
                number.map_or_else(|| r.value.to_string().into(), serde_json::Value::Number),
            );
            row.into()
        })
        .collect();
    let whole = serde_json::json!({
        "title": question.title(),
        "query": question.promql(),
        "rows": rows,
        "warnings": answer.warnings,
    });
    format!("{whole}\n")
}

#[cfg(test)]
mod tests {
    use super::super::answer::Row;
    use super::super::questions::{By, What};
    use super::*;

    #[test]
    fn columns_line_up_and_the_missing_are_named() {
        let question = Question {
            what: What::Cpu,
            by: By::Node,
            k: 2,
            window: "5m".into(),
            cluster_label: "cluster".into(),
            node_label: "node".into(),
        };
        let row = |c: &str, n: &str, value| Row { names: vec![c.into(), n.into()], value };
        let answer = Answer {
            rows: vec![row("paris", "n-10", 12.5), row("b", "\u{1b}[2J", 0.5)],
            warnings: vec!["tokyo is missing".into()],
        };
        assert_eq!(
            table(&question, &answer),
            "Top 2 nodes by CPU (mean over 5m)\n  #  CLUSTER  NODE          CPU\n  \
             1  paris    n-10  12.50 cores\n  2  b        \u{fffd}[2J   0.50 cores\n  \
             ! tokyo is missing\n"
        );
    }
}
