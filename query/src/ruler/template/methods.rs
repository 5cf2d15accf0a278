//! Methods of times and durations, which `toTime` and `toDuration` give.

use super::clock;
use super::exec::Ty;
use super::functions::Signature;
use super::value::Value;

const NONE: Signature = Signature { fixed: &[], variadic: None };
const TEXT: Signature = Signature { fixed: &[Ty::Text], variadic: None };

/// What the method `name` of a value takes, where there is such a method.
pub(super) fn signature(receiver: &Value, name: &str) -> Option<Signature> {
    match (receiver, name) {
        (Value::Time(_), "Format") => Some(TEXT),
        (
            Value::Time(_),
            "Year" | "Month" | "Day" | "Hour" | "Minute" | "Second" | "Nanosecond" | "Weekday"
            | "YearDay" | "Unix" | "UnixMilli" | "UnixNano" | "String" | "UTC" | "IsZero",
        )
        | (
            Value::Duration(_),
            "Hours" | "Minutes" | "Seconds" | "Milliseconds" | "Microseconds" | "Nanoseconds"
            | "String" | "Abs",
        ) => Some(NONE),
        (Value::Histogram(_), "String") => Some(NONE),
        _ => None,
    }
}

/// Calls a method that [`signature`] knows, with arguments that fit.
///
/// # Errors
/// There is no such method.
pub(super) fn call(receiver: &Value, name: &str, args: &[Value]) -> Result<Value, String> {
    let found = match receiver {
        Value::Time(ns) => time(*ns, name, args),
        Value::Duration(ns) => duration(*ns, name),
        Value::Histogram(h) => Some(Value::text(h.to_string())),
        _ => None,
    };
    found.ok_or_else(|| format!("no method {name}"))
}

fn time(ns: i128, name: &str, args: &[Value]) -> Option<Value> {
    match name {
        "Format" => match args.first() {
            Some(Value::Text(layout)) => Some(Value::text(clock::format(ns, layout))),
            _ => None,
        },
        "String" => Some(Value::text(clock::print(ns))),
        "UTC" => Some(Value::Time(ns)),
        // The zero time of Go is the first of January of the year 1.
        "IsZero" => Some(Value::Bool(ns == -62_135_596_800_000_000_000)),
        _ => clock::number(ns, name)
            .map(Value::Int)
            .or_else(|| clock::name(ns, name).map(Value::text)),
    }
}

fn duration(ns: i64, name: &str) -> Option<Value> {
    let whole = |unit: i64| Some(Value::Int(ns / unit));
    // Whole units and the rest apart, as Go adds them: the last digit depends on it.
    let parts = |unit: i64| {
        let fraction = (ns % unit) as f64 / unit as f64;
        Some(Value::Float((ns / unit) as f64 + fraction))
    };
    match name {
        "Hours" => parts(3_600_000_000_000),
        "Minutes" => parts(60_000_000_000),
        "Seconds" => parts(1_000_000_000),
        "Milliseconds" => whole(1_000_000),
        "Microseconds" => whole(1_000),
        "Nanoseconds" => whole(1),
        "Abs" => Some(Value::Duration(ns.saturating_abs())),
        "String" => Some(Value::text(clock::duration(ns))),
        _ => None,
    }
}
