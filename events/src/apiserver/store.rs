//! What the server holds: events with their history, leases, and other objects to look up.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::leases::Leases;
use crate::watch::api::Resource;

/// Changes kept for watches that resume.
const HISTORY_MAX: usize = 100_000;

/// Lists that are being read page by page.
const PAGED_LISTS_MAX: usize = 64;

/// What a change was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A new object.
    Added,
    /// A changed one.
    Modified,
    /// One that went, with its last state.
    Deleted,
}

impl Kind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) resource_version: u64,
    pub(super) kind: Kind,
    pub(super) namespace: String,
    pub(super) json: Arc<str>,
}

#[derive(Debug, Default)]
struct Inner {
    resource_version: u64,
    compacted: u64,
    objects: BTreeMap<(String, String), Arc<str>>,
    history: VecDeque<Change>,
    /// Number of the first change in `history`.
    history_from: u64,
    paged: HashMap<u64, Paged>,
    next_paged: u64,
}

#[derive(Clone, Debug)]
struct Paged {
    resource_version: u64,
    items: Arc<Vec<Arc<str>>>,
}

/// The store.
#[derive(Debug)]
pub struct Store {
    inner: Mutex<Inner>,
    changed: watch::Sender<u64>,
    objects: Mutex<HashMap<(String, String, String), String>>,
    pub(super) leases: Leases,
}

/// A page token whose list is gone.
#[derive(Debug)]
pub struct Expired {
    /// The token that goes on inconsistently, as real servers offer it.
    pub fresh_token: String,
}

/// Where a watch stands.
pub(super) enum Resume {
    /// At this change.
    At(u64),
    /// The resourceVersion is too old.
    TooOld,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            inner: Mutex::new(Inner { resource_version: 1, ..Inner::default() }),
            changed: watch::channel(0).0,
            objects: Mutex::default(),
            leases: Leases::default(),
        }
    }
}

impl Store {
    /// The newest resourceVersion.
    #[must_use]
    pub fn resource_version(&self) -> u64 {
        self.inner.lock().resource_version
    }

    /// Something else changes: the resourceVersion grows.
    pub fn tick(&self) -> u64 {
        let mut inner = self.inner.lock();
        inner.resource_version += 1;
        inner.resource_version
    }

    /// Takes a change with an object's JSON as it is to go out, which says `resource_version`.
    pub fn apply(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        resource_version: u64,
        json: &str,
    ) {
        let json: Arc<str> = json.into();
        let mut inner = self.inner.lock();
        let key = (namespace.to_owned(), name.to_owned());
        if kind == Kind::Deleted {
            inner.objects.remove(&key);
        } else {
            inner.objects.insert(key, Arc::clone(&json));
        }
        inner.resource_version = inner.resource_version.max(resource_version);
        inner.history.push_back(Change {
            resource_version,
            kind,
            namespace: namespace.to_owned(),
            json,
        });
        if inner.history.len() > HISTORY_MAX
            && let Some(gone) = inner.history.pop_front()
        {
            inner.history_from += 1;
            inner.compacted = inner.compacted.max(gone.resource_version);
        }
        let end = inner.history_from + inner.history.len() as u64;
        drop(inner);
        self.changed.send_replace(end);
    }

    /// Writes an event: gives it the next resourceVersion, and `ADDED` or `MODIFIED` by whether it is there. The
    /// JSON's `metadata` must hold name and namespace.
    pub fn put(&self, mut event: serde_json::Value) -> u64 {
        let field = |name: &str| event["metadata"][name].as_str().unwrap_or_default().to_owned();
        let (namespace, name) = (field("namespace"), field("name"));
        let version = self.tick();
        event["metadata"]["resourceVersion"] = version.to_string().into();
        let there = self.inner.lock().objects.contains_key(&(namespace.clone(), name.clone()));
        let kind = if there { Kind::Modified } else { Kind::Added };
        self.apply(kind, &namespace, &name, version, &event.to_string());
        version
    }

    /// Deletes an event, as its time to live does.
    pub fn delete(&self, namespace: &str, name: &str) {
        let key = (namespace.to_owned(), name.to_owned());
        let Some(last) = self.inner.lock().objects.get(&key).cloned() else { return };
        let version = self.tick();
        let mut event: serde_json::Value = serde_json::from_str(&last).unwrap_or_default();
        event["metadata"]["resourceVersion"] = version.to_string().into();
        self.apply(Kind::Deleted, namespace, name, version, &event.to_string());
    }

