//! A cluster behind a network of its own: the link is cut, mended, slowed.

use std::time::{Duration, Instant};

use super::ask::{Answer, When, ask, client};
use super::data::Dataset;
use super::fleet::{Member, now_s};
use super::place::{Namespace, Place};
use super::product::Query;
use super::prometheus::flavours;

const BY_CLUSTER: &str = "sum by (cluster) (state)";

/// Rows of the answer, and its warnings as one text.
fn seen(answer: &Answer) -> (usize, String) {
    (answer.rows(), answer.warnings().join("\n"))
}

/// Says that something can't be tested on this machine; in CI that is a failure.
fn not_tested(why: &str) {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "not tested in CI: {why}");
    eprintln!("NOT TESTED, {why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_cluster_is_named_and_a_slow_one_answers() {
    let namespace = match Namespace::new(77) {
        Ok(namespace) => namespace,
        Err(why) => {
            not_tested(&format!("network namespaces are not to be had here: {why}"));
            return;
        }
    };
    let dir = tempfile::tempdir().expect("a directory");
    let flavour = flavours().remove(0);
    let data = Dataset::new(5, now_s() / 60 * 60 - 60);
    let near = Member::start(&flavour, &data, (1, 0), &Place::loopback(), true, dir.path()).await;
    let far = Member::start(&flavour, &data, (2, 0), &namespace.place(), true, dir.path()).await;
    let endpoints = [near.sidecar.grpc.as_str(), far.sidecar.grpc.as_str()];
    let query = Query::start("query", &endpoints, &["--endpoint-timeout", "2s"], dir.path()).await;
    let when = When::Instant(data.until_ms - 20_500);
    let ask_all = || async {
        let began = Instant::now();
        let answer = ask(&client(), &query.url, BY_CLUSTER, when).await.expect("an answer");
        (seen(&answer), began.elapsed())
    };
    let back = || async {
        let began = Instant::now();
        while ask_all().await.0.0 != 2 {
            assert!(began.elapsed() < Duration::from_secs(60), "the cluster does not come back");
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    back().await;

    namespace.cut();
    let ((rows, warnings), took) = ask_all().await;
    assert_eq!(rows, 1, "{warnings}");
    assert!(warnings.contains("tokyo"), "{warnings}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    namespace.mend();
    back().await;

    if let Err(why) = namespace.slow() {
        not_tested(&format!("a slow link is not to be had here: {why}"));
        return;
    }
    let ((rows, warnings), took) = ask_all().await;
    assert_eq!(rows, 2, "{warnings}");
    assert!(took < Duration::from_secs(2), "{took:?}");
}
