//! Alerts and series ends kept over a restart, in one file that is replaced as a whole.
//!
//! Prometheus finds the time an alert became active in `ALERTS_FOR_STATE`; here everything that is
//! known of an alert is kept, so that one that fires goes on firing without a gap and one that ended
//! while nobody looked is told as resolved.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use periplus_model::Labels;
use serde::{Deserialize, Serialize};

use super::alert::{Alert, State};
use super::group::Running;

/// The name of the file in the data directory.
const FILE: &str = "rules-state.json";
/// A larger file is not read.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// Label sets as JSON objects.
pub(super) mod labels {
    use std::collections::BTreeMap;

    use periplus_model::Labels;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(in crate::ruler) fn serialize<S: Serializer>(l: &Labels, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(l.iter())
    }

    pub(in crate::ruler) fn deserialize<'de, D: Deserializer<'de>>(
        d: D,
    ) -> Result<Labels, D::Error> {
        BTreeMap::<String, String>::deserialize(d).map(Labels::from_pairs)
    }
}

/// Floats as text, so that NaN and infinities survive.
pub(super) mod float {
    use periplus_model::float::{format_json, parse_go_float};
    use serde::{Deserialize as _, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
    pub(in crate::ruler) fn serialize<S: Serializer>(v: &f64, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&format_json(*v))
    }

    pub(in crate::ruler) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
        let text = String::deserialize(d)?;
        parse_go_float(&text).map_err(serde::de::Error::custom)
    }
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct LabelSet(#[serde(with = "labels")] Labels);

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct SavedRule {
    identity: String,
    alerts: Vec<Alert>,
    previous: Vec<LabelSet>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct SavedGroup {
    last_ts: i64,
    rules: Vec<SavedRule>,
}

/// Everything that is kept.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Saved {
    version: u32,
    groups: BTreeMap<String, SavedGroup>,
}

/// Why state can't be read or written.
#[derive(Debug, thiserror::Error)]
#[error("rule state {path}: {reason}; check --data, or remove the file to begin without alerts", path = path.display())]
pub struct StateError {
    path: PathBuf,
    reason: String,
}

/// When old state counts.
#[derive(Clone, Copy, Debug)]
pub struct Restore {
    /// State of a longer outage is not taken over, in milliseconds.
    pub outage_tolerance_ms: i64,
    /// The least time between a restart and the firing of an alert that was pending, in milliseconds;
    /// alerts with a shorter `for` begin anew.
    pub for_grace_period_ms: i64,
}

impl Saved {
    /// What groups are now.
    #[must_use]
    pub fn of<'a>(groups: impl IntoIterator<Item = &'a Running>) -> Self {
        let mut all = BTreeMap::new();
        for g in groups {
            let state = g.state.lock();
            let Some(last_ts) = state.last_ts else { continue };
            let rules = g.group.rules.iter().zip(&state.rules);
            let rules = rules
                .map(|(rule, r)| SavedRule {
                    identity: rule.identity(),
                    alerts: r.alerts.active.values().cloned().collect(),
                    previous: r.previous.iter().cloned().map(LabelSet).collect(),
                })
                .collect();
            all.insert(g.group.key(), SavedGroup { last_ts, rules });
        }
        Self { version: 1, groups: all }
    }

    /// Writes it beside the old one and replaces that.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn write(&self, dir: &Path) -> Result<(), StateError> {
        let path = dir.join(FILE);
        let fail =
            |e: &dyn std::fmt::Display| StateError { path: path.clone(), reason: e.to_string() };
        let bytes = serde_json::to_vec(self).map_err(|e| fail(&e))?;
        let beside = dir.join(format!("{FILE}.tmp"));
        let write = || {
            use std::io::Write as _;
            let mut file = std::fs::File::create(&beside)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            std::fs::rename(&beside, &path)?;
            std::fs::File::open(dir)?.sync_all()
        };
        write().map_err(|e| fail(&e))
    }

    /// Reads what was written last; nothing where nothing was.
    ///
    /// # Errors
    /// The file can't be read or makes no sense.
    pub fn read(dir: &Path) -> Result<Self, StateError> {
        let path = dir.join(FILE);
        let fail = |reason: String| StateError { path: path.clone(), reason };
        let size = match std::fs::metadata(&path) {
            Ok(m) => m.len(),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(fail(e.to_string())),
        };
        if size > FILE_BYTES_MAX {
            return Err(fail(format!("{size} bytes, over the limit of {FILE_BYTES_MAX}")));
        }
        let bytes = std::fs::read(&path).map_err(|e| fail(e.to_string()))?;
        let saved: Self = serde_json::from_slice(&bytes).map_err(|e| fail(e.to_string()))?;
        match saved.version {
            1 => Ok(saved),
            v => Err(fail(format!("version {v} of its format; this program reads 1"))),
        }
    }

    /// Gives a group that was not evaluated yet its old state, as of `now_ms`; how many alerts it got.
    pub fn restore(&self, g: &Running, now_ms: i64, how: Restore) -> usize {
        let Some(saved) = self.groups.get(&g.group.key()) else { return 0 };
        let outage = now_ms.saturating_sub(saved.last_ts);
        if outage > how.outage_tolerance_ms {
            return 0;
        }
        let mut left: Vec<Option<&SavedRule>> = saved.rules.iter().map(Some).collect();
        let mut state = g.state.lock();
        let mut restored = 0;
        for (rule, to) in g.group.rules.iter().zip(&mut state.rules) {
            let identity = rule.identity();
            let found = left.iter_mut().find(|s| s.is_some_and(|s| s.identity == identity));
            let Some(from) = found.and_then(Option::take) else { continue };
            to.previous = from.previous.iter().map(|l| l.0.clone()).collect();
            let Some(alerting) = &rule.alerting else { continue };
            for a in &from.alerts {
                let Some(a) = carried_over(a, alerting.for_ms, saved.last_ts, now_ms, how) else {
                    continue;
                };
                restored += usize::from(a.resolved_at.is_none());
                to.alerts.active.insert(a.labels.clone(), a);
            }
        }
        let gone = left.into_iter().flatten().flat_map(|r| r.previous.iter().map(|l| l.0.clone()));
        state.stale.extend(gone);
        restored
    }
}

/// An alert as it is after an outage from `down_at` to `now`; `None`: it begins anew.
fn carried_over(a: &Alert, for_ms: i64, down_at: i64, now: i64, how: Restore) -> Option<Alert> {
    let mut a = a.clone();
    if a.state != State::Pending {
        return Some(a);
    }
    if for_ms < how.for_grace_period_ms {
        return None;
    }
    let remaining = for_ms - (down_at - a.active_at);
    if remaining > 0 && remaining < how.for_grace_period_ms {
        a.active_at = now + how.for_grace_period_ms - for_ms;
    } else if remaining > 0 {
        // The time nobody looked does not count.
        a.active_at += now - down_at;
    }
    Some(a)
}
