//! Who may send events of which clusters, and who may read.
//!
//! ```yaml
//! senders:
//! - token-file: /etc/periplus/eu-1.token      # or token: TEXT
//!   clusters: [eu-1]
//! - certificate: watcher.eu-2.example         # a DNS name of the client's certificate (needs --tls-client-ca)
//!   clusters: [eu-2]
//! - token-file: /etc/periplus/relay.token
//!   clusters: ["*"]                            # a relay of many clusters
//! readers:                                     # none: whoever reaches the address may read
//! - token-file: /etc/periplus/reader.token
//!   clusters: ["*"]
//! regions: {eu-1: eu, eu-2: eu}
//! ```
//!
//! The identity decides the cluster: a sender of one cluster need not name it, and one that names another is refused
//! with its whole batch, for it is set up wrongly or lies.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use crate::store::Regions;

/// The largest file read.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// A file that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("--access {path}: {reason}")]
pub struct AccessError {
    path: String,
    reason: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    senders: Vec<Entry>,
    readers: Vec<Entry>,
    regions: HashMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct Entry {
    token: Option<String>,
    token_file: Option<PathBuf>,
    certificate: Option<String>,
    clusters: Vec<String>,
}

/// Which clusters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Clusters {
    /// All of them.
    All,
    /// These.
    Some(BTreeSet<String>),
}

impl Clusters {
    /// Whether it is one of them.
    #[must_use]
    pub fn holds(&self, cluster: &str) -> bool {
        match self {
            Self::All => true,
            Self::Some(names) => names.contains(cluster),
        }
    }
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// For which clusters.
    pub clusters: Clusters,
}

impl Identity {
    /// The cluster of something that says it is `named`'s; empty: it does not say.
    ///
    /// # Errors
    /// It is not this identity's to send.
    pub fn cluster(&self, named: &str) -> Result<String, String> {
        match (&self.clusters, named) {
            (Clusters::Some(names), "") if names.len() == 1 => {
                Ok(names.first().cloned().unwrap_or_default())
            }
            (_, "") => Err("an event names no cluster, and the sender may send for several".into()),
            (clusters, named) if clusters.holds(named) => Ok(named.to_owned()),
            (_, named) => {
                let named: String = named.chars().take(100).collect();
                Err(format!("the sender may not send events of cluster {named:?}"))
            }
        }
    }
}

#[derive(Clone)]
enum Proof {
    Token(String),
    Certificate(String),
}

/// Who may do what.
#[derive(Clone)]
pub struct Access {
    senders: Vec<(Proof, Identity)>,
    readers: Vec<(Proof, Identity)>,
    is_open: bool,
    /// The region of each cluster.
    pub regions: Regions,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Access({} senders, {} readers)", self.senders.len(), self.readers.len())
    }
}

/// What a request shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shown<'a> {
    /// The `Authorization` header.
    pub authorization: Option<&'a str>,
    /// The client's certificate (DER), where it showed one that was verified.
    pub certificate: Option<&'a [u8]>,
}

/// Whether two secrets are the same, in a time that does not tell where they differ.
fn same(a: &str, b: &str) -> bool {
    let differs = a.bytes().zip(b.bytes()).fold(0, |all, (x, y)| all | (x ^ y));
    a.len() == b.len() && differs == 0
}

impl Proof {
    fn is_shown(&self, shown: Shown<'_>) -> bool {
        match self {
            Self::Token(token) => {
                let scheme =
                    |h: &'_ str| h.get(..7).is_some_and(|s| s.eq_ignore_ascii_case("bearer "));
                let given = shown.authorization.filter(|h| scheme(h)).and_then(|h| h.get(7..));
                given.is_some_and(|given| same(given.trim(), token))
            }
            Self::Certificate(name) => {
                let Some(der) = shown.certificate else { return false };
                let der = rustls::pki_types::CertificateDer::from(der);
                let parsed = rustls::server::ParsedCertificate::try_from(&der);
                let name = rustls::pki_types::ServerName::try_from(name.as_str());
                match (parsed, name) {
                    (Ok(cert), Ok(name)) => {
                        rustls::client::verify_server_name(&cert, &name).is_ok()
                    }
                    _ => false,
                }
            }
        }
    }
}

impl Access {
    /// Everyone may do everything: for loopback.
    ///
    /// # Errors
    /// A region that is not CLUSTER=REGION.
    pub fn open(regions: &[String]) -> Result<Self, AccessError> {
        let refuse = |text: &String| AccessError {
            path: format!("(--region {text})"),
            reason: "write it as CLUSTER=REGION".into(),
        };
        let pair = |text: &String| {
            let (cluster, region) = text.split_once('=').ok_or_else(|| refuse(text))?;
            Ok((cluster.to_owned(), region.to_owned()))
        };
        let regions = regions.iter().map(pair).collect::<Result<HashMap<_, _>, _>>()?;
        Ok(Self {
            senders: Vec::new(),
            readers: Vec::new(),
            is_open: true,
            regions: Arc::new(regions),
        })
    }

