//! Queries made to hurt: each is answered, in time linear in its length and on a small stack.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use periplus_promql::parse::{HEIGHT_MAX, NESTING_MAX, QUERY_BYTES_MAX, golden, parse};

/// The time this thread has run so far, where the system tells; other processes don't count in it.
fn cpu_time() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let ran = told.as_ref().and_then(|s| s.split(' ').next()).and_then(|s| s.parse().ok());
    ran.map_or_else(|| START.elapsed(), Duration::from_nanos)
}

/// How exact [`cpu_time`] is where the system counts in ticks, and then some.
const TICK: Duration = Duration::from_millis(10);

/// Runs a test on the stack that a thread has at the least.
fn on_small_stack(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(test);
    thread.expect("a thread").join().expect("the test's thread ends without a panic");
}

/// Repeats of a piece between a head and a tail.
fn repeated(head: &str, piece: &str, tail: &str, bytes: usize) -> String {
    format!("{head}{}{tail}", piece.repeat(bytes / piece.len()))
}

/// Queries of about the given length; whether they are accepted.
fn hostile(bytes: usize) -> Vec<(String, bool)> {
    let pieces = [
        ("", "(", "", false),
        ("", ")", "", false),
        ("", "-", "1", false),
        ("", "+", "x", false),
        ("", "-", "", false),
        ("", "sum(", "", false),
        ("", "[", "", false),
        ("", "{", "", false),
        ("", "'", "", false),
        ("", "\"\\", "", false),
        ("", "#", "", false),
        ("", "\n", "", false),
        ("", "é", "", false),
        ("1", "+1", "", false),
        ("x", " + x", "", false),
        ("x", " or x", "", false),
        ("x", " ^ x", "", false),
        ("x", " == on (a) group_left (b) x", "", false),
        ("x", "[5m:]", "", false),
        ("x", "[5m:1m] offset 5m", "", false),
        ("x", " offset 5m", "", false),
        ("x", " @ 1", "", false),
        ("x", " anchored", "", true),
        ("x[", "(", "", false),
        ("x[", "-", "1]", false),
        ("x[1", "+1", "]", false),
        ("x[", "max_of(1,", "", false),
        ("x offset ", "-", "1", false),
        ("x offset (1)", "*1", "", false),
        ("", "abs(", "", false),
        ("abs(x", ",x", ")", false),
        ("label_join(x, 'a', 'b'", ", 'c'", ")", true),
        ("sum by (", "a,", "b) (x)", true),
        ("x{", "a='b',", "}", true),
        ("x{a='", "b", "'}", true),
        ("x{a=~'", "b|", "c'}", true),
        ("x{a=~'", "(", "'}", false),
        ("x{a=~'", "(a?)*", "'}", false),
        ("", "x", "", true),
        ("x", " ", "", true),
        ("", "1", "", false),
        ("0.", "1", "", true),
        ("(", "-{}-1", ")", false),
        ("x + on (", "a,", "b) group_left (c) y", true),
    ];
    pieces.into_iter().map(|(h, p, t, ok)| (repeated(h, p, t, bytes), ok)).collect()
}

#[test]
fn a_mebibyte_of_anything_is_answered_on_a_small_stack() {
    on_small_stack(|| {
        for (query, accepted) in hostile(QUERY_BYTES_MAX - 100) {
            let head: String = query.chars().take(60).collect();
            let outcome = parse(&query);
            assert_eq!(outcome.is_ok(), accepted, "{head}: {:?}", outcome.err());
        }
        let error = parse(&"x".repeat(QUERY_BYTES_MAX + 1)).unwrap_err();
        assert!(error.to_string().contains("longer than the limit"), "{error}");
    });
}

/// Ten times the length may take ten times as long, and then some for a busy machine; quadratic
/// growth would take a hundred times as long.
#[test]
fn time_grows_with_length_only() {
    let best = |query: &str| {
        (0..2)
            .map(|_| {
                let start = cpu_time();
                let _ = parse(query);
                cpu_time().saturating_sub(start)
            })
            .min()
            .unwrap_or_default()
    };
    for ((short, _), (long, _)) in hostile(10_000).into_iter().zip(hostile(100_000)) {
        let (a, b) = (best(&short).max(TICK), best(&long));
        assert!(b < a * 40, "{}…: {a:?} became {b:?}", short.get(..40).unwrap_or(&short));
    }
}

/// The highest trees that are accepted can be printed, cloned, compared and dropped.
#[test]
fn the_highest_trees_are_handled_on_a_small_stack() {
    on_small_stack(|| {
        let (n, deep) = (HEIGHT_MAX - 1, NESTING_MAX - 1);
        for query in [
            format!("{}x{}", "(".repeat(deep), ")".repeat(deep)),
            format!("{}x", "-".repeat(deep)),
            format!("x{}", " + x".repeat(n)),
            format!("x{}", " ^ x".repeat(deep)),
            format!("{}x{}", "abs(".repeat(deep), ")".repeat(deep)),
            format!("{}x{}", "sum by (a) (".repeat(deep), ")".repeat(deep)),
            format!("{}x{}", "sum_over_time(".repeat(deep - 1), "[5m:])".repeat(deep - 1)),
            format!("x[{}1{}]", "-(".repeat(deep / 2), ")".repeat(deep / 2)),
            format!("x[1{}]", " + 1".repeat(n)),
        ] {
            let tree = parse(&query).unwrap_or_else(|e| panic!("{e}: {}", &query[..40]));
            assert_eq!(tree.clone(), tree);
            assert!(format!("{tree:?}").len() > query.len());
            let printed = golden::answer(&query).to_json();
            assert!(printed.len() > query.len());
            drop(tree);
        }
        let refused = parse(&format!("x{}", " + x".repeat(HEIGHT_MAX))).unwrap_err();
        assert_eq!(refused.message, "expression has more than the limit of 512 levels");
        let refused = parse(&"(".repeat(NESTING_MAX + 1)).unwrap_err();
        assert_eq!(refused.message, "expression is nested deeper than the limit of 128");
    });
}

/// Numbers at the edges of what fits.
#[test]
fn extreme_numbers() {
    for (query, says) in [
        ("foo[1e20]", "1:5: parse error: duration out of range"),
        ("foo offset inf", "1:12: parse error: duration out of range"),
        ("foo offset -inf", "1:12: parse error: duration out of range"),
        ("foo[9223372037]", "1:5: parse error: duration out of range"),
        ("foo[300y]", "1:5: parse error: duration out of range"),
        (
            "foo @ 1e400",
            "1:7: parse error: error parsing number: strconv.ParseFloat: parsing \"1e400\": value out of range",
        ),
        (
            "foo @ 1e19",
            "1:1: parse error: timestamp out of bounds for @ modifier: 10000000000000000000.000000",
        ),
        ("foo @ nan", "1:1: parse error: timestamp out of bounds for @ modifier: NaN"),
        ("foo[0]", "1:5: parse error: duration must be greater than 0"),
        (
            "foo[99999999999999999999s]",
            "1:5: parse error: not a valid duration string: \"99999999999999999999s\"",
        ),
        ("", "unknown position: parse error: no expression found in input"),
    ] {
        assert_eq!(parse(query).unwrap_err().to_string(), says, "{query}");
    }
    for query in
        ["foo[292y]", "foo @ 9e15", "foo offset -292y", "1e308", "0x7fffffffffffffff", "5e-324"]
    {
        let printed = parse(query).unwrap().to_string();
        assert_eq!(parse(&printed).unwrap().to_string(), printed);
    }
}
