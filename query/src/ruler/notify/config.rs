//! Which Alertmanagers, how they are reached, and what happens to alerts on the way: the `alerting`
//! section of Prometheus's configuration, in a file of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use periplus_model::duration::parse_duration;
use serde::Deserialize;

use super::relabel::Relabel;

/// The largest file read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Alertmanagers can't be told.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    /// The file can't be used.
    #[error("{path}: {reason}; write it as the alerting section of Prometheus's configuration", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An address makes no sense.
    #[error(
        "--alertmanager {url}: {reason}; write http://host:port, dns+http://host:port or dnssrv+http://name"
    )]
    Address {
        /// The address as given, without what may be secret.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// The `alerting` section.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlertingConfig {
    /// What happens to alerts before they are sent.
    pub alert_relabel_configs: Vec<Relabel>,
    /// Who is told.
    pub alertmanagers: Vec<Alertmanagers>,
}

/// Alertmanagers that are reached in the same way.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Alertmanagers {
    /// `http` or `https`.
    pub scheme: String,
    /// What stands before `/api/v2/alerts`.
    pub path_prefix: String,
    /// How long a request may take.
    pub timeout: String,
    /// Only `v2` exists.
    pub api_version: String,
    /// A user and a password.
    pub basic_auth: Option<BasicAuth>,
    /// A token.
    pub authorization: Option<Authorization>,
    /// Whom to trust, and what to show.
    pub tls_config: Tls,
    /// Written-down addresses.
    pub static_configs: Vec<Static>,
    /// Files of addresses.
    pub file_sd_configs: Vec<Files>,
    /// Names to resolve.
    pub dns_sd_configs: Vec<Dns>,
}

impl Default for Alertmanagers {
    fn default() -> Self {
        Self {
            scheme: "http".to_owned(),
            path_prefix: String::new(),
            timeout: "10s".to_owned(),
            api_version: "v2".to_owned(),
            basic_auth: None,
            authorization: None,
            tls_config: Tls::default(),
            static_configs: Vec::new(),
            file_sd_configs: Vec::new(),
            dns_sd_configs: Vec::new(),
        }
    }
}

/// A user and a password.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BasicAuth {
    /// The user.
    pub username: String,
    /// The password.
    password: String,
    /// A file that holds it.
    pub password_file: Option<PathBuf>,
}

/// A token.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Authorization {
    /// `Bearer` where nothing is said.
    #[serde(rename = "type")]
    kind: Option<String>,
    credentials: String,
    /// A file that holds it.
    pub credentials_file: Option<PathBuf>,
}

impl std::fmt::Debug for BasicAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BasicAuth").field("username", &self.username).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Authorization {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authorization").finish_non_exhaustive()
    }
}

/// TLS towards Alertmanagers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tls {
    /// PEM file of authorities.
    pub ca_file: Option<PathBuf>,
    /// PEM file of the chain to show.
    pub cert_file: Option<PathBuf>,
    /// PEM file of the key for it.
    pub key_file: Option<PathBuf>,
    /// Trust anybody.
    pub insecure_skip_verify: bool,
}

/// Written-down addresses.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Static {
    /// `host:port`.
    pub targets: Vec<String>,
}

/// Files in Prometheus's `file_sd` form.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Files {
    /// Names, `*` in the last part.
    pub files: Vec<PathBuf>,
    /// Accepted for compatibility; files are looked at as often as names.
    pub refresh_interval: Option<String>,
}

/// Names to resolve.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dns {
    /// The names.
    pub names: Vec<String>,
    /// `SRV` (where nothing is said), `A` or `AAAA`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The port, for addresses.
    pub port: u16,
    /// Accepted for compatibility.
    pub refresh_interval: Option<String>,
}

impl AlertingConfig {
    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(path: &Path) -> Result<Self, NotifyError> {
        let fail = |reason: String| NotifyError::File { path: path.to_owned(), reason };
        let size = std::fs::metadata(path).map_err(|e| fail(e.to_string()))?.len();
        if size > FILE_BYTES_MAX {
            return Err(fail(format!("{size} bytes, over the limit of {FILE_BYTES_MAX}")));
        }
        let text = std::fs::read_to_string(path).map_err(|e| fail(e.to_string()))?;
        // Snippets of the file might show passwords.
        let config: Self =
            serde_saphyr::from_str(&text).map_err(|e| fail(e.without_snippet().to_string()))?;
        for r in &config.alert_relabel_configs {
            r.check().map_err(&fail)?;
        }
        for a in &config.alertmanagers {
            if !matches!(a.api_version.as_str(), "" | "v2") {
                return Err(fail(format!(
                    "api_version {:?} does not exist any more",
                    a.api_version
                )));
            }
            Client::new(a).map_err(&fail)?;
        }
        Ok(config)
    }

