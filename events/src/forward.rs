//! From the spool to the hub: batches, acknowledged, again and again until they are.
//!
//! A batch is taken from the spool and stays there until the hub says that it is on the hub's disk. Whatever goes
//! wrong before is met by sending it again; the hub merges what it has already. Only what the hub will never take is
//! given up, event by event, and is counted and shown as a gap.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use reqwest::StatusCode;
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::event::Event;
use crate::spool::{Pending, Spool};
use crate::watch::backoff::Backoff;
use crate::watch::enrich::Enricher;
use crate::watch::metrics::{ByReason, Reason};
use crate::watch::run::Shared;
use crate::wire::{self, Ack, Batch, Encoding};

/// The longest answer read, in bytes.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// How batches are sent.
#[derive(Clone, Debug)]
pub struct ForwardConfig {
    /// The hubs, tried in turn: the next one when one fails.
    pub hubs: Vec<Url>,
    /// Who sends, for the hub's logs.
    pub sender: String,
    /// Most rows in a batch.
    pub batch_events: usize,
    /// Most bytes of rows in a batch, in memory.
    pub batch_bytes: usize,
    /// How long a request may take.
    pub timeout: Duration,
    /// How long rows are gathered before they are sent.
    pub linger: Duration,
    /// Shortest and longest delay after failures.
    pub backoff: (Duration, Duration),
    /// Where the bearer token is read from, before every batch: tokens rotate.
    pub token_file: Option<std::path::PathBuf>,
}

impl Default for ForwardConfig {
    fn default() -> Self {
        Self {
            hubs: Vec::new(),
            sender: String::new(),
            batch_events: 1000,
            batch_bytes: 2 << 20,
            timeout: Duration::from_secs(30),
            linger: Duration::from_millis(20),
            backoff: (Duration::from_millis(200), Duration::from_secs(30)),
            token_file: None,
        }
    }
}

/// The forwarder's metrics. Clones are the same values.
#[derive(Clone, Debug, Default)]
pub struct ForwardMetrics {
    /// Rows that the hub acknowledged.
    pub acknowledged: Counter,
    /// Batches that the hub acknowledged.
    pub batches: Counter,
    /// Requests that failed, by reason.
    pub failures: ByReason,
    /// Bytes sent in acknowledged batches, compressed.
    pub bytes: Counter,
    /// Whether the last request was acknowledged: 1 or 0.
    pub connected: Gauge,
}

impl ForwardMetrics {
    /// Adds them to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let r = registry.sub_registry_with_prefix("periplus_events_forward");
        r.register("acknowledged", "Rows that the hub acknowledged", self.acknowledged.clone());
        r.register("batches", "Batches that the hub acknowledged", self.batches.clone());
        r.register("failures", "Batches not acknowledged, by reason", self.failures.clone());
        r.register("bytes", "Bytes of acknowledged batches, compressed", self.bytes.clone());
        r.register("connected", "Whether the hub took the last batch", self.connected.clone());
    }
}

/// Why a batch was not acknowledged.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("sending to the hub {hub}: {reason}")]
    Transport { hub: String, reason: String },
    #[error("the hub {hub} answers {status}: {text}")]
    Refused { hub: String, status: StatusCode, text: String, retry_after: Option<Duration> },
    #[error("the hub {hub} acknowledges something else than was sent")]
    Acknowledgement { hub: String },
    #[error("reading --hub-token-file {path}: {source}", path = path.display())]
    Token { path: std::path::PathBuf, source: std::io::Error },
    #[error("the spool: {0}")]
    Spool(#[from] std::io::Error),
}

impl SendError {
    const fn reason(&self) -> &'static str {
        match self {
            Self::Transport { .. } => "unreachable",
            Self::Refused { .. } => "refused",
            Self::Acknowledgement { .. } => "acknowledgement",
            Self::Token { .. } => "token",
            Self::Spool(_) => "spool",
        }
    }

    /// Whether the hub would take less at once.
    fn is_too_large(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::PAYLOAD_TOO_LARGE, .. })
    }

    /// Whether the hub can't read it, and never will.
    fn is_bad(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                status: StatusCode::BAD_REQUEST
                    | StatusCode::UNSUPPORTED_MEDIA_TYPE
                    | StatusCode::UNPROCESSABLE_ENTITY,
                ..
            }
        )
    }
}

