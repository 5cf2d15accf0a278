//! Telling Alertmanagers of alerts, by their API version 2.
//!
//! An alert gets the external labels and goes through relabelling (`relabel`); each Alertmanager
//! (`config`, `discover`) then has a queue of its own (`queue`) and a task that empties it (`send`),
//! so that one that is down delays nobody. A queue holds one entry a label set: what is newer takes
//! the place of what waits, so that an outage of hours costs no more room than there are alerts, and
//! the first delivery after it says how things are now.

mod config;
mod discover;
mod queue;
mod relabel;
mod send;

#[cfg(test)]
pub(super) mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use periplus_daemon::drain::Drain;
use periplus_model::Labels;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::alert::Alert;
use super::evaluate::Notify;
use super::metrics::Metrics;
use super::template::link;

pub use config::{AlertingConfig, NotifyError};
pub use relabel::{Relabel, relabel};

use queue::Queue;

/// Alerts in one request.
pub const BATCH: usize = 64;

/// An alert as Alertmanagers are told of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// What it is.
    pub labels: BTreeMap<String, String>,
    /// What it says.
    pub annotations: BTreeMap<String, String>,
    /// Since when it fires, RFC 3339.
    pub starts_at: String,
    /// When it ended, or until when this holds.
    pub ends_at: String,
    /// Where people see its expression.
    #[serde(rename = "generatorURL")]
    pub generator_url: String,
}

/// Settings of the notifier.
#[derive(Clone, Debug)]
pub struct NotifyConfig {
    /// The Alertmanagers and what happens to alerts on the way.
    pub alerting: AlertingConfig,
    /// Labels every alert gets that does not have them.
    pub external_labels: Labels,
    /// Where people find this process, without a slash at the end.
    pub external_url: Arc<str>,
    /// Alerts that wait for one Alertmanager at most.
    pub queue: usize,
    /// How often names and files of Alertmanagers are looked at.
    pub refresh: std::time::Duration,
}

/// One Alertmanager at work.
struct Target {
    queue: Arc<Queue>,
    stop: CancellationToken,
}

struct Inner {
    config: NotifyConfig,
    targets: Mutex<BTreeMap<String, Target>>,
    metrics: Metrics,
    drain: Drain,
}

/// Tells Alertmanagers. Clones are the same value.
#[derive(Clone)]
pub struct Notifier(Arc<Inner>);

impl std::fmt::Debug for Notifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Notifier").finish_non_exhaustive()
    }
}

impl Notifier {
    /// Begins to look for Alertmanagers and to tell them.
    #[must_use]
    pub fn start(config: NotifyConfig, metrics: Metrics, drain: &Drain) -> Self {
        let inner = Inner { config, targets: Mutex::default(), metrics, drain: drain.clone() };
        let this = Self(Arc::new(inner));
        this.use_targets(discover::fixed(&this.0.config.alerting));
        let own = this.clone();
        drain.spawn("alertmanagers", async move { discover::follow(own).await });
        this
    }

    /// The addresses alerts are sent to.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        self.0.targets.lock().keys().cloned().collect()
    }

    /// From now on exactly these are told.
    fn use_targets(&self, found: Vec<(String, Arc<config::Client>)>) {
        let mut targets = self.0.targets.lock();
        let mut old = std::mem::take(&mut *targets);
        for (url, client) in found {
            if targets.contains_key(&url) {
                continue;
            }
            if let Some(t) = old.remove(&url) {
                targets.insert(url, t);
                continue;
            }
            let queue = Arc::new(Queue::new(self.0.config.queue));
            let stop = self.0.drain.token().child_token();
            let metrics = self.0.metrics.target(&url);
            let work = send::empty(url.clone(), client, Arc::clone(&queue), metrics, stop.clone());
            self.0.drain.spawn(format!("alertmanager {url}"), work);
            targets.insert(url, Target { queue, stop });
        }
        for (_, t) in old {
            t.stop.cancel();
        }
        self.0.metrics.alertmanagers.set(i64::try_from(targets.len()).unwrap_or(i64::MAX));
    }

    /// What Alertmanagers are told of an alert; `None` where relabelling drops it.
    #[must_use]
    pub fn message(&self, query: &str, a: &Alert) -> Option<Message> {
        message(&self.0.config, query, a)
    }
}

/// See [`Notifier::message`].
fn message(config: &NotifyConfig, query: &str, a: &Alert) -> Option<Message> {
    let mut b = a.labels.to_builder();
    for (n, v) in &config.external_labels {
        if b.get(n).is_none() {
            b.set(n, v);
        }
    }
    let labels = relabel(&config.alerting.alert_relabel_configs, b.build())?;
    let ends = a.resolved_at.or(a.valid_until).unwrap_or(a.active_at);
    Some(Message {
        labels: clean(labels.iter()),
        annotations: clean(a.annotations.iter().map(|(n, v)| (n.as_str(), v.as_str()))),
        starts_at: rfc3339(a.fired_at.unwrap_or(a.active_at)),
        ends_at: rfc3339(ends),
        generator_url: format!("{}{}", config.external_url, link(query, 1)),
    })
}

/// Names that an Alertmanager before 0.27 takes: it refuses a whole request for the sake of one other
/// name, so what is not a letter, digit or underscore becomes an underscore. Empty values are none.
fn clean<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeMap<String, String> {
    let name = |n: &str| -> String {
        let fits = |(i, c): (usize, char)| {
            let plain = c == '_' || c.is_ascii_alphabetic() || (i > 0 && c.is_ascii_digit());
            if plain { c } else { '_' }
        };
        n.chars().enumerate().map(fits).collect()
    };
    pairs.filter(|(_, v)| !v.is_empty()).map(|(n, v)| (name(n), v.to_owned())).collect()
}

fn rfc3339(ms: i64) -> String {
    crate::ruler::template::rfc3339(ms)
}

impl Notify for Notifier {
    fn notify(&self, query: &str, alerts: Vec<Alert>) {
        let messages: Vec<Arc<Message>> =
            alerts.iter().filter_map(|a| self.message(query, a)).map(Arc::new).collect();
        for t in self.0.targets.lock().values() {
            t.queue.push(&messages);
        }
    }
}
