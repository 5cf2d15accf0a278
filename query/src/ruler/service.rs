//! Rules as a service: settings in, running groups, notifier and head out.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, FromArgMatches as _, ValueEnum};
use periplus_bucket::{Bucket, Location, OpenOptions};
use periplus_daemon::admin::Admin;
use periplus_daemon::config::duration;
use periplus_daemon::drain::Drain;
use periplus_model::Labels;
use tokio::sync::Semaphore;

use super::blocks::{Blocks, BlocksError};
use super::evaluate::{Evaluator, Sink};
use super::file::{FileDefaults, RuleError};
use super::group::Env;
use super::head::Head;
use super::manager::{Manager, ManagerConfig};
use super::metrics::Metrics;
use super::notify::{AlertingConfig, Notifier, NotifyConfig, NotifyError, Relabel};
use super::remote::{Forward, RemoteError};
use super::rule::Strategy;
use super::serve::Services;
use super::state::Restore;

/// Rules can't begin.
#[derive(Debug, thiserror::Error)]
pub enum RulerError {
    /// Rule files are wrong.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Rules(Vec<RuleError>),
    /// Alertmanagers can't be told.
    #[error(transparent)]
    Notify(#[from] NotifyError),
    /// Samples can't be sent on.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// Blocks can't be kept.
    #[error(transparent)]
    Blocks(#[from] BlocksError),
    /// A setting makes no sense.
    #[error("{0}")]
    Setting(String),
}

/// What a partial answer means where a group does not say it.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum PartialResponse {
    /// It fails the evaluation: alerts stay as they were
    #[default]
    Abort,
    /// It counts; alerts of missing clusters stay as they were
    Warn,
}

impl From<PartialResponse> for Strategy {
    fn from(p: PartialResponse) -> Self {
        match p {
            PartialResponse::Abort => Self::Abort,
            PartialResponse::Warn => Self::Warn,
        }
    }
}

/// Settings; each is a flag, an environment variable and a field of the file.
#[derive(Args, Clone, Debug)]
pub struct RulesConfig {
    /// Rule file in Prometheus's form, or a pattern for such files; watched; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub rules: Vec<PathBuf>,
    /// Time between evaluations of groups that name no interval
    #[arg(long, default_value = "1m", value_parser = duration, value_name = "DURATION")]
    pub evaluation_interval: Duration,
    /// How far behind the clock groups look that name no query_offset
    #[arg(long, default_value = "0s", value_parser = duration, value_name = "DURATION")]
    pub rule_query_offset: Duration,
    /// What an answer without some cluster means to groups without partial_response_strategy
    #[arg(long, value_enum, default_value = "abort")]
    pub partial_response: PartialResponse,
    /// The longest one evaluation may take
    #[arg(long, default_value = "30s", value_parser = duration, value_name = "DURATION")]
    pub rule_timeout: Duration,
    /// Rules evaluated at once
    #[arg(long, default_value_t = 8, value_name = "N")]
    pub max_concurrent_rules: usize,
    /// Alertmanager: http://host:port, dns+http://host:port or dnssrv+http://name; may be repeated
    #[arg(long, value_name = "URL")]
    pub alertmanager: Vec<String>,
    /// YAML file with the alerting section of a Prometheus configuration
    #[arg(long, value_name = "FILE")]
    pub alertmanager_config: Option<PathBuf>,
    /// Alerts that wait for one Alertmanager at most; the oldest leave
    #[arg(long, default_value_t = 10_000, value_name = "N")]
    pub alertmanager_queue: usize,
    /// How often names and files of Alertmanagers are looked at
    #[arg(long, default_value = "30s", value_parser = duration, value_name = "DURATION")]
    pub alertmanager_refresh: Duration,
    /// Label of this ruler, on its series and alerts; may be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = label)]
    pub rule_label: Vec<(String, String)>,
    /// Label that alerts lose before they are sent: what tells rulers of a pair apart; may be repeated
    #[arg(long, value_name = "NAME")]
    pub alert_drop_label: Vec<String>,
    /// Where people find this process, for links in alerts
    #[arg(long, default_value = "", value_name = "URL")]
    pub external_url: String,
    /// How long an alert that goes on firing is not sent again
    #[arg(long, default_value = "1m", value_parser = duration, value_name = "DURATION")]
    pub resend_delay: Duration,
    /// State from before a longer outage is not taken over
    #[arg(long, default_value = "1h", value_parser = duration, value_name = "DURATION")]
    pub for_outage_tolerance: Duration,
    /// The least time between a restart and the firing of an alert that was pending before
    #[arg(long, default_value = "10m", value_parser = duration, value_name = "DURATION")]
    pub for_grace_period: Duration,
    /// Series that rules may have in memory
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    pub max_recorded_series: usize,
    /// Bucket for blocks of what rules give: <s3://BUCKET/PREFIX>, gs://, az://, file:///DIR; needs --data
    #[arg(long, value_name = "URL")]
    pub rule_bucket: Option<String>,
    /// Address that takes remote write, to which what rules give is sent too: http://prometheus:9090/api/v1/write; may be repeated
    #[arg(long, value_name = "URL")]
    pub rule_remote_write: Vec<String>,
    /// How long samples of rules are kept in memory
    #[arg(long, default_value = "26h", value_parser = duration, value_name = "DURATION")]
    pub rule_retention: Duration,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((n, v)) if !n.is_empty() && n != periplus_model::METRIC_NAME => {
            Ok((n.to_owned(), v.trim_matches('"').to_owned()))
        }
        _ => Err("write it as name=value".to_owned()),
    }
}

