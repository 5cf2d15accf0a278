//! What rules give, sent on by remote write as it comes: for those who want recorded series in a Prometheus,
//! or in anything that takes its protocol, too.
//!
//! A [`Forward`] stands before the [`Head`]: what that took goes into a queue for each receiver, and a task a
//! queue sends it in order, again and again while the receiver is away. The queue is bounded: when it is full
//! the oldest samples leave, and are counted. It is in memory: what waits when the process is killed is not
//! sent (it is in the blocks that are kept with `--data`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use periplus_daemon::drain::Drain;
use periplus_model::Labels;
use periplus_proto::convert::{labels_to_prometheus, prometheus_histogram_to_wire};
use periplus_proto::prometheus::{Sample, TimeSeries, WriteRequest};
use prost::Message as _;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::evaluate::{Point, Refused, SampleValue, Sink};
use super::head::Head;
use super::metrics::{Metrics, RemoteMetrics};

/// Samples in one request.
const BATCH: usize = 2_000;
/// Samples that wait for one receiver.
const WAITING_MAX: usize = 1_000_000;
/// The longest a request may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The shortest and the longest wait after a failure.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));
/// How much of an answer is shown in the log.
const ANSWER_SHOWN: usize = 200;

/// A receiver that makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("--rule-remote-write {url}: {reason}; write http://host:port/api/v1/write")]
pub struct RemoteError {
    /// The address, without what may be secret.
    url: String,
    reason: String,
}

/// Stores in the head, and sends on what it took.
#[derive(Debug)]
pub struct Forward {
    head: Arc<Head>,
    queues: Vec<Arc<Queue>>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<(VecDeque<Point>, u64)>,
    arrived: Notify,
}

impl Queue {
    fn push(&self, points: impl Iterator<Item = Point>) {
        let mut w = self.waiting.lock();
        w.0.extend(points);
        let over = w.0.len().saturating_sub(WAITING_MAX);
        w.0.drain(..over);
        w.1 += over as u64;
        drop(w);
        self.arrived.notify_one();
    }

    /// The oldest samples, how many are left behind them, and how many were lost since this was last asked.
    fn take(&self) -> (Vec<Point>, usize, u64) {
        let mut w = self.waiting.lock();
        let n = w.0.len().min(BATCH);
        let batch = w.0.drain(..n).collect();
        (batch, w.0.len(), std::mem::take(&mut w.1))
    }

    /// What could not be sent comes back to the front.
    fn give_back(&self, batch: Vec<Point>) {
        let mut w = self.waiting.lock();
        for p in batch.into_iter().rev() {
            if w.0.len() >= WAITING_MAX {
                w.1 += 1;
            } else {
                w.0.push_front(p);
            }
        }
    }
}

/// One receiver.
struct Receiver {
    url: url::Url,
    /// The address without what may be secret.
    shown: String,
    credentials: Option<(String, String)>,
    http: reqwest::Client,
    external: Labels,
    metrics: RemoteMetrics,
}

impl Forward {
    /// A sink before `head` that sends to all of `urls`, on tasks of `drain`. `external` labels are on all that is
    /// sent where a series does not have them.
    ///
    /// # Errors
    /// An address makes no sense.
    pub fn start(
        head: Arc<Head>,
        urls: &[String],
        external: &Labels,
        metrics: &Metrics,
        drain: &Drain,
    ) -> Result<Self, RemoteError> {
        let mut queues = Vec::with_capacity(urls.len());
        for text in urls {
            let receiver = Receiver::new(text, external, metrics)?;
            let queue = Arc::<Queue>::default();
            let name = format!("remote write to {}", receiver.shown);
            drain.spawn(name, receiver.empty(Arc::clone(&queue), drain.token()));
            queues.push(queue);
        }
        Ok(Self { head, queues })
    }
}

impl Sink for Forward {
    fn append(&self, points: &[Point]) -> Vec<Result<(), Refused>> {
        let results = self.head.append(points);
        for q in &self.queues {
            let taken = points.iter().zip(&results).filter(|(_, r)| r.is_ok());
            q.push(taken.map(|(p, _)| p.clone()));
        }
        results
    }
}

