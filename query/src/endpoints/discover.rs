//! Where endpoint addresses come from: written down, in files, in DNS.
//!
//! An address is `host:port`, or `dns+host:port` (all addresses of the host), or `dnssrv+name` (hosts and
//! ports of the SRV records), as Thanos writes them. The same forms may stand in files.

mod dns;
mod file;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use super::registry::RegistryConfig;

/// One source of addresses.
#[derive(Debug)]
pub(super) struct Source {
    name: String,
    what: What,
}

#[derive(Debug)]
enum What {
    /// Never changes.
    Fixed(BTreeSet<String>),
    /// One name to resolve.
    Name(String),
    Files(PathBuf),
}

pub(super) fn sources(config: &RegistryConfig) -> Vec<Source> {
    let (names, fixed): (Vec<&String>, Vec<&String>) =
        config.addresses.iter().partition(|a| is_name(a));
    let mut out = Vec::new();
    if !fixed.is_empty() {
        let fixed = fixed.into_iter().cloned().collect();
        out.push(Source { name: "flags".to_owned(), what: What::Fixed(fixed) });
    }
    out.extend(names.into_iter().map(|n| Source { name: n.clone(), what: What::Name(n.clone()) }));
    out.extend(
        config
            .files
            .iter()
            .map(|f| Source { name: f.display().to_string(), what: What::Files(f.clone()) }),
    );
    out
}

fn is_name(address: &str) -> bool {
    address.starts_with("dns+") || address.starts_with("dnssrv+")
}

impl Source {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Files are looked at more often than names: a look costs nothing, and somebody waits.
    pub(super) fn interval(&self, refresh: Duration) -> Duration {
        match &self.what {
            What::Fixed(_) => Duration::from_secs(86_400),
            What::Name(_) => refresh,
            What::Files(_) => refresh.min(Duration::from_secs(2)),
        }
    }

    pub(super) async fn find(&self) -> Result<BTreeSet<String>, String> {
        match &self.what {
            What::Fixed(all) => Ok(all.clone()),
            What::Name(name) => resolve(name).await,
            What::Files(pattern) => {
                let pattern = pattern.clone();
                let read = tokio::task::spawn_blocking(move || file::addresses(&pattern)).await;
                let written = read.map_err(|e| e.to_string())??;
                let mut all = BTreeSet::new();
                for address in written {
                    match is_name(&address) {
                        true => all.extend(resolve(&address).await?),
                        false => _ = all.insert(address),
                    }
                }
                Ok(all)
            }
        }
    }
}

/// The targets in the files that `pattern` names, in Prometheus's `file_sd` form.
pub(crate) fn file_targets(pattern: &std::path::Path) -> Result<BTreeSet<String>, String> {
    file::addresses(pattern)
}

/// The addresses behind `dns+host:port` or `dnssrv+name`.
pub(crate) async fn resolve(name: &str) -> Result<BTreeSet<String>, String> {
    if let Some(host) = name.strip_prefix("dns+") {
        let found = tokio::net::lookup_host(host).await.map_err(|e| format!("{host}: {e}"))?;
        return Ok(found.map(|a| a.to_string()).collect());
    }
    let host = name.strip_prefix("dnssrv+").unwrap_or(name);
    dns::srv(host).await.map_err(|e| format!("{host}: {e}"))
}
