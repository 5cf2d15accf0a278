//! Regular expressions as Prometheus reads them.
//!
//! Prometheus uses Go's `regexp`, whose language differs from the regex crate's: `\d`, `\w`, `\s`
//! and `\b` are ASCII, `[[a]` holds a bracket, `{` may be a literal, `\Q…\E` quotes, and much of
//! what the crate offers (`(?x)`, `[a&&b]`, `\<`) does not exist. So an expression is read here by
//! Go's rules and error texts, and written out again in a form that means the same to the crate:
//! every group without capture, every class spelled out. Reading is linear, with its own stack.
//!
//! Differences that remain: a repetition operator after a flag group after another repetition
//! (`a*(?i)*`) is refused, groups may nest [`GROUPS_MAX`] deep (Go: 1000), names of Unicode classes
//! are those of the regex crate, which knows more of them and a newer Unicode.

mod class;
mod escape;

/// How deep groups may nest.
pub const GROUPS_MAX: usize = 250;

/// The longest expression read, in bytes; a plain list of values may be longer.
pub const BYTES_MAX: usize = 64 * 1024;

/// How often a part may be repeated, nested repetitions multiplied.
const COPIES_MAX: u32 = 1000;

/// What is known of a regular expression without compiling it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Whether it matches the empty string when anchored at both ends.
    pub matches_empty: bool,
}

/// Why an expression is refused: Go's words, and the part they are about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {reason}: `{part}`")]
pub struct Re2Error {
    reason: &'static str,
    part: String,
}

/// Checks an expression by Go's rules.
///
/// # Errors
/// What Go refuses, in its words.
pub fn check(pattern: &[u8]) -> Result<Facts, Re2Error> {
    if is_plain(pattern) {
        let matches_empty = pattern.split(|b| *b == b'|').any(<[u8]>::is_empty);
        return Ok(Facts { matches_empty });
    }
    read(pattern).map(|(facts, _)| facts)
}

/// Whether an expression is a plain list of values. Such a list is not parsed by Prometheus, and
/// so may hold what is not UTF-8.
pub(crate) fn is_plain(pattern: &[u8]) -> bool {
    !pattern.iter().any(|b| b"\\.+*?()[]{}^$".contains(b))
}

/// The expression in the regex crate's syntax, unanchored; `.` matches newlines, as Prometheus
/// has it.
///
/// # Errors
/// As [`check`].
pub fn translate(pattern: &str) -> Result<String, Re2Error> {
    read(pattern.as_bytes()).map(|(_, translated)| translated)
}

fn read(pattern: &[u8]) -> Result<(Facts, String), Re2Error> {
    if pattern.len() > BYTES_MAX {
        let head = pattern.get(..40).unwrap_or(pattern);
        return Err(fail("expression too large", &String::from_utf8_lossy(head)));
    }
    let text = std::str::from_utf8(pattern).map_err(|e| {
        let rest = pattern.get(e.valid_up_to()..).unwrap_or_default();
        fail("invalid UTF-8", &String::from_utf8_lossy(rest))
    })?;
    Reader::new(text).expression()
}

fn fail(reason: &'static str, part: &str) -> Re2Error {
    Re2Error { reason, part: part.to_owned() }
}

type Read<T> = Result<T, Re2Error>;

/// What `(?…)` sets.
#[derive(Clone, Copy)]
struct Flags {
    fold_case: bool,
    multi_line: bool,
    dot_all: bool,
}

/// A group being read; the whole expression is one.
struct Group {
    /// The flags to go back to behind it.
    flags: Flags,
    /// Whether the output folded case where it opened.
    folding: bool,
    /// Whether one of the alternatives before the last `|` matches the empty string.
    any_empty: bool,
    /// Whether what was read of the current alternative does.
    empty: bool,
    /// The most copies a part of it is repeated to.
    copies: u32,
}

/// What a repetition operator would apply to.
#[derive(Clone, Copy)]
struct Atom {
    empty: bool,
    copies: u32,
    repeated: bool,
}

struct Reader<'p> {
    whole: &'p str,
    rest: &'p str,
    out: String,
    flags: Flags,
    /// Whether the output folds case at its end.
    folding: bool,
    groups: Vec<Group>,
    group: Group,
    last: Option<Atom>,
}

impl<'p> Reader<'p> {
    fn new(whole: &'p str) -> Self {
        let flags = Flags { fold_case: false, multi_line: false, dot_all: true };
        Self {
            whole,
            rest: whole,
            out: String::with_capacity(whole.len() + 8),
            flags,
            folding: false,
            groups: Vec::new(),
            group: Group::new(flags, false),
            last: None,
        }
    }

