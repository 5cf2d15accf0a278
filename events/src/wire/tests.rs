use super::*;

fn batch(n: usize) -> Batch {
    let event = |i: usize| Event {
        uid: format!("u-{i}"),
        message: "Back-off restarting failed container".to_owned(),
        count: 3,
        ..Event::default()
    };
    let gap = Gap { id: "g".into(), from_us: 1, to_us: 2, ..Gap::default() };
    Batch {
        version: VERSION,
        sender: "spool".into(),
        sequence: 7,
        events: (0..n).map(event).collect(),
        gaps: vec![gap],
    }
}

#[test]
fn what_is_encoded_is_decoded() {
    let limits = WireLimits::default();
    for encoding in [Encoding::Identity, Encoding::Gzip, Encoding::Zstd] {
        let bytes = batch(50).encode(encoding).unwrap();
        assert_eq!(Batch::decode(&bytes, encoding, &limits).unwrap(), batch(50));
        assert_eq!(Encoding::parse(encoding.as_str()).unwrap(), encoding);
    }
    assert!(Encoding::parse("br").is_err());
}

#[test]
fn bombs_are_refused_without_being_unpacked() {
    let limits = WireLimits { decoded_bytes_max: 1 << 20, ..WireLimits::default() };
    // A thousand times as large as it looks.
    let zeros = vec![b' '; 64 << 20];
    for encoding in [Encoding::Gzip, Encoding::Zstd] {
        let bomb = compress(&zeros, encoding).unwrap();
        assert!(bomb.len() < limits.body_bytes_max);
        assert!(Batch::decode(&bomb, encoding, &limits).unwrap_err().is_too_large());
    }
    assert!(Batch::decode(&zeros, Encoding::Identity, &limits).unwrap_err().is_too_large());
    // Small in bytes, large in memory.
    let limits = WireLimits { events_max: 100, ..WireLimits::default() };
    let many = format!("{{\"events\":[{}{{}}]}}", "{},".repeat(1_000_000));
    let error = Batch::decode(many.as_bytes(), Encoding::Identity, &limits).unwrap_err();
    assert!(error.is_too_large() && error.to_string().contains("100 events"), "{error}");
    // A zstd frame that asks for a window of 2 GiB.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00];
    assert!(Batch::decode(&frame, Encoding::Zstd, &limits).is_err());
}

#[test]
fn other_shapes_are_errors_and_newer_fields_are_skipped() {
    let limits = WireLimits::default();
    let decode = |text: &str| Batch::decode(text.as_bytes(), Encoding::Identity, &limits);
    for text in ["", "[]", "{", "{}x", "{\"events\":{}}", "{\"version\":-1}", "\u{0}"] {
        assert!(decode(text).is_err(), "{text}");
    }
    assert!(matches!(decode("{\"version\":99}"), Err(WireError::Version(99))));
    let deep = format!("{{\"x\":{}", "[".repeat(100_000));
    assert!(decode(&deep).is_err());
    let newer = r#"{"version":1,"mood":{"a":[1]},"events":[{"uid":"u","smell":"good"}]}"#;
    let got = decode(newer).unwrap();
    assert_eq!((got.events.len(), got.events[0].uid.as_str()), (1, "u"));
    // Invalid UTF-8 and a lone surrogate.
    let bytes = b"{\"events\":[{\"uid\":\"u\",\"message\":\"\xff\"}]}";
    assert!(Batch::decode(bytes, Encoding::Identity, &limits).is_err());
    assert!(decode(r#"{"events":[{"uid":"u","message":"\ud800"}]}"#).is_err());
}

#[test]
fn reports_of_one_gap_merge_in_any_order() {
    let report = |from, to, events| Gap {
        id: "g".into(),
        from_us: from,
        to_us: to,
        events,
        reason: format!("r{from}"),
        ..Gap::default()
    };
    let all = [report(5, 9, 3), report(2, 6, 7), report(4, 12, 1)];
    let fold = |order: [usize; 4]| {
        let mut gap = all[order[0]].clone();
        for i in &order[1..] {
            gap.merge(&all[*i]);
        }
        gap
    };
    let want = fold([0, 1, 2, 2]);
    assert_eq!((want.from_us, want.to_us, want.events), (2, 12, 7));
    for order in [[0, 2, 1, 0], [1, 0, 2, 1], [1, 2, 0, 0], [2, 0, 1, 2], [2, 1, 0, 1]] {
        assert_eq!(fold(order), want);
    }
    let mut turned = report(9, 5, 0);
    assert!(turned.clean() && turned.from_us == 5);
}
