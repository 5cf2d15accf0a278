//! gRPC servers and channels with the same bounds everywhere.

use std::time::Duration;

use tonic::transport::{Endpoint, Server};

use crate::listen::Listener;
use crate::tls::{ClientTls, ServerTls, TlsError};
use tokio_util::sync::CancellationToken;

/// The largest message a server of ours takes: requests are queries and matchers, never data.
pub const REQUEST_BYTES_MAX: usize = 4 << 20;

/// The largest message a client of ours takes. Answers are sent in batches well below; Thanos sends a
/// series with all its chunks in one.
pub const RESPONSE_BYTES_MAX: usize = 64 << 20;

/// Requests one connection may have running.
pub const STREAMS_PER_CONNECTION_MAX: u32 = 512;

/// A server with keep-alive on idle connections, a bound on concurrent requests, and protection from
/// clients that open and reset requests without end.
///
/// # Errors
/// Certificates that can't be used.
pub fn server(tls: &ServerTls) -> Result<Server, TlsError> {
    let server = Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .http2_max_pending_accept_reset_streams(Some(64))
        .http2_max_local_error_reset_streams(Some(64))
        .http2_max_header_list_size(Some(16 << 10))
        .http2_adaptive_window(Some(false))
        .initial_stream_window_size(Some(1 << 20))
        .initial_connection_window_size(Some(4 << 20))
        .max_concurrent_streams(Some(STREAMS_PER_CONNECTION_MAX))
        .tcp_nodelay(true);
    match tls.tonic()? {
        None => Ok(server),
        Some(config) => {
            server.tls_config(config).map_err(|e| TlsError::ClientAuthorities(e.to_string()))
        }
    }
}

/// Serves until `end` is cancelled, then lets running requests finish.
///
/// # Errors
/// What ends the server otherwise.
pub async fn serve(
    router: tonic::transport::server::Router,
    listener: Listener,
    end: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    router
        .serve_with_incoming_shutdown(listener.incoming(), async move { end.cancelled().await })
        .await
}

/// An endpoint (`host:port`, or a whole URI) to connect to when first asked, with keep-alive and a bounded time to connect.
///
/// # Errors
/// An address that is none, or certificates that can't be used.
pub fn endpoint(
    address: &str,
    tls: &ClientTls,
    connect_timeout: Duration,
) -> Result<Endpoint, EndpointError> {
    let config = tls.tonic()?;
    let uri = match (address.contains("://"), config.is_some()) {
        (true, _) => address.to_owned(),
        (false, true) => format!("https://{address}"),
        (false, false) => format!("http://{address}"),
    };
    let invalid = |e: tonic::transport::Error| EndpointError::Address {
        address: address.to_owned(),
        reason: e.to_string(),
    };
    let endpoint = Endpoint::from_shared(uri)
        .map_err(invalid)?
        .connect_timeout(connect_timeout)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(Some(1 << 20))
        .initial_connection_window_size(Some(4 << 20))
        .tcp_nodelay(true);
    match config {
        None => Ok(endpoint),
        Some(config) => endpoint.tls_config(config).map_err(invalid),
    }
}

/// An endpoint that can't be connected to.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The address is none.
    #[error("endpoint address {address:?}: {reason}; write host:port")]
    Address {
        /// As given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The certificates can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}
