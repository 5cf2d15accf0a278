//! A real S3 server over a line that breaks: in every way, at every request.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "tests skip aloud and fail loudly")]

#[path = "rough/line.rs"]
mod line;
#[path = "weed/server.rs"]
mod weed;

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use periplus_bucket::location::{Location, Provider};
use periplus_bucket::upload::{UploadOptions, Uploader};
use periplus_bucket::{Bucket, Key, OpenOptions, PutOutcome};

use line::{Break, Line};

fn options() -> OpenOptions {
    OpenOptions {
        request_timeout: Duration::from_secs(8),
        operation_timeout: Duration::from_secs(60),
        backoff_max: Duration::from_millis(200),
        ..OpenOptions::default()
    }
}

/// The bucket over that line, and below that prefix.
fn over(at: &Location, line: SocketAddr, prefix: &str) -> Bucket {
    let mut at = at.clone().below(prefix).unwrap();
    if let Provider::S3(s3) = &mut at.provider {
        s3.endpoint = Some(format!("http://{line}"));
    }
    Bucket::open(&at, &options()).unwrap()
}

fn key(name: &str) -> Key {
    Key::parse(name).unwrap()
}

/// A file in two parts.
async fn send(b: &Bucket, file: &Path) {
    let uploader = Uploader::new(UploadOptions { part_bytes: 5 << 20, ..Default::default() });
    let sent = uploader.put_file(b, &key("file"), file).await.unwrap();
    assert_eq!(sent.digest.size, std::fs::metadata(file).unwrap().len());
}

/// A small object, a conditional put, and what reads and deletes.
async fn keep(b: &Bucket) {
    b.put(&key("meta.json"), Bytes::from_static(b"{}")).await.unwrap();
    let lease = Bytes::from_static(b"mine");
    let put = b.put_if_absent(&key("lease"), lease.clone()).await.unwrap();
    assert!(matches!(put, PutOutcome::Done(_)));
    assert_eq!(b.get(&key("lease"), 10).await.unwrap().unwrap().0, lease);
    assert_eq!(b.list_directory(&Key::ROOT).await.unwrap().entries.len(), 2);
    b.delete(&key("meta.json")).await.unwrap();
    assert_eq!(b.stat(&key("meta.json")).await.unwrap(), None);
}

const WAYS: [Break; 6] = [
    Break::Refused,
    Break::RefusedButDone,
    Break::EndsBefore,
    Break::EndsAfter,
    Break::EndsWithin,
    Break::Stalls,
];

fn ways(requests: u64) -> impl Iterator<Item = (Break, u64)> {
    WAYS.into_iter().flat_map(move |how| (0..requests).map(move |n| (how, n)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_in_every_way_at_every_request() {
    let Some(server) = weed::Weed::start() else { return };
    assert!(server.make_bucket("rough"));
    let at = server.location("rough", weed::WRITER);
    let direct = Bucket::open(&at, &OpenOptions::default()).unwrap();
    let upstream: SocketAddr = server.endpoint().trim_start_matches("http://").parse().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    let content: Vec<u8> = (0..(5_usize << 20) + 4321).map(|i| (i * 31 + i / 251) as u8).collect();
    std::fs::write(&file, &content).unwrap();

    let whole = Line::open(upstream, Break::Refused, u64::MAX).await;
    send(&over(&at, whole.address, "whole"), &file).await;
    let of_sending = whole.requests();
    keep(&over(&at, whole.address, "whole-too")).await;
    let of_keeping = whole.requests() - of_sending;
    println!("{of_sending} requests for a file, {of_keeping} for the rest, when nothing breaks");
    assert!(of_sending >= 6 && of_keeping >= 12);

    let sending = ways(of_sending).map(|(how, n)| {
        let (at, file, content, direct) = (&at, &file, &content, &direct);
        async move {
            let (line, name) = (Line::open(upstream, how, n).await, format!("send-{how:?}-{n}"));
            println!("{name}");
            send(&over(at, line.address, &name), file).await;
            assert!(line.requests() > n, "{name}");
            let there = direct.get(&key(&format!("{name}/file")), 1 << 30).await.unwrap();
            assert!(there.unwrap().0 == *content, "{name}");
        }
    });
    stream::iter(sending).buffer_unordered(6).collect::<()>().await;
    let keeping = ways(of_keeping).map(|(how, n)| {
        let at = &at;
        async move {
            let (line, name) = (Line::open(upstream, how, n).await, format!("keep-{how:?}-{n}"));
            println!("{name}");
            keep(&over(at, line.address, &name)).await;
            assert!(line.requests() > n, "{name}");
        }
    });
    stream::iter(keeping).buffer_unordered(12).collect::<()>().await;
}
