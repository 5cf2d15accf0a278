//! SRV records (RFC 2782), which the system's resolver has no call for: one question over UDP to the
//! servers of `/etc/resolv.conf`, over TCP when the answer does not fit.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

const TIMEOUT: Duration = Duration::from_secs(3);
const TYPE_SRV: u16 = 33;
const CLASS_IN: u16 = 1;

/// `host:port` of every SRV record of `name`.
pub(super) async fn srv(name: &str) -> Result<BTreeSet<String>, String> {
    let config = tokio::fs::read_to_string("/etc/resolv.conf").await.unwrap_or_default();
    let mut last = "no name server in /etc/resolv.conf".to_owned();
    for server in servers(&config) {
        match tokio::time::timeout(TIMEOUT, ask(server, name)).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(e)) => last = format!("{server}: {e}"),
            Err(_) => last = format!("{server} does not answer"),
        }
    }
    Err(last)
}

fn servers(config: &str) -> Vec<SocketAddr> {
    config
        .lines()
        .filter_map(|l| l.trim().strip_prefix("nameserver"))
        .filter_map(|a| a.trim().parse::<IpAddr>().ok())
        .map(|ip| SocketAddr::new(ip, 53))
        .collect()
}

async fn ask(server: SocketAddr, name: &str) -> Result<BTreeSet<String>, String> {
    let id: u16 = rand::random();
    let question = question(id, name)?;
    let any = if server.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(any).await.map_err(|e| e.to_string())?;
    socket.connect(server).await.map_err(|e| e.to_string())?;
    socket.send(&question).await.map_err(|e| e.to_string())?;
    let mut buffer = vec![0u8; 4096];
    let n = socket.recv(&mut buffer).await.map_err(|e| e.to_string())?;
    buffer.truncate(n);
    if buffer.get(2).is_some_and(|flags| flags & 0x02 != 0) {
        buffer = ask_tcp(server, &question).await.map_err(|e| e.to_string())?;
    }
    records(id, &buffer).ok_or_else(|| "a malformed or negative answer".to_owned())
}

async fn ask_tcp(server: SocketAddr, question: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    stream.write_u16(question.len() as u16).await?;
    stream.write_all(question).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

fn question(id: u16, name: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(name.len() + 18);
    out.extend_from_slice(&id.to_be_bytes());
    // Recursion desired, one question.
    out.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.trim_end_matches('.').split('.') {
        match u8::try_from(label.len()) {
            Ok(n @ 1..=63) => out.push(n),
            _ => return Err("not a name of DNS".to_owned()),
        }
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    if out.len() > 12 + 255 {
        return Err("longer than a name of DNS".to_owned());
    }
    out.extend_from_slice(&TYPE_SRV.to_be_bytes());
    out.extend_from_slice(&CLASS_IN.to_be_bytes());
    Ok(out)
}

/// The SRV records of an answer; `None` when it is malformed, not to our question, or says that
/// something went wrong. A name that does not exist has no records.
fn records(id: u16, m: &[u8]) -> Option<BTreeSet<String>> {
    if number(m, 0)? != id {
        return None;
    }
    let code = m.get(3)? & 0x0f;
    if code == 3 {
        return Some(BTreeSet::new());
    }
    if code != 0 {
        return None;
    }
    let (questions, answers) = (number(m, 4)?, number(m, 6)?);
    let mut at = 12;
    for _ in 0..questions {
        at = name(m, at)?.1 + 4;
    }
    let mut out = BTreeSet::new();
    for _ in 0..answers {
        at = name(m, at)?.1;
        let (kind, length) = (number(m, at)?, usize::from(number(m, at + 8)?));
        let data = at + 10;
        if kind == TYPE_SRV {
            let (port, target) = (number(m, data + 4)?, name(m, data + 6)?.0);
            out.insert(format!("{target}:{port}"));
        }
        at = data + length;
    }
    Some(out)
}

fn number(m: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*m.get(at)?, *m.get(at + 1)?]))
}

/// A name and where it ends. Pointers may only point back, so that following them ends.
fn name(m: &[u8], start: usize) -> Option<(String, usize)> {
    let (mut out, mut at, mut end, mut bound) = (String::new(), start, None, start);
    loop {
        let n = usize::from(*m.get(at)?);
        match n {
            0 => return Some((out, end.unwrap_or(at + 1))),
            1..=63 => {
                if !out.is_empty() {
                    out.push('.');
                }
                out.push_str(std::str::from_utf8(m.get(at + 1..at + 1 + n)?).ok()?);
                at += 1 + n;
            }
            _ => {
                let to = usize::from(number(m, at)? & 0x3fff);
                if n & 0xc0 != 0xc0 || to >= bound {
                    return None;
                }
                end = end.or(Some(at + 2));
                (at, bound) = (to, to);
            }
        }
        if out.len() > 255 {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Vec<u8> {
        let mut m = question(7, "_grpc._tcp.x.example").unwrap();
        (m[2], m[3], m[7]) = (0x81, 0x80, 2);
        for port in [10_901u16, 10_902] {
            m.extend_from_slice(&[0xc0, 12, 0, 33, 0, 1, 0, 0, 0, 30, 0, 11, 0, 0, 0, 0]);
            m.extend_from_slice(&port.to_be_bytes());
            // "s1" and a pointer to "example".
            m.extend_from_slice(&[2, b's', b'1', 0xc0, 25]);
        }
        m
    }

    #[test]
    fn reads_records_with_pointers() {
        let found = records(7, &answer()).unwrap();
        assert_eq!(found.into_iter().collect::<Vec<_>>(), ["s1.example:10901", "s1.example:10902"]);
    }

    #[test]
    fn garbage_ends() {
        assert_eq!(records(8, &answer()), None);
        for n in 0..answer().len() {
            let _ = records(7, &answer()[..n]);
        }
        let mut looping = answer();
        looping[12] = 0xc0;
        looping[13] = 12;
        assert_eq!(records(7, &looping), None);
        assert!(question(1, &"a".repeat(64)).is_err());
        assert!(question(1, "a..b").is_err());
    }

    #[test]
    fn name_servers() {
        let found = servers("# x\nnameserver 10.0.0.2\nnameserver ::1\nsearch y\n");
        assert_eq!(found.len(), 2);
    }
}
