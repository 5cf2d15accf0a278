//! Owners and labels of the objects that events are about, looked up beside the way.
//!
//! Rows are in the spool before anybody looks anything up. On the way to the hub a batch waits a moment for what is
//! not known yet; what takes longer is sent without, and the next state of the event carries it. The cache is
//! bounded, and so is what waits to be looked up.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::api::{Api, escape};
use crate::event::{Event, LABELS_MAX, NAME_BYTES_MAX, clean_name};

/// Objects remembered.
const OBJECTS_MAX: usize = 10_000;

/// Objects that wait to be looked up.
const WAITING_MAX: usize = 256;

/// How long a batch waits for look-ups.
const PATIENCE: Duration = Duration::from_millis(200);

/// After this time an object that was not found is looked up again.
const MISSING_FOR: Duration = Duration::from_secs(60);

type Key = (String, String, String);

#[derive(Clone, Debug, Default)]
struct Found {
    owner: String,
    labels: BTreeMap<String, String>,
    missing_since: Option<Instant>,
}

/// Looks up owners and labels.
#[derive(Debug)]
pub struct Enricher {
    labels: Vec<String>,
    found: Mutex<(HashMap<Key, Found>, HashMap<Key, Found>)>,
    wanted: mpsc::Sender<Key>,
    one_more: Notify,
}

impl Enricher {
    /// An enricher that keeps these labels, and the task that looks things up for it.
    #[must_use]
    pub fn new(api: Api, labels: Vec<String>) -> (Arc<Self>, Lookups) {
        let (wanted, waiting) = mpsc::channel(WAITING_MAX);
        let enricher =
            Arc::new(Self { labels, found: Mutex::default(), wanted, one_more: Notify::new() });
        (Arc::clone(&enricher), Lookups { api, enricher, waiting })
    }

    /// Adds what is known to rows, and waits a moment for what is not.
    pub async fn fill(&self, events: &mut [Event]) {
        let until = Instant::now() + PATIENCE;
        loop {
            let notified = self.one_more.notified();
            if self.fill_known(events) == 0 {
                return;
            }
            if tokio::time::timeout_at(until, notified).await.is_err() {
                self.fill_known(events);
                return;
            }
        }
    }

    /// Gives how many rows wait for a look-up.
    fn fill_known(&self, events: &mut [Event]) -> usize {
        let mut waiting = 0;
        for event in events.iter_mut().filter(|e| e.owner.is_empty() && path(&e.kind).is_some()) {
            let key = (event.kind.clone(), event.namespace.clone(), event.name.clone());
            let known = {
                let found = self.found.lock();
                found.0.get(&key).or_else(|| found.1.get(&key)).cloned()
            };
            match known {
                Some(Found { missing_since: Some(since), .. }) if since.elapsed() > MISSING_FOR => {
                    waiting += usize::from(self.ask(key));
                }
                Some(known) => {
                    event.owner = known.owner;
                    event.labels = known.labels;
                }
                None => waiting += usize::from(self.ask(key)),
            }
        }
        waiting
    }

    fn ask(&self, key: Key) -> bool {
        self.wanted.try_send(key).is_ok()
    }

    fn keep(&self, key: Key, found: Found) {
        let mut all = self.found.lock();
        if all.0.len() >= OBJECTS_MAX / 2 {
            all.1 = std::mem::take(&mut all.0);
        }
        all.0.insert(key, found);
        drop(all);
        self.one_more.notify_waiters();
    }

    fn knows(&self, key: &Key) -> bool {
        let all = self.found.lock();
        all.0
            .get(key)
            .or_else(|| all.1.get(key))
            .is_some_and(|f| f.missing_since.is_none_or(|since| since.elapsed() <= MISSING_FOR))
    }
}

/// The task that looks things up.
#[derive(Debug)]
pub struct Lookups {
    api: Api,
    enricher: Arc<Enricher>,
    waiting: mpsc::Receiver<Key>,
}

