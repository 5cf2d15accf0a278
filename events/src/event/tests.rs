use proptest::prelude::*;

use super::*;

const NOW: i64 = 1_790_000_000_000_000;

fn row() -> Event {
    Event {
        uid: "355734be-7098-4372-990e-de09edd1c4a6".into(),
        namespace: "shop".into(),
        kind: "Pod".into(),
        name: "web-a".into(),
        reason: "BackOff".into(),
        type_: "Warning".into(),
        message: "Back-off restarting failed container".into(),
        count: 3,
        resource_version: 7,
        first_us: NOW - 60_000_000,
        last_us: NOW - 1_000_000,
        received_us: NOW,
        ..Event::default()
    }
}

fn cleaned(mut e: Event) -> Event {
    e.clean(NOW, MESSAGE_BYTES).expect("a uid");
    e
}

#[test]
fn a_plain_row_stays_as_it_is() {
    assert_eq!(cleaned(row()), row());
}

#[test]
fn hostile_text_is_defused() {
    let check = |message: &str, expect: &str| {
        let e = cleaned(Event { message: message.into(), ..row() });
        assert_eq!(e.message, expect, "{message:?}");
    };
    check("\u{1b}[2J\u{0}\u{7}", "\u{fffd}[2J\u{fffd}\u{fffd}");
    check("a\r\nb\rc\u{2028}d\te", "a\nb\nc\nd\te");
    check("a\u{202e}b\u{2066}c", "a\u{fffd}b\u{fffd}c");
    check("<script>alert(1)</script>", "<script>alert(1)</script>");
    check("größer 日本 👩\u{200d}💻", "größer 日本 👩\u{200d}💻");
    let e = cleaned(Event { name: "a\nb\u{1b}".into(), ..row() });
    assert_eq!(e.name, "a\u{fffd}b\u{fffd}");
}

#[test]
fn long_text_is_cut_between_characters() {
    let mut e = Event { message: "ä".repeat(1 << 20), name: "n".repeat(2000), ..row() };
    e.clean(NOW, 1001).expect("a uid");
    assert_eq!((e.message.len(), e.truncated), (1000, true));
    assert_eq!(e.name.len(), NAME_BYTES_MAX);
    assert!(e.message.capacity() < 2000, "the memory is given back");
}

#[test]
fn absurd_times_give_way() {
    let check = |first: i64, last: i64, expect: (i64, i64)| {
        let e = cleaned(Event { first_us: first, last_us: last, ..row() });
        assert_eq!((e.first_us, e.last_us), expect, "{first} {last}");
    };
    check(0, 0, (NOW, NOW));
    check(NOW - 5, i64::MAX, (NOW - 5, NOW - 5));
    check(i64::MIN, NOW - 5, (NOW - 5, NOW - 5));
    check(NOW, NOW - 5, (NOW - 5, NOW - 5));
    check(NOW - 5, NOW + AHEAD_US_MAX, (NOW - 5, NOW + AHEAD_US_MAX));
    check(-62_135_596_800_000_000, 253_402_300_799_000_000, (NOW, NOW));
}

#[test]
fn a_row_needs_a_uid() {
    let check = |uid: &str| {
        let mut e = Event { uid: uid.into(), ..row() };
        assert!(e.clean(NOW, MESSAGE_BYTES).is_err(), "{uid:?}");
    };
    check("");
    check("a b");
    check("a\n");
    check("ä");
    check(&"x".repeat(UID_BYTES_MAX + 1));
}

#[test]
fn the_later_state_wins_in_any_order() {
    let early = row();
    let later = Event { resource_version: 9, count: 1, ..row() };
    assert!(later.supersedes(&early) && !early.supersedes(&later));
    assert!(!early.supersedes(&early));
    let enriched = Event { owner: "Deployment/web".into(), ..row() };
    assert!(enriched.supersedes(&early));
}

#[test]
fn json_names_are_stable() {
    let text = serde_json::to_string(&row()).expect("serialises");
    assert_eq!(
        text,
        r#"{"uid":"355734be-7098-4372-990e-de09edd1c4a6","resource_version":7,"namespace":"shop","kind":"Pod","name":"web-a","reason":"BackOff","type":"Warning","message":"Back-off restarting failed container","count":3,"first_us":1789999940000000,"last_us":1789999999000000,"received_us":1790000000000000}"#
    );
    assert_eq!(serde_json::from_str::<Event>(&text).expect("parses"), row());
}

proptest! {
    #[test]
    fn cleaning_twice_changes_nothing(
        message in any::<String>(),
        name in any::<String>(),
        first in any::<i64>(),
        last in any::<i64>(),
        limit in 0usize..40,
    ) {
        let mut e = Event { message, name, first_us: first, last_us: last, ..row() };
        e.clean(NOW, limit).expect("a uid");
        let once = e.clone();
        e.clean(NOW, limit).expect("a uid");
        prop_assert_eq!(&e, &once);
        prop_assert!(e.message.len() <= limit && e.first_us <= e.last_us);
    }
}

fn some_state() -> impl Strategy<Value = Event> {
    (0u64..3, 0u32..3, 0i64..3, 0i64..3, 0i64..3, "[ab]?").prop_map(
        |(rv, count, first, last, at, owner)| Event {
            resource_version: rv,
            count,
            first_us: NOW + first,
            last_us: NOW + last + 3,
            received_us: NOW + at,
            owner,
            ..row()
        },
    )
}

proptest! {
    #[test]
    fn merging_is_a_join(a in some_state(), b in some_state(), c in some_state()) {
        let join = |x: &Event, y: &Event| { let mut z = x.clone(); z.merge(y); z };
        prop_assert_eq!(join(&a, &b), join(&b, &a));
        prop_assert_eq!(join(&join(&a, &b), &c), join(&a, &join(&b, &c)));
        prop_assert!(!a.clone().merge(&a));
    }
}
