//! Logs and traces.
//!
//! Logs go to standard error, as text for people or as JSON, one line an event. Traces go to an OTLP
//! endpoint (gRPC) when one is given; their context travels between processes in W3C `traceparent`
//! metadata ([`inject`], [`adopt`]).

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector};
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tonic::metadata::{MetadataKey, MetadataMap, MetadataValue};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines.
    Json,
}

/// Settings of logs and traces.
#[derive(Args, Clone, Debug)]
pub struct TelemetryArgs {
    /// What is logged: error, warn, info, debug, trace, or a filter such as info,periplus_query=debug
    #[arg(long, default_value = "info", value_name = "LEVEL")]
    pub log_level: String,
    /// How log lines look
    #[arg(long, value_enum, default_value_t)]
    pub log_format: LogFormat,
    /// OTLP endpoint (gRPC) that traces are sent to, such as <http://127.0.0.1:4317>; without it none are
    #[arg(long, value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// Share of traces begun here that is kept, 0 to 1
    #[arg(long, default_value_t = 1.0, value_name = "RATIO")]
    pub otlp_sample_ratio: f64,
}

impl Default for TelemetryArgs {
    fn default() -> Self {
        Self {
            log_level: "info".into(),
            log_format: LogFormat::Text,
            otlp_endpoint: None,
            otlp_sample_ratio: 1.0,
        }
    }
}

/// Settings that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is none.
    #[error("--log-level {value:?}: {reason}; write error, warn, info, debug or trace")]
    Level {
        /// As given.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The endpoint is none.
    #[error("--otlp-endpoint {value:?}: {reason}")]
    Endpoint {
        /// As given.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Something else in the process logs already.
    #[error("logging is set up already: {0}")]
    Twice(String),
}

/// Holds the exporter; spans not yet sent go out when it is shut down.
#[derive(Debug)]
#[must_use = "traces stop when this is dropped"]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Sends what is left of the traces; blocks for a few seconds at most.
    pub fn shutdown(self) {
        if let Some(provider) = self.provider
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "sending the last traces");
        }
    }
}

/// Turns on logs and, where an endpoint is given, traces. To be called once, within the async runtime.
///
/// # Errors
/// A level or an endpoint that is none, or a process that logs already.
pub fn init(args: &TelemetryArgs, component: &str) -> Result<Telemetry, TelemetryError> {
    let filter = EnvFilter::try_new(&args.log_level).map_err(|e| TelemetryError::Level {
        value: args.log_level.clone(),
        reason: e.to_string(),
    })?;
    let logs = match args.log_format {
        LogFormat::Text => tracing_subscriber::fmt::layer()
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr)
            .boxed(),
        LogFormat::Json => tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_writer(std::io::stderr)
            .boxed(),
    };
    let provider =
        args.otlp_endpoint.as_deref().map(|e| exporter(e, args, component)).transpose()?;
    let traces =
        provider.as_ref().map(|p| tracing_opentelemetry::layer().with_tracer(p.tracer("periplus")));
    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    tracing_subscriber::registry()
        .with(filter)
        .with(traces)
        .with(logs)
        .try_init()
        .map_err(|e| TelemetryError::Twice(e.to_string()))?;
    Ok(Telemetry { provider })
}

fn exporter(
    endpoint: &str,
    args: &TelemetryArgs,
    component: &str,
) -> Result<SdkTracerProvider, TelemetryError> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .map_err(|e| TelemetryError::Endpoint { value: endpoint.into(), reason: e.to_string() })?;
    let ratio = args.otlp_sample_ratio.clamp(0.0, 1.0);
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio)));
    let resource = Resource::builder().with_service_name(format!("periplus-{component}")).build();
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(sampler)
        .with_resource(resource)
        .build())
}

struct In<'a>(&'a mut MetadataMap);

impl Injector for In<'_> {
    fn set(&mut self, key: &str, value: String) {
        let key = MetadataKey::from_bytes(key.as_bytes());
        if let (Ok(key), Ok(value)) = (key, MetadataValue::try_from(value)) {
            self.0.insert(key, value);
        }
    }
}

struct Out<'a>(&'a MetadataMap);

impl Extractor for Out<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|v| v.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        Vec::new()
    }
}

/// Puts the current span's context into a request's metadata.
pub fn inject(metadata: &mut MetadataMap) {
    let context = Span::current().context();
    opentelemetry::global::get_text_map_propagator(|p| {
        p.inject_context(&context, &mut In(metadata))
    });
}

/// Makes `span` a child of the context a request came with, where it came with one.
pub fn adopt(span: &Span, metadata: &MetadataMap) {
    let context: Context =
        opentelemetry::global::get_text_map_propagator(|p| p.extract(&Out(metadata)));
    // Without a traces layer there is nothing to attach to.
    let _ = span.set_parent(context);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_levels_are_refused() {
        let args = TelemetryArgs { log_level: "a=b=c".into(), ..TelemetryArgs::default() };
        let error = init(&args, "test").unwrap_err().to_string();
        assert!(error.contains("--log-level"), "{error}");
    }
}