    fn expression(mut self) -> Read<(Facts, String)> {
        // Where the last item began, if it was a repetition operator.
        let mut repetition: Option<&str> = None;
        while let Some(c) = self.rest.chars().next() {
            let before = self.rest;
            let repeats = match c {
                '*' | '+' | '?' => {
                    self.skip(1);
                    self.repeat(c, before, repetition)?;
                    true
                }
                '{' => self.counted_repeat(before, repetition)?,
                _ => {
                    self.item(c)?;
                    false
                }
            };
            repetition = repeats.then_some(before);
        }
        self.end_alternative();
        if !self.groups.is_empty() {
            return Err(fail("missing closing )", self.whole));
        }
        Ok((Facts { matches_empty: self.group.any_empty }, self.out))
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or("");
    }

    /// Anything but a repetition.
    fn item(&mut self, c: char) -> Read<()> {
        match c {
            '(' if self.rest.starts_with("(?") => return self.flags_or_group(),
            '(' => {
                self.skip(1);
                return self.open();
            }
            '|' => {
                self.end_alternative();
                self.out.push('|');
            }
            ')' => self.close()?,
            '^' => self.assertion(if self.flags.multi_line { "(?m:^)" } else { "\\A" }, true),
            '$' => self.assertion(if self.flags.multi_line { "(?m:$)" } else { "\\z" }, true),
            '.' => self.atom(if self.flags.dot_all { "(?s:.)" } else { "[^\\n]" }),
            '[' => return self.class(),
            '\\' => return self.escape(),
            c => {
                self.skip(c.len_utf8());
                self.literal(u32::from(c));
                return Ok(());
            }
        }
        self.skip(1);
        Ok(())
    }

    /// Makes room for the next atom: the one before can't be repeated any more.
    fn settle(&mut self) {
        if let Some(atom) = self.last.take() {
            self.group.empty &= atom.empty;
            self.group.copies = self.group.copies.max(atom.copies);
        }
    }

    /// Adds something of at least one character.
    fn atom(&mut self, text: &str) {
        self.settle();
        if self.folding != self.flags.fold_case {
            self.folding = self.flags.fold_case;
            self.out.push_str(if self.folding { "(?i)" } else { "(?-i)" });
        }
        self.out.push_str(text);
        self.last = Some(Atom { empty: false, copies: 1, repeated: false });
    }

    /// Adds something of no width, which `empty` says holds in the empty string.
    fn assertion(&mut self, text: &str, empty: bool) {
        self.settle();
        self.out.push_str(text);
        self.last = Some(Atom { empty, copies: 1, repeated: false });
    }

    fn literal(&mut self, code: u32) {
        let Some(c) = char::from_u32(code) else {
            // A surrogate, which no string holds.
            return self.atom("[^\\x{0}-\\x{10ffff}]");
        };
        let mut buffer = [0; 4];
        let text = c.encode_utf8(&mut buffer);
        self.atom("");
        if regex_syntax::is_meta_character(c) {
            self.out.push('\\');
        }
        self.out.push_str(text);
    }

    fn open(&mut self) -> Read<()> {
        self.settle();
        if self.groups.len() >= GROUPS_MAX {
            return Err(fail("expression nests too deeply", self.whole));
        }
        self.out.push_str("(?:");
        let inner = Group::new(self.flags, self.folding);
        self.groups.push(std::mem::replace(&mut self.group, inner));
        Ok(())
    }

    fn end_alternative(&mut self) {
        self.settle();
        self.group.any_empty |= self.group.empty;
        self.group.empty = true;
    }

    fn close(&mut self) -> Read<()> {
        self.end_alternative();
        let Some(outer) = self.groups.pop() else {
            return Err(fail("unexpected )", self.whole));
        };
        self.out.push(')');
        let inner = std::mem::replace(&mut self.group, outer);
        self.flags = inner.flags;
        self.folding = inner.folding;
        self.last = Some(Atom { empty: inner.any_empty, copies: inner.copies, repeated: false });
        Ok(())
    }

