//! Retention, deletion of series, and cleaning up.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use object_store::ObjectStore;
use periplus_bucket::Bucket;
use periplus_compactor::config::Config;
use periplus_compactor::erase::Deletion;
use periplus_compactor::retention::Retention;
use periplus_compactor::service::delete;
use periplus_model::TimeRange;
use tokio_util::sync::CancellationToken;

use crate::made_up::{DAY, HOUR, START, bucket, compactor_with, config, once, quick};
use crate::truth::{of_blocks, of_parts, part, parts, same};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn series_are_deleted_and_stay_deleted() {
    let store: Arc<dyn ObjectStore> = bucket().await;
    let mut truth = of_blocks(&store).await;
    once(Arc::clone(&store)).await;
    let before = parts(&store).await.len();
    let bucket = Bucket::from_store(Arc::clone(&store), "test", &quick());
    let range = TimeRange::new(START + 20 * HOUR, START + 25 * HOUR);
    let deletion = Deletion::new("{__name__=~\"reads.*\",replica=\"a\"}", range);
    let hits = delete::hits(&bucket, &deletion.erasure().unwrap()).await.unwrap();
    assert_eq!(hits.len(), 1, "{hits:?}");
    assert_eq!((hits[0].series, hits[0].samples), (2, 31));
    // Nothing is gone by looking.
    same(&of_parts(&store).await, &truth);

    deletion.store(&bucket).await.unwrap();
    let report = once(Arc::clone(&store)).await;
    for ((stream, series), samples) in &mut truth {
        if stream["replica"] == "a" && series.contains("reads") {
            samples.retain(|t, _| !range.contains(*t));
        }
    }
    same(&of_parts(&store).await, &truth);
    assert!(report.steps() > 0);
    assert_eq!(parts(&store).await.len(), before);
    assert_eq!(once(Arc::clone(&store)).await.steps(), 0);
    // A late block makes the day anew, from blocks that still have the samples.
    let dir = tempfile::tempdir().unwrap();
    crate::made_up::write_block(dir.path(), 9, "a", (4, 5), &[9]);
    crate::made_up::upload(store.as_ref(), dir.path(), 9).await;
    once(Arc::clone(&store)).await;
    let late = of_blocks(&store).await;
    for (series, samples) in late {
        let early = samples.into_iter().filter(|(t, _)| *t < START + 6 * HOUR);
        truth.entry(series).or_default().extend(early);
    }
    same(&of_parts(&store).await, &truth);
}

/// No reader of ours shows deleted series again, though the blocks still have them: also a history that is
/// made anew from the blocks has none of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_do_not_bring_deleted_series_back() {
    let store: Arc<dyn ObjectStore> = bucket().await;
    let mut truth = of_blocks(&store).await;
    let bucket = Bucket::from_store(Arc::clone(&store), "test", &quick());
    // Before anything was converted: the first parts that are made lack them already.
    let deletion = Deletion::new("{__name__=\"odd\"}", TimeRange::ALL);
    deletion.store(&bucket).await.unwrap();
    truth.retain(|(_, series), _| !series.contains("\"odd\""));
    once(Arc::clone(&store)).await;
    same(&of_parts(&store).await, &truth);
    for p in parts(&store).await {
        let all = part(&store, &p).await;
        assert!(all.iter().all(|(labels, _)| labels.metric_name() != Some("odd")), "{p:?}");
    }
    let history = periplus_bucket::Key::parse("history").unwrap();
    for entry in bucket.list_all(&history).await.unwrap() {
        bucket.delete(&entry.key).await.unwrap();
    }
    assert!(once(Arc::clone(&store)).await.steps() > 0);
    same(&of_parts(&store).await, &truth);
    // The blocks themselves are as they were, for Thanos and for their own retention.
    assert!(of_blocks(&store).await.keys().any(|(_, series)| series.contains("\"odd\"")));
}

