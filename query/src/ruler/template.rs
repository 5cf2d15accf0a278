//! Templates in labels and annotations: the part of Go's `text/template` that Prometheus's users
//! have, with all of Prometheus's functions.
//!
//! A text is cut into tokens (`lex`), read into a tree (`parse`, `node`) and carried out (`exec`)
//! over a few types of values (`value`, `methods`) with Prometheus's functions (`functions`,
//! `humanize`, `clock`) and Go's (`builtin`, `printf`). Results and error texts are those of
//! Prometheus to the byte, which tests hold against `promtool`.
//!
//! Nothing a template says can hurt the process: its length, nesting, steps, time and output are
//! bounded. Known differences: complex numbers and `call` do not exist; `sortByLabel` leaves the
//! vector it was given as it was; the addresses that Go prints for a vector of samples are replaced
//! by the samples.

mod builtin;
mod clock;
mod exec;
mod functions;
mod humanize;
mod lex;
mod methods;
mod node;
mod parse;
mod printf;
mod value;

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use periplus_model::Labels;
use periplus_model::float::Quoted;

use super::{Sample, SampleValue};

pub(super) use clock::{days_before, duration as go_duration};
pub(crate) use functions::link;

/// The longest template accepted, in bytes.
pub const TEMPLATE_BYTES_MAX: usize = 64 * 1024;
/// How deep actions and parentheses may stand in each other.
const NESTING_MAX: usize = 60;
/// The longest text a template may give, in bytes.
pub const OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// How long a template may take.
pub const TIME_MAX: Duration = Duration::from_secs(10);

/// What Prometheus puts before every template, so that `$labels` and its like exist.
const DEFINITIONS: &str = "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}\
                           {{$externalURL := .ExternalURL}}{{$value := .Value}}";

/// A template that was read.
#[derive(Clone, Debug)]
pub struct Template {
    name: String,
    text: String,
    set: parse::Set,
    plain: Option<String>,
}

/// What templates are expanded with.
pub struct Data<'a> {
    /// The labels of the series.
    pub labels: &'a Labels,
    /// The external labels of this process.
    pub external_labels: &'a Labels,
    /// Where people find this process.
    pub external_url: &'a str,
    /// The value of the series.
    pub value: SampleValue,
    /// The time of evaluation, Unix milliseconds.
    pub now_ms: i64,
    /// Answers `query`.
    pub query: &'a (dyn Fn(&str) -> Result<Vec<Sample>, String> + 'a),
    /// When the template has to be done.
    pub deadline: Instant,
    /// The longest text it may give, in bytes.
    pub output_bytes_max: usize,
}

impl Template {
    /// Reads a template of the alert `alert`.
    ///
    /// # Errors
    /// Go's words for what is wrong with it.
    pub fn parse(alert: &str, text: &str) -> Result<Self, String> {
        let name = format!("__alert_{alert}");
        if text.len() > TEMPLATE_BYTES_MAX {
            let most = TEMPLATE_BYTES_MAX;
            return Err(format!("template: {name}: it is longer than {most} bytes"));
        }
        let plain = (!text.contains("{{")).then(|| text.to_owned());
        let full = format!("{DEFINITIONS}{text}");
        let set = parse::parse(&name, &full)?;
        Ok(Self { name, text: full, set, plain })
    }

    /// Whether expanding it may ask a query.
    #[must_use]
    pub fn asks(&self) -> bool {
        self.plain.is_none() && self.text.contains("query")
    }

    /// Carries it out.
    ///
    /// # Errors
    /// Go's words for what went wrong.
    pub fn expand(&self, data: &Data<'_>) -> Result<String, String> {
        if let Some(plain) = &self.plain {
            return Ok(plain.clone());
        }
        exec::run(&self.name, &self.text, &self.set, data)
            .map_err(|e| format!("error executing template {}: {e}", self.name))
    }
}

/// A time as JSON has it: UTC, milliseconds where there are any.
pub(super) fn rfc3339(ms: i64) -> String {
    clock::format(i128::from(ms) * 1_000_000, "2006-01-02T15:04:05.999Z")
}

/// Go's `%q`.
fn quoted(text: &str) -> String {
    Quoted(text).to_string()
}
