//! Makes the client for a location.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::prefix::PrefixStore;
use object_store::{
    BackoffConfig, Certificate, ClientOptions, ObjectStore, RetryConfig, StaticCredentialProvider,
};
use parking_lot::Mutex;

use crate::credentials::SharedFile;
use crate::error::BucketError;
use crate::location::{Encryption, Location, Provider, S3};

/// Limits of a client.
#[derive(Clone, Copy, Debug)]
pub struct OpenOptions {
    /// To connect.
    pub connect_timeout: Duration,
    /// For one HTTP request with its answer, at most one part of a file.
    pub request_timeout: Duration,
    /// For one operation with all its retries.
    pub operation_timeout: Duration,
    /// How often an operation is tried again.
    pub retries_max: u32,
    /// The longest pause before another try; pauses double from a hundredth of it, with jitter.
    pub backoff_max: Duration,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(60),
            operation_timeout: Duration::from_secs(180),
            retries_max: 4,
            backoff_max: Duration::from_secs(10),
        }
    }
}

/// Makes the bare client: no layers, the location's prefix applied.
///
/// # Errors
/// A directory that can't be made, certificates that can't be read, settings the client refuses.
pub fn store(at: &Location, options: &OpenOptions) -> Result<Arc<dyn ObjectStore>, BucketError> {
    let refuse = |e: object_store::Error| BucketError::config(at.to_string(), e.to_string());
    let whole: Arc<dyn ObjectStore> = match &at.provider {
        Provider::Filesystem { directory } => Arc::new(local(directory)?),
        Provider::Memory { name } => memory(name),
        Provider::S3(s3) => {
            Arc::new(s3_builder(s3, client(at, options)?, options).build().map_err(refuse)?)
        }
        Provider::Gcs { bucket, service_account, endpoint } => {
            let mut builder = GoogleCloudStorageBuilder::from_env()
                .with_bucket_name(bucket)
                .with_client_options(client(at, options)?)
                .with_retry(retries(options));
            if !service_account.is_empty() {
                builder = builder.with_service_account_key(service_account.reveal());
            }
            if let Some(endpoint) = endpoint {
                builder = builder.with_base_url(endpoint);
                // A token never goes over a line that anybody can read: it is an emulator, and those
                // take everybody.
                if is_plain(endpoint) {
                    let nobody = GcpCredential { bearer: String::new() };
                    builder =
                        builder.with_credentials(Arc::new(StaticCredentialProvider::new(nobody)));
                }
            }
            Arc::new(builder.build().map_err(refuse)?)
        }
        Provider::Azure { container, account, account_key, endpoint, client_id } => {
            let mut builder = MicrosoftAzureBuilder::from_env()
                .with_container_name(container)
                .with_client_options(client(at, options)?)
                .with_retry(retries(options));
            if !account.is_empty() {
                builder = builder.with_account(account);
            }
            if !account_key.is_empty() {
                builder = builder.with_access_key(account_key.reveal());
            }
            if let Some(endpoint) = endpoint {
                builder = builder.with_endpoint(endpoint.clone());
            }
            if let Some(id) = client_id {
                builder = builder.with_client_id(id);
            }
            Arc::new(builder.build().map_err(refuse)?)
        }
    };
    if at.prefix.is_root() {
        return Ok(whole);
    }
    Ok(Arc::new(PrefixStore::new(whole, at.prefix.path())))
}

fn local(directory: &Path) -> Result<LocalFileSystem, BucketError> {
    fs::create_dir_all(directory).map_err(|source| BucketError::File {
        operation: "make",
        path: directory.display().to_string(),
        source,
    })?;
    let store = LocalFileSystem::new_with_prefix(directory).map_err(|e| {
        BucketError::config(format!("file://{}", directory.display()), e.to_string())
    })?;
    // Without it a deleted block leaves its directories, which look like a block in listings.
    Ok(store.with_automatic_cleanup(true))
}

/// Stores of this process by name.
static MEMORIES: LazyLock<Mutex<HashMap<String, Arc<InMemory>>>> = LazyLock::new(Mutex::default);

