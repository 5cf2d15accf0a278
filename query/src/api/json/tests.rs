use periplus_promql::value::StepMatrix;

use super::*;

#[track_caller]
fn written(write: impl FnOnce(&mut Writer)) -> String {
    let mut w = Writer::new();
    write(&mut w);
    String::from_utf8(w.finish().to_vec()).unwrap()
}

#[test]
fn values_as_go_prints_them() {
    let cases = [
        (0.0, "0"),
        (-0.0, "-0"),
        (1.0, "1"),
        (-17.0, "-17"),
        (0.1, "0.1"),
        (123456.789, "123456.789"),
        (1e15, "1000000000000000"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1.5e300, "1.5e+300"),
        (0.00001, "0.00001"),
        (0.000001, "0.000001"),
        (1e-7, "1e-07"),
        (2.5e-10, "2.5e-10"),
        (f64::INFINITY, "+Inf"),
        (f64::NEG_INFINITY, "-Inf"),
        (f64::NAN, "NaN"),
        (0.1 + 0.2, "0.30000000000000004"),
        (9007199254740993.0, "9007199254740992"),
        (1.0 / 3.0, "0.3333333333333333"),
    ];
    for (v, text) in cases {
        assert_eq!(written(|w| w.value(v)), format!("\"{text}\""), "{v:e}");
    }
}

/// The fast ways print what the slow and exact one prints.
#[test]
fn all_ways_of_printing_agree() {
    let mut state = 1u64;
    for i in 0..200_000 {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let bits = state ^ (state >> 29);
        let v = match i % 4 {
            0 => f64::from_bits(bits),
            1 => (bits >> 11) as f64 / (1u64 << 53) as f64,
            2 => (bits >> 44) as f64 / 100.0,
            _ => (bits >> 30) as f64 * 0.001,
        };
        assert_eq!(
            written(|w| w.value(v)),
            format!("\"{}\"", format_json(v)),
            "{:016x}",
            v.to_bits()
        );
    }
}

#[test]
fn timestamps_have_three_decimals_or_none() {
    let cases = [
        (0, "0"),
        (1_435_781_430_781, "1435781430.781"),
        (5_000, "5"),
        (5_001, "5.001"),
        (5_100, "5.100"),
        (-1_500, "-1.500"),
    ];
    for (t, text) in cases {
        assert_eq!(written(|w| w.timestamp(t)), text);
    }
}

#[test]
fn strings_are_escaped_as_little_as_there() {
    assert_eq!(written(|w| w.label("a<b>&\"\\\n\t\u{1}é")), "\"a<b>&\\\"\\\\\\n\\t\\u0001é\"");
    assert_eq!(written(|w| w.string("a<b>&\u{2028}é")), "\"a\\u003cb\\u003e\\u0026\\u2028é\"");
}

#[test]
fn a_series_with_floats_and_histograms() {
    let h = FloatHistogram {
        count: 3.0,
        sum: 4.5,
        schema: 0,
        positive_spans: vec![periplus_model::Span { offset: 0, length: 2 }],
        positive_buckets: vec![1.0, 2.0],
        ..FloatHistogram::default()
    };
    let grid = StepGrid { start_ms: 1000, end_ms: 2000, step_ms: 1000 };
    let series = vec![StepSeries {
        labels: Labels::from_pairs([("a", "b")]),
        values: vec![1.5, 0.0],
        present: periplus_promql::value::Bitmap::new(2, true),
        histograms: vec![(1, std::sync::Arc::new(h))],
    }];
    let text = written(|w| result(w, &Value::Vector(StepMatrix { grid, series }), None));
    assert_eq!(
        text,
        "\"resultType\":\"matrix\",\"result\":[{\"metric\":{\"a\":\"b\"},\"values\":[[1,\"1.5\"]],\
         \"histograms\":[[2,{\"count\":\"3\",\"sum\":\"4.5\",\"buckets\":[[0,\"0.5\",\"1\",\"1\"],\
         [0,\"1\",\"2\",\"2\"]]}]]}]"
    );
}

/// In pieces of any size it is the same text.
#[test]
fn a_result_can_be_interrupted() {
    let grid = StepGrid { start_ms: 0, end_ms: 2_000, step_ms: 1_000 };
    let series = |i: usize| StepSeries {
        labels: Labels::from_pairs([("pod", format!("p{i}"))]),
        values: vec![i as f64, 0.5, f64::NAN],
        // Every third has nothing to show.
        present: periplus_promql::value::Bitmap::new(3, !i.is_multiple_of(3)),
        histograms: Vec::new(),
    };
    let value = Value::Vector(StepMatrix { grid, series: (0..10).map(series).collect() });
    let whole = written(|w| result(w, &value, None));
    for enough in [0, 1, 100, 1000] {
        let (mut cursor, mut text, mut last) = (Cursor::default(), String::new(), false);
        while !last {
            text.push_str(&written(|w| last = cursor.write(w, &value, None, enough.max(1))));
        }
        assert_eq!(text, whole);
    }
    assert_eq!(whole.matches("metric").count(), 6);
}