/// Rules about labels of streams and of series, each at its own time and resolution.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_label_has_its_own_retention() {
    let store: Arc<dyn ObjectStore> = bucket().await;
    let mut truth = of_blocks(&store).await;
    once(Arc::clone(&store)).await;
    let rules = ["{replica=\"b\"} raw=10d", "{__name__=\"odd\"} raw=5d", "raw=30d,5m=60d"];
    let mut aged = config();
    aged.policy.retention = Retention::new(rules.iter().map(|r| r.parse().unwrap()).collect());
    let run = |now_ms: i64| {
        let (store, config) = (Arc::clone(&store), Config { now_ms: Some(now_ms), ..aged.clone() });
        async move { compactor_with(store, config).once(&CancellationToken::new()).await.unwrap() }
    };
    run(START + 8 * DAY).await;
    truth.retain(|(_, series), _| !series.contains("\"odd\""));
    same(&of_parts(&store).await, &truth);
    let names = async |resolution: &str| -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for p in parts(&store).await.iter().filter(|p| p.resolution == resolution) {
            let all = part(&store, p).await;
            names.extend(all.iter().filter_map(|(l, _)| l.metric_name().map(str::to_owned)));
        }
        names
    };
    assert!(!names("raw").await.contains("odd"), "merged replicas too");
    assert!(names("5m").await.contains("odd"), "no rule says how long 5 m of it are kept");
    run(START + 13 * DAY).await;
    truth.retain(|(stream, _), _| stream["replica"] == "a");
    same(&of_parts(&store).await, &truth);
    assert_eq!(run(START + 13 * DAY).await.steps(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_old_goes_and_its_files_after_the_delay() {
    let store: Arc<dyn ObjectStore> = bucket().await;
    once(Arc::clone(&store)).await;
    let kept = parts(&store).await;
    let rules = |rules: &[&str]| Retention::new(rules.iter().map(|r| r.parse().unwrap()).collect());
    let mut aged = config();
    aged.policy.retention = rules(&["{replica=\"a\"} raw=10d", "raw=30d,5m=60d"]);
    aged.block_retention = rules(&["raw=20d"]);
    aged.now_ms = Some(START + 15 * DAY);
    let run = |config: Config| {
        let store = Arc::clone(&store);
        async move { compactor_with(store, config).once(&CancellationToken::new()).await.unwrap() }
    };
    let report = run(aged.clone()).await;
    assert_eq!(report.expired, 2, "{report:?}");
    let now = parts(&store).await;
    assert_eq!(now.len(), kept.len() - 2);
    // A reader of the old catalog still finds all files.
    let files = |parts: &[Arc<periplus_bucket::catalog::Part>]| -> BTreeSet<String> {
        parts.iter().flat_map(|p| p.keys()).map(|k| k.to_string()).collect()
    };
    let bucket = Bucket::from_store(Arc::clone(&store), "test", &quick());
    let there = async || -> BTreeSet<String> {
        let key = periplus_bucket::Key::parse("history").unwrap();
        let all = bucket.list_all(&key).await.unwrap();
        all.into_iter().map(|e| e.key.to_string()).filter(|k| k.ends_with(".parquet")).collect()
    };
    assert!(files(&kept).is_subset(&there().await));
    // After the delay they are gone, and only they.
    aged.delete_delay = Duration::ZERO;
    let report = run(aged.clone()).await;
    assert!(report.cleaned.parts >= 2, "{report:?}");
    assert!(files(&now).is_subset(&there().await));
    assert!(files(&kept).difference(&files(&now)).all(|_| true));
    let left = there().await;
    assert!(files(&kept).difference(&files(&now)).all(|k| !left.contains(k)));
    // Blocks follow by their own rule, through Thanos's mark.
    aged.now_ms = Some(START + 40 * DAY);
    let report = run(aged.clone()).await;
    assert_eq!(report.cleaned.marked, 5, "{report:?}");
    let report = run(aged).await;
    assert_eq!(report.cleaned.blocks, 5, "{report:?}");
    assert!(of_blocks(&store).await.is_empty());
    // 5 m and 1 h of the merged replicas are still there.
    assert!(!parts(&store).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orphans_and_given_up_uploads_go() {
    use object_store::{ObjectStoreExt, PutPayload};
    let store: Arc<dyn ObjectStore> = bucket().await;
    once(Arc::clone(&store)).await;
    let stray = [
        "history/v1/0123456789abcdef/day=2026-03-01/resolution=raw/part=01M7Z93MDS9J4WQZYN95AFEATR/samples.parquet",
        "01M7Z93MDS9J4WQZYN95AFEATR/index",
    ];
    for key in stray {
        let path = object_store::path::Path::from(key);
        store.put(&path, PutPayload::from_static(b"x")).await.unwrap();
    }
    let before = of_parts(&store).await;
    assert_eq!(once(Arc::clone(&store)).await.cleaned, Default::default());
    let impatient =
        Config { partial_delay: Some(Duration::ZERO), orphan_delay: Duration::ZERO, ..config() };
    let report = compactor_with(Arc::clone(&store), impatient)
        .once(&CancellationToken::new())
        .await
        .unwrap();
    assert_eq!((report.cleaned.orphans, report.cleaned.blocks), (1, 1));
    same(&of_parts(&store).await, &before);
}
