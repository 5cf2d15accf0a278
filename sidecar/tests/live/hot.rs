//! The hot window answers as the other ways do.

use std::time::Duration;

use periplus_proto::fleet::ExecuteRequest;
use periplus_sidecar::EvaluateIn;

use crate::prometheus::{Loaded, Prometheus, binaries, now_ms};
use crate::running::{Running, config, labels};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_way_gives_the_same() {
    let external = labels(&[("cluster", "a"), ("replica", "0")]);
    for binary in binaries() {
        let now = now_ms();
        let prometheus = Prometheus::start(&binary, &external, &[]);
        let mut data: Vec<Loaded> = Vec::new();
        for pod in 0..30i64 {
            let name = format!("pod-{pod:02}");
            let own = labels(&[("__name__", "cpu_seconds_total"), ("pod", &name)]);
            let samples =
                (0..41).map(|i| (now - 600_000 + i * 15_000, (i * (pod % 7 + 1)) as f64 * 0.1));
            data.push((own, samples.collect()));
        }
        prometheus.load(&data);
        let mut with_log = config(&prometheus.url(), EvaluateIn::Auto);
        with_log.tsdb = Some(prometheus.data());
        let hot = Running::start(with_log).await;
        let auto = Running::start(config(&prometheus.url(), EvaluateIn::Auto)).await;
        let engine = Running::start(config(&prometheus.url(), EvaluateIn::Engine)).await;
        let queries = [
            "cpu_seconds_total",
            "topk(5, rate(cpu_seconds_total[5m]))",
            "sum by (cluster) (rate(cpu_seconds_total[2m]))",
            r#"max_over_time(cpu_seconds_total{cluster="a", replica="0", pod=~"pod-1.*"}[1m])"#,
            r#"cpu_seconds_total{cluster="b"}"#,
        ];
        let request = |query: &str, step: i64| ExecuteRequest {
            query: query.to_owned(),
            start_ms: now - if step == 0 { 0 } else { 120_000 },
            end_ms: now,
            step_ms: step,
            drop_labels: vec!["replica".into()],
            ..ExecuteRequest::default()
        };
        let mut path = String::new();
        for _ in 0..200 {
            let (_, trailer) = hot.execute(request(queries[0], 0), 1).await.unwrap();
            path = trailer.stats.unwrap().path;
            if path == "hot" {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(path, "hot");
        for query in queries {
            for step in [0, 15_000] {
                let (a, trailer) = hot.execute(request(query, step), 1).await.unwrap();
                assert_eq!(trailer.stats.unwrap().path, "hot", "{query}");
                let (b, _) = auto.execute(request(query, step), 1).await.unwrap();
                let (c, _) = engine.execute(request(query, step), 1).await.unwrap();
                assert_eq!(a, c, "{query}");
                assert_eq!(a.len(), b.len(), "{query}");
                for (x, y) in a.iter().zip(&b) {
                    assert_eq!((&x.labels, &x.present), (&y.labels, &y.present), "{query}");
                    let close = |p: &f64, q: &f64| p == q || (p - q).abs() <= 1e-12 * p.abs();
                    assert!(
                        x.columns[0].iter().zip(&y.columns[0]).all(|(p, q)| close(p, q)),
                        "{query}"
                    );
                }
            }
        }
        // Further back than the window: another way is taken.
        let mut old = request(queries[0], 0);
        old.start_ms = now - 30 * 60_000;
        let (_, trailer) = hot.execute(old, 1).await.unwrap();
        assert_ne!(trailer.stats.unwrap().path, "hot");
    }
}
