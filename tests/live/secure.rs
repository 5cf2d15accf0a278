//! Everything encrypted and authenticated: Prometheus behind TLS, client certificates and passwords, mutual
//! TLS between query and sidecar, a proxy that wants a bearer token; and that no secret is told.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::IntoResponse as _;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use super::ask::{Answer, When, ask, client};
use super::fleet::now_s;
use super::place::Place;
use super::process::{Process, free_port};
use super::product::{Query, Sidecar};
use super::prometheus::flavours;

/// An authority whose certificates are written into a directory.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    dir: PathBuf,
    name: &'static str,
}

impl Authority {
    fn new(name: &'static str, dir: &Path) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).expect("a certificate");
        std::fs::write(dir.join(format!("{name}.pem")), certificate.pem()).expect("a file");
        Self { issuer: Issuer::new(params, key), dir: dir.to_owned(), name }
    }

    fn file(&self, ending: &str) -> String {
        self.dir.join(format!("{}{ending}", self.name)).display().to_string()
    }

    /// The authority's own certificate.
    fn root(&self) -> String {
        self.file(".pem")
    }

    /// Signs a certificate for loopback, good for servers and clients, and gives the files of chain, key
    /// and both.
    fn sign(&self, whose: &str) -> [String; 3] {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["127.0.0.1".into(), "localhost".into()]);
        let signed =
            params.expect("parameters").signed_by(&key, &self.issuer).expect("a signature");
        let [chain, secret, both] =
            ["-cert.pem", "-key.pem", "-both.pem"].map(|e| self.file(&format!("-{whose}{e}")));
        let write = |path: &str, text: String| std::fs::write(path, text).expect("a file");
        write(&chain, signed.pem());
        write(&secret, key.serialize_pem());
        write(&both, format!("{}{}", signed.pem(), key.serialize_pem()));
        [chain, secret, both]
    }
}

/// The word "test", as the servers' configuration wants it.
const HASH: &str = "$2b$12$hNf2lSsxfm0.i4a.1kVpSOVyBCfIB51VRjgBUyv6kdnyTlgWj81Ay";

