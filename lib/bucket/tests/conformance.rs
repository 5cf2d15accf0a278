//! What every store must do, run against memory, a local directory, a real S3 server and Microsoft's
//! emulator of Azure; and against an emulator of Google's where `GCS_EMULATOR` names its address.
//!
//! There is no emulator of Google's storage that has all of the XML API, which `object_store` speaks:
//! Google's own storage-testbench knows generations and conditions, but sends no entity tags, dates and
//! lists there, and takes uploads in parts in forks only; fake-gcs-server takes no plain puts. With those
//! headers and lists added to the testbench all of this passes. `GCS_EMULATOR_LACKS=lists,parts,conditions`
//! says what the server at that address lacks.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "tests skip aloud and fail loudly")]

#[path = "azurite/server.rs"]
mod azurite;
#[path = "weed/server.rs"]
mod weed;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use periplus_bucket::layer::cache::{Cache, is_block_file};
use periplus_bucket::lease::{Held, Lease};
use periplus_bucket::upload::{UploadOptions, Uploader, VerifiedBy};
use periplus_bucket::{Bucket, Key, Kind, Location, OpenOptions, PutOutcome};

fn key(name: &str) -> Key {
    Key::parse(name).unwrap()
}

fn bytes(n: usize) -> Bytes {
    let some: Vec<u8> = (0..n.min(9973)).map(|i| (i * 31 + i / 251) as u8).collect();
    let mut all = Vec::with_capacity(n + some.len());
    while all.len() < n {
        all.extend_from_slice(&some);
    }
    all.truncate(n);
    all.into()
}

async fn objects(b: &Bucket) {
    let (a, other) = (key("o/a"), key("o/b/c"));
    assert_eq!(b.stat(&a).await.unwrap(), None);
    assert!(b.get(&a, 10).await.unwrap().is_none());
    assert_eq!(b.get_range(&a, 0..1).await.unwrap_err().kind(), Kind::NotFound);
    b.put(&a, bytes(1000)).await.unwrap();
    b.put(&other, bytes(5)).await.unwrap();
    b.put(&key("o/empty"), Bytes::new()).await.unwrap();
    assert_eq!(b.stat(&a).await.unwrap().unwrap().size, 1000);
    assert_eq!(b.stat(&key("o/empty")).await.unwrap().unwrap().size, 0);
    assert_eq!(b.get(&a, 1000).await.unwrap().unwrap().0, bytes(1000));
    assert_eq!(b.get(&key("o/empty"), 0).await.unwrap().unwrap().0, Bytes::new());
    assert_eq!(b.get(&a, 999).await.unwrap_err().kind(), Kind::Invalid);
    assert_eq!(b.get_range(&a, 10..20).await.unwrap(), bytes(1000).slice(10..20));
    assert_eq!(b.get_range(&a, 990..2000).await.unwrap(), bytes(1000).slice(990..));
    b.put(&a, bytes(7)).await.unwrap();
    assert_eq!(b.get(&a, 1000).await.unwrap().unwrap().0, bytes(7));
    b.delete(&a).await.unwrap();
    b.delete(&a).await.unwrap();
    assert_eq!(b.stat(&a).await.unwrap(), None);
}

async fn listing(b: &Bucket) {
    for name in ["l/x/1", "l/x/2", "l/y/deep/er", "l/top", "l2/not-below-l"] {
        b.put(&key(name), bytes(3)).await.unwrap();
    }
    let all: Vec<_> = b.list_all(&key("l")).await.unwrap().into_iter().map(|e| e.key).collect();
    assert_eq!(all, ["l/top", "l/x/1", "l/x/2", "l/y/deep/er"].map(key));
    let mut here = b.list_directory(&key("l")).await.unwrap();
    here.directories.sort();
    assert_eq!(here.directories, ["l/x", "l/y"].map(key));
    assert_eq!(here.entries.len(), 1);
    assert_eq!(here.entries[0].key, key("l/top"));
    assert!(b.list_all(&key("nothing/here")).await.unwrap().is_empty());
    assert!(b.list_directory(&key("nothing")).await.unwrap().directories.is_empty());
    // More than a page of S3's.
    let puts = (0..1100).map(|i| {
        let b = b.clone();
        async move { b.put(&key(&format!("many/{i:04}")), bytes(1)).await }
    });
    use futures::StreamExt as _;
    let mut puts = futures::stream::iter(puts).buffer_unordered(16);
    while let Some(put) = puts.next().await {
        put.unwrap();
    }
    assert_eq!(b.list_all(&key("many")).await.unwrap().len(), 1100);
}

