//! Mutual TLS from a real watcher to a hub: the certificate that was verified decides the cluster, whatever is said.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use periplus_daemon::admin::Admin;
use periplus_daemon::drain::Drain;
use periplus_daemon::tls::ServerTls;
use periplus_events::apiserver::{Server, ServerConfig, Store};
use periplus_events::hub::{self, Config, Hub};
use periplus_events::watch::service::{self, WatchArgs};
use periplus_events::wire::{Batch, Encoding};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};

use crate::event;

/// An authority that writes what it signs into a directory.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    dir: PathBuf,
    name: &'static str,
}

impl Authority {
    fn new(name: &'static str, dir: &Path) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).unwrap();
        std::fs::write(dir.join(format!("{name}.pem")), certificate.pem()).unwrap();
        Self { issuer: Issuer::new(params, key), dir: dir.to_owned(), name }
    }

    fn root(&self) -> PathBuf {
        self.dir.join(format!("{}.pem", self.name))
    }

    /// Signs a certificate for a name: the files of chain, key and both.
    fn sign(&self, whose: &str) -> [PathBuf; 3] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![whose.to_owned()]).unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        let texts =
            [signed.pem(), key.serialize_pem(), format!("{}{}", signed.pem(), key.serialize_pem())];
        ["cert", "key", "both"].map(|what| {
            let n = usize::from(what == "key") + 2 * usize::from(what == "both");
            let path = self.dir.join(format!("{}-{whose}-{what}.pem", self.name));
            std::fs::write(&path, &texts[n]).unwrap();
            path
        })
    }
}

const ACCESS: &str = r#"
senders:
- certificate: watcher.eu-1.example
  clusters: [eu-1]
- certificate: watcher.eu-2.example
  clusters: [eu-2]
- token: a-relay-of-all
  clusters: ["*"]
readers:
- certificate: reader.example
  clusters: ["*"]
- certificate: watcher.eu-2.example
  clusters: [eu-2]
regions: {eu-1: eu}
"#;

struct Running {
    hub: Hub,
    url: String,
    drain: Drain,
    ours: Authority,
    dir: tempfile::TempDir,
}

impl Running {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let ours = Authority::new("ours", dir.path());
        let [cert, key, _] = ours.sign("localhost");
        let access = dir.path().join("access.yaml");
        std::fs::write(&access, ACCESS).unwrap();
        let (admin, drain) = (Admin::new("test", "0", ""), Drain::new());
        let config = Config {
            listen: Some("127.0.0.1:0".into()),
            data: dir.path().join("data"),
            access: Some(access),
            tls: ServerTls {
                tls_cert: Some(cert),
                tls_key: Some(key),
                tls_client_ca: Some(ours.root()),
            },
            ..Config::defaults()
        };
        let bound = hub::build(config, &admin, &drain).await.unwrap();
        let url = format!("https://localhost:{}", bound.address().unwrap().port());
        let (hub, own) = (bound.hub.clone(), drain.clone());
        drain.spawn("hub", async move { hub::run(bound, &own).await.unwrap() });
        Self { hub, url, drain, ours, dir }
    }

    /// A client that shows a certificate, or none.
    fn client(&self, identity: Option<&Path>) -> reqwest::Client {
        let root = std::fs::read(self.ours.root()).unwrap();
        let root = reqwest::Certificate::from_pem(&root).unwrap();
        let mut builder =
            reqwest::Client::builder().tls_built_in_root_certs(false).add_root_certificate(root);
        if let Some(path) = identity {
            let pem = std::fs::read(path).unwrap();
            builder = builder.identity(reqwest::Identity::from_pem(&pem).unwrap());
        }
        builder.build().unwrap()
    }

    async fn post(
        &self,
        client: &reqwest::Client,
        token: Option<&str>,
        cluster: &str,
    ) -> Result<reqwest::Response, reqwest::Error> {
        let one = periplus_events::Event { cluster: cluster.into(), ..event(7, 1) };
        let batch = Batch { version: 1, events: vec![one], ..Batch::default() };
        let mut request = client
            .post(format!("{}/api/v1/events", self.url))
            .header("content-encoding", "gzip")
            .body(batch.encode(Encoding::Gzip).unwrap());
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        request.send().await
    }

    async fn rows(&self, client: &reqwest::Client) -> Vec<(String, String)> {
        let response = client.get(format!("{}/api/v1/events", self.url)).send().await.unwrap();
        assert_eq!(response.version(), reqwest::Version::HTTP_2);
        let page: Value = response.json().await.unwrap();
        let rows = page["data"]["events"].as_array().unwrap().iter();
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let mut rows: Vec<_> = rows.map(|e| (text(&e["cluster"]), text(&e["uid"]))).collect();
        rows.sort();
        rows
    }
}

/// How kubectl would find the API server, too: one of several contexts, with a token.
const KUBECONFIG: &str = r#"
apiVersion: v1
kind: Config
current-context: elsewhere
clusters:
- { name: here, cluster: { server: "SERVER" } }
- { name: elsewhere, cluster: { server: "http://127.0.0.1:1" } }
users:
- { name: watcher, user: { token: a-token-of-the-cluster } }
- { name: nobody, user: {} }
contexts:
- { name: here, context: { cluster: here, user: watcher } }
- { name: elsewhere, context: { cluster: elsewhere, user: nobody } }
"#;

