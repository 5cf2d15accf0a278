//! Numbers and quoted strings as Go's `strconv` and `fmt` read and print them: Prometheus's texts
//! are theirs, to the byte.

use std::fmt;
use std::sync::LazyLock;

use regex::Regex;

/// Go's `FormatFloat(v, 'f', -1, 64)`: as many digits as are needed to read the same number back,
/// never an exponent. `+Inf`, `-Inf`, `NaN`.
#[must_use]
pub fn format_float(v: f64) -> String {
    if let Some(s) = special(v) {
        return s.to_owned();
    }
    let s = v.to_string();
    // Of two shortest texts equally far from the number Go takes the one with the even digit.
    if s.len() >= 17
        && let Some((whole, fraction)) = s.split_once('.')
        && whole.trim_start_matches(['-', '0']).len() + fraction.len() >= 16
    {
        let even = format!("{v:.*}", fraction.len());
        if even != s && even.parse() == Ok(v) {
            return even;
        }
    }
    s
}

/// Go's `%v` (which is `%g`): an exponent below 1e-4 and from 1e6 on.
#[must_use]
pub fn format_g(v: f64) -> String {
    let abs = v.abs();
    if abs != 0.0 && !(1e-4..1e6).contains(&abs) { format_e(v) } else { format_float(v) }
}

/// The text of a sample value in Prometheus's JSON, without its quotes: an exponent below 1e-6 and
/// from 1e21 on.
#[must_use]
pub fn format_json(v: f64) -> String {
    let abs = v.abs();
    if abs != 0.0 && !(1e-6..1e21).contains(&abs) { format_e(v) } else { format_float(v) }
}

/// Go's `FormatFloat(v, 'e', -1, 64)`: shortest digits, a signed exponent of at least two digits.
#[must_use]
pub fn format_e(v: f64) -> String {
    if let Some(s) = special(v) {
        return s.to_owned();
    }
    let mut s = format!("{v:e}");
    let places = s.find('e').map_or(0, |e| e.saturating_sub(2 + usize::from(v < 0.0)));
    if places >= 15 {
        let even = format!("{v:.places$e}");
        if even != s && even.parse() == Ok(v) {
            s = even;
        }
    }
    let (digits, exponent) = s.split_once('e').unwrap_or((&s, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |e| ('-', e));
    format!("{digits}e{sign}{exponent:0>2}")
}

fn special(v: f64) -> Option<&'static str> {
    match v {
        _ if v.is_nan() => Some("NaN"),
        f64::INFINITY => Some("+Inf"),
        f64::NEG_INFINITY => Some("-Inf"),
        _ => None,
    }
}

/// Why a text is not a number; the texts are those of Go's `strconv`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GoFloatError {
    /// It does not follow the grammar.
    #[error("invalid syntax")]
    Syntax,
    /// It is too large for a float.
    #[error("value out of range")]
    Range,
}

/// Go's `ParseFloat(s, 64)`: decimal and hexadecimal floats, `inf`, `infinity`, `nan` in any case;
/// underscores only as Go's literals have them.
///
/// # Errors
/// [`GoFloatError::Syntax`] for what is no number, [`GoFloatError::Range`] for one that rounds to
/// an infinity.
pub fn parse_go_float(s: &str) -> Result<f64, GoFloatError> {
    let unsigned = s.strip_prefix(['+', '-']).unwrap_or(s);
    if ["inf", "infinity"].iter().any(|w| unsigned.eq_ignore_ascii_case(w)) {
        return Ok(if s.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY });
    }
    if s.eq_ignore_ascii_case("nan") {
        return Ok(f64::NAN);
    }
    let clean;
    let digits = if s.contains('_') {
        if !underscores_ok(s) {
            return Err(GoFloatError::Syntax);
        }
        clean = s.replace('_', "");
        &clean
    } else {
        s
    };
    let unsigned = digits.strip_prefix(['+', '-']).unwrap_or(digits);
    let magnitude = match unsigned.strip_prefix("0x").or_else(|| unsigned.strip_prefix("0X")) {
        Some(hex) if !hex.is_empty() => parse_hex(hex).ok_or(GoFloatError::Syntax)?,
        // Only digits, a point and an exponent are left to Rust's parser, which reads those as Go.
        _ if unsigned.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b)) => {
            unsigned.strip_prefix(['+', '-']).map_or(Ok(()), |_| Err(GoFloatError::Syntax))?;
            unsigned.parse().map_err(|_| GoFloatError::Syntax)?
        }
        _ => return Err(GoFloatError::Syntax),
    };
    if f64::is_infinite(magnitude) {
        return Err(GoFloatError::Range);
    }
    Ok(if s.starts_with('-') { -magnitude } else { magnitude })
}