/// What a server can do.
#[derive(Clone, Copy, Debug)]
struct Has {
    lists: bool,
    parts: bool,
}

const ALL: Has = Has { lists: true, parts: true };

async fn conditional(b: &Bucket, has: Has) {
    let k = key("c/one");
    let PutOutcome::Done(first) = b.put_if_absent(&k, Bytes::from("1")).await.unwrap() else {
        panic!()
    };
    assert_eq!(b.put_if_absent(&k, Bytes::from("2")).await.unwrap(), PutOutcome::Conflict);
    // The same bytes again: a try whose answer was lost.
    assert!(matches!(b.put_if_absent(&k, Bytes::from("1")).await.unwrap(), PutOutcome::Done(_)));
    let there = b.stat(&k).await.unwrap().unwrap().version;
    if first.e_tag.is_some() {
        assert_eq!(there.e_tag, first.e_tag);
    }
    let PutOutcome::Done(_) = b.put_if_version(&k, Bytes::from("three"), &there).await.unwrap()
    else {
        panic!()
    };
    let late = b.put_if_version(&k, Bytes::from("4"), &there).await.unwrap();
    assert_eq!(late, PutOutcome::Conflict);
    assert_eq!(b.get(&k, 10).await.unwrap().unwrap().0, "three");
    let gone = key("c/gone");
    assert_eq!(
        b.put_if_version(&gone, Bytes::from("5"), &there).await.unwrap(),
        PutOutcome::Conflict
    );

    // Of many that create at once, one wins, where the store can tell.
    if b.conditional().await.unwrap().create {
        let race =
            (0..8).map(|i| {
                let b = b.clone();
                async move {
                    b.put_if_absent(&key("c/race"), Bytes::from(format!("w{i}"))).await.unwrap()
                }
            });
        let done = futures::future::join_all(race).await;
        assert_eq!(done.iter().filter(|o| matches!(o, PutOutcome::Done(_))).count(), 1);
    }
    if has.lists {
        assert!(b.list_all(&key("periplus/probe")).await.unwrap().is_empty());
    }
}

async fn files(b: &Bucket, has: Has) {
    let dir = tempfile::tempdir().unwrap();
    let options = UploadOptions { part_bytes: 5 << 20, parts_max: 3, ..UploadOptions::default() };
    let sizes = [
        ("empty", 0),
        ("small", 4321),
        ("exact", 5 << 20),
        ("twice", 10 << 20),
        ("large", (13 << 20) + 7),
        ("larger", (41 << 20) + 1),
    ];
    for (name, size) in sizes {
        if size > options.part_bytes && !has.parts {
            continue;
        }
        let (file, k) = (dir.path().join(name), key(&format!("f/{name}")));
        let content = bytes(size);
        std::fs::write(&file, &content).unwrap();
        let uploader = Uploader::new(options);
        let sent = uploader.put_file(b, &k, &file).await.unwrap();
        assert_eq!((sent.digest.size, sent.bytes_sent), (size as u64, size as u64));
        assert_eq!(sent.digest.sha256, periplus_bucket::upload::sha256(&content));
        assert!(b.get(&k, 1 << 30).await.unwrap().unwrap().0 == content, "{name}");
        if b.to_string().starts_with("s3") {
            assert_eq!(sent.verified_by, VerifiedBy::EntityTag, "{name}");
        }
        // Again: it is there, nothing is sent.
        let again = uploader.put_file(b, &k, &file).await.unwrap();
        assert_eq!((again.bytes_sent, &again.digest), (0, &sent.digest));
        // Another content of the same size is seen.
        if size > 0 {
            let mut other = content.to_vec();
            other[size / 2] ^= 1;
            b.put(&k, Bytes::from(other)).await.unwrap();
            assert_eq!(
                uploader.verify(b, &k, &sent.digest).await.unwrap_err().kind(),
                Kind::Corrupt
            );
            assert_eq!(uploader.put_file(b, &k, &file).await.unwrap().bytes_sent, size as u64);
        }
        let trusting_nobody = Uploader::new(UploadOptions { read_back: true, ..options });
        let verified = trusting_nobody.verify(b, &k, &sent.digest).await.unwrap();
        assert_eq!(verified, VerifiedBy::ReadBack);
    }
}