fn ms(d: Duration) -> i64 {
    i64::try_from(d.as_millis()).unwrap_or(i64::MAX)
}

impl RulesConfig {
    /// What holds when nothing is set.
    ///
    /// # Panics
    /// Never: a test holds that the defaults parse.
    #[must_use]
    #[expect(clippy::expect_used, reason = "the defaults are constants, and tested")]
    pub fn defaults() -> Self {
        let command = Self::augment_args(clap::Command::new("rules"));
        let matches = command.try_get_matches_from(["rules"]).expect("defaults are valid");
        Self::from_arg_matches(&matches).expect("defaults are valid")
    }
}

/// Rules at work.
#[derive(Clone, Debug)]
pub struct Ruler {
    /// The groups.
    pub manager: Manager,
    /// Who tells Alertmanagers.
    pub notifier: Notifier,
    /// The series rules gave.
    pub head: Arc<Head>,
    /// What query processes are served.
    pub services: Services,
}

/// Loads the rules and begins to evaluate them. State is kept in `data`, where one is named.
///
/// # Errors
/// What keeps rules from beginning, with the file or flag to change.
pub async fn start(
    config: &RulesConfig,
    evaluator: Arc<dyn Evaluator>,
    data: Option<PathBuf>,
    tells_rules: bool,
    (admin, drain): (&Admin, &Drain),
) -> Result<Ruler, RulerError> {
    if config.rules.is_empty() {
        let text = "--rules: name at least one rule file, or a pattern for them";
        return Err(RulerError::Setting(text.to_owned()));
    }
    if let Some(dir) = &data {
        std::fs::create_dir_all(dir)
            .map_err(|e| RulerError::Setting(format!("--data {}: {e}", dir.display())))?;
    }
    let metrics = Metrics::default();
    admin.register(|r| metrics.register(r));
    let external = Labels::from_pairs(config.rule_label.iter().map(|(n, v)| (n, v)));
    let external_url: Arc<str> = config.external_url.trim_end_matches('/').into();
    let notify = NotifyConfig {
        alerting: alerting(config)?,
        external_labels: external.clone(),
        external_url: Arc::clone(&external_url),
        queue: config.alertmanager_queue,
        refresh: config.alertmanager_refresh,
    };
    let notifier = Notifier::start(notify, metrics.clone(), drain);
    let head = Arc::new(Head::new(config.max_recorded_series, metrics.head_series.clone()));
    if let Some(dir) = &data {
        let keep = ms(config.rule_retention);
        let (head, external, bucket) = (Arc::clone(&head), external.clone(), bucket(config)?);
        let dir = dir.clone();
        let opened =
            tokio::task::spawn_blocking(move || Blocks::open(&dir, head, external, bucket, keep));
        let blocks = opened.await.map_err(|e| RulerError::Setting(e.to_string()))??;
        drain.spawn("rules: blocks", blocks.run(drain.token()));
    } else if config.rule_bucket.is_some() {
        let text = "--rule-bucket: name a directory with --data, where blocks are written first";
        return Err(RulerError::Setting(text.to_owned()));
    }
    let strategy = Strategy::from(config.partial_response);
    let sink: Arc<dyn Sink> = match config.rule_remote_write.as_slice() {
        [] => Arc::<Head>::clone(&head),
        urls => Arc::new(Forward::start(Arc::clone(&head), urls, &external, &metrics, drain)?),
    };
    let env = Env {
        evaluator,
        sink,
        notify: Arc::new(notifier.clone()),
        external_labels: external.clone(),
        external_url,
        resend_delay_ms: ms(config.resend_delay),
        query_offset_ms: ms(config.rule_query_offset),
        strategy,
        places: Arc::new(Semaphore::new(config.max_concurrent_rules.max(1))),
    };
    let manager = Manager::new(
        ManagerConfig {
            files: config.rules.clone(),
            defaults: FileDefaults { interval_ms: ms(config.evaluation_interval).max(1) },
            data,
            restore: Restore {
                outage_tolerance_ms: ms(config.for_outage_tolerance),
                for_grace_period_ms: ms(config.for_grace_period),
            },
        },
        env,
        metrics,
        drain,
    );
    let groups = manager.load().await.map_err(RulerError::Rules)?;
    tracing::info!(groups, "rules are loaded");
    drain.spawn("rules: keep", manager.clone().keep());
    drain.spawn(
        "rules: forget",
        forget(Arc::clone(&head), ms(config.rule_retention), drain.token()),
    );
    let services = Services {
        head: Arc::clone(&head),
        manager: manager.clone(),
        external,
        strategy,
        tells_rules,
    };
    Ok(Ruler { manager, notifier, head, services })
}

