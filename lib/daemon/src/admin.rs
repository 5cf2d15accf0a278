//! The admin listener: `/metrics`, `/-/healthy`, `/-/ready`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use parking_lot::{Mutex, RwLock};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What the admin listener shows. Clones are the same value.
#[derive(Clone, Debug)]
pub struct Admin {
    registry: Arc<Mutex<Registry>>,
    unready: Arc<RwLock<BTreeMap<&'static str, String>>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: String,
    revision: String,
    component: String,
}

impl Admin {
    /// A registry with the build's identity in it: `periplus_build_info`.
    #[must_use]
    pub fn new(component: &str, version: &str, revision: &str) -> Self {
        let mut registry = Registry::default();
        let build: Family<BuildLabels, Gauge> = Family::default();
        build
            .get_or_create(&BuildLabels {
                version: version.to_owned(),
                revision: revision.to_owned(),
                component: component.to_owned(),
            })
            .set(1);
        registry.register("periplus_build_info", "What runs here; the value is always 1", build);
        Self { registry: Arc::new(Mutex::new(registry)), unready: Arc::default() }
    }

    /// Registers metrics.
    pub fn register(&self, with: impl FnOnce(&mut Registry)) {
        with(&mut self.registry.lock());
    }

    /// Says why `part` is not ready, or with `None` that it is. The process is ready when every part is.
    pub fn set_unready(&self, part: &'static str, reason: Option<String>) {
        let mut unready = self.unready.write();
        match reason {
            Some(reason) => unready.insert(part, reason),
            None => unready.remove(part),
        };
    }

    /// Whether every part is ready; the reasons where not.
    ///
    /// # Errors
    /// `part: reason`, one a line.
    pub fn ready(&self) -> Result<(), String> {
        let unready = self.unready.read();
        if unready.is_empty() {
            return Ok(());
        }
        Err(unready.iter().map(|(part, why)| format!("{part}: {why}\n")).collect())
    }

    /// All metrics in the OpenMetrics text format.
    #[must_use]
    pub fn metrics_text(&self) -> String {
        let mut out = String::new();
        // Writing to a string fails only when a metric's own encoder does: what is there is still true.
        if let Err(error) =
            prometheus_client::encoding::text::encode(&mut out, &self.registry.lock())
        {
            tracing::error!(%error, "encoding metrics");
        }
        out
    }

    /// The routes, to be served alone or beside others.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/metrics", get(metrics))
            .route("/-/healthy", get(async || "healthy\n"))
            .route("/-/ready", get(ready))
            .with_state(self.clone())
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], admin.metrics_text()).into_response()
}

async fn ready(State(admin): State<Admin>) -> Response {
    match admin.ready() {
        Ok(()) => "ready\n".into_response(),
        Err(reasons) => (StatusCode::SERVICE_UNAVAILABLE, reasons).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_names_the_parts() {
        let admin = Admin::new("test", "1", "abc");
        assert_eq!(admin.ready(), Ok(()));
        admin.set_unready("prometheus", Some("connection refused".into()));
        assert_eq!(admin.ready(), Err("prometheus: connection refused\n".into()));
        admin.set_unready("prometheus", None);
        assert_eq!(admin.ready(), Ok(()));
        let text = admin.metrics_text();
        assert!(text.contains("periplus_build_info{version=\"1\""), "{text}");
    }
}