/// A real watcher of a cluster, which says that it is `cluster`.
async fn watcher(running: &Running, identity: &Path, cluster: &str, uid: &str) -> Drain {
    let drain = Drain::new();
    let store = Arc::new(Store::default());
    store.put(json!({
        "metadata": {"name": uid, "namespace": "shop", "uid": uid, "creationTimestamp": "2026-11-21T14:00:00Z"},
        "involvedObject": {"kind": "Pod", "name": "web", "namespace": "shop"},
        "reason": "BackOff", "message": "m", "type": "Warning", "count": 3,
        "firstTimestamp": "2026-11-21T14:00:00Z", "lastTimestamp": "2026-11-21T14:00:05Z",
    }));
    let token = Some("a-token-of-the-cluster".to_owned());
    let config = ServerConfig { token, ..ServerConfig::default() };
    let server = Server::start(config, store, drain.token()).await.unwrap();
    let kubeconfig = running.dir.path().join(format!("kubeconfig-{uid}"));
    std::fs::write(&kubeconfig, KUBECONFIG.replace("SERVER", &server.url())).unwrap();
    let mut args = WatchArgs::defaults();
    args.events_hub = vec![running.url.parse().unwrap()];
    (args.kubeconfig, args.kube_context) = (Some(kubeconfig), Some("here".to_owned()));
    args.hub_ca = Some(running.ours.root());
    args.hub_identity = Some(identity.to_owned());
    args.spool = running.dir.path().join(format!("spool-{uid}"));
    let admin = Admin::new("test", "0", "");
    service::start(&args, cluster, &admin, &drain).await.unwrap();
    drain
}

async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !done().await {
        assert!(began.elapsed() < Duration::from_secs(100), "still not: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_verified_certificate_decides_the_cluster() {
    let running = Running::start().await;
    let [_, _, eu_1] = running.ours.sign("watcher.eu-1.example");
    let [_, _, eu_2] = running.ours.sign("watcher.eu-2.example");
    let [_, _, reader] = running.ours.sign("reader.example");
    let reads = running.client(Some(&reader));
    // Real watchers: one of its own cluster, and one that says that it is another's.
    let honest = watcher(&running, &eu_1, "eu-1", "true-1").await;
    let liar = watcher(&running, &eu_2, "eu-1", "forged-1").await;
    let one = [("eu-1".to_owned(), "true-1".to_owned())];
    until("the honest one's row is there", async || running.rows(&reads).await == one).await;

    // Whoever has the certificate of one cluster writes as that one only, named or not.
    let as_eu_2 = running.client(Some(&eu_2));
    assert_eq!(running.post(&as_eu_2, None, "eu-1").await.unwrap().status(), 403);
    assert_eq!(running.post(&as_eu_2, None, "").await.unwrap().status(), 200);
    // A certificate of ours that nobody is known by needs a token; one that may not send is nobody.
    let [_, _, stranger] = running.ours.sign("stranger.example");
    let stranger = running.client(Some(&stranger));
    assert_eq!(running.post(&stranger, None, "eu-1").await.unwrap().status(), 401);
    assert_eq!(running.post(&stranger, Some("a-relay-of-none"), "x").await.unwrap().status(), 401);
    assert_eq!(running.post(&reads, None, "eu-1").await.unwrap().status(), 401);
    let relayed = running.post(&stranger, Some("a-relay-of-all"), "ap-9").await.unwrap();
    assert_eq!((relayed.status().as_u16(), relayed.version()), (200, reqwest::Version::HTTP_2));
    // Without one of our certificates there is no connection: not with none, not with another authority's.
    let theirs = Authority::new("theirs", running.dir.path());
    let [_, _, forged] = theirs.sign("watcher.eu-1.example");
    for identity in [None, Some(forged.as_path())] {
        let client = running.client(identity);
        assert!(running.post(&client, Some("a-relay-of-all"), "eu-1").await.is_err());
    }
    // Plain HTTP is not answered either.
    let plain = running.url.replace("https", "http");
    assert!(reqwest::get(format!("{plain}/api/v1/events")).await.is_err());

    let all = [("ap-9", "uid-7"), ("eu-1", "true-1"), ("eu-2", "uid-7")];
    let all = all.map(|(cluster, uid)| (cluster.to_owned(), uid.to_owned()));
    assert_eq!(running.rows(&reads).await, all);
    // A reader of one cluster sees that one: rows, counts, values, in Loki's words, too.
    assert_eq!(running.rows(&as_eu_2).await, [("eu-2".to_owned(), "uid-7".to_owned())]);
    for path in [
        "/api/v1/events/values?field=cluster",
        "/api/v1/events/count?by=cluster",
        "/api/v1/events/metrics",
        "/loki/api/v1/label/cluster/values",
        "/loki/api/v1/series?match[]=%7B%7D",
        "/loki/api/v1/query_range?query=%7Bcluster%3D~%22.%2B%22%7D",
    ] {
        let ask = as_eu_2.get(format!("{}{path}", running.url)).send().await.unwrap();
        assert_eq!(ask.status(), 200, "{path}");
        let text = ask.text().await.unwrap();
        assert!(
            text.contains("eu-2") && !text.contains("eu-1") && !text.contains("ap-9"),
            "{text}"
        );
    }
    assert_eq!(
        stranger.get(format!("{}/api/v1/events", running.url)).send().await.unwrap().status(),
        401
    );
    // The liar's row was refused each time, and still waits.
    let uids: Vec<String> = running.rows(&reads).await.into_iter().map(|(_, uid)| uid).collect();
    assert!(!uids.contains(&"forged-1".to_owned()));
    assert!(running.hub.active().is_ok());
    for drain in [honest, liar, running.drain] {
        drain.wait(Duration::from_secs(20)).await;
    }
}