/// Whether underscores stand only between digits or after a base prefix, as in Go's literals.
#[must_use]
pub fn underscores_ok(s: &str) -> bool {
    let s = s.strip_prefix(['+', '-']).unwrap_or(s).as_bytes();
    let prefix = match s {
        [b'0', b'b' | b'B' | b'o' | b'O' | b'x' | b'X', ..] => 2,
        _ => 0,
    };
    let hex = prefix == 2 && s.get(1).is_some_and(|c| c.eq_ignore_ascii_case(&b'x'));
    let mut before = if prefix == 2 { b'0' } else { b'^' };
    for &c in s.iter().skip(prefix) {
        let class = match c {
            b'_' => b'_',
            _ if c.is_ascii_digit() || (hex && c.is_ascii_hexdigit()) => b'0',
            _ => b'!',
        };
        if (class == b'_' && before != b'0') || (before == b'_' && class == b'!') {
            return false;
        }
        before = class;
    }
    before != b'_'
}

/// Digits, at most one point, and an exponent of two that must be there.
fn parse_hex(s: &str) -> Option<f64> {
    let (digits, exponent) = s.split_once(['p', 'P'])?;
    let unsigned = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if unsigned.is_empty() || !unsigned.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let exponent = unsigned.bytes().fold(0i64, |e, b| (e * 10 + i64::from(b - b'0')).min(100_000));
    let mut exponent = if s.contains("p-") || s.contains("P-") { -exponent } else { exponent };
    let (mut mantissa, mut sticky, mut any, mut point) = (0u64, false, false, false);
    for b in digits.bytes() {
        if b == b'.' {
            if std::mem::replace(&mut point, true) {
                return None;
            }
            continue;
        }
        let digit = char::from(b).to_digit(16)?;
        any = true;
        if mantissa >> 60 == 0 {
            mantissa = mantissa << 4 | u64::from(digit);
            exponent -= if point { 4 } else { 0 };
        } else {
            sticky |= digit != 0;
            exponent += if point { 0 } else { 4 };
        }
    }
    any.then(|| scale(mantissa, sticky, exponent))
}

/// `mantissa × 2^exponent`, rounded once, half to even; `sticky` says that more digits followed.
fn scale(mantissa: u64, sticky: bool, exponent: i64) -> f64 {
    if mantissa == 0 {
        return 0.0;
    }
    let top = 63 - i64::from(mantissa.leading_zeros()) + exponent;
    if top > 1023 {
        return f64::INFINITY;
    }
    // Units of the last place: 52 below the top bit, but never finer than the subnormals'.
    let ulp = (top - 52).max(-1074);
    let shift = ulp - exponent;
    let wide = u128::from(mantissa) << 1 | u128::from(sticky);
    let rounded = match u32::try_from(shift) {
        Ok(0) | Err(_) => {
            let up = u32::try_from(-shift).unwrap_or(0);
            u128::from(mantissa).checked_shl(up).unwrap_or(0)
        }
        Ok(shift) if shift > 120 => 0,
        Ok(shift) => {
            let (unit, half) = (1u128 << (shift + 1), 1u128 << shift);
            let (whole, rest) = (wide / unit, wide % unit);
            whole + u128::from(rest > half || (rest == half && whole % 2 == 1))
        }
    };
    // At most 2⁵³ units: exact, as is the scaling in two steps that neither overflow nor round.
    #[expect(clippy::cast_precision_loss, reason = "at most 2^53")]
    let units = rounded as f64;
    let pow = |e: i64| 2f64.powi(i32::try_from(e).unwrap_or(0));
    units * pow(ulp / 2) * pow(ulp - ulp / 2)
}

/// Prints bytes as Go's `%q` and `strconv.Quote` do: in double quotes, what is not printable or
/// not UTF-8 escaped.
pub struct Quoted<'a, B: AsRef<[u8]> + ?Sized>(pub &'a B);

impl<B: AsRef<[u8]> + ?Sized> fmt::Display for Quoted<'_, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for chunk in self.0.as_ref().utf8_chunks() {
            quote_str(f, chunk.valid())?;
            for b in chunk.invalid() {
                write!(f, "\\x{b:02x}")?;
            }
        }
        f.write_str("\"")
    }
}

fn quote_str(f: &mut fmt::Formatter<'_>, s: &str) -> fmt::Result {
    let mut plain_from = 0;
    for (i, c) in s.char_indices() {
        let escape = match c {
            '"' => "\\\"",
            '\\' => "\\\\",
            '\u{7}' => "\\a",
            '\u{8}' => "\\b",
            '\u{c}' => "\\f",
            '\n' => "\\n",
            '\r' => "\\r",
            '\t' => "\\t",
            '\u{b}' => "\\v",
            _ if is_print(c) => continue,
            _ => "",
        };
        f.write_str(s.get(plain_from..i).unwrap_or(""))?;
        plain_from = i + c.len_utf8();
        match c as u32 {
            _ if !escape.is_empty() => f.write_str(escape)?,
            c @ (0..0x20 | 0x7f) => write!(f, "\\x{c:02x}")?,
            c @ 0..0x1_0000 => write!(f, "\\u{c:04x}")?,
            c => write!(f, "\\U{c:08x}")?,
        }
    }
    f.write_str(s.get(plain_from..).unwrap_or(""))
}

