//! Histograms as text: for people, for test scripts and for the HTTP API.

use std::fmt::{self, Write};

use super::cells::Cells;
use super::{Bucket, CounterResetHint, FloatHistogram};
use crate::float::{format_g, format_json};

impl fmt::Display for Bucket {
    /// `(0.5,1]:3`, with brackets as for intervals.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let open = if self.lower_inclusive { '[' } else { '(' };
        let close = if self.upper_inclusive { ']' } else { ')' };
        let (lower, upper) = (format_g(self.lower), format_g(self.upper));
        write!(f, "{open}{lower},{upper}{close}:{}", format_g(self.count))
    }
}

impl fmt::Display for FloatHistogram {
    /// `{count:3, sum:4.5, (0.5,1]:1, (1,2]:2}`: count, sum and the populated buckets in ascending
    /// order, as Prometheus prints a histogram.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{count:{}, sum:{}", format_g(self.count), format_g(self.sum))?;
        let zero = self.zero_bucket().filter(|b| b.count != 0.0);
        let sides = self.iter_negative_reversed().chain(zero).chain(self.iter_positive());
        for bucket in sides.filter(|b| b.count != 0.0) {
            write!(f, ", {bucket}")?;
        }
        f.write_char('}')
    }
}

impl FloatHistogram {
    /// The histogram as test scripts write it: `{{schema:1 count:3 sum:4.5 buckets:[1 2]}}`. Empty
    /// buckets between populated ones are written as zeros; a run of more than 1000 of them, which
    /// the notation has no means for, as `0xN`.
    #[must_use]
    pub fn to_test_expression(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        if self.schema != 0 {
            parts.push(format!("schema:{}", self.schema));
        }
        let numbers = [
            ("count", self.count),
            ("sum", self.sum),
            ("z_bucket", self.zero_count),
            ("z_bucket_w", self.zero_threshold),
        ];
        for (name, value) in numbers {
            if value != 0.0 {
                parts.push(format!("{name}:{}", format_g(value)));
            }
        }
        if self.has_custom_buckets() {
            let values: Vec<String> = self.custom_values.iter().map(|v| format_g(*v)).collect();
            parts.push(format!("custom_values:[{}]", values.join(" ")));
        }
        match self.counter_reset_hint {
            CounterResetHint::Unknown => {}
            CounterResetHint::Reset => parts.push("counter_reset_hint:reset".to_owned()),
            CounterResetHint::NotReset => parts.push("counter_reset_hint:not_reset".to_owned()),
            CounterResetHint::Gauge => parts.push("counter_reset_hint:gauge".to_owned()),
        }
        push_side(&mut parts, self.positive_cells(), "offset", "buckets");
        push_side(&mut parts, self.negative_cells(), "n_offset", "n_buckets");
        format!("{{{{{}}}}}", parts.join(" "))
    }

    /// Appends the histogram as the HTTP API shows it: an object of `count`, `sum` and, when any is
    /// populated, `buckets`, each `[boundaries, lower, upper, count]`. `boundaries` is 0 where the
    /// upper bound is included, 1 where the lower one is, 2 where none is, 3 where both are.
    /// Numbers are strings.
    pub fn write_json(&self, out: &mut String) {
        out.push_str("{\"count\":");
        push_json_number(out, self.count);
        out.push_str(",\"sum\":");
        push_json_number(out, self.sum);
        let mut any = false;
        for b in self.iter_all().filter(|b| b.count != 0.0) {
            out.push_str(if any { ",[" } else { ",\"buckets\":[[" });
            any = true;
            out.push(match (b.lower_inclusive, b.upper_inclusive) {
                (false, true) => '0',
                (true, false) => '1',
                (false, false) => '2',
                (true, true) => '3',
            });
            for number in [b.lower, b.upper, b.count] {
                out.push(',');
                push_json_number(out, number);
            }
            out.push(']');
        }
        out.push_str(if any { "]}" } else { "}" });
    }
}

fn push_json_number(out: &mut String, v: f64) {
    out.push('"');
    out.push_str(&format_json(v));
    out.push('"');
}

fn push_side(parts: &mut Vec<String>, cells: Cells<'_>, offset_key: &str, key: &str) {
    let mut values: Vec<String> = Vec::new();
    let mut end = None;
    for cell in cells.filter(|c| c.count != 0.0) {
        match end {
            None if cell.index != 0 => parts.push(format!("{offset_key}:{}", cell.index)),
            None => {}
            Some(end) => match cell.index - end {
                0 => {}
                gap if gap <= 1000 => values.extend((0..gap).map(|_| "0".to_owned())),
                gap => values.push(format!("0x{gap}")),
            },
        }
        values.push(format_g(cell.count));
        end = Some(cell.index + 1);
    }
    if !values.is_empty() {
        parts.push(format!("{key}:[{}]", values.join(" ")));
    }
}
