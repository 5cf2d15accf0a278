//! Input that means harm: refused in words, with the process alive and its memory flat.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};

use super::setup::{Shop, get_json, query};
use crate::ask::client;
use crate::prometheus::flavours;

/// The most memory the query may ever have held, KiB.
const QUERY_KIB: u64 = 250 * 1024;
/// Clients that say half a request and then nothing, where SLOW_CLIENTS does not say how many.
const SLOW: usize = 1_000;

/// Status and body of a request written by hand, so that nothing tidies it up.
async fn raw(address: &str, request: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let work = async {
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
        stream.write_all(request.as_bytes()).await.expect("a request");
        let mut out = Vec::new();
        let _ = stream.read_to_end(&mut out).await;
        String::from_utf8_lossy(&out).into_owned()
    };
    tokio::time::timeout(Duration::from_secs(30), work).await.expect("an end")
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_input_is_refused_in_words() {
    let dir = tempfile::tempdir().expect("a directory");
    let flavour = flavours().remove(0);
    let shop = Shop::start(&flavour, "shop", &[("cluster", "a")], dir.path()).await;
    let slow = slow();
    // Some more ask for much and read nothing.
    let connections = (slow + slow / 2 + 200).to_string();
    let bounds = ["--max-connections", &connections, "--max-total-bytes", "100000000"];
    let mut query = query(&[&shop], &bounds, dir.path()).await;
    let (url, address) = (query.url.clone(), query.url.trim_start_matches("http://").to_owned());
    bodies(&url).await;
    paths(&url, &address).await;
    ranges(&url).await;
    slow_clients(&url, &address, slow).await;
    slow_readers(&url, &address, shop.settled, (slow / 20).max(60)).await;
    assert!(query.process.is_alive(), "{}", query.process.last_words());
    let kib = query.process.peak_kib();
    eprintln!("peak memory of the query: {kib} KiB");
    assert!(kib < QUERY_KIB, "{kib} KiB");
}

async fn bodies(url: &str) {
    let huge = vec![b'a'; 8 << 20];
    for path in [
        "query",
        "query_range",
        "series",
        "labels",
        "query_exemplars",
        "format_query",
        "parse_query",
        "query_explain",
        "read",
        "queries/cancel",
    ] {
        let post = client().post(format!("{url}/api/v1/{path}")).body(huge.clone());
        // The server may close the connection before it has read all of it.
        if let Ok(answer) = post.send().await {
            assert_eq!(answer.status().as_u16(), 413, "{path}");
        }
    }
    let deep = "(".repeat(1 << 20);
    let chain = format!("1{}", "+1".repeat(1 << 19));
    for text in [deep.as_str(), chain.as_str()] {
        for path in ["query", "format_query", "parse_query", "query_explain", "query_exemplars"] {
            let form = [("query", text)];
            let answer = client().post(format!("{url}/api/v1/{path}")).form(&form).send().await;
            assert_eq!(answer.expect("an answer").status().as_u16(), 400, "{path}");
        }
    }
    let many: Vec<(&str, &str)> = vec![("match[]", "up"); 20_000];
    let answer = client().post(format!("{url}/api/v1/series")).form(&many).send().await;
    assert_eq!(answer.expect("an answer").status().as_u16(), 400);
    // Remote read: blocks that declare what they do not hold, in both codings.
    let bomb: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0x0f, 0x00];
    for (body, coding, status) in [
        (bomb.to_vec(), "snappy", 400),
        (vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0], "gzip", 415),
        (vec![0xff; 100], "snappy", 400),
        (Vec::new(), "snappy", 400),
    ] {
        let post = client().post(format!("{url}/api/v1/read")).header("Content-Encoding", coding);
        let answer = post.body(body).send().await.expect("an answer");
        assert_eq!(answer.status().as_u16(), status);
        assert!(!answer.text().await.unwrap_or_default().is_empty());
    }
    let get = client().get(format!("{url}/api/v1/read")).send().await.expect("an answer");
    assert_eq!(get.status().as_u16(), 405);
}

