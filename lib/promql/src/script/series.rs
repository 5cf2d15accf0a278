//! A line of a script that is a series: labels, then values.

use std::sync::Arc;

use periplus_model::{FloatHistogram, Labels};

use super::items::{self, Item, repetitions};
use crate::parse::parse_metric;

/// Reads `name{label="value"} items`.
///
/// # Errors
/// What is wrong with the line.
pub(super) fn parse(line: &str) -> Result<(Labels, Vec<Item>), String> {
    let (metric, values) = split(line)?;
    let labels = parse_metric(metric).map_err(|e| format!("series {metric:?}: {e}"))?;
    Ok((labels, items::parse(values)?))
}

/// What a series has at one step: a float, or a histogram beside a float that means nothing; `None`
/// where there is no sample.
pub type StepValue = Option<(f64, Option<Arc<FloatHistogram>>)>;

/// Reads a series as scripts and unit tests of rules write it, `name{label="value"} 1 2+3x4 _ stale`:
/// its labels, and what it has at each step.
///
/// # Errors
/// What is wrong with the line.
pub fn parse_series(line: &str) -> Result<(Labels, Vec<StepValue>), String> {
    let (labels, items) = parse(line)?;
    let values = items.into_iter().map(|item| match item {
        Item::Missing => None,
        Item::Float(v) => Some((v, None)),
        Item::Histogram(h, _) => Some((0.0, Some(h))),
    });
    Ok((labels, values.collect()))
}

/// Start timestamps: the labels, then an offset in milliseconds from each sample's own time, `None`
/// where there is none.
pub(super) type Starts = (Labels, Vec<Option<i64>>);

/// Reads `name{label="value"}@st offsets`; `None` when the line is not one of these.
///
/// # Errors
/// What is wrong with the line.
pub(super) fn parse_starts(line: &str) -> Result<Option<Starts>, String> {
    let Ok((metric, values)) = split(line) else { return Ok(None) };
    let Some(metric) = metric.strip_suffix("@st") else { return Ok(None) };
    let labels = parse_metric(metric).map_err(|e| format!("series {metric:?}: {e}"))?;
    let mut out = Vec::new();
    for word in values.split_whitespace() {
        push_starts(word, &mut out).map_err(|e| format!("start timestamp {word:?}: {e}"))?;
    }
    Ok(Some((labels, out)))
}

/// Cuts a line behind the label set.
fn split(line: &str) -> Result<(&str, &str), String> {
    let line = line.trim();
    let mut end = line.find(|c: char| c.is_whitespace() || c == '{').unwrap_or(line.len());
    let after = line.get(end..).unwrap_or("").trim_start();
    if after.starts_with('{') && !after.starts_with("{{") {
        let open = line.len() - after.len();
        end = open + braces(after).ok_or_else(|| format!("labels are not closed in {line:?}"))?;
        if line.get(end..).is_some_and(|rest| rest.starts_with("@st")) {
            end += 3;
        }
    }
    line.split_at_checked(end).ok_or_else(|| format!("can't read {line:?}"))
}

/// Length of the label set `text` begins with; braces within strings don't count.
fn braces(text: &str) -> Option<usize> {
    let mut quote: Option<char> = None;
    let mut escaped = false;
    for (i, c) in text.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(q) if c == '\\' && q != '`' => escaped = true,
            Some(q) if c == q => quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '\'' | '`') => quote = Some(c),
            None if c == '}' => return Some(i + 1),
            None => {}
        }
    }
    None
}

fn push_starts(word: &str, out: &mut Vec<Option<i64>>) -> Result<(), String> {
    let mut push = |n: usize, mut next: Box<dyn FnMut() -> Option<i64>>| {
        if out.len() + n > items::VALUES_MAX {
            return Err(format!("a series may have at most {} values", items::VALUES_MAX));
        }
        out.extend((0..n).map(|_| next()));
        Ok(())
    };
    if let Some(times) = word.strip_prefix('_') {
        let n = match times.strip_prefix('x') {
            None if times.is_empty() => 1,
            None => return Err("expected _ or _xN".to_owned()),
            Some(n) => repetitions(n)?,
        };
        return push(n, Box::new(|| None));
    }
    let (base, rest) = split_duration(word)?;
    let (step, rest) = if rest.starts_with(['+', '-']) { split_duration(rest)? } else { (0, rest) };
    let n = match rest.strip_prefix('x') {
        Some(n) => repetitions(n)? + 1,
        None if rest.is_empty() && step == 0 => 1,
        None => return Err("expected a duration, d+exN or d-exN".to_owned()),
    };
    let mut next = base;
    let offsets = move || {
        let at = next;
        next = next.saturating_add(step);
        Some(at)
    };
    push(n, Box::new(offsets))
}

/// The duration (with its sign) that `text` begins with, in milliseconds, and the rest.
fn split_duration(text: &str) -> Result<(i64, &str), String> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let digits = unsigned.bytes().take_while(u8::is_ascii_digit).count();
    let unit =
        unsigned.bytes().skip(digits).take_while(|b| b.is_ascii_alphabetic() && *b != b'x').count();
    let (duration, rest) = unsigned.split_at_checked(digits + unit).ok_or("expected a duration")?;
    let ms = periplus_model::duration::parse_duration(duration).map_err(|e| e.to_string())?;
    Ok((if text.starts_with('-') { -ms } else { ms }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_behind_the_labels() {
        let cases = [
            ("foo 1 2", "foo", " 1 2"),
            ("foo{a=\"}\\\"\",b='x'} 1", "foo{a=\"}\\\"\",b='x'}", " 1"),
            ("{} {{count:1}}", "{}", " {{count:1}}"),
            ("foo {{count:1}}", "foo", " {{count:1}}"),
            ("foo {a=\"b\"} 1", "foo {a=\"b\"}", " 1"),
            ("{\"u{tf\"} 1", "{\"u{tf\"}", " 1"),
            ("foo@st 1m", "foo@st", " 1m"),
            ("foo{a=\"b\"}@st 1m", "foo{a=\"b\"}@st", " 1m"),
        ];
        for (line, metric, values) in cases {
            assert_eq!(split(line).unwrap(), (metric, values), "{line}");
        }
        assert!(split("foo{a=\"b\" 1").is_err());
    }

    #[test]
    fn start_timestamps() {
        let check = |text: &str, want: &[Option<i64>]| {
            let mut out = Vec::new();
            for word in text.split_whitespace() {
                push_starts(word, &mut out).unwrap();
            }
            assert_eq!(out, want, "{text}");
        };
        check("_ _x2 -1m", &[None, None, None, Some(-60_000)]);
        check("-30s-1mx2 0", &[Some(-30_000), Some(-90_000), Some(-150_000), Some(0)]);
        check("1msx1 -59999ms", &[Some(1), Some(1), Some(-59_999)]);
        for bad in ["1", "x2", "-1mx", "1m+2m", "_y"] {
            assert!(push_starts(bad, &mut Vec::new()).is_err(), "{bad}");
        }
    }
}
