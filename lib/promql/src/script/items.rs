//! The values of a series as a script writes them: `1 2+3x4 _x2 stale {{count:1}}x3`.

use std::sync::Arc;

use periplus_model::{FloatHistogram, stale_nan};

use super::literal;

/// The most values one series may have.
pub(super) const VALUES_MAX: usize = 1_000_000;

/// The most bytes that one item may expand to in histograms that differ.
const STEPPED_BYTES_MAX: usize = 256 << 20;

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Item {
    /// `_`: no sample at this time.
    Missing,
    /// A float.
    Float(f64),
    /// A histogram, and whether the script names a counter reset hint (which is then compared).
    Histogram(Arc<FloatHistogram>, bool),
}

/// Reads all values.
///
/// # Errors
/// What can't be read, and why.
pub(super) fn parse(text: &str) -> Result<Vec<Item>, String> {
    let mut out = Vec::new();
    for word in words(text)? {
        let wrong = |why: String| format!("value {word:?}: {why}");
        parse_word(word, &mut out).map_err(wrong)?;
    }
    Ok(out)
}

/// Cuts at spaces, except within histograms.
fn words(text: &str) -> Result<Vec<&str>, String> {
    let mut out = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let mut end = 0;
        loop {
            let tail = rest.get(end..).unwrap_or("");
            if let Some(inner) = tail.strip_prefix("{{") {
                let Some(close) = inner.find("}}") else {
                    return Err(format!("the histogram {tail:?} is not closed by \"}}}}\""));
                };
                end += 2 + close + 2;
                continue;
            }
            match tail.chars().next() {
                Some(c) if !c.is_whitespace() => end += c.len_utf8(),
                _ => break,
            }
        }
        let (word, tail) = rest.split_at(end);
        out.push(word);
        rest = tail.trim_start();
    }
    Ok(out)
}

fn parse_word(word: &str, out: &mut Vec<Item>) -> Result<(), String> {
    if let Some(times) = word.strip_prefix('_') {
        let n = match times.strip_prefix('x') {
            None if times.is_empty() => 1,
            None => return Err("expected _ or _xN".to_owned()),
            Some(n) => repetitions(n)?,
        };
        return push_all(out, n, || Item::Missing);
    }
    if word.starts_with("{{") {
        return histograms(word, out);
    }
    if word == "stale" {
        out.push(Item::Float(stale_nan()));
        return Ok(());
    }
    let (value, rest) = split_number(word)?;
    let (step, rest) = if rest.starts_with(['+', '-']) { split_number(rest)? } else { (0.0, rest) };
    let n = match rest.strip_prefix('x') {
        Some(n) => repetitions(n)? + 1,
        None if rest.is_empty() && step == 0.0 => 1,
        None => return Err("expected a number, a+bxN or a-bxN".to_owned()),
    };
    let mut next = value;
    push_all(out, n, || {
        let v = next;
        next += step;
        Item::Float(v)
    })
}

fn histograms(word: &str, out: &mut Vec<Item>) -> Result<(), String> {
    let (first, rest) = literal::split(word)?;
    let repeated = rest.strip_prefix('x').map(repetitions).transpose()?;
    if rest.is_empty() || repeated.is_some() {
        let one = Item::Histogram(Arc::new(first.histogram), first.hint_set);
        return push_all(out, repeated.map_or(1, |n| n + 1), || one.clone());
    }
    let (subtract, rest) = match (rest.strip_prefix('+'), rest.strip_prefix('-')) {
        (Some(rest), _) => (false, rest),
        (_, Some(rest)) => (true, rest),
        _ => return Err("expected xN, +{{…}}xN or -{{…}}xN after a histogram".to_owned()),
    };
    let (step, rest) = literal::split(rest)?;
    let n = rest.strip_prefix('x').ok_or("expected xN after a histogram's step")?;
    let n = repetitions(n)?;
    let each = first.histogram.bytes() + step.histogram.bytes();
    if n.saturating_mul(each) > STEPPED_BYTES_MAX {
        return Err(format!("{n} histograms of {each} bytes are over {STEPPED_BYTES_MAX} bytes"));
    }
    let mut current = first.histogram;
    let item = |h: &FloatHistogram| Item::Histogram(Arc::new(h.clone()), step.hint_set);
    push_all(out, 1, || item(&current))?;
    for _ in 0..n {
        if current.schema > step.histogram.schema {
            return Err(format!(
                "the step has schema {}, coarser than the histogram's {}",
                step.histogram.schema, current.schema
            ));
        }
        let done =
            if subtract { current.sub(&step.histogram) } else { current.add(&step.histogram) };
        done.map_err(|e| e.to_string())?;
        push_all(out, 1, || item(&current))?;
    }
    Ok(())
}