/// Sends what the spool holds.
#[derive(Debug)]
pub struct Forwarder {
    config: ForwardConfig,
    http: reqwest::Client,
    spool: Arc<Spool>,
    metrics: ForwardMetrics,
    watcher: Option<Arc<Shared>>,
    enricher: Option<Arc<Enricher>>,
    hub: usize,
    sequence: u64,
    /// How many rows the hub takes at once, as far as it has shown.
    events_max: usize,
}

impl Forwarder {
    /// A forwarder that has not begun. `http` brings TLS. When rows were lost from the spool, `watcher` is asked to
    /// list once more after the hub is back: what still exists comes again.
    #[must_use]
    pub fn new(
        config: ForwardConfig,
        http: reqwest::Client,
        spool: Arc<Spool>,
        metrics: ForwardMetrics,
        watcher: Option<Arc<Shared>>,
    ) -> Self {
        let events_max = config.batch_events.max(1);
        // Sequences go on growing over restarts without being kept.
        let sequence = u64::try_from(crate::watch::now_us()).unwrap_or(0);
        Self { config, http, spool, metrics, watcher, enricher: None, hub: 0, sequence, events_max }
    }

    /// Has rows completed on the way.
    #[must_use]
    pub fn enriched_by(mut self, enricher: Option<Arc<Enricher>>) -> Self {
        self.enricher = enricher;
        self
    }

