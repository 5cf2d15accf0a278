//! Listening: an address bound before anything is served, and no more connections at once than allowed.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tokio_stream::Stream;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// An address that can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("listening on {address}: {source}; choose another address with --{flag}")]
pub struct ListenError {
    /// The address.
    pub address: String,
    /// The flag that names it.
    pub flag: &'static str,
    /// What the system says.
    pub source: std::io::Error,
}

/// A bound address with a bound on connections.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    places: Arc<Semaphore>,
    address: SocketAddr,
}

impl Listener {
    /// Binds `address` (`host:port`; port 0 takes a free one) for at most `connections_max` connections at
    /// once; more wait in the system's queue. `flag` is the flag that an error names.
    ///
    /// # Errors
    /// What the system says, with the address and the flag.
    pub async fn bind(
        address: &str,
        flag: &'static str,
        connections_max: usize,
    ) -> Result<Self, ListenError> {
        let wrap = |source| ListenError { address: address.to_owned(), flag, source };
        let tcp = TcpListener::bind(address).await.map_err(wrap)?;
        let address = tcp.local_addr().map_err(wrap)?;
        let places = Arc::new(Semaphore::new(connections_max.min(Semaphore::MAX_PERMITS)));
        Ok(Self { tcp, places, address })
    }

    /// The bound address, with the port that was taken.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection; waits for a place first.
    pub async fn accept(&self) -> Connection {
        loop {
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
                std::future::pending::<()>().await;
                continue;
            };
            match self.tcp.accept().await {
                Ok((tcp, _)) => {
                    let _ = tcp.set_nodelay(true);
                    return Connection { tcp, stall: None, _place: place };
                }
                Err(error) => {
                    // Out of file descriptors, most likely: those in use are given back in time.
                    tracing::warn!(%error, address = %self.address, "accepting a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// The connections as a stream that never ends, as tonic wants them.
    pub fn incoming(self) -> impl Stream<Item = Result<Connection, std::io::Error>> {
        let listener = Arc::new(self);
        let (tx, rx) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    connection = listener.accept() => {
                        if tx.send(Ok(connection)).await.is_err() {
                            return;
                        }
                    }
                    () = tx.closed() => return,
                }
            }
        });
        tokio_stream::wrappers::ReceiverStream::new(rx)
    }
}

/// How long the other side may take nothing of what waits to be sent to it. After that the connection is an error:
/// otherwise a client that does not read would keep its place, and what waits for it, for good.
const STALL_MAX: Duration = Duration::from_secs(60);

/// An accepted connection; its place is free again when it is dropped.
#[derive(Debug)]
pub struct Connection {
    tcp: TcpStream,
    /// Runs while something waits to be sent and nothing is taken.
    stall: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    /// The other side's address.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.tcp.peer_addr().ok()
    }

    /// What came of sending, an error where it has been waiting for too long.
    fn watched<T>(
        &mut self,
        cx: &mut Context<'_>,
        sent: Poll<std::io::Result<T>>,
    ) -> Poll<std::io::Result<T>> {
        if sent.is_ready() {
            self.stall = None;
            return sent;
        }
        let stall = self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALL_MAX)));
        match stall.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(std::io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.tcp.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let sent = Pin::new(&mut self.tcp).poll_write(cx, buf);
        self.watched(cx, sent)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let sent = Pin::new(&mut self.tcp).poll_flush(cx);
        self.watched(cx, sent)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let sent = Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs);
        self.watched(cx, sent)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_more_connections_than_places() {
        let listener = Listener::bind("127.0.0.1:0", "listen", 1).await.unwrap();
        let address = listener.address();
        let _a = TcpStream::connect(address).await.unwrap();
        let _b = TcpStream::connect(address).await.unwrap();
        let first = listener.accept().await;
        let wait = Duration::from_millis(50);
        assert!(tokio::time::timeout(wait, listener.accept()).await.is_err());
        drop(first);
        assert!(tokio::time::timeout(Duration::from_secs(5), listener.accept()).await.is_ok());
    }

    #[tokio::test]
    async fn an_address_in_use_names_the_flag() {
        let listener = Listener::bind("127.0.0.1:0", "listen", 1).await.unwrap();
        let address = listener.address().to_string();
        let error = Listener::bind(&address, "listen", 1).await.unwrap_err().to_string();
        assert!(error.contains("--listen") && error.contains(&address), "{error}");
    }
}
