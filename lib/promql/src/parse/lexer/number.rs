//! Numbers and durations.

use periplus_model::float::{GoFloatError, Quoted, parse_go_float, underscores_ok};

use super::{Kind, LexResult, Lexer, is_alphanumeric};

impl Lexer<'_> {
    /// `1`, `1_000`, `0x1f`, `.5e-3`, `1h30m`. What is taken as a number may still be none; that is
    /// noticed when it is read.
    pub(super) fn number_or_duration(&mut self) -> LexResult<Option<Kind>> {
        if self.number() {
            return Ok(Some(Kind::Number));
        }
        if self.duration_units() {
            return Ok(Some(Kind::Duration));
        }
        let end = self.pos;
        self.error(format!(
            "bad number or duration syntax: {}",
            Quoted(self.query.get(self.start..end).unwrap_or(""))
        ))
    }

    fn accept(&mut self, pass: impl Fn(u8) -> bool) -> bool {
        let hit = self.byte().is_some_and(pass);
        self.pos += usize::from(hit);
        hit
    }

    fn skip(&mut self, pass: impl Fn(u8) -> bool) {
        while self.accept(&pass) {}
    }

    /// Takes a number; where it turns out to be none, what was looked at stays taken, for the
    /// error text and for the duration it may be.
    fn number(&mut self) -> bool {
        let begin = self.pos;
        let hex = self.accept(|b| b == b'0') && self.accept(|b| matches!(b, b'x' | b'X'));
        if hex {
            self.accept(|b| b == b'_');
        }
        let digit = |b: u8| if hex { b.is_ascii_hexdigit() } else { b.is_ascii_digit() };
        let exponent = |b: u8| matches!(b, b'e' | b'E');
        self.accept(|b| b == b'.');
        self.accept(digit);
        let (mut dot_seen, mut exponent_seen) = (false, false);
        while let Some(b) =
            self.byte().filter(|b| digit(*b) || matches!(b, b'.' | b'_') || exponent(*b))
        {
            if (b == b'.' && dot_seen) || (exponent(b) && exponent_seen) {
                self.pos += 1;
                return false;
            }
            if b == b'.' {
                self.pos += 1;
                dot_seen = true;
                if self.accept(|b| matches!(b, b'_' | b'.')) || hex {
                    return false;
                }
            } else if exponent(b) {
                self.pos += 1;
                exponent_seen = true;
                self.accept(|b| matches!(b, b'+' | b'-'));
                if self.separator_or_end() {
                    return false;
                }
            } else if b == b'_' {
                self.pos += 1;
                if self.separator_or_end() {
                    return false;
                }
            } else {
                self.skip(digit);
            }
        }
        self.pos != begin && !self.byte().is_some_and(is_alphanumeric)
    }

    fn separator_or_end(&mut self) -> bool {
        self.accept(|b| matches!(b, b'.' | b'_' | b'e' | b'E')) || self.byte().is_none()
    }

    /// The rest of a duration whose first digits are taken: units and further digits. That units
    /// exist and come in order is seen to when the duration is read.
    fn duration_units(&mut self) -> bool {
        if !self.accept(|b| b"smhdwy".contains(&b)) {
            return false;
        }
        self.accept(|b| b == b's');
        while self.accept(|b| b.is_ascii_digit()) {
            self.skip(|b| b.is_ascii_digit());
            if !self.accept(|b| b"smhdw".contains(&b)) {
                return false;
            }
            self.accept(|b| b == b's');
        }
        if self.byte().is_some_and(is_alphanumeric) {
            // The character that spoils it belongs to what the error text shows.
            self.pos += 1;
            return false;
        }
        true
    }
}

/// The value of a number token: an integer as Go's `ParseInt` with base 0 reads it (so a leading
/// zero means octal), else a float.
pub(in crate::parse) fn parse_number(text: &str) -> Result<f64, GoFloatError> {
    parse_int(text).map_or_else(|| parse_go_float(text), Ok)
}

fn parse_int(text: &str) -> Option<f64> {
    let (radix, digits) = match text.as_bytes() {
        [b'0', b'b' | b'B', _, ..] => (2, text.get(2..)?),
        [b'0', b'o' | b'O', _, ..] => (8, text.get(2..)?),
        [b'0', b'x' | b'X', _, ..] => (16, text.get(2..)?),
        [b'0'] => return Some(0.0),
        [b'0', ..] => (8, text.get(1..)?),
        _ => (10, text),
    };
    let n = if digits.contains('_') {
        if !underscores_ok(text) {
            return None;
        }
        i64::from_str_radix(&digits.replace('_', ""), radix)
    } else {
        i64::from_str_radix(digits, radix)
    };
    #[expect(clippy::cast_precision_loss, reason = "rounded to the nearest float, as Go does")]
    n.ok().map(|n| n as f64)
}
