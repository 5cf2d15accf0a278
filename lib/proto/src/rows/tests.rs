use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::fleet::{Batch, Row};
use crate::{WireError, WireLimits};

fn limits() -> WireLimits {
    WireLimits { cells_max: 100_000, ..WireLimits::default() }
}

fn row_of(steps: usize) -> impl Strategy<Value = ResultRow> {
    let labels = proptest::collection::btree_map("[a-z]{1,8}", "[a-z0-9]{1,8}", 0..5);
    let bits = proptest::collection::vec(any::<bool>(), steps);
    let values = proptest::collection::vec(any::<f64>(), steps);
    (labels, bits, values).prop_map(move |(labels, bits, values)| {
        let mut present = vec![0u64; steps.div_ceil(64)];
        let mut column = vec![0.0; steps];
        let mut histograms = Vec::new();
        for (i, (bit, value)) in bits.iter().zip(&values).enumerate() {
            if !bit {
                continue;
            }
            present[i / 64] |= 1 << (i % 64);
            column[i] = *value;
            if i % 7 == 3 {
                let h = FloatHistogram { count: *value, ..FloatHistogram::default() };
                let step = i as u32;
                histograms.push(HistogramPoint {
                    step,
                    histogram: Arc::new(h),
                    compensation: None,
                });
            }
        }
        let columns = vec![column.clone(), column];
        ResultRow { labels: Labels::from_pairs(labels), present, columns, histograms }
    })
}

fn send(steps: usize, rows: &[ResultRow]) -> Result<Vec<ResultRow>, WireError> {
    let (mut encoder, mut decoder) =
        (BatchEncoder::new(steps), BatchDecoder::new(steps, 2, limits()));
    let mut batches = Vec::new();
    for row in rows {
        let columns: Vec<&[f64]> = row.columns.iter().map(Vec::as_slice).collect();
        let histograms: Vec<HistogramRef<'_>> = row
            .histograms
            .iter()
            .map(|h| HistogramRef { step: h.step, histogram: &h.histogram, compensation: None })
            .collect();
        batches.extend(encoder.push(RowRef {
            labels: &row.labels,
            present: &row.present,
            columns: &columns,
            histograms: &histograms,
        }));
    }
    batches.extend(encoder.finish());
    let mut out = Vec::new();
    for batch in batches {
        out.extend(decoder.decode(batch)?);
    }
    Ok(out)
}

/// Labels, present bits, bits of the columns, number of histograms.
type Bits = (String, Vec<u64>, Vec<Vec<u64>>, usize);

fn bits(rows: &[ResultRow]) -> Vec<Bits> {
    let column = |c: &Vec<f64>| c.iter().map(|v| v.to_bits()).collect();
    rows.iter()
        .map(|r| {
            let columns = r.columns.iter().map(column).collect();
            (format!("{:?}", r.labels), r.present.clone(), columns, r.histograms.len())
        })
        .collect()
}

proptest! {
    #[test]
    fn rows_survive(
        rows in (1usize..150).prop_flat_map(|n| (Just(n), proptest::collection::vec(row_of(n), 0..20)))
    ) {
        let (steps, mut rows) = rows;
        let back = send(steps, &rows).unwrap();
        rows.retain(|r| r.present.iter().any(|w| *w != 0));
        prop_assert_eq!(bits(&back), bits(&rows));
    }

    #[test]
    fn garbage_never_panics(
        symbols in proptest::collection::vec(".{0,3}", 0..4),
        label_refs in proptest::collection::vec(0u32..6, 0..6),
        present in proptest::collection::vec(any::<u8>(), 0..12),
        column in proptest::collection::vec(any::<u8>(), 0..40),
        steps in 0usize..80,
    ) {
        let row = Row {
            label_refs,
            present: Bytes::from(present),
            columns: vec![Bytes::from(column)],
            histograms: Vec::new(),
        };
        let _ = BatchDecoder::new(steps, 1, limits()).decode(Batch { symbols, rows: vec![row] });
    }
}

#[test]
fn a_small_message_can_not_ask_for_much_memory() {
    let rows = vec![Row { columns: vec![Bytes::new()], ..Row::default() }; 10];
    let batch = Batch { symbols: Vec::new(), rows };
    let error = BatchDecoder::new(1 << 40, 1, limits()).decode(batch).unwrap_err();
    assert!(matches!(error, WireError::TooLarge { .. }), "{error}");
}

#[test]
fn references_are_checked() {
    let bad = [vec![0, 1, 2], vec![0, 7], vec![2, 1, 0, 1], vec![0, 1, 0, 1]];
    for label_refs in bad {
        let columns = vec![Bytes::from_static(&[0; 8])];
        let row = Row { label_refs, columns, ..Row::default() };
        let symbols = vec!["a".to_owned(), "x".to_owned(), "b".to_owned()];
        let batch = Batch { symbols, rows: vec![row.clone()] };
        let decoded = BatchDecoder::new(1, 1, limits()).decode(batch);
        assert!(decoded.is_err(), "{:?}", row.label_refs);
    }
}
