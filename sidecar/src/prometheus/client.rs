//! A client of Prometheus's HTTP API and of its remote read.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use periplus_model::Matcher;
use periplus_proto::{convert, prometheus as wire};
use prost::Message;
use reqwest::{RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::frames::Frames;
use crate::config::Access;

/// The largest answer read that is not streamed, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Why Prometheus did not answer as it should.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// It can't be reached, or the connection broke.
    #[error("{0}")]
    Unreachable(String),
    /// It answered an error of its API.
    #[error("{message}")]
    Api {
        /// `bad_data`, `execution`, `timeout`, …
        kind: String,
        /// Its words.
        message: String,
    },
    /// It answered something else than its API promises.
    #[error("unexpected answer of Prometheus to {what}: {problem}")]
    Unexpected {
        /// What was asked.
        what: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// The settings for reaching it are no use.
    #[error("{0}")]
    Settings(String),
}

/// Asks one Prometheus.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
    access: Access,
}

#[derive(Deserialize)]
struct Envelope<T> {
    status: String,
    data: Option<T>,
    #[serde(rename = "errorType", default)]
    error_type: String,
    #[serde(default)]
    error: String,
}

#[derive(Deserialize)]
struct ConfigData {
    yaml: String,
}

/// `status/buildinfo`.
#[derive(Deserialize, Default)]
pub(crate) struct BuildInfo {
    pub(crate) version: String,
}

/// `status/runtimeinfo`: two texts that change when it restarts or reloads.
#[derive(Clone, Debug, Deserialize, Default, PartialEq, Eq)]
pub(crate) struct RuntimeInfo {
    #[serde(rename = "startTime", default)]
    pub(crate) start_time: String,
    #[serde(rename = "lastConfigTime", default)]
    pub(crate) last_config_time: String,
}

fn unreachable(e: &reqwest::Error) -> ClientError {
    let mut text = e.to_string();
    let mut source = std::error::Error::source(e);
    while let Some(s) = source {
        let more = s.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = s.source();
    }
    ClientError::Unreachable(text)
}