fn memory(name: &str) -> Arc<InMemory> {
    Arc::clone(MEMORIES.lock().entry(name.to_owned()).or_default())
}

fn s3_builder(s3: &S3, client: ClientOptions, options: &OpenOptions) -> AmazonS3Builder {
    let mut builder = AmazonS3Builder::from_env()
        .with_bucket_name(&s3.bucket)
        .with_client_options(client)
        .with_retry(retries(options))
        // Some stores don't know tags, and nothing here uses them.
        .with_disable_tagging(true)
        // TLS protects bodies on their way, and where there is none their reader could be anyone anyway;
        // whether all arrived is verified afterwards. A signature over each body would be one more hash
        // of every byte, here and in the store.
        .with_unsigned_payload(true);
    if let Some(region) = &s3.region {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = &s3.endpoint {
        // The client puts the bucket behind a given endpoint itself, but not in front of it.
        let is_path_style = s3.path_style.unwrap_or(true);
        let address = match endpoint.split_once("://") {
            Some((scheme, host)) if !is_path_style => format!("{scheme}://{}.{host}", s3.bucket),
            _ => endpoint.clone(),
        };
        builder = builder
            .with_endpoint(&address)
            .with_allow_http(is_plain(endpoint))
            .with_virtual_hosted_style_request(!is_path_style);
    } else {
        builder = builder.with_virtual_hosted_style_request(!s3.path_style.unwrap_or(false));
    }
    if !s3.access_key.is_empty() {
        builder = builder
            .with_access_key_id(&s3.access_key)
            .with_secret_access_key(s3.secret_key.reveal());
        if !s3.session_token.is_empty() {
            builder = builder.with_token(s3.session_token.reveal());
        }
    } else if std::env::var_os("AWS_ACCESS_KEY_ID").is_none()
        && std::env::var_os("AWS_WEB_IDENTITY_TOKEN_FILE").is_none()
        && let Some(file) = SharedFile::find()
    {
        builder = builder.with_credentials(Arc::new(file));
    }
    match &s3.encryption {
        Encryption::Default => builder,
        Encryption::S3 => match "aws_server_side_encryption".parse() {
            Ok(name) => builder.with_config(name, "AES256"),
            Err(_) => builder,
        },
        Encryption::Kms(key) => builder.with_sse_kms_encryption(key),
    }
}

/// Whether an endpoint has no TLS.
fn is_plain(endpoint: &str) -> bool {
    endpoint.starts_with("http://")
}

fn client(at: &Location, options: &OpenOptions) -> Result<ClientOptions, BucketError> {
    let endpoint = match &at.provider {
        Provider::Gcs { endpoint, .. } | Provider::Azure { endpoint, .. } => endpoint.as_deref(),
        // The builder for S3 is told by itself.
        _ => None,
    };
    let mut client = ClientOptions::new()
        .with_allow_http(endpoint.is_some_and(is_plain))
        .with_connect_timeout(options.connect_timeout)
        .with_timeout(options.request_timeout)
        .with_allow_invalid_certificates(at.insecure_skip_verify);
    if let Some(file) = &at.ca_file {
        let shown = file.display().to_string();
        let pem = fs::read(file).map_err(|source| BucketError::File {
            operation: "read certificates",
            path: shown.clone(),
            source,
        })?;
        let certificates = Certificate::from_pem_bundle(&pem)
            .map_err(|e| BucketError::config(&shown, e.to_string()))?;
        if certificates.is_empty() {
            return Err(BucketError::config(shown, "it has no certificate in PEM"));
        }
        for certificate in certificates {
            client = client.with_root_certificate(certificate);
        }
    }
    Ok(client)
}

/// Single HTTP requests are tried again below the trait, where a part of a file keeps its number.
/// Whole operations are tried again above it, by [`crate::layer::retry`].
fn retries(options: &OpenOptions) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: options.backoff_max / 100,
            max_backoff: options.backoff_max,
            base: 2.0,
        },
        max_retries: (options.retries_max as usize).min(2),
        retry_timeout: options.operation_timeout,
    }
}
