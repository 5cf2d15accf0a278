//! What is known of the Prometheus at a moment.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use periplus_model::{Labels, TimeRange};
use serde::Deserialize;

/// A Prometheus's version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// The number before the first dot; 0 when unknown.
    pub major: u32,
    /// The number after it.
    pub minor: u32,
    /// As it says itself.
    pub text: String,
}

impl Version {
    /// Reads `3.14.0`, `2.42.0+ds` and the like.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut parts = text.split(|c: char| !c.is_ascii_digit());
        let mut number = || parts.next().and_then(|p| p.parse().ok()).unwrap_or(0);
        Self { major: number(), minor: number(), text: text.to_owned() }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What is known of the Prometheus at a moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Whether it was ever reached: until then nothing below means anything.
    pub known: bool,
    /// Its external labels.
    pub external: Labels,
    /// Its version.
    pub version: Version,
    /// Its command-line flags.
    pub flags: BTreeMap<String, String>,
    /// `global.scrape_interval`, milliseconds.
    pub scrape_interval_ms: i64,
    /// Whether samples out of order are taken in.
    pub out_of_order: bool,
    /// `global.evaluation_interval`, milliseconds: the step of subqueries that name none.
    pub evaluation_interval_ms: i64,
    /// What is wrong with it, for people.
    pub problem: Option<String>,
    /// Since when, Unix milliseconds.
    pub problem_since_ms: i64,
    /// Unix milliseconds of its oldest sample, as far as known.
    pub min_t: Option<i64>,
    /// Unix milliseconds of its newest sample.
    pub max_t: Option<i64>,
    /// Series in its head.
    pub head_series: u64,
    /// When it has no samples though it should.
    pub gaps: Vec<TimeRange>,
    /// External labels that some of its series carry themselves.
    pub shadowed: BTreeSet<String>,
}

impl Snapshot {
    /// Whether a feature is switched on (`--enable-feature`).
    #[must_use]
    pub fn has_feature(&self, name: &str) -> bool {
        self.flags.get("enable-feature").is_some_and(|f| f.split(',').any(|x| x.trim() == name))
    }

    /// Age of the newest sample at `now_ms`, milliseconds; -1 when unknown.
    #[must_use]
    pub fn lag_ms(&self, now_ms: i64) -> i64 {
        self.max_t.map_or(-1, |t| now_ms.saturating_sub(t).max(0))
    }
}

/// What the configuration says that matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Global {
    pub(crate) external: Labels,
    pub(crate) scrape_interval_ms: i64,
    pub(crate) evaluation_interval_ms: i64,
    pub(crate) out_of_order: bool,
}

#[derive(Deserialize, Default)]
struct Document {
    #[serde(default)]
    global: Section,
    #[serde(default)]
    storage: Storage,
}

#[derive(Deserialize, Default)]
struct Storage {
    #[serde(default)]
    tsdb: Tsdb,
}

#[derive(Deserialize, Default)]
struct Tsdb {
    #[serde(default)]
    out_of_order_time_window: Option<String>,
}

#[derive(Deserialize, Default)]
struct Section {
    #[serde(default)]
    external_labels: BTreeMap<String, String>,
    #[serde(default)]
    scrape_interval: Option<String>,
    #[serde(default)]
    evaluation_interval: Option<String>,
}

/// Reads the global and storage sections of a configuration as Prometheus prints it. Only these are parsed: the
/// rest may be megabytes of scrape jobs.
pub(crate) fn read_global(yaml: &str) -> Result<Global, String> {
    let mut section = String::new();
    let mut inside = false;
    for line in yaml.lines() {
        if !line.starts_with([' ', '#']) && !line.is_empty() {
            inside = line.starts_with("global:") || line.starts_with("storage:");
        }
        if inside {
            section.push_str(line);
            section.push('\n');
        }
    }
    let document: Document = if section.trim().is_empty() {
        Document::default()
    } else {
        serde_saphyr::from_str(&section).map_err(|e| e.to_string())?
    };
    let ms = |text: Option<String>| text.as_deref().and_then(duration_ms).unwrap_or(60_000);
    Ok(Global {
        external: Labels::from_pairs(document.global.external_labels),
        scrape_interval_ms: ms(document.global.scrape_interval),
        evaluation_interval_ms: ms(document.global.evaluation_interval),
        // Anything that is not plainly zero.
        out_of_order: document
            .storage
            .tsdb
            .out_of_order_time_window
            .is_some_and(|w| w.trim_start_matches('0').starts_with(|c: char| c.is_ascii_digit())),
    })
}

/// `1h30m`, `15s`, `100ms` as Prometheus prints durations.
fn duration_ms(text: &str) -> Option<i64> {
    let (mut total, mut number) = (0i64, String::new());
    let mut rest = text.trim().chars().peekable();
    while let Some(c) = rest.next() {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        let unit = match c {
            'm' if rest.peek() == Some(&'s') => {
                rest.next();
                1
            }
            's' => 1_000,
            'm' => 60_000,
            'h' => 3_600_000,
            'd' => 86_400_000,
            'w' => 7 * 86_400_000,
            'y' => 365 * 86_400_000,
            _ => return None,
        };
        let n: i64 = number.parse().ok()?;
        total = total.checked_add(n.checked_mul(unit)?)?;
        number.clear();
    }
    (number.is_empty() && total > 0).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        let v = |t: &str| (Version::parse(t).major, Version::parse(t).minor);
        assert_eq!((v("3.14.0"), v("2.42.0+ds"), v("")), ((3, 14), (2, 42), (0, 0)));
        assert_eq!(v("3.0.0-rc.1"), (3, 0));
    }

    #[test]
    fn the_global_section_is_enough() {
        let yaml = "global:\n  scrape_interval: 1m30s\n  evaluation_interval: 500ms\n  \
            external_labels:\n    cluster: a\n    replica: \"0\"\nscrape_configs:\n- job_name: x\n  \
            broken: [\n";
        let g = read_global(yaml).unwrap();
        assert_eq!(g.external, Labels::from_pairs([("cluster", "a"), ("replica", "0")]));
        assert_eq!((g.scrape_interval_ms, g.evaluation_interval_ms), (90_000, 500));
        assert_eq!(read_global("").unwrap().scrape_interval_ms, 60_000);
        let window = |w: &str| format!("storage:\n  tsdb:\n    out_of_order_time_window: {w}\n");
        assert!(read_global(&window("30m")).unwrap().out_of_order);
        assert!(!read_global(&window("0s")).unwrap().out_of_order);
        assert!(read_global("global: [1,\n").is_err());
    }
}