impl Client {
    /// A client; nothing is asked yet.
    ///
    /// # Errors
    /// Files of the access settings that can't be used.
    pub(crate) fn new(base: Url, access: &Access) -> Result<Self, ClientError> {
        periplus_daemon::tls::install_provider();
        let mut builder = reqwest::Client::builder()
            .no_gzip()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(5))
            .tcp_nodelay(true)
            .pool_idle_timeout(Duration::from_secs(60))
            .no_proxy();
        let settings = |flag: &str, path: &PathBuf, e: String| {
            ClientError::Settings(format!("--{flag} {}: {e}", path.display()))
        };
        if let Some(path) = &access.prometheus_tls_ca {
            let flag = "prometheus-tls-ca";
            let pem = std::fs::read(path).map_err(|e| settings(flag, path, e.to_string()))?;
            let all = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|e| settings(flag, path, e.to_string()))?;
            builder = builder.tls_built_in_root_certs(false);
            for certificate in all {
                builder = builder.add_root_certificate(certificate);
            }
        }
        if let Some(path) = &access.prometheus_tls_identity {
            let flag = "prometheus-tls-identity";
            let pem = std::fs::read(path).map_err(|e| settings(flag, path, e.to_string()))?;
            let identity = reqwest::Identity::from_pem(&pem)
                .map_err(|e| settings(flag, path, e.to_string()))?;
            builder = builder.identity(identity);
        }
        let http = builder.build().map_err(|e| ClientError::Settings(e.to_string()))?;
        Ok(Self { http, base, access: access.clone() })
    }

    /// The address, without credentials, for people.
    pub(crate) fn address(&self) -> String {
        let mut shown = self.base.clone();
        let _ = shown.set_password(None);
        let _ = shown.set_username("");
        shown.to_string()
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.base.as_str().trim_end_matches('/'))
    }

    fn secret(path: &PathBuf) -> Result<String, ClientError> {
        std::fs::read_to_string(path)
            .map(|s| s.trim().to_owned())
            .map_err(|e| ClientError::Settings(format!("{}: {e}", path.display())))
    }

    fn authorized(&self, request: RequestBuilder) -> Result<RequestBuilder, ClientError> {
        if let Some(path) = &self.access.prometheus_bearer_token_file {
            return Ok(request.bearer_auth(Self::secret(path)?));
        }
        let Some(user) = &self.access.prometheus_basic_user else {
            return Ok(request);
        };
        let password =
            self.access.prometheus_basic_password_file.as_ref().map(Self::secret).transpose()?;
        Ok(request.basic_auth(user, password))
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        self.authorized(request)?.send().await.map_err(|e| unreachable(&e))
    }

    /// A `GET` of an API path with parameters, its `data`.
    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        what: &'static str,
        path: &str,
        parameters: &[(&str, String)],
        timeout: Duration,
    ) -> Result<T, ClientError> {
        let request = self.http.get(self.url(path)).query(parameters).timeout(timeout);
        let response = self.send(request).await?;
        let status = response.status();
        let body = bounded(response, what).await?;
        data(what, status, &body)
    }

    /// A query by `POST`; the answer is not read yet.
    pub(crate) async fn query(
        &self,
        path: &str,
        form: &[(&str, String)],
        timeout: Duration,
    ) -> Result<Response, ClientError> {
        let response =
            self.send(self.http.post(self.url(path)).form(form).timeout(timeout)).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = bounded(response, "query").await?;
        data::<serde::de::IgnoredAny>("query", status, &body)?;
        Err(ClientError::Unexpected { what: "query", problem: format!("status {status}") })
    }

    /// Whether it is ready to answer.
    pub(crate) async fn ready(&self, timeout: Duration) -> Result<(), ClientError> {
        let response = self.send(self.http.get(self.url("-/ready")).timeout(timeout)).await?;
        match response.status() {
            s if s.is_success() => Ok(()),
            s => {
                let text = bounded(response, "readiness").await.unwrap_or_default();
                let text = String::from_utf8_lossy(&text).trim().to_owned();
                Err(ClientError::Unreachable(format!("not ready (status {}): {text}", s.as_u16())))
            }
        }
    }

    /// Its own metrics, as text.
    pub(crate) async fn metrics(&self, timeout: Duration) -> Result<String, ClientError> {
        let response = self.send(self.http.get(self.url("metrics")).timeout(timeout)).await?;
        if !response.status().is_success() {
            let problem = format!("status {}", response.status());
            return Err(ClientError::Unexpected { what: "metrics", problem });
        }
        let body = bounded(response, "metrics").await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    pub(crate) async fn config_yaml(&self, timeout: Duration) -> Result<String, ClientError> {
        let data: ConfigData = self.get("config", "api/v1/status/config", &[], timeout).await?;
        Ok(data.yaml)
    }

    pub(crate) async fn build_info(&self, timeout: Duration) -> Result<BuildInfo, ClientError> {
        self.get("build information", "api/v1/status/buildinfo", &[], timeout).await
    }

    pub(crate) async fn runtime_info(&self, timeout: Duration) -> Result<RuntimeInfo, ClientError> {
        self.get("runtime information", "api/v1/status/runtimeinfo", &[], timeout).await
    }

    pub(crate) async fn flags(
        &self,
        timeout: Duration,
    ) -> Result<BTreeMap<String, String>, ClientError> {
        self.get("flags", "api/v1/status/flags", &[], timeout).await
    }

    /// Begins a remote read of one selector, streamed.
    pub(crate) async fn remote_read(
        &self,
        range: periplus_model::TimeRange,
        matchers: &[Matcher],
        hints: wire::ReadHints,
        timeout: Duration,
    ) -> Result<Frames<BoxStream<'static, Result<Bytes, ClientError>>>, ClientError> {
        let query = wire::Query {
            start_timestamp_ms: range.min_t,
            end_timestamp_ms: range.max_t,
            matchers: convert::matchers_to_prometheus(matchers),
            hints: Some(hints),
        };
        let request = wire::ReadRequest {
            queries: vec![query],
            accepted_response_types: vec![
                wire::read_request::ResponseType::StreamedXorChunks as i32,
            ],
        };
        let body = snap::raw::Encoder::new()
            .compress_vec(&request.encode_to_vec())
            .map_err(|e| ClientError::Settings(format!("compressing a request: {e}")))?;
        let request = self
            .http
            .post(self.url("api/v1/read"))
            .header("Content-Type", "application/x-protobuf")
            .header("Content-Encoding", "snappy")
            .header("X-Prometheus-Remote-Read-Version", "0.1.0")
            .timeout(timeout)
            .body(body);
        let response = self.send(request).await?;
        let status = response.status();
        if !status.is_success() {
            let text = bounded(response, "remote read").await.unwrap_or_default();
            let text: String = String::from_utf8_lossy(&text).trim().chars().take(500).collect();
            let kind = if status.is_client_error() { "bad_data" } else { "internal" };
            return Err(ClientError::Api { kind: kind.to_owned(), message: text });
        }
        let kind = response.headers().get("content-type").and_then(|v| v.to_str().ok());
        if !kind.is_some_and(|k| k.starts_with("application/x-streamed-protobuf")) {
            let problem =
                format!("content type {kind:?}: it can't stream chunks (2.13 and later can)");
            return Err(ClientError::Unexpected { what: "remote read", problem });
        }
        Ok(Frames::new(response.bytes_stream().map_err(|e| unreachable(&e)).boxed()))
    }
}

/// The `data` of an answer.
fn data<T: DeserializeOwned>(
    what: &'static str,
    status: StatusCode,
    body: &[u8],
) -> Result<T, ClientError> {
    let envelope: Envelope<T> = serde_json::from_slice(body).map_err(|e| {
        let text: String = String::from_utf8_lossy(body).trim().chars().take(200).collect();
        if status.is_success() {
            return ClientError::Unexpected { what, problem: e.to_string() };
        }
        ClientError::Unreachable(format!("status {}: {text}", status.as_u16()))
    })?;
    match envelope.data {
        Some(data) if envelope.status == "success" => Ok(data),
        _ if envelope.status == "error" => {
            Err(ClientError::Api { kind: envelope.error_type, message: envelope.error })
        }
        _ => Err(ClientError::Unexpected { what, problem: "no data in it".to_owned() }),
    }
}

/// A whole body, if it is not too large.
async fn bounded(response: Response, what: &'static str) -> Result<Vec<u8>, ClientError> {
    let mut out = Vec::new();
    let mut body = response.bytes_stream();
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|e| unreachable(&e))?;
        if out.len() + piece.len() > ANSWER_BYTES_MAX {
            let problem = format!("more than {ANSWER_BYTES_MAX} bytes");
            return Err(ClientError::Unexpected { what, problem });
        }
        out.extend_from_slice(&piece);
    }
    Ok(out)
}
