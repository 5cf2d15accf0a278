//! Where alerts go.

use std::collections::BTreeSet;
use std::sync::Arc;

use periplus_promql::engine::QueryError;
use periplus_proto::fleet::about_client::AboutClient;
use periplus_proto::fleet::{Alertmanager, AlertmanagersRequest, LabelSet};

use super::Own;
use super::ask::everyone;
use crate::fanout::Question;

/// Alertmanagers in use, and those that were dropped.
#[derive(Clone, Debug, Default)]
pub struct Alertmanagers {
    /// Alerts are sent to these.
    pub active: Vec<Alertmanager>,
    /// Found, and dropped by relabelling.
    pub dropped: Vec<Alertmanager>,
}

impl Alertmanagers {
    /// The addresses of a list, each once.
    #[must_use]
    pub fn urls(list: &[Alertmanager]) -> BTreeSet<&str> {
        list.iter().map(|a| a.url.as_str()).collect()
    }
}

/// The Alertmanagers of all clusters and of this process.
///
/// # Errors
/// With a strict question somebody is missing.
pub async fn alertmanagers(q: &Arc<Question>, own: &Own) -> Result<Alertmanagers, QueryError> {
    let strict = q.strict;
    let found = everyone(q, None, |_, channel| {
        let q = Arc::clone(q);
        async move {
            let mut client = AboutClient::new(channel);
            let answer = client.alertmanagers(AlertmanagersRequest { strict }).await?.into_inner();
            answer.warnings.iter().for_each(|w| q.notes.warn(w.clone()));
            Ok((answer.active, answer.dropped))
        }
    })
    .await?;
    let mut all = Alertmanagers::default();
    if let Some(own) = own.get() {
        let (active, dropped) = own.alertmanagers();
        let one = |url: String| Alertmanager { url, source: Some(LabelSet::default()) };
        all.active.extend(active.into_iter().map(one));
        all.dropped.extend(dropped.into_iter().map(one));
    }
    for (_, (active, dropped)) in found {
        all.active.extend(active);
        all.dropped.extend(dropped);
    }
    Ok(all)
}