/// A Prometheus that scrapes itself, behind TLS that wants a client's certificate and, with
/// `wants_password`, the password "test" of the user "reader". Gives its URL.
fn prometheus(
    binary: &Path,
    ca: &Authority,
    wants_password: bool,
    dir: &Path,
) -> (Process, String) {
    let port = free_port();
    let (root, [chain, key, _]) = (ca.root(), ca.sign("prometheus"));
    let (users, login) = if wants_password {
        let login = "    basic_auth: { username: reader, password: test }\n";
        (format!("basic_auth_users: {{ reader: '{HASH}' }}\n"), login)
    } else {
        (String::new(), "")
    };
    let web = format!(
        "tls_server_config:\n  cert_file: {chain}\n  key_file: {key}\n  client_ca_file: {root}\n  \
         client_auth_type: RequireAndVerifyClientCert\n{users}"
    );
    let config = format!(
        "global:\n  scrape_interval: 1s\n  external_labels: {{ cluster: vault }}\nscrape_configs:\n  \
         - job_name: own\n    scheme: https\n{login}    tls_config: {{ ca_file: {root}, cert_file: {chain}, \
         key_file: {key} }}\n    static_configs: [ {{ targets: ['127.0.0.1:{port}'] }} ]\n"
    );
    let write = |name: &str, text: String| {
        let path = dir.join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let mut command = Command::new(binary);
    command
        .arg(format!("--config.file={}", write("prometheus.yml", config)))
        .arg(format!("--web.config.file={}", write("web.yml", web)))
        .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"));
    (Process::start("prometheus", command, dir), format!("https://127.0.0.1:{port}"))
}

/// Asks for `up` until it is there.
async fn up(client: &reqwest::Client, url: &str) -> Answer {
    let mut last = String::new();
    for _ in 0..300 {
        match ask(client, url, "up", When::Instant(now_s() * 1000)).await {
            Ok(answer) if answer.rows() == 1 => return answer,
            Ok(answer) => last = answer.body.to_string(),
            Err(error) => last = error,
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("never up: {last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_and_passwords_on_every_connection() {
    let dir = tempfile::tempdir().expect("a directory");
    let (ours, theirs) = (Authority::new("ours", dir.path()), Authority::new("theirs", dir.path()));
    let binary = flavours().pop().expect("one").binary;
    let (_prometheus, url) = prometheus(&binary, &ours, true, dir.path());
    let root = ours.root();
    let [chain, key, both] = ours.sign("sidecar");
    let password = |word: &str| {
        let path = dir.path().join(format!("password-{}", word.len()));
        std::fs::write(&path, format!("{word}\n")).expect("a file");
        path.display().to_string()
    };
    let right = password("test");
    let to_prometheus = |password: &str| -> Vec<String> {
        ["--prometheus-tls-ca", &root, "--prometheus-tls-identity", &both]
            .into_iter()
            .chain(["--prometheus-basic-user", "reader"])
            .chain(["--prometheus-basic-password-file", password])
            .chain(["--tls-cert", &chain, "--tls-key", &key, "--tls-client-ca", &root])
            .map(str::to_owned)
            .collect()
    };
    let place = Place::loopback();
    let args = to_prometheus(&right);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let sidecar = Sidecar::start("sidecar", &url, &args, &place, dir.path()).await;

    // A query with a certificate of the right authority, itself behind TLS.
    let start = async |name: &'static str, from: &Authority| {
        let [cert, key, _] = from.sign(name);
        let more = [
            ["--client-tls-ca", &root, "--client-tls-cert", &cert, "--client-tls-key", &key],
            ["--tls-cert", &cert, "--tls-key", &key, "--endpoint-timeout", "3s"],
        ];
        let more: Vec<&str> = more.concat().into_iter().chain(["--client-tls"]).collect();
        Query::start(name, &[&sidecar.grpc], &more, dir.path()).await
    };
    let trusted = start("trusted", &ours).await;
    let certificate = |ca: &Authority| {
        let pem = std::fs::read(ca.root()).expect("a certificate");
        reqwest::Certificate::from_pem(&pem).expect("a certificate")
    };
    let _provider = client();
    let over_tls = reqwest::Client::builder()
        .add_root_certificate(certificate(&ours))
        .add_root_certificate(certificate(&theirs))
        .build()
        .expect("a client");
    let answer = up(&over_tls, &trusted.url.replace("http:", "https:")).await;
    assert!(answer.warnings().is_empty(), "{}", answer.body);
    let plain = client().get(format!("{}/api/v1/query?query=1", trusted.url)).send().await;
    assert!(
        !plain.is_ok_and(|r| r.status().is_success()),
        "the listener took an unencrypted request"
    );

    // One that another authority vouches for gets nothing, and says so.
    let stranger = start("stranger", &theirs).await;
    let url_of_stranger = stranger.url.replace("http:", "https:");
    let when = When::Instant(now_s() * 1000);
    let answer = ask(&over_tls, &url_of_stranger, "up", when).await.expect("an answer");
    assert_eq!(answer.rows(), 0, "{}", answer.body);
    assert!(answer.warnings().join("\n").contains(&sidecar.grpc), "{}", answer.body);

    // A wrong password: not ready, told plainly, and the password itself is nowhere.
    let canary = "canary-5e1f90";
    let args = to_prometheus(&password(canary));
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let mut refused = Sidecar::start_unready("refused", &url, &args, &place, dir.path());
    let told = told(&refused, "401").await;
    let metrics = client().get(format!("{}/metrics", refused.admin)).send().await;
    let metrics = metrics.expect("metrics").text().await.expect("text");
    assert!(!metrics.contains(canary) && !told.contains(canary), "the password is told:\n{told}");
    assert!(refused.process.is_alive());
}

/// Waits until a sidecar's log has `what` and it is not ready.
async fn told(sidecar: &Sidecar, what: &str) -> String {
    for _ in 0..300 {
        let log = sidecar.process.log();
        let ready = client().get(format!("{}/-/ready", sidecar.admin)).send().await;
        let ready = ready.is_ok_and(|r| r.status().is_success());
        if log.contains(what) && !ready {
            return log;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("never unready with {what} told:\n{}", sidecar.process.last_words());
}

/// A proxy before Prometheus that wants a bearer token, which the test may change.
struct Guard {
    token: parking_lot::Mutex<&'static str>,
    behind: String,
    client: reqwest::Client,
}

async fn guarded(
    State(guard): State<Arc<Guard>>,
    uri: Uri,
    headers: HeaderMap,
    body: axum::body::Bytes,
) -> axum::response::Response {
    let wanted = format!("Bearer {}", guard.token.lock());
    if headers.get("authorization").is_none_or(|v| v.as_bytes() != wanted.as_bytes()) {
        return (StatusCode::UNAUTHORIZED, "who are you?").into_response();
    }
    let url = format!("{}{uri}", guard.behind);
    let mut request =
        if body.is_empty() { guard.client.get(url) } else { guard.client.post(url).body(body) };
    for name in ["content-type", "content-encoding", "x-prometheus-remote-read-version"] {
        if let Some(value) = headers.get(name) {
            request = request.header(name, value);
        }
    }
    match request.send().await {
        Ok(answer) => {
            let (status, headers) = (answer.status(), answer.headers().clone());
            let body = answer.bytes().await.unwrap_or_default();
            let kind = headers.get("content-type").cloned();
            let kind = kind.map(|k| [(axum::http::header::CONTENT_TYPE, k)]);
            (status, kind.into_iter().flatten().collect::<HeaderMap>(), body).into_response()
        }
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bearer_token_is_shown_and_may_change() {
    let dir = tempfile::tempdir().expect("a directory");
    let ours = Authority::new("ours", dir.path());
    let binary = flavours().remove(0).binary;
    let (_prometheus, behind) = prometheus(&binary, &ours, false, dir.path());
    let [_, _, both] = ours.sign("proxy");
    let _provider = client();
    let pem = |path: &str| std::fs::read(path).expect("a certificate");
    let through = reqwest::Client::builder()
        .add_root_certificate(reqwest::Certificate::from_pem(&pem(&ours.root())).expect("one"))
        .identity(reqwest::Identity::from_pem(&pem(&both)).expect("an identity"))
        .build()
        .expect("a client");
    let token = parking_lot::Mutex::new("first-token");
    let guard = Arc::new(Guard { token, behind, client: through });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let app = axum::Router::new().fallback(guarded).with_state(Arc::clone(&guard));
    let _server = tokio::spawn(async move { axum::serve(listener, app).await });

    let file = dir.path().join("token");
    std::fs::write(&file, "first-token\n").expect("a file");
    let shown = file.display().to_string();
    let more = ["--prometheus-bearer-token-file", shown.as_str()];
    let sidecar = Sidecar::start("sidecar", &url, &more, &Place::loopback(), dir.path()).await;
    let query = Query::start("query", &[&sidecar.grpc], &[], dir.path()).await;
    up(&client(), &query.url).await;

    *guard.token.lock() = "second-token";
    let log = told(&sidecar, "401").await;
    std::fs::write(&file, "second-token\n").expect("a file");
    up(&client(), &query.url).await;
    assert!(!log.contains("first-token"), "the token is told:\n{log}");
}