    /// Forgets the history: watches from before the newest resourceVersion, and page tokens, have expired.
    pub fn compact(&self) {
        let mut inner = self.inner.lock();
        inner.compacted = inner.resource_version;
        inner.paged.clear();
    }

    /// Restores an older backup: resourceVersions begin again at `resource_version`; the objects stay.
    pub fn restore(&self, resource_version: u64) {
        let mut inner = self.inner.lock();
        inner.resource_version = resource_version;
        inner.compacted = inner.compacted.min(resource_version);
        inner.history_from += inner.history.len() as u64;
        inner.history.clear();
        inner.paged.clear();
    }

    /// Puts an object to be looked up.
    pub fn put_object(&self, plural: &str, namespace: &str, name: &str, json: String) {
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        self.objects.lock().insert(key, json);
    }

    pub(super) fn object(&self, plural: &str, namespace: &str, name: &str) -> Option<String> {
        let key = (plural.to_owned(), namespace.to_owned(), name.to_owned());
        self.objects.lock().get(&key).cloned()
    }

    /// Events there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.lock().objects.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn state(&self, namespace: Option<&str>) -> (u64, u64, Vec<Arc<str>>) {
        let inner = self.inner.lock();
        let of = |key: &(String, String)| namespace.is_none_or(|n| n == key.0);
        let items =
            inner.objects.iter().filter(|(key, _)| of(key)).map(|(_, json)| Arc::clone(json));
        let end = inner.history_from + inner.history.len() as u64;
        (inner.resource_version, end, items.collect())
    }

    /// A page of the list: `limit` items, 0 for all.
    pub(super) fn list(
        &self,
        resource: Resource,
        namespace: Option<&str>,
        limit: usize,
        token: &str,
    ) -> Result<String, Expired> {
        let (id, start, paged) = if token.is_empty() {
            let (resource_version, _, items) = self.state(namespace);
            let mut inner = self.inner.lock();
            inner.next_paged += 1;
            let id = inner.next_paged;
            let paged = Paged { resource_version, items: Arc::new(items) };
            if inner.paged.len() >= PAGED_LISTS_MAX {
                inner.paged.clear();
            }
            if limit > 0 && paged.items.len() > limit {
                inner.paged.insert(id, paged.clone());
            }
            (id, 0, paged)
        } else {
            let expired =
                || Expired { fresh_token: format!("0.{}", token.split('.').nth(1).unwrap_or("0")) };
            let mut numbers = token.split('.').map(|n| n.parse::<u64>().unwrap_or(0));
            let (id, start) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
            let paged = self.inner.lock().paged.get(&id).cloned().ok_or_else(expired)?;
            (id, usize::try_from(start).unwrap_or(usize::MAX), paged)
        };
        let end = if limit == 0 {
            paged.items.len()
        } else {
            start.saturating_add(limit).min(paged.items.len())
        };
        let api = match resource {
            Resource::Core => "v1",
            Resource::Events => "events.k8s.io/v1",
        };
        let mut metadata = format!(r#""resourceVersion":"{}""#, paged.resource_version);
        if end < paged.items.len() {
            metadata.push_str(&format!(
                r#","continue":"{id}.{end}","remainingItemCount":{}"#,
                paged.items.len() - end
            ));
        }
        let items = paged.items.get(start..end).unwrap_or_default().join(",");
        Ok(format!(
            "{{\"kind\":\"EventList\",\"apiVersion\":\"{api}\",\"metadata\":{{{metadata}}},\"items\":[{items}]}}\n"
        ))
    }

    /// Where a watch after `resource_version` begins.
    pub(super) fn resume(&self, resource_version: u64) -> Resume {
        let inner = self.inner.lock();
        if resource_version < inner.compacted {
            return Resume::TooOld;
        }
        let at = inner.history.partition_point(|c| c.resource_version <= resource_version);
        Resume::At(inner.history_from + at as u64)
    }

    /// The changes from number `from` on, at most `max` of them.
    pub(super) fn changes(&self, from: u64, max: usize) -> Vec<Change> {
        let inner = self.inner.lock();
        let skip = usize::try_from(from.saturating_sub(inner.history_from)).unwrap_or(usize::MAX);
        inner.history.iter().skip(skip).take(max).cloned().collect()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

impl Store {
    /// A lease as it stands.
    #[must_use]
    pub fn leases_of(&self, namespace: &str, name: &str) -> Option<serde_json::Value> {
        self.leases.get(namespace, name)
    }
}
