use proptest::prelude::*;

use super::*;

#[test]
fn refusals_are_worded_as_in_go() {
    for (pattern, says) in [
        ("(", "missing closing ): `(`"),
        ("a)", "unexpected ): `a)`"),
        ("*", "missing argument to repetition operator: `*`"),
        ("(+?", "missing argument to repetition operator: `+?`"),
        ("a|{2}", "missing argument to repetition operator: `{2}`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a*?+?b", "invalid nested repetition operator: `*?+?`"),
        ("a{2}{3}", "invalid nested repetition operator: `{2}{3}`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("a{3,2}b", "invalid repeat count: `{3,2}`"),
        ("(a{100}){11}", "invalid repeat count: `{11}`"),
        ("[a", "missing closing ]: `[a`"),
        ("x[b-a]", "invalid character class range: `b-a`"),
        ("[[:foo:]]", "invalid character class range: `[:foo:]`"),
        (r"\p{Nope}", r"invalid character class range: `\p{Nope}`"),
        (r"\pZz\pq", r"invalid character class range: `\pq`"),
        (r"a\p{L", r"invalid character class range: `\p{L`"),
        (r"\", "trailing backslash at end of expression: ``"),
        (r"\8", r"invalid escape sequence: `\8`"),
        (r"\1", r"invalid escape sequence: `\1`"),
        (r"\xz1", r"invalid escape sequence: `\xz1`"),
        (r"\x{110000}", r"invalid escape sequence: `\x{110000`"),
        (r"\C", r"invalid escape sequence: `\C`"),
        (r"\Z", r"invalid escape sequence: `\Z`"),
        (r"[\b]", r"invalid escape sequence: `\b`"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ("(?i", "invalid or unsupported Perl syntax: `(?i`"),
        ("(?i-)", "invalid or unsupported Perl syntax: `(?i-)`"),
        ("(?x)a", "invalid or unsupported Perl syntax: `(?x`"),
        ("(?P<n", "invalid named capture: `(?P<n`"),
        ("(?P<n-m>a)", "invalid named capture: `(?P<n-m>`"),
        ("(?<>a)", "invalid named capture: `(?<>`"),
    ] {
        let error = check(pattern.as_bytes()).unwrap_err().to_string();
        assert_eq!(error, format!("error parsing regexp: {says}"), "{pattern}");
    }
    let error = check(b"a.\xffb").unwrap_err().to_string();
    assert_eq!(error, "error parsing regexp: invalid UTF-8: `\u{fffd}b`");
}

#[test]
fn knows_whether_the_empty_string_matches() {
    for (pattern, empty) in [
        ("", true),
        ("a", false),
        ("a|", true),
        ("a*b?", true),
        ("a+", false),
        ("(a*)+", true),
        ("(a|b*)c{0}", true),
        ("^$", true),
        (r"\b", false),
        (r"\B", true),
        (r"(\b)?", true),
        ("x{0,2}", true),
        ("x{2,}", false),
        (r"\Q\E", true),
        ("[^a]", false),
    ] {
        let facts = check(pattern.as_bytes()).unwrap();
        assert_eq!(facts.matches_empty, empty, "{pattern}");
    }
}

proptest! {
    /// Whatever is accepted compiles, and agrees with its own facts.
    #[test]
    fn what_is_accepted_compiles(
        parts in proptest::collection::vec(prop_oneof![
            Just("a"), Just("(?i)"), Just("(?:"), Just("("), Just(")"), Just("|"), Just("*"),
            Just("+?"), Just("{2,3}"), Just("{"), Just("}"), Just("[^a-c]"), Just("[]&&-]"),
            Just("[[:^alpha:]\\d]"), Just("\\pL"), Just("\\P{^Greek}"), Just("\\b"), Just("\\B"),
            Just("^"), Just("$"), Just("."), Just("\\Qa|b\\E"), Just("(?s-m:"), Just("\\x{d800}"),
            Just("[\\x{d800}-\\x{dfff}]"), Just("é"), Just("\\07"), Just("(?P<a>"), Just("#"),
            Just("~~"), Just(" "), Just("(?m)"),
        ], 0..12)
    ) {
        let pattern = parts.concat();
        if let Ok((facts, translated)) = read(pattern.as_bytes()) {
            let re = regex::Regex::new(&format!("^(?:{translated})$"));
            prop_assert!(re.is_ok(), "{} became {}: {:?}", pattern, translated, re);
            prop_assert_eq!(re.unwrap().is_match(""), facts.matches_empty, "{}", pattern);
        }
    }

    #[test]
    fn never_panics(pattern in proptest::collection::vec(any::<u8>(), 0..40)) {
        let _ = check(&pattern);
    }

    #[test]
    fn never_panics_on_what_looks_like_a_regex(pattern in r"[\\(){}\[\]?*+|^$a-zé0-9:<>,pPx-]{0,24}") {
        let _ = check(pattern.as_bytes());
    }
}
