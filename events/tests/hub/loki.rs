//! The requests that Grafana's Loki data source and logcli make, word for word, and live lines over a WebSocket.

use std::net::SocketAddr;
use std::time::Duration;

use periplus_events::Event;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::process::Process;
use crate::{event, get, post};

fn encode(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn now_ns() -> i128 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i128::try_from(now.as_nanos()).unwrap()
}

fn of(cluster: &str, uid: usize) -> Event {
    Event { cluster: cluster.into(), ..event(uid, 1) }
}

/// A WebSocket as a client has it: RFC 6455 without extensions.
struct Socket {
    stream: TcpStream,
}

impl Socket {
    /// Asks for an upgrade; gives the refusal's status where there is one.
    async fn open(url: &str, target: &str, headers: &str) -> Result<Self, u16> {
        let address: SocketAddr = url.strip_prefix("http://").unwrap().parse().unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "GET {target} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
        if status != 101 {
            return Err(status);
        }
        // The answer to that key, as the RFC gives it.
        assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
        Ok(Self { stream })
    }

    /// The next message of text, as JSON.
    async fn message(&mut self) -> Value {
        loop {
            let (first, second) =
                (self.stream.read_u8().await.unwrap(), self.stream.read_u8().await.unwrap());
            assert_eq!((first & 0x80, second & 0x80), (0x80, 0), "whole and unmasked");
            let length = match second {
                126 => u64::from(self.stream.read_u16().await.unwrap()),
                127 => self.stream.read_u64().await.unwrap(),
                n => u64::from(n),
            };
            let mut body = vec![0; usize::try_from(length).unwrap()];
            self.stream.read_exact(&mut body).await.unwrap();
            match first & 0x0f {
                1 => return serde_json::from_slice(&body).unwrap(),
                9 => {}
                other => panic!("a frame of kind {other}"),
            }
        }
    }

    /// Lines until there are `n`: their streams' labels and texts.
    async fn lines(&mut self, n: usize) -> Vec<(Value, String)> {
        let mut out = Vec::new();
        while out.len() < n {
            let message = tokio::time::timeout(Duration::from_secs(60), self.message()).await;
            for stream in message.expect("in time")["streams"].as_array().unwrap() {
                for line in stream["values"].as_array().unwrap() {
                    let ns: i128 = line[0].as_str().unwrap().parse().unwrap();
                    assert!(ns > now_ns() - 3_600_000_000_000 && ns < now_ns(), "{line}");
                    out.push((stream["stream"].clone(), line[1].as_str().unwrap().to_owned()));
                }
            }
        }
        out
    }
}

