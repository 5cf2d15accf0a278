//! Where a bucket is.
//!
//! ```text
//! file:///var/lib/periplus/bucket          a directory of this machine
//! memory://name                            of this process, for tests
//! s3://bucket/prefix?region=eu-west-1&endpoint=https://s3.example:9000&path-style=true
//! gs://bucket/prefix
//! az://container/prefix?account=name
//! ```
//!
//! Options after the question mark: `endpoint`, `region` (S3), `account` (Azure), `path-style`,
//! `ca-file` (PEM), `insecure-skip-verify`. Secrets are not among them: a URL ends up in logs and
//! process lists. They come from the environment, files and instance metadata, or from Thanos's YAML.
//!
//! An `endpoint` may be an emulator's: `gs://b?endpoint=http://127.0.0.1:4443` (without TLS nobody's
//! credentials are sent), `az://c?account=devstoreaccount1&endpoint=http://127.0.0.1:10000/devstoreaccount1`
//! (with the account's name in the path, and its key in `AZURE_STORAGE_ACCOUNT_KEY`).

use std::fmt;
use std::path::PathBuf;

use url::Url;

use crate::error::BucketError;
use crate::key::Key;

/// A text that is never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The text.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "none" } else { "(hidden)" })
    }
}

/// What kind of store it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provider {
    /// A directory; it is made where it does not exist.
    Filesystem {
        /// Its absolute path.
        directory: PathBuf,
    },
    /// This process's memory; the same name gives the same store.
    Memory {
        /// Its name.
        name: String,
    },
    /// S3 and what speaks like it.
    S3(S3),
    /// Google Cloud Storage.
    Gcs {
        /// The bucket.
        bucket: String,
        /// A service account's key as JSON; empty: the usual places.
        service_account: Secret,
        /// Another address than Google's.
        endpoint: Option<String>,
    },
    /// Azure Blob Storage.
    Azure {
        /// The container.
        container: String,
        /// The storage account; empty: from the environment.
        account: String,
        /// Its key; empty: the usual places.
        account_key: Secret,
        /// Another address than Azure's.
        endpoint: Option<String>,
        /// The identity to use where several are assigned.
        client_id: Option<String>,
    },
}

/// A bucket of S3.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct S3 {
    /// The bucket.
    pub bucket: String,
    /// `http(s)://host[:port]`; none: AWS's.
    pub endpoint: Option<String>,
    /// Its region; none: from the environment, else `us-east-1`.
    pub region: Option<String>,
    /// `endpoint/bucket/key` instead of `bucket.endpoint/key`. Default: where an endpoint is given.
    pub path_style: Option<bool>,
    /// Both, or the usual places.
    pub access_key: String,
    /// Both, or the usual places.
    pub secret_key: Secret,
    /// With temporary keys.
    pub session_token: Secret,
    /// Server-side encryption.
    pub encryption: Encryption,
}

/// How S3 encrypts what it stores.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Encryption {
    /// As the bucket says.
    #[default]
    Default,
    /// With S3's keys.
    S3,
    /// With a key of KMS.
    Kms(String),
}

/// A bucket, or a prefix of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The store.
    pub provider: Provider,
    /// All keys lie below it.
    pub prefix: Key,
    /// Certificates to trust beside the system's (PEM).
    pub ca_file: Option<PathBuf>,
    /// Trust any certificate.
    pub insecure_skip_verify: bool,
}

impl Location {
    /// Reads a URL.
    ///
    /// # Errors
    /// No such scheme, no bucket, a prefix that is no key, an unknown option, a URL with a password.
    pub fn parse(text: &str) -> Result<Self, BucketError> {
        // The text itself is not shown: somebody may have put a password into it.
        let url = Url::parse(text)
            .map_err(|e| BucketError::config("bucket URL", format!("{e}; {FORMS}")))?;
        let shown = format!("{}://{}{}", url.scheme(), url.host_str().unwrap_or(""), url.path());
        let refuse = |reason: String| BucketError::config(shown.clone(), reason);
        if !url.username().is_empty() || url.password().is_some() {
            return Err(refuse(
                "credentials do not belong into a URL: use the environment or an objstore YAML"
                    .into(),
            ));
        }
        let mut options = UrlOptions::read(&url).map_err(&refuse)?;
        let host = url.host_str().unwrap_or("").to_owned();
        let provider = match url.scheme() {
            "file" if host.is_empty() => {
                let directory = url.to_file_path().map_err(|()| refuse(FORMS.to_owned()))?;
                Provider::Filesystem { directory }
            }
            "file" => {
                return Err(refuse("a directory needs three slashes: file:///path".into()));
            }
            "memory" => Provider::Memory { name: host },
            _ if host.is_empty() => return Err(refuse(format!("it names no bucket; {FORMS}"))),
            "s3" => Provider::S3(S3 {
                bucket: host,
                endpoint: options.endpoint.take(),
                region: options.region.take(),
                path_style: options.path_style.take(),
                ..S3::default()
            }),
            "gs" => Provider::Gcs {
                bucket: host,
                service_account: Secret::default(),
                endpoint: options.endpoint.take(),
            },
            "az" => Provider::Azure {
                container: host,
                account: options.account.take().unwrap_or_default(),
                account_key: Secret::default(),
                endpoint: options.endpoint.take(),
                client_id: None,
            },
            other => return Err(refuse(format!("{other}:// is no store; {FORMS}"))),
        };
        if let Some(option) = options.left_over() {
            return Err(refuse(format!("{option} means nothing for {}", url.scheme())));
        }
        let prefix = match provider {
            Provider::Filesystem { .. } => Key::ROOT,
            _ => prefix(url.path()).map_err(|e| refuse(e.to_string()))?,
        };
        let UrlOptions { ca_file, insecure_skip_verify, .. } = options;
        Ok(Self { provider, prefix, ca_file, insecure_skip_verify })
    }