/// Go's `strconv.IsPrint`: letters, marks, numbers, punctuation, symbols and the ASCII space.
fn is_print(c: char) -> bool {
    /// What is printable beyond ASCII, as the regex crate's tables have it. `None` can't happen.
    static PRINTABLE: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"^[\p{L}\p{M}\p{N}\p{P}\p{S}]").ok());
    match c {
        ' '..='~' => true,
        '\0'..='\u{a0}' | '\u{ad}' => false,
        _ => PRINTABLE.as_ref().is_some_and(|re| re.is_match(c.encode_utf8(&mut [0; 4]))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn prints_as_go_prints() {
        for (v, f, g, json) in [
            (0.0, "0", "0", "0"),
            (-0.0, "-0", "-0", "-0"),
            (1.5, "1.5", "1.5", "1.5"),
            (1e6, "1000000", "1e+06", "1000000"),
            (123_456_789.0, "123456789", "1.23456789e+08", "123456789"),
            (1e21, "1000000000000000000000", "1e+21", "1e+21"),
            (1e-5, "0.00001", "1e-05", "0.00001"),
            (1.5e-7, "0.00000015", "1.5e-07", "1.5e-07"),
            (0.0001, "0.0001", "0.0001", "0.0001"),
            (999_999.5, "999999.5", "999999.5", "999999.5"),
            (f64::NAN, "NaN", "NaN", "NaN"),
            (f64::INFINITY, "+Inf", "+Inf", "+Inf"),
            (f64::NEG_INFINITY, "-Inf", "-Inf", "-Inf"),
        ] {
            assert_eq!((&*format_float(v), &*format_g(v), &*format_json(v)), (f, g, json));
        }
        assert_eq!(format_e(5e-324), "5e-324");
        // Ties between two shortest texts.
        let v = 7_351_692_764_593_165.0 / 4.0;
        assert_eq!(format_float(v), "1837923191148291.2");
        assert_eq!(format_g(-v), "-1.8379231911482912e+15");
    }

    #[test]
    fn reads_as_go_reads() {
        for (s, v) in [
            ("1", 1.0),
            ("+.5", 0.5),
            ("-1.e2", -100.0),
            ("1_000.5", 1000.5),
            ("0x1p-2", 0.25),
            ("0X_1FFFP-16", 0.124_984_741_210_937_5),
            ("0x.8p1", 1.0),
            ("0x1.fffffffffffff8p0", 2.0),
            ("0x1.fffffffffffff7ffp0", 1.999_999_999_999_999_8),
            ("0x1p-1074", 5e-324),
            ("0x1p-1075", 0.0),
            ("0x1.8p-1075", 5e-324),
            ("0x1p1023", 8.98846567431158e307),
            ("inf", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
        ] {
            assert_eq!(parse_go_float(s), Ok(v), "{s}");
        }
        assert!(parse_go_float("nAn").is_ok_and(f64::is_nan));
        for s in
            ["", ".", "e5", "+nan", "infi", "0x1", "0xp1", "1__0", "_1", "1_", "1e", "++1", "1 "]
        {
            assert_eq!(parse_go_float(s), Err(GoFloatError::Syntax), "{s}");
        }
        for s in ["1e309", "-1e309", "0x1p1024"] {
            assert_eq!(parse_go_float(s), Err(GoFloatError::Range), "{s}");
        }
    }

    #[test]
    fn quotes_as_go_quotes() {
        for (bytes, quoted) in [
            (&b"a\"b\\c\n\x00\x7f"[..], r#""a\"b\\c\n\x00\x7f""#),
            (b"\xff\xc3\xa9", r#""\xffé""#),
            (
                "\u{301}\u{200d}\u{ad}\u{a0}\u{e000}\u{10ffff}".as_bytes(),
                "\"\u{301}\\u200d\\u00ad\\u00a0\\ue000\\U0010ffff\"",
            ),
            ("'😀'".as_bytes(), "\"'😀'\""),
        ] {
            assert_eq!(Quoted(bytes).to_string(), quoted);
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(bits in any::<u64>()) {
            let v = f64::from_bits(bits);
            for s in [format_float(v), format_g(v), format_json(v), format_e(v)] {
                let back = parse_go_float(&s).unwrap();
                prop_assert!(back.to_bits() == v.to_bits() || (back.is_nan() && v.is_nan()), "{s}");
            }
        }

        #[test]
        fn never_panics(text in "[-+0-9a-fxXpPeE_.]{0,20}") {
            let _ = parse_go_float(&text);
        }
    }
}
