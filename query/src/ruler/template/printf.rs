//! Go's `fmt` for the values templates have.

use periplus_model::float::{format_e, format_float, format_g};

use super::quoted;
use super::value::Value;

/// Padding accepted, in characters; Go's own limit.
const WIDTH_MAX: usize = 1_000_000;

/// `fmt.Sprint`: a space between two operands of which neither is a text.
pub(super) fn print(all: &[Value]) -> String {
    let mut out = String::new();
    let is_text = |v: &Value| matches!(v, Value::Text(_) | Value::Html(_));
    for (i, v) in all.iter().enumerate() {
        if let Some(before) = i.checked_sub(1).and_then(|i| all.get(i))
            && !is_text(before)
            && !is_text(v)
        {
            out.push(' ');
        }
        out.push_str(&operand(v));
    }
    out
}

/// `fmt.Sprintln`.
pub(super) fn println(all: &[Value]) -> String {
    let all: Vec<String> = all.iter().map(operand).collect();
    all.join(" ") + "\n"
}

/// A value as an argument of a printing function: nothing is `<nil>` there.
fn operand(v: &Value) -> String {
    match v {
        Value::Nothing => "<nil>".to_owned(),
        v => v.print(),
    }
}

#[derive(Default)]
struct Directive {
    plus: bool,
    minus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

/// `fmt.Sprintf`, at most `most` bytes long.
///
/// # Errors
/// It would be longer.
pub(super) fn printf(layout: &str, all: &[Value], most: usize) -> Result<String, String> {
    let mut out = String::new();
    let mut next = 0;
    let mut rest = layout;
    while let Some(at) = rest.find('%') {
        out.push_str(rest.get(..at).unwrap_or(""));
        rest = rest.get(at + 1..).unwrap_or("");
        let mut d = Directive::default();
        rest = flags(rest, &mut d);
        rest = numbers(rest, &mut d, all, &mut next);
        let Some(verb) = rest.chars().next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        rest = rest.get(verb.len_utf8()..).unwrap_or("");
        if verb == '%' {
            out.push('%');
        } else {
            match all.get(next) {
                Some(v) => out.push_str(&one(verb, &d, v)),
                None => out.push_str(&format!("%!{verb}(MISSING)")),
            }
            next += 1;
        }
        if out.len() > most {
            return Err(format!("the result is longer than {most} bytes"));
        }
    }
    if !out.ends_with("%!(NOVERB)") {
        out.push_str(rest);
    }
    if let Some(extra) = all.get(next..).filter(|e| !e.is_empty()) {
        let shown: Vec<String> = extra
            .iter()
            .map(|v| match v {
                Value::Nothing | Value::Nil => "<nil>".to_owned(),
                v => format!("{}={}", v.type_name(), operand(v)),
            })
            .collect();
        out.push_str(&format!("%!(EXTRA {})", shown.join(", ")));
    }
    if out.len() > most {
        return Err(format!("the result is longer than {most} bytes"));
    }
    Ok(out)
}

fn flags<'a>(mut rest: &'a str, d: &mut Directive) -> &'a str {
    loop {
        match rest.chars().next() {
            Some('+') => d.plus = true,
            Some('-') => d.minus = true,
            Some('#') => d.sharp = true,
            Some(' ') => d.space = true,
            Some('0') => d.zero = true,
            _ => return rest,
        }
        rest = rest.get(1..).unwrap_or("");
    }
}

fn numbers<'a>(rest: &'a str, d: &mut Directive, all: &[Value], next: &mut usize) -> &'a str {
    let mut number = |rest: &'a str| -> (Option<usize>, &'a str) {
        if let Some(after) = rest.strip_prefix('*') {
            let n = match all.get(*next) {
                Some(Value::Int(n)) => usize::try_from(*n).ok(),
                _ => None,
            };
            *next += 1;
            return (n.map(|n| n.min(WIDTH_MAX)), after);
        }
        let n = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (digits, after) = rest.split_at(n);
        (digits.parse().ok().map(|n: usize| n.min(WIDTH_MAX)), after)
    };
    let (width, mut rest) = number(rest);
    d.width = width;
    if let Some(after) = rest.strip_prefix('.') {
        let (precision, after) = number(after);
        d.precision = Some(precision.unwrap_or(0));
        rest = after;
    }
    rest
}

fn one(verb: char, d: &Directive, v: &Value) -> String {
    if verb == 'T' {
        return pad(d, v.type_name().to_owned(), false);
    }
    match (verb, v) {
        ('v' | 's', Value::Nothing | Value::Nil) if verb == 'v' => pad(d, "<nil>".into(), false),
        (_, Value::Nothing | Value::Nil) => format!("%!{verb}(<nil>)"),
        ('v', Value::Float(x)) => float(d, 'g', *x),
        ('v' | 'd', Value::Int(n)) => integer(d, *n, 10, false),
        ('v', Value::Text(s)) if d.sharp => pad(d, quoted(s), false),
        ('v' | 's', Value::Text(s) | Value::Html(s)) => pad(d, cut(d, s), false),
        ('q', Value::Text(s) | Value::Html(s)) => pad(d, quoted(&cut(d, s)), false),
        ('x' | 'X', Value::Text(s) | Value::Html(s)) => {
            let hex: String = s.bytes().map(|b| format!("{b:02x}")).collect();
            pad(d, if verb == 'X' { hex.to_uppercase() } else { hex }, false)
        }
        ('v' | 't', Value::Bool(b)) => pad(d, b.to_string(), false),
        ('b', Value::Int(n)) => integer(d, *n, 2, false),
        ('o', Value::Int(n)) => integer(d, *n, 8, false),
        ('x', Value::Int(n)) => integer(d, *n, 16, false),
        ('X', Value::Int(n)) => integer(d, *n, 16, true),
        ('c', Value::Int(n)) => pad(d, character(*n).to_string(), false),
        ('q', Value::Int(n)) => pad(d, format!("'{}'", character(*n)), false),
        ('U', Value::Int(n)) => pad(d, format!("U+{n:04X}"), false),
        ('e' | 'E' | 'f' | 'F' | 'g' | 'G', Value::Float(x)) => float(d, verb, *x),
        ('s', Value::Time(_) | Value::Duration(_) | Value::Labels(_) | Value::Histogram(_))
        | ('v', _) => pad(d, v.print(), false),
        _ => format!("%!{verb}({}={})", v.type_name(), v.print()),
    }
}