fn line(uid: usize) -> String {
    format!("Back-off restarting failed container <b>{uid}</b>")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_lines_over_a_websocket() {
    let dir = tempfile::tempdir().unwrap();
    let client = reqwest::Client::new();
    let mut hub = Process::start(dir.path()).await;
    let query = encode(r#"{cluster="eu-1", namespace=~"ns[12]"} |= "Back-off" != "<b>7</b>""#);
    post(&client, &hub.url, &[of("eu-1", 1), of("eu-2", 2), of("eu-1", 3)]).await.unwrap();

    // logcli: from a time on; what came before is there, too.
    let start = now_ns() - 60_000_000_000;
    let target = format!("/loki/api/v1/tail?delay_for=1&limit=30&query={query}&start={start}");
    let headers = "User-Agent: loki-logcli/3.5.7\r\nX-Scope-OrgID: fleet\r\n";
    let mut logcli = Socket::open(&hub.url, &target, headers).await.unwrap();
    let (labels, text) = logcli.lines(1).await.remove(0);
    assert_eq!(text, line(1));
    assert_eq!(
        (&labels["cluster"], &labels["reason"], &labels["name"], &labels["detected_level"]),
        (&json!("eu-1"), &json!("BackOff"), &json!("web-1"), &json!("warn"))
    );
    // Grafana: from now on, with what lies beside lines kept apart.
    let target = format!("/loki/api/v1/tail?query={query}");
    let apart = "X-Loki-Response-Encoding-Flags: categorize-labels\r\n";
    let mut grafana = Socket::open(&hub.url, &target, apart).await.unwrap();
    let news = [of("eu-1", 6), of("eu-1", 7), of("eu-2", 11), of("eu-1", 12), of("eu-1", 5)];
    post(&client, &hub.url, &news).await.unwrap();
    let texts: Vec<String> = logcli.lines(2).await.into_iter().map(|l| l.1).collect();
    assert_eq!(texts, [line(6), line(12)]);
    let message = grafana.message().await;
    assert_eq!(message["encodingFlags"], json!(["categorize-labels"]));
    let stream = &message["streams"][0];
    assert_eq!(stream["stream"]["namespace"], "ns1");
    assert_eq!(stream["stream"].get("name"), None);
    assert_eq!(stream["values"][0][2]["structuredMetadata"]["name"], "web-6");
    // A changed event is a new line.
    post(&client, &hub.url, &[Event { cluster: "eu-1".into(), ..event(1, 4) }]).await.unwrap();
    let (labels, _) = logcli.lines(1).await.remove(0);
    assert_eq!((&labels["name"], &labels["count"]), (&json!("web-1"), &json!("4")));

    // What can't be followed is refused before there is a socket.
    for query in ["", "{", "count_over_time({a=\"b\"}[5m])"] {
        let target = format!("/loki/api/v1/tail?query={}", encode(query));
        assert_eq!(Socket::open(&hub.url, &target, "").await.err(), Some(400), "{query}");
    }
    // Streams are bounded, and those that left make room.
    let target = format!("/loki/api/v1/tail?query={query}");
    let mut open = Vec::new();
    let refused = loop {
        match Socket::open(&hub.url, &target, "").await {
            Ok(socket) => open.push(socket),
            Err(status) => break status,
        }
    };
    assert_eq!((refused, open.len()), (503, 254));
    drop(open);
    let mut tries = 0;
    while Socket::open(&hub.url, &target, "").await.is_err() {
        tries += 1;
        assert!(tries < 600, "nobody made room");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    hub.kill();
}

/// What Grafana's data source asks, from its test to a dashboard.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grafana_asks() {
    let dir = tempfile::tempdir().unwrap();
    let client = reqwest::Client::new();
    let mut hub = Process::start(dir.path()).await;
    let events: Vec<Event> = (0..40).map(|i| of(["eu-1", "eu-2"][i % 2], i)).collect();
    post(&client, &hub.url, &events).await.unwrap();
    let api = format!("{}/loki/api/v1", hub.url);
    let (start, end) = (now_ns() - 3_600_000_000_000, now_ns());
    let ask = async |path: String| {
        let request = client.get(format!("{api}/{path}"));
        let request = request.header("X-Loki-Response-Encoding-Flags", "categorize-labels");
        let response = request.header("X-Query-Tags", "Source=grafana").send().await.unwrap();
        let (status, text) = (response.status(), response.text().await.unwrap());
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str::<Value>(&text).unwrap()
    };
    // "Save & test".
    let query = encode("vector(1)+vector(1)");
    let tested = ask(format!("query?direction=backward&query={query}&time={end}")).await;
    assert_eq!(
        (&tested["data"]["resultType"], &tested["data"]["result"][0]["value"][1]),
        (&json!("vector"), &json!("2"))
    );
    // The label browser, and a variable of a dashboard.
    let labels = ask(format!("labels?start={start}&end={end}")).await;
    assert!(labels["data"].as_array().unwrap().contains(&json!("cluster")), "{labels}");
    let selector = encode(r#"{cluster="eu-1"}"#);
    let values = format!("label/namespace/values?start={start}&end={end}&query={selector}");
    assert_eq!(ask(values).await["data"].as_array().unwrap().len(), 5);
    let series = ask(format!("series?match%5B%5D={selector}&start={start}&end={end}")).await;
    assert_eq!(series["data"].as_array().unwrap().len(), 5);
    let stats = ask(format!("index/stats?query={selector}&start={start}&end={end}")).await;
    assert_eq!((&stats["entries"], &stats["streams"]), (&json!(20), &json!(5)));
    // Explore: lines, with what the query builder adds.
    let query = encode(r#"{cluster="eu-1"} |= `` | detected_level=`warn`"#);
    let range = format!("start={start}&end={end}&step=14.4s");
    let lines = ask(format!("query_range?direction=backward&limit=15&query={query}&{range}")).await;
    assert_eq!(lines["data"]["resultType"], "streams");
    assert_eq!(lines["data"]["encodingFlags"], json!(["categorize-labels"]));
    let streams = lines["data"]["result"].as_array().unwrap();
    let count: usize = streams.iter().map(|s| s["values"].as_array().unwrap().len()).sum();
    assert_eq!((count, streams.len()), (15, 5));
    let beside = &streams[0]["values"][0][2]["structuredMetadata"];
    assert!(beside["detected_level"] == "warn" && beside["count"] == "1", "{beside}");
    // The histogram above the lines.
    let volume = r#"sum by (level, detected_level) (count_over_time({cluster="eu-1"} |= `Back-off` | drop __error__ [1m0s]))"#;
    let range = format!("start={start}&end={end}&step=1m0s");
    let volume =
        ask(format!("query_range?direction=backward&query={}&{range}", encode(volume))).await;
    let result = volume["data"]["result"].as_array().unwrap();
    assert_eq!(result[0]["metric"], json!({"level": "warn", "detected_level": "warn"}));
    let counted: f64 = result[0]["values"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v[1].as_str().unwrap().parse::<f64>().unwrap())
        .sum();
    assert_eq!((result.len(), counted), (1, 20.0));
    // A panel's table, and an alert.
    let top = encode(r#"topk(3, sum by (namespace) (count_over_time({cluster=~"eu-.*"}[1h])))"#);
    let table = ask(format!("query?direction=backward&query={top}&time={}", now_ns())).await;
    let rows = table["data"]["result"].as_array().unwrap();
    assert_eq!((rows.len(), &rows[0]["value"][1]), (3, &json!("8")));
    // What is not understood is named in plain text, which Grafana shows as it is.
    let odd = encode("{cluster=\"eu-1\"} | line_format `{{.x}}`");
    let refused = client.get(format!("{api}/query_range?query={odd}")).send().await.unwrap();
    assert_eq!(refused.status(), 400);
    assert!(refused.text().await.unwrap().contains("line_format"));
    hub.kill();
}

/// `logcli query`, with batches and in both directions; `labels`, `series`, `stats`, `instant-query`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logcli_asks() {
    let dir = tempfile::tempdir().unwrap();
    let client = reqwest::Client::new();
    let mut hub = Process::start(dir.path()).await;
    // All at different times, so that batches can be told apart by time alone, as logcli does.
    let base = event(0, 1).last_us;
    let at = |i: usize| base - 1_000_000 * i64::try_from(i).unwrap();
    let events: Vec<Event> = (0..50).map(|i| Event { last_us: at(i), ..of("eu-1", i) }).collect();
    post(&client, &hub.url, &events).await.unwrap();
    let api = format!("{}/loki/api/v1", hub.url);
    let (start, end) = (now_ns() - 3_600_000_000_000, now_ns());
    let query = encode(r#"{cluster="eu-1"}"#);
    for direction in ["BACKWARD", "FORWARD"] {
        let (mut from, mut to, mut seen) = (start, end, Vec::new());
        loop {
            let target = format!(
                "{api}/query_range?direction={direction}&end={to}&limit=20&query={query}&start={from}"
            );
            let page = get(&client, &target).await;
            let mut lines: Vec<(i128, String)> = Vec::new();
            for stream in page["data"]["result"].as_array().unwrap() {
                for value in stream["values"].as_array().unwrap() {
                    let text = value[1].as_str().unwrap().to_owned();
                    lines.push((value[0].as_str().unwrap().parse().unwrap(), text));
                }
            }
            let Some(last) = (match direction {
                "FORWARD" => lines.iter().max(),
                _ => lines.iter().min(),
            }) else {
                break;
            };
            // It asks again from the last line's time on, and leaves out what it has.
            match direction {
                "FORWARD" => from = last.0,
                _ => to = last.0 + 1,
            }
            let before = seen.len();
            lines.retain(|l| !seen.contains(l));
            lines.sort();
            if direction == "BACKWARD" {
                lines.reverse();
            }
            seen.extend(lines);
            if seen.len() == before {
                break;
            }
        }
        let mut want: Vec<String> = (0..50).map(line).collect();
        if direction == "FORWARD" {
            want.reverse();
        }
        assert_eq!(seen.into_iter().map(|l| l.1).collect::<Vec<_>>(), want, "{direction}");
    }
    let instant = encode(r#"sum(count_over_time({cluster="eu-1"}[1h]))"#);
    let target = format!("{api}/query?direction=BACKWARD&limit=30&query={instant}&time={end}");
    assert_eq!(get(&client, &target).await["data"]["result"][0]["value"][1], "50");
    let names = get(&client, &format!("{api}/labels?end={end}&start={start}")).await;
    assert!(names["data"].as_array().unwrap().contains(&json!("reason")));
    let values = get(&client, &format!("{api}/label/cluster/values?end={end}&start={start}")).await;
    assert_eq!(values["data"], json!(["eu-1"]));
    let series = get(&client, &format!("{api}/series?end={end}&match={query}&start={start}")).await;
    assert_eq!(series["data"].as_array().unwrap().len(), 5);
    let stats =
        get(&client, &format!("{api}/index/stats?end={end}&query={query}&start={start}")).await;
    assert_eq!(stats["entries"], 50);
    hub.kill();
}