async fn leases(b: &Bucket) {
    let k = key("lease/one");
    let ttl = Duration::from_secs(2);
    let mut a = Lease::new(b.clone(), k.clone(), "a", "host a", "stream", ttl);
    let mut other = Lease::new(b.clone(), k.clone(), "b", "host b", "stream", ttl);
    assert_eq!(a.hold().await.unwrap(), Held::Ours);
    assert!(a.is_fresh());
    let Held::Theirs { claim, free_in } = other.hold().await.unwrap() else { panic!() };
    assert_eq!(claim.unwrap().about, "host a");
    assert!(free_in > Duration::from_secs(1));
    // The same owner, started again.
    let mut again = Lease::new(b.clone(), k.clone(), "a", "host a", "stream", ttl);
    assert_eq!(again.hold().await.unwrap(), Held::Ours);
    // It dies: the other one gets it after its time, not before.
    let Held::Theirs { .. } = other.hold().await.unwrap() else { panic!() };
    tokio::time::sleep(ttl + Duration::from_millis(200)).await;
    assert_eq!(other.hold().await.unwrap(), Held::Ours);
    tokio::time::sleep(ttl / 2).await;
    assert!(matches!(a.hold().await.unwrap(), Held::Theirs { .. }));
    assert!(!a.is_fresh());
    other.release().await.unwrap();
    assert_eq!(a.hold().await.unwrap(), Held::Ours);
}

async fn cached(b: &Bucket) {
    let id = "01M7Z93MDS9J4WQZYN95AFEATR";
    let (index, mark) = (key(&format!("{id}/index")), key(&format!("{id}/deletion-mark.json")));
    b.put(&index, bytes(100)).await.unwrap();
    b.put(&mark, bytes(10)).await.unwrap();
    let cache = Cache::new(b.object_store(), 1 << 20, Duration::from_secs(60), is_block_file);
    let c = Bucket::from_store(Arc::new(cache), "cached", &OpenOptions::default());
    let gets = || b.counters().operations("get");
    let before = gets();
    for _ in 0..3 {
        assert_eq!(c.get(&index, 1000).await.unwrap().unwrap().0, bytes(100));
        assert_eq!(c.get_range(&index, 5..9).await.unwrap(), bytes(100).slice(5..9));
    }
    assert_eq!(gets() - before, 2);
    for _ in 0..3 {
        c.get(&mark, 1000).await.unwrap().unwrap();
    }
    assert_eq!(gets() - before, 5);
    c.put(&index, bytes(50)).await.unwrap();
    assert_eq!(c.get(&index, 1000).await.unwrap().unwrap().0, bytes(50));
    c.delete(&index).await.unwrap();
    assert!(c.get(&index, 1000).await.unwrap().is_none());
}

async fn all(b: Bucket, has: Has) {
    objects(&b).await;
    if has.lists {
        listing(&b).await;
    }
    conditional(&b, has).await;
    files(&b, has).await;
    leases(&b).await;
    cached(&b).await;
}

#[tokio::test]
async fn memory() {
    let at = Location::parse("memory://conformance/some/prefix").unwrap();
    all(Bucket::open(&at, &OpenOptions::default()).unwrap(), ALL).await;
}