    /// Reads the file.
    ///
    /// # Errors
    /// It can't be read, or says something that can't be meant.
    pub fn read(path: &Path) -> Result<Self, AccessError> {
        let refuse = |reason: String| AccessError { path: path.display().to_string(), reason };
        let size = std::fs::metadata(path).map_err(|e| refuse(e.to_string()))?.len();
        if size > FILE_BYTES_MAX {
            return Err(refuse("it has more than 4 MiB".into()));
        }
        let text = std::fs::read_to_string(path).map_err(|e| refuse(e.to_string()))?;
        // The text is not shown: there may be tokens in it.
        let file: File = serde_saphyr::from_str(&text).map_err(|_| {
            refuse("it is not as the documentation says: senders, readers, regions".into())
        })?;
        let directory = path.parent().unwrap_or(Path::new("."));
        let all =
            |entries: Vec<Entry>, what: &str| -> Result<Vec<(Proof, Identity)>, AccessError> {
                let mut out = Vec::new();
                for (n, entry) in entries.into_iter().enumerate() {
                    let one = entry.parse(directory);
                    out.push(
                        one.map_err(|reason| refuse(format!("{what}, entry {}: {reason}", n + 1)))?,
                    );
                }
                Ok(out)
            };
        Ok(Self {
            senders: all(file.senders, "senders")?,
            readers: all(file.readers, "readers")?,
            is_open: false,
            regions: Arc::new(file.regions),
        })
    }

    /// Whether everyone may do everything.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.is_open
    }

    /// Whose request to write this is; `None`: nobody's.
    #[must_use]
    pub fn sender(&self, shown: Shown<'_>) -> Option<Identity> {
        if self.is_open {
            return Some(Identity { clusters: Clusters::All });
        }
        find(&self.senders, shown)
    }

    /// Whose request to read this is; `None`: nobody's.
    #[must_use]
    pub fn reader(&self, shown: Shown<'_>) -> Option<Identity> {
        if self.readers.is_empty() {
            return Some(Identity { clusters: Clusters::All });
        }
        find(&self.readers, shown)
    }
}

fn find(known: &[(Proof, Identity)], shown: Shown<'_>) -> Option<Identity> {
    known.iter().find(|(proof, _)| proof.is_shown(shown)).map(|(_, identity)| identity.clone())
}

impl Entry {
    fn parse(self, directory: &Path) -> Result<(Proof, Identity), String> {
        let proof = match (self.token, self.token_file, self.certificate) {
            (Some(token), None, None) => Proof::Token(token.trim().to_owned()),
            (None, Some(file), None) => {
                let file = directory.join(file);
                let token = std::fs::read_to_string(&file);
                Proof::Token(
                    token.map_err(|e| format!("{}: {e}", file.display()))?.trim().to_owned(),
                )
            }
            (None, None, Some(name)) => Proof::Certificate(name),
            _ => return Err("give one of token, token-file and certificate".into()),
        };
        if matches!(&proof, Proof::Token(t) if t.len() < 8) {
            return Err("the token has fewer than 8 characters".into());
        }
        if self.clusters.is_empty() {
            return Err("name its clusters, or \"*\" for all".into());
        }
        let clusters = match self.clusters.iter().any(|c| c == "*") {
            true => Clusters::All,
            false => Clusters::Some(self.clusters.into_iter().collect()),
        };
        Ok((proof, Identity { clusters }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Access, AccessError> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("t"), "file-token\n").unwrap();
        let path = dir.path().join("access.yaml");
        std::fs::write(&path, text).unwrap();
        Access::read(&path)
    }

    fn bearer(text: &str) -> Shown<'_> {
        Shown { authorization: Some(text), certificate: None }
    }

    #[test]
    fn the_identity_decides_the_cluster() {
        let access = read(
            "senders:\n- token-file: t\n  clusters: [a]\n- token: relay-token\n  clusters: ['*']\n\
             - token: two-tokens\n  clusters: [b, c]\nreaders:\n- token: reader-token\n  clusters: [a]\n",
        )
        .unwrap();
        let one = access.sender(bearer("Bearer file-token")).unwrap();
        assert_eq!(one.cluster("").unwrap(), "a");
        assert_eq!(one.cluster("a").unwrap(), "a");
        assert!(one.cluster("b").is_err());
        let two = access.sender(bearer("bearer two-tokens")).unwrap();
        assert!(two.cluster("").is_err() && two.cluster("c").is_ok() && two.cluster("a").is_err());
        let relay = access.sender(bearer("Bearer relay-token")).unwrap();
        assert!(relay.cluster("").is_err() && relay.cluster("anything").is_ok());
        for wrong in
            ["", "Bearer ", "Bearer file-toke", "Bearer file-tokenx", "file-token", "Basic x"]
        {
            assert!(access.sender(bearer(wrong)).is_none(), "{wrong}");
        }
        assert!(access.sender(bearer("Bearer reader-token")).is_none());
        assert!(access.reader(bearer("Bearer file-token")).is_none());
        assert!(access.reader(bearer("Bearer reader-token")).is_some());
        assert!(!format!("{access:?}").contains("token"));
    }

    #[test]
    fn nonsense_is_refused_without_showing_secrets() {
        for text in [
            "senders: [{token: hunter2hunter2}]",
            "senders: [{clusters: [a]}]",
            "senders: [{token: short, clusters: [a]}]",
            "senders: [{token: hunter2hunter2, certificate: x, clusters: [a]}]",
            "senders: [{token-file: nowhere, clusters: [a]}]",
            "senders: [{token: hunter2hunter2, klusters: [a]}]",
            "sonders: []",
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
