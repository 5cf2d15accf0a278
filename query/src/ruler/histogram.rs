//! Native histograms out of the JSON of Prometheus's API, which shows bounds instead of a schema.

use periplus_model::FloatHistogram;
use periplus_model::float::parse_go_float;
use serde_json::Value;

/// What templates can have of a histogram that came as JSON: count and sum. The buckets' schema is not
/// in that form, so that such a histogram is never recorded (`Evaluator::keeps_histograms`).
///
/// # Errors
/// It is no histogram.
pub(super) fn read(json: &Value) -> Result<FloatHistogram, String> {
    let number = |field: &str| {
        let text = json.get(field).and_then(Value::as_str).ok_or(format!("no {field}"))?;
        parse_go_float(text).map_err(|e| e.to_string())
    };
    Ok(FloatHistogram { count: number("count")?, sum: number("sum")?, ..FloatHistogram::default() })
}
