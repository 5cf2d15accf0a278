//! A server that plays recorded answers, byte for byte, breaks included. It speaks HTTP by hand, as no
//! server library would end a body by a reset in the middle.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::recording::Exchange;

#[derive(Default)]
pub(crate) struct Script {
    /// Answers to lists, in order; when they are used up, the last one again.
    pub(crate) lists: VecDeque<Exchange>,
    /// Answers to watches, in order; when they are used up, watches are silent.
    pub(crate) watches: VecDeque<Exchange>,
    /// Requests so far.
    pub(crate) requests: Vec<String>,
    pub(crate) events_api: bool,
    /// A watch was asked for after the last recorded one.
    pub(crate) silent: bool,
    /// How many bytes go out at once; 0: all.
    pub(crate) chunk: usize,
}

#[derive(Clone)]
pub(crate) struct Replay {
    pub(crate) url: String,
    pub(crate) script: Arc<Mutex<Script>>,
}

impl Replay {
    pub(crate) async fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let script = Arc::new(Mutex::new(script));
        let shared = Arc::clone(&script);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move { drop(answer(stream, &shared).await) });
            }
        });
        Self { url, script }
    }

    /// Whether all recorded watches were played and another one was asked for.
    pub(crate) fn is_done(&self) -> bool {
        self.script.lock().silent
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.script.lock().requests.clone()
    }
}

fn plain(status: u16, reason: &str, body: &str) -> Exchange {
    Exchange {
        status,
        reason: reason.into(),
        body: body.into(),
        how: "end".into(),
        ..Exchange::default()
    }
}

async fn answer(mut stream: TcpStream, shared: &Mutex<Script>) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).await? == 0 {
            return Ok(());
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let (exchange, chunk) = {
        let mut script = shared.lock();
        let exchange = if target == "/version" {
            Some(plain(200, "OK", r#"{"major":"1","minor":"30"}"#))
        } else if target == "/apis/events.k8s.io" {
            Some(if script.events_api {
                plain(200, "OK", r#"{"kind":"APIGroup","versions":[{"version":"v1"}]}"#)
            } else {
                plain(404, "Not Found", "404 page not found")
            })
        } else if target.contains("watch=") {
            script.requests.push(target.clone());
            let next = script.watches.pop_front();
            script.silent |= next.is_none();
            next
        } else {
            script.requests.push(target.clone());
            match script.lists.len() {
                0 | 1 => script.lists.front().cloned(),
                _ => script.lists.pop_front(),
            }
        };
        (exchange, script.chunk)
    };
    let Some(exchange) = exchange else {
        // A silent watch.
        stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await?;
        tokio::time::sleep(Duration::from_secs(600)).await;
        return Ok(());
    };
    if matches!(exchange.how.as_str(), "no-response" | "refused") {
        return Ok(());
    }
    let mut out = format!("HTTP/1.1 {} {}\r\n", exchange.status, exchange.reason);
    for (name, value) in &exchange.headers {
        let framing = ["content-length", "transfer-encoding", "connection", "content-encoding"];
        if !framing.contains(&name.to_ascii_lowercase().as_str()) {
            out.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    out.push_str("Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n");
    stream.write_all(out.as_bytes()).await?;
    let chunk = if chunk == 0 { 1 << 20 } else { chunk };
    for part in exchange.body.chunks(chunk) {
        stream.write_all(format!("{:x}\r\n", part.len()).as_bytes()).await?;
        stream.write_all(part).await?;
        stream.write_all(b"\r\n").await?;
    }
    match exchange.how.as_str() {
        "cut-fin" => {}
        "cut-reset" => {
            // Let what was sent arrive before the reset throws it away.
            stream.flush().await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
            stream.set_zero_linger()?;
        }
        _ => stream.write_all(b"0\r\n\r\n").await?,
    }
    Ok(())
}
