//! What a backslash stands for.

use super::{Read, Reader, fail};

impl Reader<'_> {
    /// An escape outside a class.
    pub(super) fn escape(&mut self) -> Read<()> {
        let before = self.rest;
        let zero_width = match before.as_bytes().get(1) {
            Some(b'A') => Some(("\\A", true)),
            Some(b'z') => Some(("\\z", true)),
            Some(b'b') => Some(("(?-u:\\b)", false)),
            Some(b'B') => Some(("(?-u:\\B)", true)),
            Some(b'C') => return Err(fail("invalid escape sequence", "\\C")),
            Some(b'Q') => {
                let quoted = before.get(2..).unwrap_or("");
                let (literals, rest) = quoted.split_once("\\E").unwrap_or((quoted, ""));
                literals.chars().for_each(|c| self.literal(u32::from(c)));
                self.rest = rest;
                return Ok(());
            }
            _ => None,
        };
        if let Some((text, empty)) = zero_width {
            self.skip(2);
            self.assertion(text, empty);
            return Ok(());
        }
        if let Some(class) = self.escaped_class()? {
            self.atom(&class);
            return Ok(());
        }
        let code = self.escaped_char()?;
        self.literal(code);
        Ok(())
    }

    /// `\d`, `\pL`, `\p{Greek}` and their like, written as a class of its own; `None` when the
    /// backslash begins something else.
    pub(super) fn escaped_class(&mut self) -> Read<Option<String>> {
        let class = match self.rest.as_bytes().get(1) {
            Some(b'd') => "[0-9]",
            Some(b'D') => "[^0-9]",
            Some(b's') => "[\\t\\n\\x0c\\r ]",
            Some(b'S') => "[^\\t\\n\\x0c\\r ]",
            Some(b'w') => "[0-9A-Za-z_]",
            Some(b'W') => "[^0-9A-Za-z_]",
            Some(b'p' | b'P') => return self.unicode_class().map(Some),
            _ => return Ok(None),
        };
        self.skip(2);
        Ok(Some(class.to_owned()))
    }

    fn unicode_class(&mut self) -> Read<String> {
        const REASON: &str = "invalid character class range";
        let before = self.rest;
        let negated = before.starts_with("\\P");
        let named = before.get(2..).unwrap_or("");
        let (length, name) = match named.strip_prefix('{') {
            Some(inner) => match inner.split_once('}') {
                Some((name, _)) => (4 + name.len(), name),
                None => return Err(fail(REASON, before)),
            },
            None => {
                let length = named.chars().next().map_or(0, char::len_utf8);
                (2 + length, named.get(..length).unwrap_or(""))
            }
        };
        let sequence = before.get(..length).unwrap_or(before);
        let (negated, name) = name.strip_prefix('^').map_or((negated, name), |n| (!negated, n));
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"_- ".contains(&b);
        let class = format!("\\{}{{{name}}}", if negated { 'P' } else { 'p' });
        // Whether there is a class of that name only the tables know.
        if name.is_empty() || !name.bytes().all(plain) || regex_syntax::parse(&class).is_err() {
            return Err(fail(REASON, sequence));
        }
        self.skip(length);
        Ok(class)
    }

    /// The code point an escape stands for: `\n`, `\x41`, `\101`, `\.`.
    pub(super) fn escaped_char(&mut self) -> Read<u32> {
        let before = self.rest;
        self.skip(1);
        let Some(c) = self.next_char() else {
            return Err(fail("trailing backslash at end of expression", ""));
        };
        let code = match c {
            '1'..='7' if !self.rest.starts_with(|c: char| c.is_digit(8)) => None,
            '0'..='7' => Some(self.octal(c)),
            'x' => self.hexadecimal(),
            'a' => Some(7),
            'f' => Some(12),
            'n' => Some(10),
            'r' => Some(13),
            't' => Some(9),
            'v' => Some(11),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Some(u32::from(c)),
            _ => None,
        };
        code.ok_or_else(|| {
            let part = before.get(..before.len() - self.rest.len()).unwrap_or(before);
            fail("invalid escape sequence", part)
        })
    }

    fn next_char(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.skip(c.len_utf8());
        Some(c)
    }

    /// Up to three octal digits, the first of which has been taken.
    fn octal(&mut self, first: char) -> u32 {
        let mut code = first.to_digit(8).unwrap_or(0);
        for _ in 0..2 {
            let Some(digit) = self.rest.chars().next().and_then(|c| c.to_digit(8)) else { break };
            code = code * 8 + digit;
            self.skip(1);
        }
        code
    }

    /// Two digits, or any number of them in braces.
    fn hexadecimal(&mut self) -> Option<u32> {
        let first = self.next_char()?;
        if first != '{' {
            let second = self.next_char();
            return Some(first.to_digit(16)? * 16 + second?.to_digit(16)?);
        }
        let (mut code, mut any) = (0, false);
        loop {
            match self.next_char()? {
                '}' => return any.then_some(code),
                c => code = code * 16 + c.to_digit(16)?,
            }
            any = true;
            if code > 0x0010_ffff {
                return None;
            }
        }
    }
}