    /// Sends until it is asked to end; then once more what is left, if the hub takes it at once.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut backoff = Backoff::new(self.config.backoff.0, self.config.backoff.1);
        while !cancel.is_cancelled() {
            match cancel.run_until_cancelled(self.send_some()).await {
                None => break,
                Some(Ok(true)) => backoff.reset(),
                Some(Ok(false)) => {
                    let spool = Arc::clone(&self.spool);
                    let waited = cancel.run_until_cancelled(async {
                        // Now and then without a sign, so that old rows go in time.
                        let minute = Duration::from_secs(60);
                        let _woken = tokio::time::timeout(minute, spool.appended.notified()).await;
                        tokio::time::sleep(self.config.linger).await;
                    });
                    let _ended = waited.await;
                }
                Some(Err(error)) => {
                    self.metrics.connected.set(0);
                    self.metrics.failures.get_or_create(&Reason { reason: error.reason() }).inc();
                    let asked = match &error {
                        SendError::Refused { retry_after, .. } => *retry_after,
                        _ => None,
                    };
                    self.hub += 1;
                    let delay = backoff.next(asked);
                    tracing::warn!(%error, ?delay, waiting = self.spool.len(), "forwarding events");
                    let _ended = cancel.run_until_cancelled(tokio::time::sleep(delay)).await;
                }
            }
        }
        let last = tokio::time::timeout(Duration::from_secs(5), async {
            while matches!(self.send_some().await, Ok(true)) {}
        });
        if last.await.is_err() {
            tracing::info!(waiting = self.spool.len(), "leaving rows for the next start");
        }
    }

    /// Sends one batch, if there is something; gives whether there was.
    async fn send_some(&mut self) -> Result<bool, SendError> {
        let (spool, events_max, bytes_max) =
            (Arc::clone(&self.spool), self.events_max, self.config.batch_bytes);
        let pending = tokio::task::spawn_blocking(move || spool.read(events_max, bytes_max));
        let mut pending = pending.await.map_err(std::io::Error::other)??;
        if pending.events.is_empty() && pending.gaps.is_empty() {
            return Ok(false);
        }
        let mut events = std::mem::take(&mut pending.events);
        if let Some(enricher) = &self.enricher {
            enricher.fill(&mut events).await;
        }
        self.send_halving(events, &pending).await?;
        self.metrics.acknowledged.inc_by(pending.rows);
        let spool = Arc::clone(&self.spool);
        let kept = tokio::task::spawn_blocking(move || {
            spool.acknowledge(&pending).map(|()| spool.take_lost())
        });
        if kept.await.map_err(std::io::Error::other)??
            && let Some(watcher) = &self.watcher
        {
            tracing::info!("the hub is back after rows were lost: listing all events once more");
            watcher.relist();
        }
        Ok(true)
    }

    /// Sends rows; in halves where the hub refuses them together. A single row that it refuses is given up.
    async fn send_halving(
        &mut self,
        events: Vec<Event>,
        pending: &Pending,
    ) -> Result<(), SendError> {
        let mut parts = vec![events];
        while let Some(part) = parts.pop() {
            let mut batch = self.batch(part, pending);
            match self.post(&batch).await {
                Ok(ack) => self.acknowledged(&batch, &ack),
                Err(error) if error.is_too_large() || error.is_bad() => {
                    let mut part = std::mem::take(&mut batch.events);
                    if error.is_too_large() {
                        self.events_max = (part.len() / 2).max(1);
                    }
                    match part.len() {
                        0 => return Err(error),
                        1 => {
                            tracing::warn!(%error, "the hub will not take an event");
                            self.spool.refused("refused", &part.iter().collect::<Vec<_>>());
                        }
                        n => {
                            let second = part.split_off(n / 2);
                            parts.push(second);
                            parts.push(part);
                        }
                    }
                }
                Err(error) => return Err(error),
            }
        }
        self.events_max = (self.events_max + self.events_max / 8 + 1).min(self.config.batch_events);
        Ok(())
    }

    fn batch(&mut self, events: Vec<Event>, pending: &Pending) -> Batch {
        self.sequence += 1;
        Batch {
            version: wire::VERSION,
            sender: self.config.sender.clone(),
            sequence: self.sequence,
            events,
            gaps: pending.gaps.clone(),
        }
    }

    fn acknowledged(&self, batch: &Batch, ack: &Ack) {
        self.metrics.batches.inc();
        self.metrics.connected.set(1);
        if ack.refused.is_empty() {
            return;
        }
        for refused in ack.refused.iter().take(3) {
            tracing::warn!(reason = refused.reason, "the hub will not take an event");
        }
        let lost: Vec<&Event> =
            ack.refused.iter().filter_map(|r| batch.events.get(r.index)).collect();
        self.spool.refused("refused", &lost);
    }

    async fn post(&self, batch: &Batch) -> Result<Ack, SendError> {
        let index = self.hub % self.config.hubs.len().max(1);
        let Some(base) = self.config.hubs.get(index) else {
            let reason = "no hub is configured; give --hub".to_owned();
            return Err(SendError::Transport { hub: String::new(), reason });
        };
        let hub = base.host_str().unwrap_or_default().to_owned();
        let body = batch.encode(Encoding::Zstd)?;
        let bytes = body.len() as u64;
        let transport = |e: reqwest::Error| {
            let mut reason = e.without_url().to_string();
            crate::event::clean_name(&mut reason, 512);
            SendError::Transport { hub: hub.clone(), reason }
        };
        let target = format!("{}{}", base.as_str().trim_end_matches('/'), wire::PATH);
        let mut request = self
            .http
            .post(target)
            .timeout(self.config.timeout)
            .header(reqwest::header::CONTENT_TYPE, wire::CONTENT_TYPE)
            .header(reqwest::header::CONTENT_ENCODING, Encoding::Zstd.as_str())
            .body(body);
        if let Some(path) = &self.config.token_file {
            let token = std::fs::read_to_string(path)
                .map_err(|source| SendError::Token { path: path.clone(), source })?;
            request = request.bearer_auth(token.trim());
        }
        let answer = request.send().await.map_err(transport)?;
        let status = answer.status();
        let retry_after = answer
            .headers()
            .get(reqwest::header::RETRY_AFTER)
            .and_then(|v| v.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let text = self.answer(answer).await.map_err(transport)?;
        if !status.is_success() {
            let mut text = String::from_utf8_lossy(&text).into_owned();
            crate::event::clean_name(&mut text, 512);
            return Err(SendError::Refused { hub, status, text, retry_after });
        }
        let ack: Ack = serde_json::from_slice(&text)
            .map_err(|_| SendError::Acknowledgement { hub: hub.clone() })?;
        if ack.sequence != batch.sequence {
            return Err(SendError::Acknowledgement { hub });
        }
        self.metrics.bytes.inc_by(bytes);
        Ok(ack)
    }

    async fn answer(&self, mut answer: reqwest::Response) -> Result<Vec<u8>, reqwest::Error> {
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
                break;
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}