async fn paths(url: &str, address: &str) {
    for path in [
        "/../../etc/passwd",
        "/api/v1/../../secret",
        "/api/v1/label/%2e%2e%2f%2e%2e/values",
        "/api/v1/label/a%00b/values",
        "/api/v1/label//values",
        "//api/v1/query",
        "/api/v1/%71uery",
        "/api/v1/label/%ff%fe/values",
        "/api/v1/query/../admin/tsdb/delete_series",
    ] {
        let answer =
            raw(address, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
                .await;
        let status = answer.split(' ').nth(1).unwrap_or_default().to_owned();
        assert!(["200", "400", "404"].contains(&status.as_str()), "{path}: {answer}");
        assert!(!answer.contains("root:"), "{path}");
    }
    for (request, statuses) in [
        (
            format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(1 << 20)),
            ["414", "431", "400", ""],
        ),
        (
            format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(1 << 20)),
            ["431", "400", "", ""],
        ),
        ("GARBAGE\r\n\r\n".to_owned(), ["400", "", "", ""]),
        (
            "POST /api/v1/query HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n"
                .to_owned(),
            ["413", "400", "", ""],
        ),
    ] {
        let answer = raw(address, &request).await;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(statuses.contains(&status), "{:.60}: {answer:.200}", request);
    }
    let v = get_json(&format!("{url}/api/v1/query?query=up")).await;
    assert_eq!(v["status"], "success");
}

async fn ranges(url: &str) {
    for (path, status) in [
        ("query_range?query=up&start=0&end=9e15&step=1", 400),
        ("query_range?query=up&start=-9e15&end=9e15&step=1e300", 400),
        ("query_range?query=up&start=0&end=11000&step=1e-9", 400),
        ("query_range?query=up[1000000y]&start=0&end=1&step=1", 400),
        ("query?query=max_over_time(up[100y:1ms])&time=1e9", 200),
        ("query?query=up&time=1e308", 400),
        ("query?query=up offset 100000y", 400),
        ("series?match[]=up&start=9e15&end=-9e15", 200),
        ("labels?start=-292273086-05-16T16:47:06Z&end=292277025-08-18T07:12:54.999999999Z", 200),
        ("queries/cancel?id=1", 405),
        ("status/tsdb?limit=99999999999999999999", 400),
        ("rules?group_limit=-1", 400),
    ] {
        let answer = client().get(format!("{url}/api/v1/{path}")).send().await.expect("an answer");
        let got = answer.status().as_u16();
        assert_eq!(got, status, "{path}: {}", answer.text().await.unwrap_or_default());
    }
}

/// How many clients are slow. 10,000 of them need 11,000 open files in the test and in the query each.
fn slow() -> usize {
    let asked = std::env::var("SLOW_CLIENTS").ok().and_then(|n| n.parse().ok());
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).expect("as many files as there may be");
    asked.unwrap_or(SLOW)
}

/// Clients that send half a request are many, cost little, and are gone after a while.
async fn slow_clients(url: &str, address: &str, clients: usize) {
    let mut slow = Vec::new();
    for _ in 0..clients {
        let Ok(mut stream) = TcpStream::connect(address) else { break };
        let _ = stream.write_all(b"POST /api/v1/query HTTP/1.1\r\nHost: x\r\nContent-Le");
        slow.push(stream);
    }
    assert!(slow.len() > clients / 2, "only {} connections", slow.len());
    answered_beside(url, &format!("{} slow clients", slow.len())).await;
}

async fn answered_beside(url: &str, whom: &str) {
    let begun = Instant::now();
    let v = get_json(&format!("{url}/api/v1/query?query=sum(up)")).await;
    assert_eq!(v["status"], "success", "beside {whom}: {v}");
    eprintln!("answered beside {whom} after {:?}", begun.elapsed());
}

/// Clients that each ask something else, with an answer of megabytes, and read nothing of it: who asks for little
/// is answered, and what waits to be read is bounded.
async fn slow_readers(url: &str, address: &str, settled: i64, clients: usize) {
    let mut slow = Vec::new();
    for i in 0..clients {
        let Ok(mut stream) = TcpStream::connect(address) else { break };
        let (from, to) = (settled - 11, settled);
        let path = format!(
            "/api/v1/query_range?query=%7B__name__!%3D%22{i}%22%7D&start={from}&end={to}&step=0.002"
        );
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        let _ = stream.write_all(request.as_bytes());
        slow.push(stream);
    }
    assert!(slow.len() > clients / 2, "only {} connections", slow.len());
    answered_beside(url, &format!("{} clients that read nothing", slow.len())).await;
}