fn push_all(out: &mut Vec<Item>, n: usize, mut item: impl FnMut() -> Item) -> Result<(), String> {
    if out.len().saturating_add(n) > VALUES_MAX {
        return Err(format!("a series may have at most {VALUES_MAX} values"));
    }
    out.extend((0..n).map(|_| item()));
    Ok(())
}

/// A count of repetitions.
pub(super) fn repetitions(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(n) if n < VALUES_MAX => Ok(n),
        Ok(n) => Err(format!("{n} repetitions, at most {VALUES_MAX} are possible")),
        Err(_) => Err(format!("{text:?} is not a number of repetitions")),
    }
}

/// The number (with its sign) that `text` begins with, and the rest.
fn split_number(text: &str) -> Result<(f64, &str), String> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let sign = text.len() - unsigned.len();
    let lower = unsigned.to_ascii_lowercase();
    let length = if lower.starts_with("inf") || lower.starts_with("nan") {
        3
    } else {
        number_length(unsigned.as_bytes())
    };
    let (number, rest) = text
        .split_at_checked(sign + length)
        .filter(|_| length > 0)
        .ok_or_else(|| format!("{text:?} does not begin with a number"))?;
    let value = periplus_model::float::parse_go_float(number)
        .map_err(|e| format!("{number:?} is not a number: {e}"))?;
    Ok((value, rest))
}

/// Length of the decimal number `bytes` begin with: digits, a point, an exponent.
fn number_length(bytes: &[u8]) -> usize {
    let digits = |from: usize| {
        bytes.iter().skip(from).take_while(|b| b.is_ascii_digit() || **b == b'_').count()
    };
    let mut at = digits(0);
    if bytes.get(at) == Some(&b'.') {
        at += 1 + digits(at + 1);
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(at + 1), Some(b'+' | b'-')));
        let exponent = digits(at + 1 + sign);
        if exponent > 0 {
            at += 1 + sign + exponent;
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, want: &[f64]) {
        let got: Vec<f64> = parse(text)
            .unwrap()
            .into_iter()
            .map(|i| match i {
                Item::Missing => -0.125,
                Item::Float(v) => v,
                Item::Histogram(h, _) => h.count,
            })
            .collect();
        let bits = |v: &[f64]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&got), bits(want), "{text}: {got:?}");
    }

    #[test]
    fn floats() {
        check("1 -2  +3.5", &[1.0, -2.0, 3.5]);
        check("1x2 0+1x3 5-2x1", &[1.0, 1.0, 1.0, 0.0, 1.0, 2.0, 3.0, 5.0, 3.0]);
        check("_ _x2 1", &[-0.125, -0.125, -0.125, 1.0]);
        check("1e2+1e1x1 -1-1x1", &[100.0, 110.0, -1.0, -2.0]);
        check("Inf -Inf NaN stale", &[f64::INFINITY, f64::NEG_INFINITY, f64::NAN, stale_nan()]);
        check("1_000 .5x1", &[1000.0, 0.5, 0.5]);
    }

    #[test]
    fn histograms_in_steps() {
        check("{{count:3}} {{count:2}}x1", &[3.0, 2.0, 2.0]);
        check("{{count:3 buckets:[3]}}+{{count:2 buckets:[1 1]}}x2", &[3.0, 5.0, 7.0]);
        check("{{count:3}}-{{count:2}}x1 1", &[3.0, 1.0, 1.0]);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "x",
            "1x",
            "1+2",
            "1+x3",
            "_x",
            "_y",
            "1x99999999",
            "{{count:1",
            "{{count:1}}y",
            "{{count:1}}+3x2",
            "{{schema:1}}+{{schema:0}}x2",
            "0x1A",
            "{{count:1}}+{{count:1}}",
            "{{count:1 buckets:[1 2 3]}}+{{count:1}}x999999",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