impl Lookups {
    /// Looks up what is asked for, one after the other, until it is asked to end.
    pub async fn run(mut self, cancel: CancellationToken) {
        while let Some(Some(key)) = cancel.run_until_cancelled(self.waiting.recv()).await {
            if self.enricher.knows(&key) {
                continue;
            }
            let found = match cancel.run_until_cancelled(self.look_up(&key)).await {
                None => return,
                Some(Some(object)) => found(&key.0, &object, &self.enricher.labels),
                Some(None) => Found { missing_since: Some(Instant::now()), ..Found::default() },
            };
            self.enricher.keep(key, found);
        }
    }

    async fn look_up(&self, (kind, namespace, name): &Key) -> Option<Value> {
        let (root, plural, namespaced) = path(kind)?;
        let target = if namespaced {
            format!("{root}/namespaces/{}/{plural}/{}", escape(namespace), escape(name))
        } else {
            format!("{root}/{plural}/{}", escape(name))
        };
        let body = self.api.small("looking up an owner", Method::GET, &target, Vec::new()).await;
        serde_json::from_slice(&body.ok()?).ok()
    }
}

/// Where objects of a kind are; `None`: not looked up.
fn path(kind: &str) -> Option<(&'static str, &'static str, bool)> {
    Some(match kind {
        "Pod" => ("/api/v1", "pods", true),
        "Node" => ("/api/v1", "nodes", false),
        "ReplicaSet" => ("/apis/apps/v1", "replicasets", true),
        "Deployment" => ("/apis/apps/v1", "deployments", true),
        "StatefulSet" => ("/apis/apps/v1", "statefulsets", true),
        "DaemonSet" => ("/apis/apps/v1", "daemonsets", true),
        "Job" => ("/apis/batch/v1", "jobs", true),
        "CronJob" => ("/apis/batch/v1", "cronjobs", true),
        _ => return None,
    })
}

fn found(kind: &str, object: &Value, keep: &[String]) -> Found {
    let metadata = &object["metadata"];
    let controller = metadata["ownerReferences"]
        .as_array()
        .and_then(|all| all.iter().find(|o| o["controller"] == true));
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let mut owner = match controller {
        // A Deployment's ReplicaSet is named after it and its template's hash: no second look-up.
        Some(o) if o["kind"] == "ReplicaSet" => {
            let (name, hash) = (text(&o["name"]), text(&metadata["labels"]["pod-template-hash"]));
            match name.strip_suffix(&hash).and_then(|n| n.strip_suffix('-')) {
                Some(deployment) if !hash.is_empty() => format!("Deployment/{deployment}"),
                _ => format!("ReplicaSet/{name}"),
            }
        }
        Some(o) => format!("{}/{}", text(&o["kind"]), text(&o["name"])),
        None => format!("{kind}/{}", text(&metadata["name"])),
    };
    clean_name(&mut owner, NAME_BYTES_MAX);
    let mut labels = BTreeMap::new();
    for name in keep.iter().take(LABELS_MAX) {
        if let Some(value) = metadata["labels"][name.as_str()].as_str() {
            let mut value = value.to_owned();
            clean_name(&mut value, NAME_BYTES_MAX);
            labels.insert(name.clone(), value);
        }
    }
    Found { owner, labels, missing_since: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_are_those_a_person_would_name() {
        let check = |kind: &str, object: Value, expect: &str| {
            assert_eq!(found(kind, &object, &[]).owner, expect);
        };
        let owned = |kind: &str, name: &str, hash: &str| {
            serde_json::json!({"metadata": {
                "name": "web-6b7f325-abcde",
                "labels": {"pod-template-hash": hash, "app": "web"},
                "ownerReferences": [{"kind": "X", "name": "x"}, {"kind": kind, "name": name, "controller": true}],
            }})
        };
        check("Pod", owned("ReplicaSet", "web-6b7f325", "6b7f325"), "Deployment/web");
        check("Pod", owned("ReplicaSet", "web-6b7f325", ""), "ReplicaSet/web-6b7f325");
        check("Pod", owned("StatefulSet", "db", ""), "StatefulSet/db");
        check("Deployment", serde_json::json!({"metadata": {"name": "web"}}), "Deployment/web");
        check("Pod", serde_json::json!([]), "Pod/");
        let labels = found("Pod", &owned("Job", "j", "h"), &["app".into(), "tier".into()]).labels;
        assert_eq!(labels, BTreeMap::from([("app".into(), "web".into())]));
    }
}
