//! Queries over queries, and processes that are asked to end.

use super::ask::{When, ask, client};
use super::data::Dataset;
use super::fleet::{Fleet, now_s};
use super::product::Query;
use super::prometheus::flavours;

#[tokio::test(flavor = "multi_thread")]
async fn two_tiers_answer_as_one_and_name_what_is_missing_below() {
    let dir = tempfile::tempdir().expect("a directory");
    let flavour = flavours().remove(0);
    let data = Dataset::new(9, now_s() / 60 * 60 - 60);
    let mut fleet = Fleet::start(&flavour, &data, true, dir.path()).await;
    let endpoints: Vec<String> = fleet.endpoints().into_iter().map(str::to_owned).collect();
    let [europe, asia] = [&endpoints[..3], &endpoints[3..]]
        .map(|e| e.iter().map(String::as_str).collect::<Vec<&str>>());
    let flat: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    let timeout = ["--endpoint-timeout", "2s"];
    let flat = Query::start("flat", &flat, &timeout, dir.path()).await;
    let europe = Query::start("europe", &europe, &timeout, dir.path()).await;
    let mut asia = Query::start("asia", &asia, &timeout, dir.path()).await;
    let both = [europe.grpc.as_str(), asia.grpc.as_str()];
    let mut global = Query::start("global", &both, &["--endpoint-timeout", "4s"], dir.path()).await;
    let when = When::Instant(data.until_ms - 20_500);
    let ask_at =
        async |url: &str, expr: &str| ask(&client(), url, expr, when).await.expect("an answer");
    for expr in [
        "sum by (cluster) (state)",
        "topk(3, temperature)",
        "avg(rate(requests_total[5m]))",
        "histogram_quantile(0.9, sum by (le) (rate(latency_seconds_bucket[5m])))",
        "absent(only_in_madrid)",
    ] {
        let (one, two) = (ask_at(&flat.url, expr).await, ask_at(&global.url, expr).await);
        assert!(one.rows() > 0 || expr.starts_with("absent"), "{expr}: {}", one.body);
        let why = super::ask::difference(&one, &two, 1e-9);
        assert!(why.is_none(), "{expr}: {why:?}\n{}\n{}", one.body, two.body);
    }
    fleet.members[3].sidecar.process.kill();
    let answer = ask_at(&global.url, "sum by (cluster) (state)").await;
    let warnings = answer.warnings().join("\n");
    assert_eq!(answer.rows(), 2, "{}", answer.body);
    assert!(warnings.contains("tokyo"), "not named at the top: {}", answer.body);

    // Asked to end, each does so in order.
    assert_eq!(global.process.terminate(), Some(0), "{}", global.process.last_words());
    assert_eq!(asia.process.terminate(), Some(0), "{}", asia.process.last_words());
    let sidecar = &mut fleet.members[0].sidecar.process;
    assert_eq!(sidecar.terminate(), Some(0), "{}", sidecar.last_words());
}
