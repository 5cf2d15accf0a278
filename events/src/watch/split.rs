//! Cutting a body into objects while it arrives, so that one object is in memory and never a whole answer.
//!
//! [`Lines`] is for a watch: an object a line. [`Items`] is for a list: it takes the elements out of the one
//! array at the top and leaves the rest, a skeleton that holds the list's metadata.

/// The largest object taken, in bytes. The server takes messages up to 1.5 MB; escaped, they can be six times
/// as long.
pub const OBJECT_BYTES_MAX: usize = 10 << 20;

/// The largest list without its items, in bytes.
const SKELETON_BYTES_MAX: usize = 64 << 10;

/// A buffer larger than this is given back once the object in it is done.
const KEEP_BYTES: usize = 64 << 10;

/// Splits at `\n`. What follows the last one is no line yet: a broken stream ends inside an object.
#[derive(Debug, Default)]
pub struct Lines {
    buffer: Vec<u8>,
    too_large: bool,
}

impl Lines {
    /// Takes the next bytes; calls `each` with every line in them, without its end, and `None` for a line that
    /// was too large.
    pub fn push(&mut self, mut bytes: &[u8], mut each: impl FnMut(Option<&[u8]>)) {
        while let Some(end) = bytes.iter().position(|&b| b == b'\n') {
            let (line, rest) = bytes.split_at(end);
            bytes = rest.get(1..).unwrap_or_default();
            if self.buffer.is_empty() && !self.too_large {
                if !line.is_empty() {
                    each(Some(line));
                }
                continue;
            }
            self.extend(line);
            if std::mem::take(&mut self.too_large) {
                each(None);
            } else {
                each(Some(&self.buffer));
            }
            reset(&mut self.buffer);
        }
        self.extend(bytes);
    }

    fn extend(&mut self, bytes: &[u8]) {
        if self.too_large || self.buffer.len() + bytes.len() > OBJECT_BYTES_MAX {
            self.too_large = true;
            reset(&mut self.buffer);
        } else {
            self.buffer.extend_from_slice(bytes);
        }
    }
}

fn reset(buffer: &mut Vec<u8>) {
    if buffer.capacity() > KEEP_BYTES {
        *buffer = Vec::new();
    } else {
        buffer.clear();
    }
}

/// A body that is no list.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ItemsError {
    /// It ended before the list did.
    #[error("the list was cut off")]
    Cut,
    /// Too much that is no item.
    #[error("the list has more than {SKELETON_BYTES_MAX} bytes beside its items")]
    Skeleton,
}

/// Takes a list's items out of it.
#[derive(Debug, Default)]
pub struct Items {
    skeleton: Vec<u8>,
    item: Vec<u8>,
    too_large: bool,
    depth: usize,
    in_string: bool,
    escaped: bool,
    in_items: bool,
}

impl Items {
    /// Takes the next bytes; calls `each` with every item that ends in them, and `None` for one that was too large.
    ///
    /// # Errors
    /// [`ItemsError::Skeleton`]: this is no list.
    pub fn push(
        &mut self,
        bytes: &[u8],
        mut each: impl FnMut(Option<&[u8]>),
    ) -> Result<(), ItemsError> {
        for &b in bytes {
            let inside = self.in_items && self.depth >= 3;
            let mut ends = false;
            if self.in_string {
                match b {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
            } else {
                match b {
                    b'"' => self.in_string = true,
                    b'[' | b'{' => {
                        self.depth += 1;
                        self.in_items |= self.depth == 2 && b == b'[';
                    }
                    b']' | b'}' => {
                        self.depth = self.depth.saturating_sub(1);
                        ends = inside && self.depth == 2;
                        self.in_items &= self.depth >= 2;
                    }
                    _ => {}
                }
            }
            if inside || (self.in_items && self.depth >= 3) {
                self.extend_item(b);
            } else if !(self.in_items && b == b',') {
                if self.skeleton.len() >= SKELETON_BYTES_MAX {
                    return Err(ItemsError::Skeleton);
                }
                self.skeleton.push(b);
            }
            if ends {
                let too_large = std::mem::take(&mut self.too_large);
                each(if too_large { None } else { Some(&self.item) });
                reset(&mut self.item);
            }
        }
        Ok(())
    }

    fn extend_item(&mut self, b: u8) {
        if self.too_large || self.item.len() >= OBJECT_BYTES_MAX {
            self.too_large = true;
            reset(&mut self.item);
        } else {
            self.item.push(b);
        }
    }

    /// The list without its items.
    ///
    /// # Errors
    /// [`ItemsError::Cut`]: the body ended too early.
    pub fn finish(self) -> Result<Vec<u8>, ItemsError> {
        if self.depth != 0 || self.skeleton.is_empty() {
            return Err(ItemsError::Cut);
        }
        Ok(self.skeleton)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        for chunk in chunks {
            lines.push(chunk, |l| {
                out.push(l.map_or("TOO LARGE".into(), |l| String::from_utf8_lossy(l).into_owned()));
            });
        }
        out
    }

    #[test]
    fn lines_end_where_they_end() {
        assert_eq!(lines(&[b"a\nb", b"c\n", b"d"]), ["a", "bc"]);
        assert_eq!(lines(&["\u{2028}x\n".as_bytes()]), ["\u{2028}x"]);
        let long = vec![b'x'; OBJECT_BYTES_MAX];
        assert_eq!(lines(&[b"a\n", &long, b"yy", b"z\nb\n"]), ["a", "TOO LARGE", "b"]);
    }

    #[test]
    fn items_are_taken_out_wherever_the_body_is_cut() {
        let body = br#"{"kind":"EventList","metadata":{"resourceVersion":"7"},"items":[{"a":"]}\"{"},{"b":[1,{"c":2}]} , {}]}
"#;
        for cut in 0..body.len() {
            let (mut items, mut out) = (Items::default(), Vec::new());
            let (a, b) = body.split_at(cut);
            for part in [a, b] {
                items.push(part, |i| out.push(i.map(<[u8]>::to_vec))).expect("a list");
            }
            let out: Vec<_> = out.iter().flatten().map(|i| String::from_utf8_lossy(i)).collect();
            assert_eq!(out, [r#"{"a":"]}\"{"}"#, r#"{"b":[1,{"c":2}]}"#, "{}"], "cut at {cut}");
            let skeleton = String::from_utf8(items.finish().expect("whole")).expect("text");
            let skeleton: serde_json::Value = serde_json::from_str(&skeleton).expect("JSON");
            assert_eq!(skeleton["items"], serde_json::json!([]));
            assert_eq!(skeleton["metadata"]["resourceVersion"], "7");
        }
        let mut items = Items::default();
        items.push(&body[..100], |_| ()).expect("a list so far");
        assert_eq!(items.finish(), Err(ItemsError::Cut));
    }
}
