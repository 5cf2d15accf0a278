//! What a sidecar serves: Thanos's Store, Query and Info, our own Fleet service, and what Prometheus tells of
//! itself (`tell`: rules, targets, metadata, exemplars, heads).

mod fleet;
mod info;
mod labels;
mod query;
mod series;
mod status;
mod tell;

use std::sync::Arc;

use periplus_promql::engine::Engine;
use tokio::sync::Semaphore;

use crate::config::Config;
use crate::hot::Keeper;
use crate::metrics::Metrics;
use crate::prometheus::Watch;

pub use fleet::FleetService;
pub use info::InfoService;
pub use query::QueryService;
pub use series::StoreService;
pub use tell::TellService;

/// What all services of one sidecar share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) watch: Arc<Watch>,
    pub(crate) metrics: Metrics,
    pub(crate) engine: Arc<Engine>,
    pub(crate) hot: Option<Arc<Keeper>>,
    /// One place for each request that is evaluated or streamed.
    pub(crate) places: Arc<Semaphore>,
}
