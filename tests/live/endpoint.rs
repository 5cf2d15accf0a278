//! Endpoints that misbehave: between a query and a sidecar, or in a sidecar's stead.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What an endpoint does with a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Behaviour {
    /// Accepts, reads, and never says a word.
    Silent,
    /// Answers everything with bytes that mean nothing.
    Garbage,
}

/// Starts an endpoint that behaves so; gives its address.
pub(crate) async fn start(behaviour: Behaviour) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(misbehave(stream, behaviour));
        }
    });
    address
}

async fn misbehave(mut stream: TcpStream, behaviour: Behaviour) {
    let mut buffer = [0; 4096];
    let mut state = 0x1234_5678_u32;
    while let Ok(n) = stream.read(&mut buffer).await {
        if n == 0 {
            return;
        }
        if let Behaviour::Garbage = behaviour {
            let garbage: Vec<u8> = std::iter::repeat_with(|| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .take(2048)
            .collect();
            if stream.write_all(&garbage).await.is_err() {
                return;
            }
        }
    }
}

/// A proxy that passes everything on until it is told to stop in the middle of answers.
#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) address: String,
    stalls: Arc<AtomicBool>,
    /// Bytes of answers passed on since it was told to stall.
    passed: Arc<AtomicUsize>,
    limit: Arc<AtomicUsize>,
    /// Bytes of answers passed on in all.
    answered: Arc<AtomicU64>,
}

impl Proxy {
    /// Bytes of answers passed on so far; what the benchmark counts.
    #[allow(dead_code, reason = "the benchmark shares this file")]
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::SeqCst)
    }

    /// Starts one in front of `target`.
    pub(crate) async fn start(target: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let this = Self {
            address: listener.local_addr().expect("an address").to_string(),
            stalls: Arc::default(),
            passed: Arc::default(),
            limit: Arc::default(),
            answered: Arc::default(),
        };
        let (proxy, target) = (this.clone(), target.to_owned());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (proxy, target) = (proxy.clone(), target.clone());
                tokio::spawn(async move {
                    if let Ok(server) = TcpStream::connect(&target).await {
                        proxy.pass(client, server).await;
                    }
                });
            }
        });
        this
    }

    /// Passes `bytes` more of the answers on, then no more, with the connections left open.
    pub(crate) fn stall_after(&self, bytes: usize) {
        self.limit.store(bytes, Ordering::SeqCst);
        self.passed.store(0, Ordering::SeqCst);
        self.stalls.store(true, Ordering::SeqCst);
    }

    async fn pass(&self, client: TcpStream, server: TcpStream) {
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let up = async { tokio::io::copy(&mut from_client, &mut to_server).await.map(drop) };
        let down = async {
            let mut buffer = [0; 8192];
            loop {
                let n = from_server.read(&mut buffer).await?;
                if n == 0 {
                    return Ok(());
                }
                if self.stalls.load(Ordering::SeqCst) {
                    let before = self.passed.fetch_add(n, Ordering::SeqCst);
                    let limit = self.limit.load(Ordering::SeqCst);
                    if before + n > limit {
                        to_client.write_all(&buffer[..limit.saturating_sub(before)]).await?;
                        std::future::pending::<()>().await;
                    }
                }
                self.answered.fetch_add(n as u64, Ordering::SeqCst);
                to_client.write_all(&buffer[..n]).await?;
            }
        };
        let _ended: Result<((), ()), std::io::Error> = tokio::try_join!(up, down);
    }
}
