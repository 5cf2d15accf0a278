use std::sync::Arc;

use periplus_model::Labels;

use super::queue::Queue;
use super::{AlertingConfig, Message, NotifyConfig, Relabel, message, relabel};
use crate::ruler::alert::{Alert, State};

/// What waits for an Alertmanager that takes nothing.
pub(in crate::ruler) struct Waiting(Queue);

impl Waiting {
    pub(in crate::ruler) fn new(room: usize) -> Self {
        Self(Queue::new(room))
    }

    pub(in crate::ruler) fn len(&self) -> usize {
        self.0.len()
    }

    pub(in crate::ruler) fn dropped(&self) -> usize {
        self.0.take_dropped()
    }

    /// Everything that waits: the cluster it is about, and when it ends or ended.
    pub(in crate::ruler) fn take(&self) -> Vec<(String, i64)> {
        let ms = |text: &str| text.parse::<jiff::Timestamp>().expect("a time").as_millisecond();
        let cluster = |m: &Message| m.labels.get("cluster").cloned().unwrap_or_default();
        self.0.take(usize::MAX).iter().map(|m| (cluster(m), ms(&m.ends_at))).collect()
    }
}

impl crate::ruler::Notify for Waiting {
    fn notify(&self, query: &str, alerts: Vec<Alert>) {
        let config = NotifyConfig {
            alerting: AlertingConfig::default(),
            external_labels: Labels::empty(),
            external_url: "".into(),
            queue: 0,
            refresh: std::time::Duration::from_secs(1),
        };
        let all: Vec<Arc<Message>> =
            alerts.iter().filter_map(|a| message(&config, query, a)).map(Arc::new).collect();
        self.0.push(&all);
    }
}

fn msg(name: &str, ends: &str) -> Arc<Message> {
    Arc::new(Message {
        labels: [("alertname".to_owned(), name.to_owned())].into(),
        annotations: Default::default(),
        starts_at: String::new(),
        ends_at: ends.to_owned(),
        generator_url: String::new(),
    })
}

#[test]
fn what_is_newer_takes_the_place_of_what_waits() {
    let q = Queue::new(3);
    q.push(&[msg("a", "1"), msg("b", "1"), msg("a", "2")]);
    assert_eq!(q.len(), 2);
    let taken = q.take(2);
    assert_eq!(taken.iter().map(|m| m.ends_at.as_str()).collect::<Vec<_>>(), ["2", "1"]);
    // Delivery failed, and one of the two has changed since.
    q.push(&[msg("b", "3"), msg("c", "3")]);
    q.give_back(taken);
    let all = q.take(9);
    let ends: Vec<&str> = all.iter().map(|m| m.ends_at.as_str()).collect();
    assert_eq!((ends, q.take_dropped()), (vec!["2", "3", "3"], 0));
    q.push(&[msg("a", ""), msg("b", ""), msg("c", ""), msg("d", "")]);
    assert_eq!((q.len(), q.take_dropped()), (3, 1));
}

#[test]
fn steps_of_relabelling() {
    let labels = Labels::from_pairs([("alertname", "A"), ("replica", "1"), ("pod", "x-1")]);
    let steps = |yaml: &str| serde_saphyr::from_str::<Vec<Relabel>>(yaml).expect("steps");
    let text = "
- {source_labels: [pod], regex: '(.*)-(.*)', target_label: app, replacement: '$1'}
- {regex: replica, action: labeldrop}
- {source_labels: [app], target_label: app, action: uppercase}
- {regex: 'p(.*)', replacement: 'q$1', action: labelmap}
- {source_labels: [pod], modulus: 8, target_label: shard, action: hashmod}
";
    let got = relabel(&steps(text), labels.clone()).expect("kept");
    // md5('x-1') mod 8, as Prometheus has it.
    assert_eq!(got.value("app"), "X");
    assert_eq!((got.get("replica"), got.value("qod")), (None, "x-1"));
    assert!(got.value("shard").parse::<u8>().is_ok_and(|n| n < 8));
    assert_eq!(
        relabel(&steps("[{source_labels: [alertname], regex: A, action: drop}]"), labels),
        None
    );
}

#[test]
fn messages_are_what_an_old_alertmanager_takes() {
    let config = NotifyConfig {
        alerting: AlertingConfig {
            alert_relabel_configs: vec![Relabel::drop_label("replica")],
            ..AlertingConfig::default()
        },
        external_labels: Labels::from_pairs([("replica", "a"), ("fleet", "x")]),
        external_url: "http://r:1".into(),
        queue: 1,
        refresh: std::time::Duration::from_secs(1),
    };
    let alert = Alert {
        state: State::Firing,
        labels: Labels::from_pairs([("alertname", "A"), ("k8s.pod", "p")]),
        annotations: vec![("s".into(), "text".into()), ("empty".into(), String::new())],
        value: 1.0,
        active_at: 1_000,
        fired_at: Some(2_500),
        resolved_at: None,
        last_sent_at: None,
        valid_until: Some(242_500),
        keep_firing_since: None,
        held: false,
    };
    let m = message(&config, "up == 0", &alert).expect("a message");
    let labels: Vec<(&str, &str)> =
        m.labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(labels, [("alertname", "A"), ("fleet", "x"), ("k8s_pod", "p")]);
    assert_eq!(
        (m.starts_at.as_str(), m.ends_at.as_str()),
        ("1970-01-01T00:00:02.5Z", "1970-01-01T00:04:02.5Z")
    );
    assert_eq!(m.generator_url, "http://r:1/graph?g0.expr=up+%3D%3D+0&g0.tab=1");
    assert_eq!(m.annotations.len(), 1);
}

#[test]
fn the_alerting_section_is_read_and_secrets_are_not_shown() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("a.yml");
    let text = "
alert_relabel_configs: [{regex: replica, action: labeldrop}]
alertmanagers:
- scheme: http
  path_prefix: /am
  timeout: 5s
  basic_auth: {username: u, password: canary-secret}
  static_configs: [{targets: ['h:9093']}]
";
    std::fs::write(&path, text).expect("a file");
    let config = AlertingConfig::read(&path).expect("a section");
    assert_eq!(
        super::config::post_url(&config.alertmanagers[0], "h:1"),
        "http://h:1/am/api/v2/alerts"
    );
    assert!(!format!("{config:?}").contains("canary"));
    std::fs::write(&path, format!("{text}  nonsense: 1\n")).expect("a file");
    let error = AlertingConfig::read(&path).expect_err("a fault").to_string();
    assert!(error.contains("nonsense") && !error.contains("canary"), "{error}");
    let mut c = AlertingConfig::default();
    assert!(c.add_url("ftp://x").is_err() && c.add_url("x").is_err());
    c.add_url("http://u:canary@h:9/p").expect("an address");
    c.add_url("dnssrv+http://_am._tcp.x").expect("an address");
    assert_eq!(c.alertmanagers.len(), 2);
}