    /// `(?…`: a named group, flags for the rest of this group, or flags for a group of their own.
    fn flags_or_group(&mut self) -> Read<()> {
        let before = self.rest;
        for prefix in ["(?P<", "(?<"] {
            let Some(named) = before.strip_prefix(prefix).filter(|named| !named.is_empty()) else {
                continue;
            };
            let Some((name, _)) = named.split_once('>') else {
                return Err(fail("invalid named capture", before));
            };
            let length = prefix.len() + name.len() + 1;
            let word = |b: u8| b == b'_' || b.is_ascii_alphanumeric();
            if name.is_empty() || !name.bytes().all(word) {
                let part = before.get(..length).unwrap_or(before);
                return Err(fail("invalid named capture", part));
            }
            self.skip(length);
            return self.open();
        }
        self.skip(2);
        let (mut flags, mut set, mut saw_flag) = (self.flags, true, false);
        while let Some(c) = self.rest.chars().next() {
            self.skip(c.len_utf8());
            match c {
                'i' => flags.fold_case = set,
                'm' => flags.multi_line = set,
                's' => flags.dot_all = set,
                // Greediness decides where a match ends, not whether there is one.
                'U' => {}
                '-' if set => {
                    (set, saw_flag) = (false, false);
                    continue;
                }
                ':' | ')' if set || saw_flag => {
                    if c == ':' {
                        self.open()?;
                    }
                    self.flags = flags;
                    return Ok(());
                }
                _ => break,
            }
            saw_flag = true;
        }
        let part = before.get(..before.len() - self.rest.len()).unwrap_or(before);
        Err(fail("invalid or unsupported Perl syntax", part))
    }

    /// `*`, `+` or `?`, taken already; a `?` behind it makes it lazy, which does not matter here.
    fn repeat(&mut self, op: char, before: &str, repetition: Option<&str>) -> Read<()> {
        let atom = self.repeated_atom(before, repetition)?;
        let empty = atom.empty || op != '+';
        self.out.push(op);
        self.last = Some(Atom { empty, repeated: true, ..atom });
        Ok(())
    }

    /// What the operator that began at `before` repeats.
    fn repeated_atom(&mut self, before: &str, repetition: Option<&str>) -> Read<Atom> {
        if self.rest.starts_with('?') {
            self.skip(1);
        }
        let until_here =
            |from: &str| from.get(..from.len() - self.rest.len()).unwrap_or(from).to_owned();
        if let Some(from) = repetition {
            let reason = "invalid nested repetition operator";
            return Err(Re2Error { reason, part: until_here(from) });
        }
        match self.last {
            Some(atom) if !atom.repeated => Ok(atom),
            Some(_) => {
                let reason = "invalid nested repetition operator";
                Err(Re2Error { reason, part: until_here(before) })
            }
            None => {
                let reason = "missing argument to repetition operator";
                Err(Re2Error { reason, part: until_here(before) })
            }
        }
    }

    /// `{n}`, `{n,}` or `{n,m}`; a brace that begins none of these is a literal. Whether it was a
    /// repetition.
    fn counted_repeat(&mut self, before: &str, repetition: Option<&str>) -> Read<bool> {
        let Some((min, max, length)) = counts(before) else {
            self.skip(1);
            self.literal(u32::from('{'));
            return Ok(false);
        };
        self.skip(length);
        let refuse = |rest: &str| {
            let part = before.get(..before.len() - rest.len()).unwrap_or(before);
            Err(fail("invalid repeat count", part))
        };
        if min > COPIES_MAX || max.is_some_and(|max| max > COPIES_MAX || max < min) {
            return refuse(self.rest);
        }
        let atom = self.repeated_atom(before, repetition)?;
        let copies = match max.unwrap_or(min) {
            0 if max.is_some() => 1,
            n => atom.copies.saturating_mul(n.max(1)),
        };
        if (min >= 2 || max.is_some_and(|max| max >= 2)) && copies > COPIES_MAX {
            return refuse(self.rest);
        }
        self.out.push_str(before.get(..length).unwrap_or(""));
        self.last = Some(Atom { empty: atom.empty || min == 0, copies, repeated: true });
        Ok(true)
    }
}

impl Group {
    const fn new(flags: Flags, folding: bool) -> Self {
        Self { flags, folding, any_empty: false, empty: true, copies: 1 }
    }
}

/// The bounds in braces at the start of a text, and how many bytes they take. Numbers have no
/// leading zeros; one that is too large reads as the largest.
fn counts(text: &str) -> Option<(u32, Option<u32>, usize)> {
    fn number(text: &str) -> Option<(u32, &str)> {
        let end = text.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
        let (digits, rest) = text.split_at_checked(end)?;
        if digits.is_empty() || (digits.len() > 1 && digits.starts_with('0')) {
            return None;
        }
        Some((digits.parse().unwrap_or(u32::MAX), rest))
    }
    let (min, rest) = number(text.strip_prefix('{')?)?;
    let (max, rest) = match rest.strip_prefix(',') {
        None => (Some(min), rest),
        Some(rest) if rest.starts_with('}') => (None, rest),
        Some(rest) => number(rest).map(|(max, rest)| (Some(max), rest))?,
    };
    let rest = rest.strip_prefix('}')?;
    Some((min, max, text.len() - rest.len()))
}

#[cfg(test)]
mod tests;