    /// Adds an Alertmanager by its address.
    ///
    /// # Errors
    /// The address makes no sense.
    pub fn add_url(&mut self, text: &str) -> Result<(), NotifyError> {
        let (kind, plain) = match text.split_once('+') {
            Some((kind @ ("dns" | "dnssrv"), rest)) => (kind, rest),
            _ => ("", text),
        };
        let fail = |reason: String| {
            let shown = text.rsplit_once('@').map_or(text, |(_, host)| host);
            NotifyError::Address { url: shown.to_owned(), reason }
        };
        let url = url::Url::parse(plain).map_err(|e| fail(e.to_string()))?;
        let host = url.host_str().ok_or_else(|| fail("it has no host".to_owned()))?.to_owned();
        if !matches!(url.scheme(), "http" | "https") {
            return Err(fail(format!("scheme {:?}", url.scheme())));
        }
        let mut a = Alertmanagers {
            scheme: url.scheme().to_owned(),
            path_prefix: url.path().trim_end_matches('/').to_owned(),
            ..Alertmanagers::default()
        };
        if !url.username().is_empty() {
            a.basic_auth = Some(BasicAuth {
                username: url.username().to_owned(),
                password: url.password().unwrap_or_default().to_owned(),
                password_file: None,
            });
        }
        let port = url.port_or_known_default().unwrap_or(9093);
        match kind {
            "" => a.static_configs.push(Static { targets: vec![format!("{host}:{port}")] }),
            kind => a.dns_sd_configs.push(Dns {
                names: vec![host],
                kind: Some(if kind == "dns" { "A" } else { "SRV" }.to_owned()),
                port,
                refresh_interval: None,
            }),
        }
        self.alertmanagers.push(a);
        Ok(())
    }
}

/// How a set of Alertmanagers is reached.
pub(super) struct Client {
    http: reqwest::Client,
    basic: Option<BasicAuth>,
    token: Option<Authorization>,
}

impl Client {
    pub(super) fn new(a: &Alertmanagers) -> Result<Self, String> {
        let timeout = parse_duration(&a.timeout).map_err(|e| format!("timeout: {e}"))?;
        let mut b = reqwest::Client::builder()
            .timeout(Duration::from_millis(timeout.unsigned_abs().max(1)))
            // Credentials go to whom they were given for, and to nobody else.
            .redirect(reqwest::redirect::Policy::none())
            .danger_accept_invalid_certs(a.tls_config.insecure_skip_verify);
        let read = |p: &Path| std::fs::read(p).map_err(|e| format!("{}: {e}", p.display()));
        if let Some(ca) = &a.tls_config.ca_file {
            let all =
                reqwest::Certificate::from_pem_bundle(&read(ca)?).map_err(|e| e.to_string())?;
            b = all
                .into_iter()
                .fold(b.tls_built_in_root_certs(false), |b, c| b.add_root_certificate(c));
        }
        if let (Some(cert), Some(key)) = (&a.tls_config.cert_file, &a.tls_config.key_file) {
            let mut pem = read(cert)?;
            pem.extend(read(key)?);
            b = b.identity(reqwest::Identity::from_pem(&pem).map_err(|e| e.to_string())?);
        }
        let http = b.build().map_err(|e| e.to_string())?;
        Ok(Self { http, basic: a.basic_auth.clone(), token: a.authorization.clone() })
    }

    /// A request with what it takes to be let in; files of secrets are read each time, so that they
    /// may change.
    pub(super) fn request(&self, url: &str) -> Result<reqwest::RequestBuilder, String> {
        let mut r = self.http.post(url);
        let secret = |given: &str, file: Option<&PathBuf>| match file {
            None => Ok(given.to_owned()),
            Some(f) => std::fs::read_to_string(f)
                .map(|s| s.trim().to_owned())
                .map_err(|e| format!("{}: {e}", f.display())),
        };
        if let Some(b) = &self.basic {
            r = r.basic_auth(&b.username, Some(secret(&b.password, b.password_file.as_ref())?));
        }
        if let Some(t) = &self.token {
            let token = secret(&t.credentials, t.credentials_file.as_ref())?;
            let kind = t.kind.as_deref().unwrap_or("Bearer");
            r = r.header("authorization", format!("{kind} {token}"));
        }
        Ok(r)
    }
}

/// The address alerts are posted to at a host.
pub(super) fn post_url(a: &Alertmanagers, target: &str) -> String {
    let prefix = a.path_prefix.trim_matches('/');
    let slash = if prefix.is_empty() { "" } else { "/" };
    format!("{}://{target}{slash}{prefix}/api/v2/alerts", a.scheme)
}

/// A client for a set of Alertmanagers, shared.
pub(super) fn client(a: &Alertmanagers) -> Option<Arc<Client>> {
    match Client::new(a) {
        Ok(c) => Some(Arc::new(c)),
        Err(error) => {
            tracing::error!(error, "reaching Alertmanagers");
            None
        }
    }
}
