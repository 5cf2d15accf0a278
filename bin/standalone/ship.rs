//! What standalone does for history: each Prometheus's blocks to one bucket, Parquet from them, and the
//! query layer told where that is.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use periplus_bucket::blocks::Silent;
use periplus_compactor::config::Config;
use periplus_compactor::metrics::Metrics;
use periplus_compactor::plan::Policy;
use periplus_compactor::service::Compactor;
use periplus_daemon::admin::Admin;
use periplus_daemon::drain::Drain;
use periplus_query::history::HistoryArgs;
use periplus_sidecar::ship::ShipArgs;

/// How often new blocks are looked for: the bucket is near, and of few.
const INTERVAL: Duration = Duration::from_secs(15);

/// Where shipped blocks go in a process with this data directory; `history` is told of it where it names
/// no bucket.
pub(super) fn destination(data: &Path, history: &mut HistoryArgs) -> anyhow::Result<ShipArgs> {
    if history.bucket.is_none() && history.objstore_config_file.is_none() {
        let directory = std::path::absolute(data.join("bucket"))
            .with_context(|| format!("--data {}", data.display()))?;
        let url = url::Url::from_directory_path(&directory)
            .map_err(|()| anyhow::anyhow!("{} is no directory's path", directory.display()))?;
        history.bucket = Some(url.to_string());
    }
    Ok(ShipArgs {
        bucket: history.bucket.clone(),
        objstore_config_file: history.objstore_config_file.clone(),
        ship_interval: INTERVAL,
        ..ShipArgs::defaults()
    })
}

/// Makes history of what is shipped, as `periplus compactor` does.
pub(super) fn compact(
    to: &ShipArgs,
    data: &Path,
    replica_labels: &[String],
    admin: &Admin,
    drain: &Drain,
) -> anyhow::Result<()> {
    let Some(bucket) = to.open()? else { bail!("no bucket to make history in") };
    let metrics = Metrics::default();
    admin.register(|registry| {
        metrics.register(registry);
        bucket.register(registry);
    });
    let policy = Policy { replica_labels: replica_labels.to_vec(), ..Policy::default() };
    let work_dir = Some(data.join("compactor"));
    let config = Config { policy, work_dir, interval: INTERVAL, ..Config::default() };
    let compactor = Compactor::new(bucket, config, metrics, Box::new(Silent))?;
    drain.spawn_essential("compaction", compactor.run(drain.token()));
    Ok(())
}
