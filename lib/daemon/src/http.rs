//! HTTP servers over a bounded listener, with or without TLS.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::listen::Listener;

/// How long a client may take for its request's headers, and for the TLS handshake.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long running requests may take once the server is asked to end.
const GRACE: Duration = Duration::from_secs(20);

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(64 << 10);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .max_concurrent_streams(256)
        .max_pending_accept_reset_streams(64)
        .max_local_error_reset_streams(64)
        .max_header_list_size(16 << 10);
    builder
}

/// The certificate a client showed (DER), once it was verified: in each request's extensions.
#[derive(Clone, Debug)]
pub struct ClientCertificate(pub Arc<[u8]>);

/// Serves `router` until `end` is cancelled, then lets running requests finish (at most 20 s). The other
/// side's address is in each request's extensions as [`std::net::SocketAddr`].
pub async fn serve(
    router: Router,
    listener: Listener,
    tls: Option<Arc<rustls::ServerConfig>>,
    end: CancellationToken,
) {
    let (builder, connections) = (builder(), TaskTracker::new());
    let acceptor = tls.map(TlsAcceptor::from);
    loop {
        let connection = tokio::select! {
            c = listener.accept() => c,
            () = end.cancelled() => break,
        };
        let mut router = router.clone();
        if let Some(peer) = connection.peer() {
            router = router.layer(axum::Extension(peer));
        }
        let (builder, end, acceptor) = (builder.clone(), end.clone(), acceptor.clone());
        connections.spawn(async move {
            match acceptor {
                None => serve_one(&builder, connection, router, &end).await,
                Some(acceptor) => {
                    let shake = tokio::time::timeout(HEADER_TIMEOUT, acceptor.accept(connection));
                    if let Ok(Ok(stream)) = shake.await {
                        let shown = stream.get_ref().1.peer_certificates();
                        if let Some(certificate) = shown.and_then(|chain| chain.first()) {
                            let certificate = ClientCertificate(Arc::from(certificate.as_ref()));
                            router = router.layer(axum::Extension(certificate));
                        }
                        serve_one(&builder, stream, router, &end).await;
                    }
                }
            }
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(GRACE, connections.wait()).await.is_err() {
        tracing::warn!(grace = ?GRACE, open = connections.len(), "HTTP requests did not end in time");
    }
}

async fn serve_one<S>(
    builder: &Builder<TokioExecutor>,
    stream: S,
    router: Router,
    end: &CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = TowerToHyperService::new(router);
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = end.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}
