//! Who ships what.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use object_store::memory::InMemory;
use periplus_bucket::blocks::cleanup::delete_block;
use periplus_sidecar::ship::metrics::ShipMetrics;
use periplus_sidecar::ship::{BucketDestination, ShipConfig, ShipError, Shipper};

use crate::blocks::{
    assert_identical, bucket_over, id, labels, shipper, three_blocks, write_block,
};

#[tokio::test]
async fn two_sidecars_of_one_stream() {
    let (one, two) = (three_blocks(), tempfile::tempdir().unwrap());
    write_block(two.path(), 9, (2, 4), 1, &[9]);
    let bucket = bucket_over(Arc::new(InMemory::new()));
    let lease = |tsdb: &std::path::Path| ShipConfig {
        lease: Duration::from_secs(2),
        about: "host one".into(),
        ..ShipConfig::new(tsdb.into())
    };
    let mut first = shipper(&bucket, lease(one.path())).unwrap();
    first.sync().await.unwrap();
    let mut second = shipper(&bucket, lease(two.path())).unwrap();
    let error = second.sync().await.unwrap_err();
    assert!(matches!(error, ShipError::Owned { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("host one") && text.contains(r#"cluster="c1""#), "{text}");
    assert!(text.contains("replica label"), "{text}");
    assert_identical(&bucket, one.path()).await;

    // The same data directory twice.
    let locked = shipper(&bucket, lease(one.path())).unwrap_err();
    assert!(matches!(locked, ShipError::Locked { .. }), "{locked}");

    // The first one goes on, for it writes again; when it is gone the second one takes over.
    tokio::time::sleep(Duration::from_secs(1)).await;
    first.sync().await.unwrap();
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert!(matches!(second.sync().await, Err(ShipError::Owned { .. })));
    drop(first);
    tokio::time::sleep(Duration::from_millis(2100)).await;
    assert_eq!(second.sync().await.unwrap().shipped, [id(9)]);
}

#[tokio::test]
async fn compacted_blocks_without_doubling() {
    let dir = three_blocks();
    let bucket = bucket_over(Arc::new(InMemory::new()));
    shipper(&bucket, ShipConfig::new(dir.path().into())).unwrap().sync().await.unwrap();
    // Compacted from what is there; from what is not; and from some of both.
    write_block(dir.path(), 20, (2, 6), 2, &[1, 2]);
    write_block(dir.path(), 21, (8, 12), 2, &[10, 11]);
    write_block(dir.path(), 22, (6, 14), 2, &[3, 12]);
    let mut plain = shipper(&bucket, ShipConfig::new(dir.path().into())).unwrap();
    assert_eq!(plain.sync().await.unwrap().shipped, []);
    drop(plain);
    let config = ShipConfig { compacted: true, ..ShipConfig::new(dir.path().into()) };
    let mut s = shipper(&bucket, config.clone()).unwrap();
    let report = s.sync().await.unwrap();
    assert_eq!((report.shipped, report.there), (vec![id(21)], vec![id(20)]));
    assert_eq!(report.problems.len(), 1);
    assert!(report.problems[0].contains("would double"), "{:?}", report.problems);
    drop(s);

    // A compactor made one block of the first three and deleted them; the file of shipped blocks is
    // lost. Nothing comes back.
    let made = tempfile::tempdir().unwrap();
    write_block(made.path(), 30, (2, 8), 3, &[1, 2, 3]);
    let compactor = ShipConfig { compacted: true, ..ShipConfig::new(made.path().into()) };
    let other = bucket_over(Arc::new(InMemory::new()));
    shipper(&other, compactor).unwrap().sync().await.unwrap();
    let found = periplus_bucket::blocks::scan::block(&other, id(30)).await.unwrap();
    periplus_bucket::blocks::copy::block(&other, &bucket, &found).await.unwrap();
    for n in 1..=3 {
        delete_block(&bucket, id(n)).await.unwrap();
    }
    fs::remove_file(dir.path().join("thanos.shipper.json")).unwrap();
    let report = shipper(&bucket, config).unwrap().sync().await.unwrap();
    assert_eq!(report.shipped, []);
    assert!(report.there.contains(&id(1)) && report.there.contains(&id(21)), "{report:?}");
}

#[tokio::test]
async fn blocks_that_are_not_ours_or_make_no_sense() {
    let dir = three_blocks();
    let bucket = bucket_over(Arc::new(InMemory::new()));
    // Block 1 is there as another stream's.
    let to = Arc::new(BucketDestination::new(bucket.clone(), Default::default()));
    let theirs = tempfile::tempdir().unwrap();
    write_block(theirs.path(), 1, (2, 4), 1, &[1]);
    let other = || Some([("cluster".to_owned(), "c2".to_owned())].into());
    let config = ShipConfig::new(theirs.path().into());
    Shipper::new(config, to, None, Box::new(other), ShipMetrics::default())
        .unwrap()
        .sync()
        .await
        .unwrap();
    // Hostile descriptions, a block without chunks, an empty one, and things that are no blocks.
    for (n, meta) in [
        (
            50,
            r#"{"ulid":"../../etc/passwd","minTime":0,"maxTime":1,"version":1,"compaction":{"level":1}}"#,
        ),
        (51, "{"),
        (
            52,
            r#"{"ulid":"01M7Z93MDS9J4WQZYN95AFEATR","minTime":0,"maxTime":1,"version":1,"compaction":{"level":1}}"#,
        ),
    ] {
        write_block(dir.path(), n, (0, 2), 1, &[n]);
        fs::write(dir.path().join(id(n).to_string()).join("meta.json"), meta).unwrap();
    }
    fs::create_dir_all(dir.path().join("01M7Z93MDS9J4WQZYN95AFEATR.tmp-for-creation")).unwrap();
    fs::create_dir_all(dir.path().join(id(60).to_string())).unwrap();
    let report =
        shipper(&bucket, ShipConfig::new(dir.path().into())).unwrap().sync().await.unwrap();
    assert_eq!(report.shipped, [id(2), id(3)]);
    assert_eq!(report.problems.len(), 4, "{:?}", report.problems);
    assert!(report.problems.iter().any(|p| p.contains("as part of stream")));
}

#[tokio::test]
async fn no_external_labels() {
    let dir = three_blocks();
    let bucket = bucket_over(Arc::new(InMemory::new()));
    let to = Arc::new(BucketDestination::new(bucket, Default::default()));
    let config = ShipConfig::new(dir.path().into());
    let none = Box::new(|| Some(std::collections::BTreeMap::new()));
    let mut s = Shipper::new(config, to, None, none, ShipMetrics::default()).unwrap();
    let error = s.sync().await.unwrap_err();
    assert!(error.to_string().contains("external_labels"), "{error}");
    assert!(labels().len() == 2);
}

#[tokio::test]
async fn prometheus_deletes_while_it_is_shipped() {
    use periplus_bucket::layer::fault::FaultStore;
    let dir = three_blocks();
    let copy = three_blocks();
    let memory = Arc::new(InMemory::new());
    let tsdb = dir.path().to_owned();
    // The moment the first chunk of a block is put, its directory is deleted.
    let store = FaultStore::new(memory.clone(), move |call| {
        if call.key.ends_with("chunks/000001") {
            let block = call.key.split('/').next().unwrap_or("none");
            let _gone = fs::remove_dir_all(tsdb.join(block));
        }
        None
    });
    let bucket = bucket_over(Arc::new(store));
    let mut s = shipper(&bucket, ShipConfig::new(dir.path().into())).unwrap();
    assert_eq!(s.sync().await.unwrap().shipped.len(), 3);
    assert_identical(&bucket_over(memory), copy.path()).await;
}