fn bucket(config: &RulesConfig) -> Result<Option<Bucket>, RulerError> {
    let Some(url) = &config.rule_bucket else { return Ok(None) };
    let open = |url: &str| Bucket::open(&Location::parse(url)?, &OpenOptions::default());
    open(url).map(Some).map_err(|e| RulerError::Setting(format!("--rule-bucket: {e}")))
}

fn alerting(config: &RulesConfig) -> Result<AlertingConfig, NotifyError> {
    let mut alerting = match &config.alertmanager_config {
        Some(file) => AlertingConfig::read(file)?,
        None => AlertingConfig::default(),
    };
    for url in &config.alertmanager {
        alerting.add_url(url)?;
    }
    for name in &config.alert_drop_label {
        alerting.alert_relabel_configs.insert(0, Relabel::drop_label(name));
    }
    Ok(alerting)
}

/// Lets old samples leave the head, now and then.
async fn forget(head: Arc<Head>, keep_ms: i64, end: tokio_util::sync::CancellationToken) {
    let mut every = tokio::time::interval(Duration::from_secs(60));
    loop {
        tokio::select! {
            _ = every.tick() => head.truncate(super::now_ms() - keep_ms),
            () = end.cancelled() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid() {
        let c = RulesConfig::defaults();
        assert_eq!(c.evaluation_interval, Duration::from_secs(60));
    }
}
