//! Finding Alertmanagers: written down, in files, in DNS.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::Notifier;
use super::config::{AlertingConfig, Alertmanagers, Client, client, post_url};
use crate::endpoints::discover::{file_targets, resolve};

type Found = Vec<(String, Arc<Client>)>;

/// Those that are written down.
pub(super) fn fixed(config: &AlertingConfig) -> Found {
    let mut out = Vec::new();
    for a in &config.alertmanagers {
        let Some(client) = client(a) else { continue };
        let all = a.static_configs.iter().flat_map(|s| &s.targets);
        out.extend(all.map(|t| (post_url(a, t), Arc::clone(&client))));
    }
    out
}

/// Looks again and again, until the process ends. Where a name or file gives an error, what it gave
/// before still counts.
pub(super) async fn follow(notifier: Notifier) {
    let end = notifier.0.drain.token();
    let config = notifier.0.config.alerting.clone();
    let moving = |a: &Alertmanagers| !a.file_sd_configs.is_empty() || !a.dns_sd_configs.is_empty();
    if !config.alertmanagers.iter().any(moving) {
        return;
    }
    let clients: Vec<Option<Arc<Client>>> = config.alertmanagers.iter().map(client).collect();
    let mut known: Vec<BTreeSet<String>> = vec![BTreeSet::new(); config.alertmanagers.len()];
    loop {
        let mut all = fixed(&config);
        for ((a, client), known) in config.alertmanagers.iter().zip(&clients).zip(&mut known) {
            match targets(a).await {
                Ok(found) => *known = found,
                Err(error) => tracing::warn!(error, "looking for Alertmanagers"),
            }
            if let Some(client) = client {
                all.extend(known.iter().map(|t| (post_url(a, t), Arc::clone(client))));
            }
        }
        notifier.use_targets(all);
        tokio::select! {
            () = tokio::time::sleep(notifier.0.config.refresh) => {}
            () = end.cancelled() => return,
        }
    }
}

async fn targets(a: &Alertmanagers) -> Result<BTreeSet<String>, String> {
    let mut out = BTreeSet::new();
    let files: Vec<PathBuf> = a.file_sd_configs.iter().flat_map(|f| f.files.clone()).collect();
    for f in files {
        let read = tokio::task::spawn_blocking(move || file_targets(&f)).await;
        out.extend(read.map_err(|e| e.to_string())??);
    }
    for d in &a.dns_sd_configs {
        for name in &d.names {
            let question = match d.kind.as_deref() {
                Some("A" | "AAAA") => format!("dns+{name}:{}", d.port),
                _ => format!("dnssrv+{name}"),
            };
            out.extend(resolve(&question).await?);
        }
    }
    Ok(out)
}
