//! Just enough of HTTP/1.1 for one client that asks and one server that answers it, on loopback.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::dataset::GRID;

/// A connection that is kept.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub(crate) fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
        stream.set_nodelay(true).expect("a socket that sends at once");
        Self { stream: BufReader::with_capacity(1 << 18, stream) }
    }

    /// Asks a query over the grid; how long until its last byte, and the body.
    pub(crate) fn ask(&mut self, query: &str) -> (Duration, Vec<u8>) {
        let seconds = |ms: i64| (ms / 1000).to_string();
        let form = [
            ("query", query),
            ("start", &seconds(GRID.start_ms)),
            ("end", &seconds(GRID.end_ms)),
            ("step", &seconds(GRID.step_ms)),
        ];
        let form = form.map(|(name, value)| format!("{name}={}", escaped(value))).join("&");
        let began = Instant::now();
        let body = self.get(&format!("/api/v1/query_range?{form}"));
        (began.elapsed(), body)
    }

    /// The body of an answer, whatever its status.
    pub(crate) fn get(&mut self, path: &str) -> Vec<u8> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.stream.get_mut().write_all(request.as_bytes()).expect("a request sent");
        let head = read_head(&mut self.stream).expect("an answer");
        let field = |name: &str| {
            head.iter().find_map(|line| {
                let (n, v) = line.split_once(':')?;
                n.eq_ignore_ascii_case(name).then(|| v.trim().to_owned())
            })
        };
        let mut body = Vec::new();
        if let Some(length) = field("content-length") {
            self.take(length.parse().expect("a length"), &mut body);
            return body;
        }
        assert_eq!(field("transfer-encoding").as_deref(), Some("chunked"), "{head:?}");
        loop {
            let size = read_line(&mut self.stream).expect("a chunk");
            let size = usize::from_str_radix(&size, 16).expect("a chunk's size");
            self.take(size, &mut body);
            read_line(&mut self.stream).expect("a chunk's end");
            if size == 0 {
                return body;
            }
        }
    }

    fn take(&mut self, n: usize, body: &mut Vec<u8>) {
        let got = self.stream.by_ref().take(n as u64).read_to_end(body).expect("a body");
        assert_eq!(got, n, "the connection ended early");
    }
}

/// The lines up to the empty one; `None` where the other side has gone.
pub(crate) fn read_head(stream: &mut impl BufRead) -> Option<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let line = read_line(stream)?;
        if line.is_empty() {
            return Some(lines);
        }
        lines.push(line);
    }
}

fn read_line(stream: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    let read = stream.read_line(&mut line).ok()?;
    (read > 0).then(|| line.trim_end().to_owned())
}

/// Every byte that is no letter or digit as `%xx`.
fn escaped(text: &str) -> String {
    let one = |b: u8| match b {
        b if b.is_ascii_alphanumeric() => char::from(b).to_string(),
        b => format!("%{b:02x}"),
    };
    text.bytes().map(one).collect()
}

/// A parameter of a request line.
pub(crate) fn parameter(target: &str, name: &str) -> Option<String> {
    let form = target.split_once('?')?.1;
    let value = form.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((b, after)) = rest.split_first() {
        rest = after;
        match (b, after.get(..2)) {
            (b'%', Some(hex)) => {
                out.push(u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()?);
                rest = &after[2..];
            }
            _ => out.push(*b),
        }
    }
    String::from_utf8(out).ok()
}
