//! Tables for people, JSON for scripts, progress on the terminal.

use std::io::{IsTerminal as _, Write as _};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use periplus_bucket::blocks::Progress;

/// How something is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people
    #[default]
    Table,
    /// For scripts
    Json,
}

/// Prints a document.
pub(super) fn json(value: &serde_json::Value) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)?;
    Ok(())
}

/// Rows under headings, as wide as they need.
pub(super) struct Table<const N: usize> {
    rows: Vec<[String; N]>,
}

impl<const N: usize> Table<N> {
    pub(super) fn new(headings: &[&str; N]) -> Self {
        Self { rows: vec![headings.map(str::to_owned)] }
    }

    pub(super) fn row(&mut self, row: [String; N]) {
        // What comes from a bucket can't move a terminal's cursor.
        self.rows.push(row.map(|cell| cell.replace(char::is_control, "?")));
    }

    pub(super) fn print(&self) -> std::io::Result<()> {
        let mut widths = [0; N];
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut out = std::io::stdout().lock();
        for row in &self.rows {
            let mut line = String::new();
            for (width, cell) in widths.iter().zip(row) {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
            }
            writeln!(out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// `1.5 GiB`
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let (mut value, mut unit) = (n as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or("");
    if unit == 0 { format!("{n} {name}") } else { format!("{value:.1} {name}") }
}

/// `2026-11-21 14:00:00`
pub(super) fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms)
        .map_or_else(|_| format!("{ms} ms"), |t| t.strftime("%Y-%m-%d %H:%M:%S").to_string())
}

/// A bar on the terminal; nothing where there is none.
pub(crate) struct Bar(Option<ProgressBar>);

impl Bar {
    pub(crate) fn new(what: &'static str) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::new(0).with_message(what);
        let style = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len} {eta}");
        Self(Some(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))))
    }
}

impl Progress for Bar {
    fn more(&mut self, steps: u64) {
        if let Some(bar) = &self.0 {
            bar.inc_length(steps);
        }
    }

    fn step(&mut self, _what: &str) {
        if let Some(bar) = &self.0 {
            bar.inc(1);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
