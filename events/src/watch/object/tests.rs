use super::*;
use crate::event::MESSAGE_BYTES;

const NOW: i64 = 1_795_300_000_000_000;

fn event(json: &str) -> Event {
    let line = format!(r#"{{"type":"ADDED","object":{json}}}"#);
    match super::line(line.as_bytes()).expect("a line") {
        Line::Event(object) => object.into_event("eu-1", NOW, MESSAGE_BYTES).expect("a row"),
        other => panic!("{other:?}"),
    }
}

fn us(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().expect("a time").as_microsecond()
}

#[test]
fn both_spellings_give_one_row() {
    let core = event(
        r#"{"kind":"Event","apiVersion":"v1","metadata":{"name":"web-a.1","namespace":"shop","uid":"u1","resourceVersion":"491","creationTimestamp":"2026-11-21T14:46:05Z","managedFields":[{"x":[{"y":{}}]}]},"involvedObject":{"kind":"Pod","namespace":"shop","name":"web-a","uid":"p1","fieldPath":"spec.containers{app}"},"reason":"BackOff","message":"Back-off","source":{"component":"kubelet","host":"node-a"},"firstTimestamp":"2026-11-21T14:46:05Z","lastTimestamp":"2026-11-21T14:46:09Z","count":6,"type":"Warning","eventTime":null,"reportingComponent":"kubelet","reportingInstance":"node-a"}"#,
    );
    let newer = event(
        r#"{"metadata":{"name":"web-a.1","namespace":"shop","uid":"u1","resourceVersion":"491","creationTimestamp":"2026-11-21T14:46:05Z"},"eventTime":null,"reportingController":"kubelet","reportingInstance":"node-a","reason":"BackOff","regarding":{"kind":"Pod","namespace":"shop","name":"web-a","uid":"p1","fieldPath":"spec.containers{app}"},"note":"Back-off","type":"Warning","deprecatedSource":{"component":"kubelet","host":"node-a"},"deprecatedFirstTimestamp":"2026-11-21T14:46:05Z","deprecatedLastTimestamp":"2026-11-21T14:46:09Z","deprecatedCount":6}"#,
    );
    assert_eq!(core, newer);
    assert_eq!((core.count, core.resource_version), (6, 491));
    assert_eq!(
        (core.first_us, core.last_us),
        (us("2026-11-21T14:46:05Z"), us("2026-11-21T14:46:09Z"))
    );
    assert_eq!(
        (core.kind.as_str(), core.name.as_str(), core.reporter_instance.as_str()),
        ("Pod", "web-a", "node-a")
    );
}

#[test]
fn the_larger_count_and_the_latest_time_win() {
    let check = |fields: &str, count: u32, first: &str, last: &str| {
        let e = event(&format!(
            r#"{{"metadata":{{"uid":"u","creationTimestamp":"2026-11-21T14:00:00Z"}},{fields}}}"#
        ));
        assert_eq!((e.count, e.first_us, e.last_us), (count, us(first), us(last)), "{fields}");
    };
    let created = "2026-11-21T14:00:00Z";
    check(r#""eventTime":null"#, 1, created, created);
    check(r#""count":-3"#, 1, created, created);
    check(r#""count":2147483647"#, 2_147_483_647, created, created);
    check(
        r#""eventTime":"2026-11-21T14:00:00.884208Z""#,
        1,
        "2026-11-21T14:00:00.884208Z",
        "2026-11-21T14:00:00.884208Z",
    );
    check(
        r#""eventTime":"2026-11-21T14:00:00.5Z","series":{"count":19,"lastObservedTime":"2026-11-21T14:00:09.25Z"},"count":4"#,
        19,
        "2026-11-21T14:00:00.5Z",
        "2026-11-21T14:00:09.25Z",
    );
    check(
        r#""firstTimestamp":"0001-01-01T00:00:00Z","lastTimestamp":"9999-01-01T00:00:00Z""#,
        1,
        created,
        created,
    );
    check(
        r#""firstTimestamp":"2030-01-01T00:00:00Z","lastTimestamp":"2026-11-21T14:00:02Z""#,
        1,
        created,
        "2026-11-21T14:00:02Z",
    );
    check(r#""firstTimestamp":"yesterday","lastTimestamp":"""#, 1, created, created);
}

#[test]
fn broken_text_is_repaired() {
    let bytes = b"{\"type\":\"ADDED\",\"object\":{\"metadata\":{\"uid\":\"u\"},\"message\":\"a\xff\\ud800b\\ud83d\\ude00\\\\ud800\"}}";
    let Ok(Line::Event(object)) = line(bytes) else { panic!("no event") };
    let event = object.into_event("c", NOW, MESSAGE_BYTES).expect("a row");
    assert_eq!(event.message, "a\u{fffd}\u{fffd}b\u{1f600}\\ud800");
}

#[test]
fn other_lines_are_told_apart() {
    let Ok(Line::Error(status)) = line(br#"{"type":"ERROR","object":{"kind":"Status","metadata":{},"status":"Failure","message":"too old","reason":"Expired","code":410}}"#) else {
        panic!("no error")
    };
    assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
    let bookmark = br#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"516","annotations":{"k8s.io/initial-events-end":"true"}},"involvedObject":{},"source":{},"firstTimestamp":null}}"#;
    assert!(matches!(
        line(bookmark),
        Ok(Line::Bookmark { resource_version: 516, initial_events_end: true })
    ));
    for broken in [&b"{"[..], b"", b"[]", b"{\"type\":\"ADDED\"}", br#"{"type":"X","object":{}}"#] {
        assert!(line(broken).is_err(), "{}", String::from_utf8_lossy(broken));
    }
    let deep = format!(r#"{{"type":"ADDED","object":{}}}"#, "[".repeat(1 << 20));
    assert!(line(deep.as_bytes()).is_err());
    let Ok(Line::Event(nameless)) = line(br#"{"type":"ADDED","object":{"metadata":null}}"#) else {
        panic!()
    };
    assert!(nameless.into_event("c", NOW, MESSAGE_BYTES).is_err());
}
