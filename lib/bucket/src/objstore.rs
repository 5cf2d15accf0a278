//! Thanos's objstore YAML, as it is.
//!
//! ```yaml
//! type: S3              # also FILESYSTEM, GCS, AZURE
//! config:
//!   bucket: metrics
//!   endpoint: s3.eu-west-1.amazonaws.com
//! prefix: fleet
//! ```
//!
//! A field this program does not have an equivalent for is accepted where ignoring it changes
//! nothing that is stored or trusted (pool sizes, tracing, part sizes), and refused by name where it
//! would (client certificates, customer keys, signature version 2, other stores).

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use crate::error::BucketError;
use crate::key::Key;
use crate::location::{Encryption, Location, Provider, S3, Secret, endpoint, prefix};

/// A larger file is refused.
const YAML_BYTES_MAX: usize = 1 << 20;

#[derive(Deserialize)]
struct File {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    config: serde_json::Value,
    #[serde(default)]
    prefix: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct FilesystemConfig {
    directory: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct S3Config {
    bucket: String,
    endpoint: String,
    region: String,
    access_key: String,
    secret_key: String,
    session_token: String,
    insecure: bool,
    signature_version2: bool,
    bucket_lookup_type: String,
    put_user_metadata: BTreeMap<String, String>,
    sse_config: SseConfig,
    http_config: HttpConfig,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct SseConfig {
    #[serde(rename = "type")]
    kind: String,
    kms_key_id: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct GcsConfig {
    bucket: String,
    service_account: String,
    http_config: HttpConfig,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct AzureConfig {
    storage_account: String,
    storage_account_key: String,
    storage_connection_string: String,
    container: String,
    endpoint: String,
    user_assigned_id: String,
    http_config: HttpConfig,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct HttpConfig {
    insecure_skip_verify: bool,
    tls_config: TlsConfig,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct TlsConfig {
    ca_file: String,
    cert_file: String,
    key_file: String,
    server_name: String,
    insecure_skip_verify: bool,
}

fn bad(field: &str, reason: impl Into<String>) -> BucketError {
    BucketError::config(format!("objstore configuration, {field}"), reason)
}

/// Reads an objstore YAML.
///
/// # Errors
/// No such YAML, an unknown type, a missing field, or one whose meaning can't be kept.
pub fn parse(yaml: &str) -> Result<Location, BucketError> {
    if yaml.len() > YAML_BYTES_MAX {
        return Err(bad("whole", "it is larger than 1 MiB"));
    }
    // A parser's error may quote the line, which may hold a secret: only its place is told.
    let file: File = serde_saphyr::from_str(yaml).map_err(|e| {
        let at = e.location().map_or_else(String::new, |l| format!(" near line {}", l.line()));
        bad("whole", format!("it is no such YAML{at}; it has type, config and prefix"))
    })?;
    let below = prefix(&file.prefix).map_err(|e| bad("prefix", e.to_string()))?;
    match file.kind.to_ascii_uppercase().as_str() {
        "FILESYSTEM" => filesystem(section(file.config)?, below),
        "S3" => s3(section(file.config)?, below),
        "GCS" => gcs(section(file.config)?, below),
        "AZURE" => azure(section(file.config)?, below),
        _ => Err(bad(
            "type",
            format!(
                "{:?} is not supported; there are FILESYSTEM, S3 (and what speaks like it), GCS, AZURE",
                file.kind
            ),
        )),
    }
}

fn section<T: Default + for<'a> Deserialize<'a>>(
    value: serde_json::Value,
) -> Result<T, BucketError> {
    if value.is_null() {
        return Ok(T::default());
    }
    serde_json::from_value(value)
        .map_err(|_| bad("config", "a field has a value of the wrong type"))
}

fn required<'a>(field: &str, value: &'a str) -> Result<&'a str, BucketError> {
    if value.is_empty() { Err(bad(field, "it is missing")) } else { Ok(value) }
}

fn location(provider: Provider, prefix: Key, http: HttpConfig) -> Result<Location, BucketError> {
    let tls = http.tls_config;
    for (field, value) in [
        ("http_config.tls_config.cert_file", &tls.cert_file),
        ("http_config.tls_config.key_file", &tls.key_file),
        ("http_config.tls_config.server_name", &tls.server_name),
    ] {
        if !value.is_empty() {
            return Err(bad(field, "client certificates for object stores are not supported"));
        }
    }
    Ok(Location {
        provider,
        prefix,
        ca_file: (!tls.ca_file.is_empty()).then(|| PathBuf::from(tls.ca_file)),
        insecure_skip_verify: http.insecure_skip_verify || tls.insecure_skip_verify,
    })
}

fn filesystem(config: FilesystemConfig, prefix: Key) -> Result<Location, BucketError> {
    let directory = required("config.directory", &config.directory)?;
    let directory =
        std::path::absolute(directory).map_err(|e| bad("config.directory", e.to_string()))?;
    location(Provider::Filesystem { directory }, prefix, HttpConfig::default())
}

fn s3(config: S3Config, prefix: Key) -> Result<Location, BucketError> {
    if config.signature_version2 {
        return Err(bad("config.signature_version2", "only version 4 is supported"));
    }
    if let Some(name) = config.put_user_metadata.keys().next() {
        return Err(bad("config.put_user_metadata", format!("{name}: headers are not supported")));
    }
    if config.access_key.is_empty() != config.secret_key.is_empty() {
        return Err(bad("config.access_key, secret_key", "give both, or neither"));
    }
    let encryption = match config.sse_config.kind.as_str() {
        "" => Encryption::Default,
        "SSE-S3" => Encryption::S3,
        "SSE-KMS" => Encryption::Kms(
            required("config.sse_config.kms_key_id", &config.sse_config.kms_key_id)?.into(),
        ),
        other => return Err(bad("config.sse_config.type", format!("{other} is not supported"))),
    };
    let path_style = match config.bucket_lookup_type.as_str() {
        "" | "auto" => None,
        "path" => Some(true),
        "virtual-hosted" => Some(false),
        _ => return Err(bad("config.bucket_lookup_type", "it is auto, virtual-hosted or path")),
    };
    // Thanos has the host alone, and `insecure` for the scheme.
    let address = required("config.endpoint", &config.endpoint)?;
    let scheme = if config.insecure { "http" } else { "https" };
    let address =
        if address.contains("://") { address.to_owned() } else { format!("{scheme}://{address}") };
    let address = endpoint(&address).map_err(|e| bad("config.endpoint", e))?;
    let host = address.split("://").nth(1).unwrap_or("").to_owned();
    let is_aws = host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn");
    let region = if config.region.is_empty() { region_of(&host) } else { Some(config.region) };
    let s3 = S3 {
        bucket: required("config.bucket", &config.bucket)?.to_owned(),
        // AWS's own addresses follow from the region, and have the bucket in front.
        endpoint: (!is_aws).then_some(address),
        region,
        path_style,
        access_key: config.access_key,
        secret_key: Secret::new(config.secret_key),
        session_token: Secret::new(config.session_token),
        encryption,
    };
    location(Provider::S3(s3), prefix, config.http_config)
}

/// `s3.eu-west-1.amazonaws.com` says where it is.
fn region_of(host: &str) -> Option<String> {
    let rest = host.strip_prefix("s3.").or_else(|| host.strip_prefix("s3-"))?;
    let rest = rest.strip_prefix("dualstack.").unwrap_or(rest);
    let region = rest.split_once(".amazonaws.com")?.0;
    (!region.is_empty()).then(|| region.to_owned())
}

fn gcs(config: GcsConfig, prefix: Key) -> Result<Location, BucketError> {
    let provider = Provider::Gcs {
        bucket: required("config.bucket", &config.bucket)?.to_owned(),
        service_account: Secret::new(config.service_account),
        endpoint: None,
    };
    location(provider, prefix, config.http_config)
}

fn azure(config: AzureConfig, prefix: Key) -> Result<Location, BucketError> {
    let (mut account, mut key) = (config.storage_account, config.storage_account_key);
    let mut address = None;
    for part in config.storage_connection_string.split(';').filter(|p| !p.is_empty()) {
        match part.split_once('=') {
            Some(("AccountName", value)) => account = value.to_owned(),
            Some(("AccountKey", value)) => key = value.to_owned(),
            Some(("BlobEndpoint", value)) => {
                address =
                    Some(endpoint(value).map_err(|e| bad("config.storage_connection_string", e))?);
            }
            Some(("DefaultEndpointsProtocol" | "EndpointSuffix", _)) => {}
            _ => {
                return Err(bad(
                    "config.storage_connection_string",
                    "it may have AccountName, AccountKey, BlobEndpoint, DefaultEndpointsProtocol, \
                     EndpointSuffix",
                ));
            }
        }
    }
    let account = required("config.storage_account", &account)?.to_owned();
    // Thanos has the suffix alone here: blob.core.windows.net.
    if !config.endpoint.is_empty() && config.endpoint != "blob.core.windows.net" {
        let text = format!("https://{account}.{}", config.endpoint);
        address = Some(endpoint(&text).map_err(|e| bad("config.endpoint", e))?);
    }
    let provider = Provider::Azure {
        container: required("config.container", &config.container)?.to_owned(),
        account,
        account_key: Secret::new(key),
        endpoint: address,
        client_id: (!config.user_assigned_id.is_empty()).then_some(config.user_assigned_id),
    };
    location(provider, prefix, config.http_config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s3_of(yaml: &str) -> (Location, S3) {
        let at = parse(yaml).unwrap();
        let Provider::S3(s3) = at.provider.clone() else { panic!("{at:?}") };
        (at, s3)
    }

    #[test]
    fn thanos_files_as_they_are() {
        let (at, s3) = s3_of(
            "type: S3\nconfig:\n  bucket: b\n  endpoint: minio:9000\n  insecure: true\n  \
             access_key: a\n  secret_key: s\n  trace:\n    enable: false\n  part_size: 67108864\n  \
             bucket_lookup_type: path\n  http_config:\n    idle_conn_timeout: 1m30s\n    \
             tls_config:\n      ca_file: /etc/ca.pem\nprefix: fleet/eu/\n",
        );
        assert_eq!(at.to_string(), "s3://b/fleet/eu");
        assert_eq!(at.ca_file, Some(PathBuf::from("/etc/ca.pem")));
        assert_eq!(s3.endpoint.as_deref(), Some("http://minio:9000"));
        assert_eq!((s3.path_style, s3.secret_key.reveal()), (Some(true), "s"));

        let (_, s3) = s3_of(
            "type: S3\nconfig: {bucket: b, endpoint: s3.eu-west-1.amazonaws.com, \
             sse_config: {type: SSE-KMS, kms_key_id: k}}",
        );
        assert_eq!((s3.endpoint, s3.region.as_deref()), (None, Some("eu-west-1")));
        assert_eq!(s3.encryption, Encryption::Kms("k".into()));

        for (yaml, shown) in [
            ("type: FILESYSTEM\nconfig: {directory: /data/b}\nprefix: x", "file:///data/b/x"),
            ("type: GCS\nconfig: {bucket: b}", "gs://b"),
            ("type: AZURE\nconfig: {storage_account: a, container: c}", "az://c"),
            (
                "type: AZURE\nconfig: {storage_connection_string: 'AccountName=a;AccountKey=k', container: c}",
                "az://c",
            ),
        ] {
            assert_eq!(parse(yaml).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn refused_by_name_and_without_secrets() {
        for (yaml, field) in [
            ("type: SWIFT", "type"),
            ("type: S3\nconfig: {endpoint: x}", "bucket"),
            ("type: S3\nconfig: {bucket: x}", "endpoint"),
            ("type: S3\nconfig: {bucket: b, endpoint: x, access_key: hunter2}", "secret_key"),
            ("type: S3\nconfig: {bucket: b, endpoint: x, signature_version2: true}", "signature"),
            ("type: S3\nconfig: {bucket: b, endpoint: x, sse_config: {type: SSE-C}}", "sse_config"),
            (
                "type: S3\nconfig: {bucket: b, endpoint: x, http_config: {tls_config: {cert_file: x}}}",
                "cert_file",
            ),
            ("type: FILESYSTEM\nconfig: {directory: /x}\nprefix: ../y", "prefix"),
            ("type: S3\nconfig: {bucket: [hunter2]}", "config"),
            ("secret: hunter2\n  x: [", "whole"),
            ("", "whole"),
        ] {
            let error = parse(yaml).unwrap_err().to_string();
            assert!(error.contains(field), "{yaml}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
