//! Memory of a watcher's process at 1,000 events a second while the hub is away: small, and flat.

use std::sync::Arc;
use std::time::{Duration, Instant};

use periplus_events::apiserver::{Server, ServerConfig, Store};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::kills::Killed;
use crate::rows::until;

const RATE: u64 = 1000;

/// Bytes of a process that are not its program: a test's program is large and debuggable, what is shipped is not.
fn anonymous(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("RssAnon:")).unwrap_or_default();
    let kib: u64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0);
    kib * 1024
}

fn event(n: u64) -> serde_json::Value {
    let text = format!(
        "Back-off restarting failed container app in pod web-{n}_shop({:032x})",
        u128::from(n) * 0x9e37_79b9_7f4a_7c15
    );
    let managed = json!({"f:count": {}, "f:firstTimestamp": {}, "f:involvedObject": {}, "f:lastTimestamp": {}, "f:message": {}, "f:reason": {}});
    json!({
        "kind": "Event", "apiVersion": "v1",
        "metadata": {
            "name": format!("web-{n}.{n:016x}"), "namespace": "shop", "uid": format!("{:08x}-0000-4000-8000-{n:012x}", n % 7919),
            "creationTimestamp": "2026-11-21T14:00:00Z",
            "managedFields": [{"manager": "kubelet", "operation": "Update", "apiVersion": "v1", "fieldsV1": managed}],
        },
        "involvedObject": {"kind": "Pod", "name": format!("web-{n}"), "namespace": "shop", "uid": format!("p-{n}")},
        "reason": "BackOff", "message": text, "type": "Warning", "count": 1, "source": {"component": "kubelet", "host": "node-a"},
        "firstTimestamp": "2026-11-21T14:00:00Z", "lastTimestamp": "2026-11-21T14:00:05Z",
        "reportingComponent": "kubelet", "reportingInstance": "node-a",
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_is_small_and_flat_while_the_hub_is_away() {
    let seconds: u64 =
        std::env::var("PERIPLUS_MEMORY_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(16);
    let end = CancellationToken::new();
    let server = Server::start(ServerConfig::default(), Arc::new(Store::default()), end.clone())
        .await
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let line = format!(
        "--hub http://127.0.0.1:1 --api-server {} --spool {} --spool-mib 8",
        server.url(),
        directory.path().display()
    );
    let process = Killed::start(&line);
    until("a watch is open", || server.faults.watches() > 0).await;
    let began = Instant::now();
    let (mut n, mut half) = (0, 0);
    while began.elapsed() < Duration::from_secs(seconds) {
        let due = began.elapsed().as_millis() as u64 * RATE / 1000;
        while n < due {
            server.store.put(event(n));
            // They live for a while only, here as there.
            if n >= 20_000 {
                let old = n - 20_000;
                server.store.delete("shop", &format!("web-{old}.{old:016x}"));
            }
            n += 1;
        }
        if half == 0 && began.elapsed() > Duration::from_secs(seconds) / 2 {
            half = anonymous(process.id());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let last = anonymous(process.id());
    let spooled: u64 = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|e| e.and_then(|e| e.metadata()).map_or(0, |m| m.len()))
        .sum();
    eprintln!(
        "{n} events in {seconds} s: {} KiB at half, {} KiB at the end, {spooled} bytes spooled",
        half >> 10,
        last >> 10
    );
    assert!(spooled > 100_000, "{spooled}");
    assert!(half > 0 && last < 24 << 20, "{} KiB", last >> 10);
    assert!(last < half + (4 << 20), "{} KiB, then {} KiB", half >> 10, last >> 10);
    end.cancel();
}
