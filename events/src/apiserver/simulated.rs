//! A simulated cluster's events, as its API server has them: what its kubelets and controllers write, when they
//! write it, each for an hour.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use periplus_daemon::drain::Drain;
use periplus_simfleet::{Cluster, EventWrite};

use super::{Server, ServerConfig, Store};

/// How long an API server keeps an event after its last write, in milliseconds.
const TTL_MS: i64 = 3_600_000;

/// How often the simulation writes.
const STEP: Duration = Duration::from_millis(500);

/// Starts the API server of a cluster, with the events of the last hour in it; others follow as time goes on. It ends
/// with `drain`.
///
/// # Errors
/// No port is free.
pub async fn start(cluster: &Cluster, drain: &Drain) -> std::io::Result<Server> {
    let store = Arc::new(Store::default());
    let now = jiff::Timestamp::now().as_millisecond();
    let mut written = Written { store: Arc::clone(&store), expires: BTreeMap::new() };
    written.advance(cluster, now - TTL_MS, now);
    let server = Server::start(ServerConfig::default(), store, drain.token()).await?;
    drain.spawn("simulated events", written.run(cluster.clone(), now, drain.clone()));
    Ok(server)
}

/// What was written, and until when it lives.
struct Written {
    store: Arc<Store>,
    expires: BTreeMap<(String, &'static str), i64>,
}

impl Written {
    async fn run(mut self, cluster: Cluster, mut at_ms: i64, drain: Drain) {
        let end = drain.token();
        while end.run_until_cancelled(tokio::time::sleep(STEP)).await.is_some() {
            let now = jiff::Timestamp::now().as_millisecond();
            self.advance(&cluster, at_ms, now);
            at_ms = now.max(at_ms);
        }
    }

    /// Writes what the cluster writes in a range of time, and deletes what has had its time.
    fn advance(&mut self, cluster: &Cluster, from_ms: i64, until_ms: i64) {
        for event in cluster.events(from_ms, until_ms) {
            self.store.put(object(&event));
            self.expires.insert((event.name, event.namespace), event.at_ms + TTL_MS);
        }
        let store = &self.store;
        self.expires.retain(|(name, namespace), expires_ms| {
            let lives = *expires_ms > until_ms;
            if !lives {
                store.delete(namespace, name);
            }
            lives
        });
    }
}

/// An event as core/v1 has it.
fn object(event: &EventWrite) -> serde_json::Value {
    let time = |ms: i64| {
        let time = jiff::Timestamp::from_millisecond(ms).unwrap_or_default();
        time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    };
    let about = &event.regarding;
    let namespace = if about.kind == "Node" { "" } else { event.namespace };
    serde_json::json!({
        "kind": "Event",
        "apiVersion": "v1",
        "metadata": {
            "name": event.name,
            "namespace": event.namespace,
            "uid": event.uid,
            "creationTimestamp": time(event.first_ms),
        },
        "involvedObject": {
            "kind": about.kind,
            "namespace": namespace,
            "name": about.name,
            "uid": about.uid,
            "apiVersion": "v1",
            "fieldPath": about.field_path,
        },
        "reason": event.reason,
        "message": event.message,
        "source": { "component": event.component, "host": event.host },
        "firstTimestamp": time(event.first_ms),
        "lastTimestamp": time(event.at_ms),
        "count": event.count,
        "type": event.type_,
        "eventTime": null,
        "reportingComponent": event.component,
        "reportingInstance": event.host,
    })
}