/// Whether another try can help.
enum Failure {
    Passing(String),
    Lasting(String),
}

impl Receiver {
    fn new(text: &str, external: &Labels, metrics: &Metrics) -> Result<Self, RemoteError> {
        let hidden = text.rsplit_once('@').map_or(text, |(_, host)| host).to_owned();
        let fail = |reason: String| RemoteError { url: hidden.clone(), reason };
        let mut url = url::Url::parse(text).map_err(|e| fail(e.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(fail("it is no http address".to_owned()));
        }
        let password = url.password().unwrap_or_default().to_owned();
        let credentials = match url.username() {
            "" => None,
            user => Some((user.to_owned(), password)),
        };
        // Neither fails for an address with a host.
        let _ = (url.set_username(""), url.set_password(None));
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            // Credentials go to whom they were given for, and to nobody else.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|e| fail(e.to_string()))?;
        let shown = url.to_string();
        let metrics = metrics.remote(&shown);
        Ok(Self { url, shown, credentials, http, external: external.clone(), metrics })
    }

    /// Sends what is in the queue until told to stop; what is there then is sent once more, without another try.
    async fn empty(self, queue: Arc<Queue>, stop: CancellationToken) {
        let (mut wait, mut failing) = (BACK_OFF.0, false);
        loop {
            let last = stop.is_cancelled();
            let (batch, left, lost) = queue.take();
            self.metrics.waiting(left + batch.len());
            self.metrics.dropped(lost);
            if batch.is_empty() {
                if last {
                    return;
                }
                tokio::select! {
                    () = queue.arrived.notified() => {}
                    () = stop.cancelled() => {}
                }
                continue;
            }
            match self.post(&batch).await {
                Ok(()) => {
                    self.metrics.sent(batch.len() as u64);
                    if std::mem::take(&mut failing) {
                        tracing::info!(receiver = self.shown, "it takes samples of rules again");
                    }
                    wait = BACK_OFF.0;
                }
                Err(Failure::Lasting(error)) => {
                    self.metrics.failed();
                    self.metrics.dropped(batch.len() as u64);
                    tracing::error!(receiver = self.shown, error, "samples of rules are refused");
                }
                Err(Failure::Passing(error)) => {
                    self.metrics.failed();
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(receiver = self.shown, error, "samples of rules wait");
                    }
                    if last {
                        return;
                    }
                    queue.give_back(batch);
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = stop.cancelled() => {}
                    }
                    wait = (wait * 2).min(BACK_OFF.1);
                }
            }
        }
    }

    async fn post(&self, batch: &[Point]) -> Result<(), Failure> {
        let timeseries = batch.iter().map(|p| self.series(p)).collect();
        let plain = WriteRequest { timeseries }.encode_to_vec();
        let body = snap::raw::Encoder::new()
            .compress_vec(&plain)
            .map_err(|e| Failure::Lasting(e.to_string()))?;
        let mut request = self.http.post(self.url.clone()).body(body);
        for (name, value) in [
            ("content-type", "application/x-protobuf"),
            ("content-encoding", "snappy"),
            ("x-prometheus-remote-write-version", "0.1.0"),
        ] {
            request = request.header(name, value);
        }
        if let Some((user, password)) = &self.credentials {
            request = request.basic_auth(user, Some(password));
        }
        let passing = |e: reqwest::Error| Failure::Passing(e.without_url().to_string());
        let mut answer = request.send().await.map_err(passing)?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let mut text = Vec::new();
        while text.len() < ANSWER_SHOWN {
            match answer.chunk().await {
                Ok(Some(part)) => text.extend_from_slice(&part),
                _ => break,
            }
        }
        text.truncate(ANSWER_SHOWN);
        let error = format!("{status}: {}", String::from_utf8_lossy(&text).trim());
        // What the receiver will never take is not tried again, so that what comes after it is not held up.
        let lasting =
            status.is_client_error() && !matches!(status.as_u16(), 401 | 403 | 404 | 408 | 429);
        Err(if lasting { Failure::Lasting(error) } else { Failure::Passing(error) })
    }

    fn series(&self, (labels, t, value): &Point) -> TimeSeries {
        let mut b = labels.to_builder();
        for (n, v) in &self.external {
            if labels.get(n).is_none() {
                b.set(n, v);
            }
        }
        let mut out =
            TimeSeries { labels: labels_to_prometheus(&b.build()), ..TimeSeries::default() };
        match value {
            SampleValue::Float(v) => out.samples.push(Sample { value: *v, timestamp: *t }),
            SampleValue::Histogram(h) => out.histograms.push(prometheus_histogram_to_wire(h, *t)),
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Bytes;
    use axum::extract::State;
    use axum::http::{HeaderMap, StatusCode};
    use axum::routing::post;
    use prometheus_client::metrics::gauge::Gauge;

    use super::*;

    type Heard = Arc<Mutex<(Vec<TimeSeries>, u32)>>;

    /// Takes samples from the third request on.
    async fn hear(State(heard): State<Heard>, headers: HeaderMap, body: Bytes) -> StatusCode {
        let mut heard = heard.lock();
        heard.1 += 1;
        if heard.1 < 3 {
            return StatusCode::SERVICE_UNAVAILABLE;
        }
        assert!(headers.contains_key("authorization"));
        let plain = snap::raw::Decoder::new().decompress_vec(&body).expect("snappy");
        let request = WriteRequest::decode(plain.as_slice()).expect("a request");
        heard.0.extend(request.timeseries);
        StatusCode::NO_CONTENT
    }

    fn point(name: &str, t: i64, v: f64) -> Point {
        (Labels::from_pairs([("__name__", name)]), t, SampleValue::Float(v))
    }

    #[tokio::test]
    async fn what_the_head_takes_is_sent_until_it_is_taken() {
        periplus_daemon::tls::install_provider();
        let heard = Heard::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let app = Router::new().route("/w", post(hear)).with_state(Arc::clone(&heard));
        tokio::spawn(async move { axum::serve(listener, app).await });
        let (head, drain) = (Arc::new(Head::new(9, Gauge::default())), Drain::new());
        let external = Labels::from_pairs([("ruler", "x")]);
        let urls = [format!("http://user:canary@{address}/w")];
        let sink = Forward::start(head, &urls, &external, &Metrics::default(), &drain);
        let sink = sink.expect("an address");
        sink.append(&[point("a", 5, 1.0), point("a", 5, 2.0), point("b", 6, f64::INFINITY)]);
        for _ in 0..600 {
            if heard.lock().0.len() >= 2 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let all = heard.lock().0.clone();
        let samples: Vec<(i64, f64)> =
            all.iter().flat_map(|s| s.samples.iter().map(|s| (s.timestamp, s.value))).collect();
        // The second value of one time was not taken by the head, so nobody else hears of it.
        assert_eq!(samples, [(5, 1.0), (6, f64::INFINITY)]);
        assert!(all.iter().all(|s| s.labels.iter().any(|l| l.name == "ruler")));
        drain.begin();
        assert!(drain.wait(Duration::from_secs(20)).await.is_empty());
    }

    #[test]
    fn addresses_are_checked_and_secrets_not_shown() {
        let new = |url: &str| Receiver::new(url, &Labels::empty(), &Metrics::default());
        periplus_daemon::tls::install_provider();
        let error = new("ftp://u:canary@h/").err().expect("an error").to_string();
        assert!(error.contains("--rule-remote-write") && !error.contains("canary"), "{error}");
        assert!(new("nonsense").is_err());
        let r = new("https://u:canary@h:1/w").expect("an address");
        assert_eq!(r.shown, "https://h:1/w");
        assert!(r.credentials.is_some());
    }

    #[test]
    fn the_oldest_leave_a_full_queue() {
        let q = Queue::default();
        q.push((0..WAITING_MAX as i64 + 3).map(|t| point("a", t, 0.0)));
        let (batch, left, lost) = q.take();
        assert_eq!((batch.len(), left, lost), (BATCH, WAITING_MAX - BATCH, 3));
        assert_eq!(batch.first().map(|p| p.1), Some(3));
        q.give_back(batch);
        assert_eq!(q.take().0.first().map(|p| p.1), Some(3));
    }
}
