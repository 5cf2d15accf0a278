//! A line to a server that breaks once, at a request of one's choice.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Break {
    /// The server says 503 and has done nothing.
    Refused,
    /// The server says 503 and has done it.
    RefusedButDone,
    /// The line ends before the request reaches the server.
    EndsBefore,
    /// It ends when the server has done it, before the answer.
    EndsAfter,
    /// It ends in the middle of the answer.
    EndsWithin,
    /// Nothing happens any more; the server has not seen it.
    Stalls,
}

/// A line that is open while this lives.
pub(crate) struct Line {
    pub(crate) address: SocketAddr,
    requests: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Line {
    /// A line to `server` that breaks so at the nth request, from 0.
    pub(crate) async fn open(server: SocketAddr, how: Break, at: u64) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&requests);
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let counter = Arc::clone(&counter);
                tokio::spawn(async move {
                    // Whoever is not answered tries again.
                    let _ended = carry(client, server, how, at, &counter).await;
                });
            }
        });
        Self { address, requests, task }
    }

    /// How many requests there were.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Carries one request and its answer; connections are not used again.
async fn carry(
    mut client: TcpStream,
    server: SocketAddr,
    how: Break,
    at: u64,
    counter: &AtomicU64,
) -> io::Result<()> {
    let request = read_request(&mut client).await?;
    let is_it = counter.fetch_add(1, Ordering::Relaxed) == at;
    if is_it && how == Break::Stalls {
        std::future::pending::<()>().await;
    }
    if is_it && how == Break::EndsBefore {
        return Ok(());
    }
    if is_it && how == Break::Refused {
        return client.write_all(REFUSAL).await;
    }
    let mut upstream = TcpStream::connect(server).await?;
    upstream.write_all(&request).await?;
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer).await?;
    match how {
        Break::RefusedButDone if is_it => client.write_all(REFUSAL).await,
        Break::EndsAfter if is_it => Ok(()),
        Break::EndsWithin if is_it => client.write_all(&answer[..answer.len() / 2]).await,
        _ => client.write_all(&answer).await,
    }
}

const REFUSAL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// A whole request, made to be the last one of its connection.
async fn read_request(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    let head_end = loop {
        let n = client.read(&mut buffer).await?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&buffer[..n]);
        if let Some(at) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break at;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let whole = head_end + 4 + length.unwrap_or(0);
    while bytes.len() < whole {
        let n = client.read(&mut buffer).await?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&buffer[..n]);
    }
    let mut request = format!("{head}\r\nConnection: close\r\n\r\n").into_bytes();
    request.extend_from_slice(&bytes[head_end + 4..]);
    Ok(request)
}
