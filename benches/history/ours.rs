//! The query layer of this process.

use std::sync::atomic::Ordering;

use periplus_daemon::admin::Admin;
use periplus_daemon::drain::Drain;
use periplus_query::Config;
use periplus_query::answer::Answerer;
use serde_json::Value;

use crate::questions::Question;

/// A query layer that has read the catalog and nothing else.
pub(crate) struct Ours {
    url: String,
    answerer: Answerer,
    client: reqwest::Client,
    drain: Drain,
}

impl Drop for Ours {
    fn drop(&mut self) {
        self.drain.begin();
    }
}

impl Ours {
    pub(crate) async fn start(bucket: &str) -> Self {
        let mut config = Config::defaults();
        config.listen = "127.0.0.1:0".into();
        config.grpc = "127.0.0.1:0".into();
        config.history.bucket = Some(bucket.to_owned());
        // Each question is to be answered, not remembered.
        config.history.history_answers = 0;
        let (admin, drain) = (Admin::new("query", "bench", "bench"), Drain::new());
        let query = periplus_query::build(config, &admin, &drain).await.expect("a query layer");
        let answerer = query.answerer.clone();
        answerer.history.as_ref().expect("history").refresh().await.expect("a catalog");
        let url = format!("http://{}", query.http_address());
        let own = drain.clone();
        tokio::spawn(async move { periplus_query::run(query, &own).await });
        Self { url, answerer, client: reqwest::Client::new(), drain }
    }

    pub(crate) async fn ask(&self, q: &Question) -> Value {
        let asked = self.client.get(format!("{}{}", self.url, q.path)).query(&q.params);
        let answer = asked.send().await.expect("an answer").text().await.expect("a body");
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        assert_eq!(answer["status"], "success", "{}: {answer}", q.name);
        assert!(answer.get("warnings").is_none(), "{}: {answer}", q.name);
        answer
    }

    /// Requests to the bucket and bytes that came.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let counts = self.answerer.history.as_ref().expect("history").blocks().counts();
        (counts.requests.load(Ordering::Relaxed), counts.fetched_bytes.load(Ordering::Relaxed))
    }
}

/// The most memory this process has had, in MiB; with VictoriaMetrics' samples on their way too.
pub(crate) fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) / 1024
}
