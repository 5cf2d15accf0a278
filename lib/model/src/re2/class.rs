//! Character classes.

use std::fmt::Write as _;

use super::{Read, Reader, fail};

/// POSIX classes, as ranges.
const POSIX: [(&str, &str); 14] = [
    ("alnum", "0-9A-Za-z"),
    ("alpha", "A-Za-z"),
    ("ascii", "\\x00-\\x7f"),
    ("blank", "\\t "),
    ("cntrl", "\\x00-\\x1f\\x7f"),
    ("digit", "0-9"),
    ("graph", "!-~"),
    ("lower", "a-z"),
    ("print", " -~"),
    ("punct", "!-/:-@\\[-`\\{-~"),
    ("space", "\\t\\n\\x0b\\x0c\\r "),
    ("upper", "A-Z"),
    ("word", "0-9A-Za-z_"),
    ("xdigit", "0-9A-Fa-f"),
];

impl Reader<'_> {
    /// `[…]`. Brackets inside are literals, as are `&`, `-` and `~` wherever they stand.
    pub(super) fn class(&mut self) -> Read<()> {
        let whole = self.rest;
        self.skip(1);
        let negated = self.rest.starts_with('^');
        self.skip(usize::from(negated));
        let mut ranges = String::new();
        let mut first = true;
        while first || !self.rest.starts_with(']') {
            first = false;
            if let Some(class) = self.posix_class()? {
                ranges.push_str(&class);
            } else if let Some(class) = self.class_escape()? {
                ranges.push_str(&class);
            } else {
                self.range(whole, &mut ranges)?;
            }
        }
        self.skip(1);
        match (ranges.is_empty(), negated) {
            (false, _) => {
                let open = if negated { "[^" } else { "[" };
                self.atom(&format!("{open}{ranges}]"));
            }
            // Only surrogates were listed, which no string holds.
            (true, true) => self.atom("(?s:.)"),
            (true, false) => self.atom("[^\\x{0}-\\x{10ffff}]"),
        }
        Ok(())
    }

    fn class_escape(&mut self) -> Read<Option<String>> {
        if self.rest.starts_with('\\') { self.escaped_class() } else { Ok(None) }
    }

    /// `[:alpha:]` or `[:^alpha:]`.
    fn posix_class(&mut self) -> Read<Option<String>> {
        let Some((name, _)) = self.rest.strip_prefix("[:").and_then(|s| s.split_once(":]")) else {
            return Ok(None);
        };
        let length = name.len() + 4;
        let (negated, plain) = name.strip_prefix('^').map_or((false, name), |n| (true, n));
        let Some((_, ranges)) = POSIX.iter().find(|(n, _)| *n == plain) else {
            let part = self.rest.get(..length).unwrap_or(self.rest);
            return Err(fail("invalid character class range", part));
        };
        self.skip(length);
        Ok(Some(if negated { format!("[^{ranges}]") } else { (*ranges).to_owned() }))
    }

    /// A character or a range of them.
    fn range(&mut self, whole: &str, out: &mut String) -> Read<()> {
        let before = self.rest;
        let low = self.class_char(whole)?;
        let mut high = low;
        if let Some(rest) = self.rest.strip_prefix('-')
            && !rest.is_empty()
            && !rest.starts_with(']')
        {
            self.rest = rest;
            high = self.class_char(whole)?;
            if high < low {
                let part = before.get(..before.len() - self.rest.len()).unwrap_or(before);
                return Err(fail("invalid character class range", part));
            }
        }
        // Surrogates are no characters here: a range ends before or begins behind them.
        let low = if (0xd800..0xe000).contains(&low) { 0xe000 } else { low };
        let high = if (0xd800..0xe000).contains(&high) { 0xd7ff } else { high };
        if low <= high {
            let _ = write!(out, "\\x{{{low:x}}}-\\x{{{high:x}}}");
        }
        Ok(())
    }

    fn class_char(&mut self, whole: &str) -> Read<u32> {
        match self.rest.chars().next() {
            None => Err(fail("missing closing ]", whole)),
            Some('\\') => self.escaped_char(),
            Some(c) => {
                self.skip(c.len_utf8());
                Ok(u32::from(c))
            }
        }
    }
}