fn character(n: i64) -> char {
    u32::try_from(n).ok().and_then(char::from_u32).unwrap_or('\u{fffd}')
}

fn cut(d: &Directive, s: &str) -> String {
    match d.precision {
        Some(n) => s.chars().take(n).collect(),
        None => s.to_owned(),
    }
}

fn pad(d: &Directive, text: String, number: bool) -> String {
    let missing = d.width.unwrap_or(0).saturating_sub(text.chars().count());
    if missing == 0 {
        return text;
    }
    if d.minus {
        return text + &" ".repeat(missing);
    }
    if d.zero && number {
        let (sign, digits) = match text.strip_prefix(['+', '-', ' ']) {
            Some(rest) => text.split_at(text.len() - rest.len()),
            None => ("", text.as_str()),
        };
        return format!("{sign}{}{digits}", "0".repeat(missing));
    }
    " ".repeat(missing) + &text
}

fn signed(d: &Directive, negative: bool, digits: String) -> String {
    match (negative, d.plus, d.space) {
        (true, ..) => format!("-{digits}"),
        (_, true, _) => format!("+{digits}"),
        (_, _, true) => format!(" {digits}"),
        _ => digits,
    }
}

fn integer(d: &Directive, n: i64, radix: u32, upper: bool) -> String {
    let abs = n.unsigned_abs();
    let mut digits = match radix {
        2 => format!("{abs:b}"),
        8 => format!("{abs:o}"),
        16 if upper => format!("{abs:X}"),
        16 => format!("{abs:x}"),
        _ => abs.to_string(),
    };
    if let Some(least) = d.precision {
        digits = "0".repeat(least.saturating_sub(digits.len())) + &digits;
    }
    if d.sharp {
        let prefix = match radix {
            2 => "0b",
            8 => "0",
            16 if upper => "0X",
            16 => "0x",
            _ => "",
        };
        digits = prefix.to_owned() + &digits;
    }
    pad(d, signed(d, n < 0, digits), d.precision.is_none())
}

fn float(d: &Directive, verb: char, v: f64) -> String {
    let lower = verb.to_ascii_lowercase();
    let abs = v.abs();
    let digits = if v.is_nan() {
        "NaN".to_owned()
    } else if v.is_infinite() {
        let sign = if v < 0.0 {
            "-"
        } else if d.space {
            " "
        } else {
            "+"
        };
        return pad(d, format!("{sign}Inf"), false);
    } else {
        match (lower, d.precision) {
            ('g', None) => format_g(abs),
            ('e', None) => format_precise(abs, 'e', 6),
            ('f', None) => format_precise(abs, 'f', 6),
            (kind, Some(n)) => format_precise(abs, kind, n),
            _ => format_float(abs),
        }
    };
    let digits = if verb.is_uppercase() { digits.to_uppercase() } else { digits };
    let negative = v.is_sign_negative() && !v.is_nan();
    pad(d, signed(d, negative, digits), !v.is_nan())
}

/// Go's `strconv.FormatFloat(v, kind, precision, 64)` for the kinds `e`, `f` and `g`.
pub(super) fn format_precise(v: f64, kind: char, precision: usize) -> String {
    if !v.is_finite() {
        return format_e(v);
    }
    // More digits than any number has would only be zeros, but they are asked for.
    let precision = precision.min(2_000);
    match kind {
        'f' => format!("{v:.precision$}"),
        'e' => with_sign(&format!("{v:.precision$e}")),
        _ => {
            let digits = precision.max(1);
            let text = format!("{v:.*e}", digits - 1);
            let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let exponent: i64 = exponent.parse().unwrap_or(0);
            let trimmed = match mantissa.contains('.') {
                true => mantissa.trim_end_matches('0').trim_end_matches('.'),
                false => mantissa,
            };
            if exponent < -4 || exponent >= digits as i64 {
                return with_sign(&format!("{trimmed}e{exponent}"));
            }
            let places = usize::try_from(digits as i64 - 1 - exponent).unwrap_or(0);
            let fixed = format!("{v:.places$}");
            match fixed.contains('.') {
                true => fixed.trim_end_matches('0').trim_end_matches('.').to_owned(),
                false => fixed,
            }
        }
    }
}

/// Exponents have a sign and at least two digits in Go.
fn with_sign(text: &str) -> String {
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (sign, digits) = match exponent.strip_prefix('-') {
        Some(rest) => ('-', rest),
        None => ('+', exponent),
    };
    format!("{mantissa}e{sign}{digits:0>2}")
}
