//! Text from outside made safe to keep and to print.
//!
//! Taken out: control characters (a terminal would obey them), characters that turn the direction of what
//! follows (text could be made to read as something else), and line breaks of other kinds than `\n`. In
//! their place stands U+FFFD, so that one sees that something was there.

const REPLACEMENT: char = '\u{fffd}';

/// Characters that reorder, hide or break what is shown around them.
fn deceives(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
        || matches!(c, '\u{e0000}'..='\u{e007f}')
}

/// What a character becomes in running text: tabs and line feeds stay, other line breaks become line feeds.
fn in_text(c: char) -> char {
    match c {
        '\n' | '\t' => c,
        '\r' | '\u{2028}' | '\u{2029}' | '\u{85}' => '\n',
        // Needed to join letters and emoji in some scripts; they hide nothing.
        '\u{200c}' | '\u{200d}' => c,
        c if deceives(c) => REPLACEMENT,
        c => c,
    }
}

fn in_name(c: char) -> char {
    if deceives(c) { REPLACEMENT } else { c }
}

/// Cleans running text in place and cuts it to at most `bytes_max` bytes, between characters. Gives whether
/// it was cut.
pub fn clean_text(text: &mut String, bytes_max: usize) -> bool {
    if text.contains('\r') {
        *text = text.replace("\r\n", "\n");
    }
    clean(text, bytes_max, in_text)
}

/// Cleans a name in place, which has no line breaks, and cuts it to at most `bytes_max` bytes. Gives whether it
/// was cut.
pub fn clean_name(name: &mut String, bytes_max: usize) -> bool {
    clean(name, bytes_max, in_name)
}

fn clean(text: &mut String, bytes_max: usize, map: fn(char) -> char) -> bool {
    // Most text is plain: nothing is copied then.
    let plain = text.bytes().all(|b| (0x20..0x7f).contains(&b) || b == b'\n' && map('\n') == '\n');
    let mut cut = shorten(text, bytes_max);
    if !plain && text.chars().any(|c| map(c) != c) {
        *text = text.chars().map(map).collect();
        // A replacement can be longer than what it replaces.
        cut |= shorten(text, bytes_max);
    }
    cut
}

/// Cuts between characters; memory that is no longer needed is given back.
fn shorten(text: &mut String, bytes_max: usize) -> bool {
    if text.len() <= bytes_max {
        return false;
    }
    let end = (0..=bytes_max).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0);
    text.truncate(end);
    text.shrink_to_fit();
    true
}