    /// The same with a prefix below this one's.
    ///
    /// # Errors
    /// The prefix is no key.
    pub fn below(mut self, more: &str) -> Result<Self, BucketError> {
        self.prefix = self.prefix.join(more)?;
        Ok(self)
    }
}

const FORMS: &str = "a bucket is file:///DIR, s3://BUCKET[/PREFIX], gs://BUCKET[/PREFIX], \
                     az://CONTAINER[/PREFIX] or memory://NAME";

/// A prefix as people write it, with or without slashes at its ends.
pub(crate) fn prefix(text: &str) -> Result<Key, crate::KeyError> {
    match text.trim_matches('/') {
        "" => Ok(Key::ROOT),
        name => Key::parse(name),
    }
}

#[derive(Default)]
struct UrlOptions {
    endpoint: Option<String>,
    region: Option<String>,
    account: Option<String>,
    path_style: Option<bool>,
    ca_file: Option<PathBuf>,
    insecure_skip_verify: bool,
}

impl UrlOptions {
    fn read(url: &Url) -> Result<Self, String> {
        let yes_or_no = |name: &str, value: &str| match value {
            "true" | "1" | "" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(format!("{name} is true or false")),
        };
        let mut options = Self::default();
        for (name, value) in url.query_pairs() {
            match name.as_ref() {
                "endpoint" => options.endpoint = Some(endpoint(&value)?),
                "region" => options.region = Some(value.into_owned()),
                "account" => options.account = Some(value.into_owned()),
                "path-style" => options.path_style = Some(yes_or_no(&name, &value)?),
                "ca-file" => options.ca_file = Some(PathBuf::from(value.as_ref())),
                "insecure-skip-verify" => {
                    options.insecure_skip_verify = yes_or_no(&name, &value)?;
                }
                _ => {
                    return Err(format!(
                        "{name} is no option; there are endpoint, region, account, path-style, \
                         ca-file, insecure-skip-verify"
                    ));
                }
            }
        }
        Ok(options)
    }

    fn left_over(&self) -> Option<&'static str> {
        [
            ("endpoint", self.endpoint.is_some()),
            ("region", self.region.is_some()),
            ("account", self.account.is_some()),
            ("path-style", self.path_style.is_some()),
        ]
        .into_iter()
        .find_map(|(name, is_left)| is_left.then_some(name))
    }
}

/// Checks an endpoint.
pub(crate) fn endpoint(text: &str) -> Result<String, String> {
    let url =
        Url::parse(text).map_err(|e| format!("endpoint: {e}; it is http(s)://HOST[:PORT]"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err("endpoint is http(s)://HOST[:PORT]".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("endpoint: credentials do not belong into a URL".to_owned());
    }
    Ok(text.trim_end_matches('/').to_owned())
}

impl fmt::Display for Location {
    /// As a URL, without options and secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, name) = match &self.provider {
            Provider::Filesystem { directory } => {
                write!(f, "file://{}", directory.display())?;
                return if self.prefix.is_root() { Ok(()) } else { write!(f, "/{}", self.prefix) };
            }
            Provider::Memory { name } => ("memory", name),
            Provider::S3(s3) => ("s3", &s3.bucket),
            Provider::Gcs { bucket, .. } => ("gs", bucket),
            Provider::Azure { container, .. } => ("az", container),
        };
        write!(f, "{scheme}://{name}")?;
        if self.prefix.is_root() { Ok(()) } else { write!(f, "/{}", self.prefix) }
    }
}

impl std::str::FromStr for Location {
    type Err = BucketError;

    fn from_str(text: &str) -> Result<Self, BucketError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let at = Location::parse(
            "s3://metrics/fleet/eu/?endpoint=http://127.0.0.1:9000/&region=eu-1&path-style=false",
        )
        .unwrap();
        assert_eq!(at.to_string(), "s3://metrics/fleet/eu");
        let Provider::S3(s3) = &at.provider else { panic!("{at:?}") };
        assert_eq!(s3.endpoint.as_deref(), Some("http://127.0.0.1:9000"));
        assert_eq!((s3.region.as_deref(), s3.path_style), (Some("eu-1"), Some(false)));
        for text in ["gs://b", "az://c/x?account=a", "memory://t/p", "file:///tmp/x"] {
            let at = Location::parse(text).unwrap();
            assert_eq!(at.to_string(), text.split('?').next().unwrap());
        }
        assert_eq!(at.below("x").unwrap().to_string(), "s3://metrics/fleet/eu/x");
    }

    #[test]
    fn nonsense_is_refused_and_secrets_are_not_shown() {
        for text in [
            "",
            "bucket",
            "s3://",
            "s3:///x",
            "ftp://x",
            "file://relative/x",
            "s3://b/../c",
            "s3://b/%2e%2e%2fc",
            "s3://b/%252e",
            "s3://b?colour=blue",
            "gs://b?region=x",
            "s3://b?endpoint=ftp://x",
            "s3://b?path-style=maybe",
            "file:///tmp?endpoint=http://x",
            "s3://key:hunter2@bucket/x",
            "s3://b?endpoint=http://key:hunter2@h",
        ] {
            match Location::parse(text) {
                // The URL parser resolves dots before anything else sees them: the bucket's root.
                Ok(at) => assert_eq!(at.to_string(), "s3://b/c", "{text}"),
                Err(error) => assert!(!error.to_string().contains("hunter2"), "{error}"),
            }
        }
    }
}