#[tokio::test]
async fn directory() {
    let dir = tempfile::tempdir().unwrap();
    let at = Location::parse(&format!("file://{}", dir.path().join("new").display())).unwrap();
    all(Bucket::open(&at, &OpenOptions::default()).unwrap(), ALL).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s3() {
    let Some(server) = weed::Weed::start() else { return };
    let whole = server.bucket("conformance");
    println!("weed: {:?}", whole.conditional().await.unwrap());
    all(whole, ALL).await;
    let at = server.location("conformance", weed::WRITER).below("a/prefix").unwrap();
    let below = Bucket::open(&at, &OpenOptions::default()).unwrap();
    below.put(&key("x"), bytes(3)).await.unwrap();
    let found = below.list_all(&Key::ROOT).await.unwrap();
    assert_eq!(found.iter().map(|e| e.key.as_str()).collect::<Vec<_>>(), ["x"]);

    for (who, may_read) in [(weed::READER, true), (weed::STRANGER, false)] {
        let b =
            Bucket::open(&server.location("conformance", who), &OpenOptions::default()).unwrap();
        assert_eq!(b.put(&key("p/x"), bytes(3)).await.unwrap_err().kind(), Kind::Denied);
        match b.get(&key("a/prefix/x"), 10).await {
            Ok(found) => assert!(may_read && found.is_some()),
            Err(error) => {
                assert!(!may_read && error.kind() == Kind::Denied);
                assert!(!error.to_string().contains("-secret"), "{error}");
            }
        }
    }
    let nowhere = Location::parse("s3://b?endpoint=http://127.0.0.1:1").unwrap();
    let quick = OpenOptions { retries_max: 1, ..OpenOptions::default() };
    let error = Bucket::open(&nowhere, &quick).unwrap().get(&key("x"), 1).await.unwrap_err();
    assert!(error.kind().is_passing() || error.kind() == Kind::Denied, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn azure() {
    let Some(server) = azurite::Azurite::start() else { return };
    let whole = Bucket::open(&server.location(azurite::KEY), &OpenOptions::default()).unwrap();
    let found = whole.conditional().await.unwrap();
    assert!(found.create && found.update, "{found:?}");
    all(whole, ALL).await;
    let at = server.location(azurite::KEY).below("a/prefix").unwrap();
    let below = Bucket::open(&at, &OpenOptions::default()).unwrap();
    below.put(&key("x"), bytes(3)).await.unwrap();
    let found = below.list_all(&Key::ROOT).await.unwrap();
    assert_eq!(found.iter().map(|e| e.key.as_str()).collect::<Vec<_>>(), ["x"]);

    let other_key = server.location(azurite::WRONG_KEY);
    let b = Bucket::open(&other_key, &OpenOptions::default()).unwrap();
    for error in [
        b.put(&key("p/x"), bytes(3)).await.unwrap_err(),
        b.get(&key("a/prefix/x"), 10).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), Kind::Denied, "{error}");
        assert!(!error.to_string().contains(azurite::WRONG_KEY), "{error}");
    }
    // Thanos's form of the same.
    let yaml = periplus_bucket::objstore::parse(&server.objstore_yaml()).unwrap();
    let b = Bucket::open(&yaml, &OpenOptions::default()).unwrap();
    assert!(b.get(&key("a/prefix/x"), 10).await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn google() {
    let Ok(address) = std::env::var("GCS_EMULATOR") else {
        println!("SKIPPED: no emulator of Google's storage (set GCS_EMULATOR to its address)");
        return;
    };
    let lacks = std::env::var("GCS_EMULATOR_LACKS").unwrap_or_default();
    let has = |what: &str| !lacks.split(',').any(|l| l == what);
    let name = std::env::var("GCS_EMULATOR_BUCKET").unwrap_or_else(|_| "conformance".to_owned());
    // What an earlier run left there is not this one's.
    let below = ulid::Ulid::generate();
    let at = Location::parse(&format!("gs://{name}/{below}?endpoint={address}")).unwrap();
    let b = Bucket::open(&at, &OpenOptions::default()).unwrap();
    let found = b.conditional().await.unwrap();
    println!("{address}: {found:?}");
    assert_eq!((found.create, found.update), (has("conditions"), has("conditions")));
    all(b, Has { lists: has("lists"), parts: has("parts") }).await;
}
