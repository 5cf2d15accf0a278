//! Keeps a follower at work beside a watched Prometheus.

use std::sync::Arc;
use std::time::Duration;

use periplus_promql::source::SourceError;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::{Follower, HotConfig, HotSource, HotStatus};
use crate::external::External;
use crate::metrics::Metrics;
use crate::prometheus::{Snapshot, Watch, exposition};

/// How often the log is read on when nobody asks.
const CATCH_UP: Duration = Duration::from_secs(1);

/// How long Prometheus may take to tell where its head begins.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);

/// The hot window of one Prometheus.
pub(crate) struct Keeper {
    follower: Arc<Follower>,
}

impl std::fmt::Debug for Keeper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keeper").field("status", &self.follower.status()).finish()
    }
}

impl Keeper {
    pub(crate) fn new(config: HotConfig) -> Self {
        Self { follower: Follower::new(config) }
    }

    /// A source over the window, where it can be trusted with what is known of the Prometheus.
    pub(crate) fn source(&self, snapshot: &Snapshot, external: &External) -> Option<HotSource> {
        let ready = matches!(self.follower.status(), HotStatus::Ready { .. });
        // Samples out of order take another way into the storage than the log's order tells.
        let trusted = ready && snapshot.problem.is_none() && !snapshot.out_of_order;
        trusted.then(|| {
            let follower = Arc::clone(&self.follower);
            HotSource::new(follower, external.all.clone(), &external.dropped())
        })
    }

    /// Reads the log as it grows, until `end`.
    pub(crate) async fn run(
        self: Arc<Self>,
        watch: Arc<Watch>,
        metrics: Metrics,
        end: CancellationToken,
    ) {
        let mut before = HotStatus::Loading;
        loop {
            tokio::select! {
                () = tokio::time::sleep(CATCH_UP) => {}
                () = end.cancelled() => return,
            }
            let well = watch.current().problem.is_none();
            let (me, watch, runtime) = (Arc::clone(&self), Arc::clone(&watch), Handle::current());
            let work = tokio::task::spawn_blocking(move || me.step(well, &watch, &runtime));
            let _ = work.await;
            let status = self.follower.status();
            if std::mem::discriminant(&status) != std::mem::discriminant(&before) {
                tracing::info!(?status, "hot window");
            }
            metrics.hot(&status);
            before = status;
        }
    }

    fn step(&self, well: bool, watch: &Watch, runtime: &Handle) -> Result<(), SourceError> {
        if !self.follower.wants_load() {
            return self.follower.catch_up();
        }
        if !well {
            return Ok(());
        }
        self.follower.load(|| {
            let text = runtime.block_on(watch.client().metrics(ASK_TIMEOUT));
            let figures = exposition::read(&text.map_err(|e| e.to_string())?);
            figures
                .head_min_ms
                .ok_or_else(|| "Prometheus has no samples in its head yet".to_owned())
        })
    }
}
