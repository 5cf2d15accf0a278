//! What clusters tell of themselves beside samples: rules, targets, metadata, exemplars, what their heads
//! hold, their Alertmanagers.
//!
//! [`ask`] puts one request to every endpoint that holds a stream and names who did not answer; each other
//! module knows one service: what is asked, and how the answers of clusters and replicas become one. The
//! messages of `periplus-proto` are the form in which all of it is kept, so that the HTTP API and the
//! services for a tier above write from the same.
//!
//! The one decision worth knowing: replicas say the same of themselves, so whatever differs only in replica
//! labels is one thing, of which the newer or graver state counts; clusters never merge.

pub mod alertmanagers;
pub mod ask;
pub mod exemplars;
pub mod heads;
pub mod metadata;
pub mod rules;
pub mod targets;

use std::sync::{Arc, OnceLock};

use periplus_model::Matcher;
use periplus_proto::thanos::{PartialResponseStrategy, RuleGroup, ZLabelSet};

use crate::fanout::Question;

/// Rules that this process evaluates itself, over the whole fleet.
pub trait OwnRules: Send + Sync {
    /// All groups, with the rules' present state and alerts, in the order in which they are to be shown.
    fn groups(&self) -> Vec<RuleGroup>;

    /// URLs of the Alertmanagers that alerts are sent to, and of those that relabelling dropped.
    fn alertmanagers(&self) -> (Vec<String>, Vec<String>);
}

/// Where a process's own rules are, once it has some. Clones share them.
#[derive(Clone, Default)]
pub struct Own(Arc<OnceLock<Arc<dyn OwnRules>>>);

impl std::fmt::Debug for Own {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Own").field(&self.0.get().is_some()).finish()
    }
}

impl Own {
    /// From now on these are the rules of this process. The first call counts.
    pub fn set(&self, rules: Arc<dyn OwnRules>) {
        let _ = self.0.set(rules);
    }

    fn get(&self) -> Option<&Arc<dyn OwnRules>> {
        self.0.get()
    }
}

fn strategy(q: &Question) -> i32 {
    match q.strict {
        true => PartialResponseStrategy::Abort.into(),
        false => PartialResponseStrategy::Warn.into(),
    }
}

/// The value of a label, empty where there is none.
fn value<'a>(labels: Option<&'a ZLabelSet>, name: &str) -> &'a str {
    let all = labels.map(|l| l.labels.as_slice()).unwrap_or_default();
    all.iter().find(|l| l.name == name).map_or("", |l| l.value.as_str())
}

fn matches(labels: Option<&ZLabelSet>, set: &[Matcher]) -> bool {
    set.iter().all(|m| m.matches(value(labels, &m.name)))
}

fn remove(labels: &mut Option<ZLabelSet>, names: &[String]) {
    if let Some(set) = labels {
        set.labels.retain(|l| !names.contains(&l.name));
    }
}

/// Labels as something to order and compare by.
fn key(labels: Option<&ZLabelSet>) -> Vec<(&str, &str)> {
    labels
        .map(|l| l.labels.iter().map(|l| (l.name.as_str(), l.value.as_str())).collect())
        .unwrap_or_default()
}
