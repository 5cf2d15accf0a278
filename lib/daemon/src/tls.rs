//! Certificates and keys, for servers and for clients, over gRPC and over HTTP. One crypto provider: ring.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tonic::transport::{Certificate, ClientTlsConfig, Identity, ServerTlsConfig};

/// TLS settings that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read or holds something else.
    #[error("--{flag} {path}: {reason}", path = path.display())]
    File {
        /// The flag that names it.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Flags that need one another.
    #[error("{0}")]
    Flags(&'static str),
    /// The parts do not make a configuration.
    #[error("TLS configuration: {0}")]
    Rustls(#[from] rustls::Error),
    /// The authorities for client certificates are no use.
    #[error("--tls-client-ca: {0}")]
    ClientAuthorities(String),
}

/// What a server shows, and whom it lets in.
#[derive(Args, Clone, Debug, Default)]
pub struct ServerTls {
    /// PEM file with the server's certificate chain; without it connections are not encrypted
    #[arg(long, value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file with the server's private key
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// PEM file with authorities; clients must then show a certificate that one of them signed
    #[arg(long, value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,
}

/// Whom a client trusts, and what it shows.
#[derive(Args, Clone, Debug, Default)]
pub struct ClientTls {
    /// Speak TLS to endpoints
    #[arg(long)]
    pub client_tls: bool,
    /// PEM file with the authorities that sign endpoints' certificates
    #[arg(long, value_name = "FILE")]
    pub client_tls_ca: Option<PathBuf>,
    /// PEM file with the certificate chain to show
    #[arg(long, value_name = "FILE")]
    pub client_tls_cert: Option<PathBuf>,
    /// PEM file with the private key for it
    #[arg(long, value_name = "FILE")]
    pub client_tls_key: Option<PathBuf>,
    /// Name to expect in endpoints' certificates instead of the address
    #[arg(long, value_name = "NAME")]
    pub client_tls_server_name: Option<String>,
}

fn read(flag: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|e| TlsError::File {
        flag,
        path: path.to_owned(),
        reason: e.to_string(),
    })
}

fn certificates(flag: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let file = |reason: String| TlsError::File { flag, path: path.to_owned(), reason };
    let pem = read(flag, path)?;
    let all: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|e| file(e.to_string()))?;
    if all.is_empty() {
        return Err(file("no certificate in it".to_owned()));
    }
    Ok(all)
}

fn key(flag: &'static str, path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(flag, path)?).map_err(|e| TlsError::File {
        flag,
        path: path.to_owned(),
        reason: format!("no private key in it: {e}"),
    })
}

fn roots(flag: &'static str, path: &Path) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(flag, path)? {
        store.add(certificate)?;
    }
    Ok(store)
}

/// Makes ring the provider for everything in the process that does not name one. Harmless when called
/// again; to be called before the first connection.
pub fn install_provider() {
    // An error says that one is installed, which is what is wanted.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

impl ServerTls {
    /// The pair of certificate and key; `None` when neither is set.
    fn pair(&self) -> Result<Option<(&Path, &Path)>, TlsError> {
        match (&self.tls_cert, &self.tls_key) {
            (Some(c), Some(k)) => Ok(Some((c, k))),
            (None, None) if self.tls_client_ca.is_none() => Ok(None),
            _ => Err(TlsError::Flags(
                "--tls-cert and --tls-key belong together, and --tls-client-ca needs both",
            )),
        }
    }

    /// For an HTTP server; `None` when TLS is off.
    ///
    /// # Errors
    /// Files that can't be read or used, flags that do not go together.
    pub fn rustls(&self) -> Result<Option<Arc<rustls::ServerConfig>>, TlsError> {
        install_provider();
        let Some((cert_file, key_file)) = self.pair()? else {
            return Ok(None);
        };
        let chain = certificates("tls-cert", cert_file)?;
        let key = key("tls-key", key_file)?;
        let builder = rustls::ServerConfig::builder();
        let builder = match &self.tls_client_ca {
            None => builder.with_no_client_auth(),
            Some(ca) => {
                let roots = Arc::new(roots("tls-client-ca", ca)?);
                let verifier = WebPkiClientVerifier::builder(roots)
                    .build()
                    .map_err(|e| TlsError::ClientAuthorities(e.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Some(Arc::new(config)))
    }

    /// For a gRPC server; `None` when TLS is off.
    ///
    /// # Errors
    /// As [`rustls`](Self::rustls).
    pub fn tonic(&self) -> Result<Option<ServerTlsConfig>, TlsError> {
        // tonic reports broken files only when it serves: look now.
        if self.rustls()?.is_none() {
            return Ok(None);
        }
        let Some((cert_file, key_file)) = self.pair()? else {
            return Ok(None);
        };
        let identity = Identity::from_pem(read("tls-cert", cert_file)?, read("tls-key", key_file)?);
        let mut config = ServerTlsConfig::new().identity(identity);
        if let Some(ca) = &self.tls_client_ca {
            config = config.client_ca_root(Certificate::from_pem(read("tls-client-ca", ca)?));
        }
        Ok(Some(config))
    }
}

impl ClientTls {
    /// For a gRPC client; `None` when TLS is off.
    ///
    /// # Errors
    /// Files that can't be read or used, flags that do not go together.
    pub fn tonic(&self) -> Result<Option<ClientTlsConfig>, TlsError> {
        install_provider();
        let set = self.client_tls_ca.is_some() || self.client_tls_cert.is_some();
        if !self.client_tls && !set {
            return Ok(None);
        }
        let mut config = ClientTlsConfig::new();
        if let Some(ca) = &self.client_tls_ca {
            roots("client-tls-ca", ca)?;
            config = config.ca_certificate(Certificate::from_pem(read("client-tls-ca", ca)?));
        }
        match (&self.client_tls_cert, &self.client_tls_key) {
            (Some(c), Some(k)) => {
                certificates("client-tls-cert", c)?;
                key("client-tls-key", k)?;
                let (c, k) = (read("client-tls-cert", c)?, read("client-tls-key", k)?);
                config = config.identity(Identity::from_pem(c, k));
            }
            (None, None) => {}
            _ => {
                return Err(TlsError::Flags(
                    "--client-tls-cert and --client-tls-key belong together",
                ));
            }
        }
        if let Some(name) = &self.client_tls_server_name {
            config = config.domain_name(name.clone());
        }
        Ok(Some(config))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn off_without_files_and_clear_about_broken_ones() {
        assert!(ServerTls::default().rustls().unwrap().is_none());
        assert!(ClientTls::default().tonic().unwrap().is_none());
        let half = ServerTls { tls_cert: Some("a.pem".into()), ..Default::default() };
        assert!(half.tonic().unwrap_err().to_string().contains("--tls-key"));
        let missing = ServerTls {
            tls_cert: Some("no-such-file.pem".into()),
            tls_key: Some("no-such-file.pem".into()),
            tls_client_ca: None,
        };
        let error = missing.tonic().unwrap_err().to_string();
        assert!(error.contains("--tls-cert no-such-file.pem"), "{error}");
        let file = tempfile::NamedTempFile::new().unwrap();
        let empty = ServerTls {
            tls_cert: Some(file.path().to_owned()),
            tls_key: Some(file.path().to_owned()),
            tls_client_ca: None,
        };
        assert!(empty.tonic().unwrap_err().to_string().contains("no certificate"));
    }
}
