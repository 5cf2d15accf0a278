//! Prometheus remote write, version 1: the body of a request that stores samples.
//!
//! Only what sending needs, written by hand: `WriteRequest { 1: repeated TimeSeries }`,
//! `TimeSeries { 1: repeated Label, 2: repeated Sample }`, `Label { 1: name, 2: value }`,
//! `Sample { 1: double value, 2: int64 timestamp }`, the whole compressed as one Snappy block.

use periplus_model::Labels;

/// Headers a request needs besides its length.
pub const HEADERS: [(&str, &str); 3] = [
    ("content-type", "application/x-protobuf"),
    ("content-encoding", "snappy"),
    ("x-prometheus-remote-write-version", "0.1.0"),
];

/// A request's body, built series by series.
#[derive(Debug, Default)]
pub struct Request {
    message: Vec<u8>,
    samples: usize,
}

impl Request {
    /// Adds a series with its samples, which must be in order of time. Without samples nothing is
    /// added.
    pub fn add(&mut self, labels: &Labels, samples: &[(i64, f64)]) {
        if samples.is_empty() {
            return;
        }
        let mut series = Vec::with_capacity(64 + 18 * samples.len());
        for (name, value) in labels {
            let mut label = Vec::with_capacity(name.len() + value.len() + 8);
            push_bytes(&mut label, 1, name.as_bytes());
            push_bytes(&mut label, 2, value.as_bytes());
            push_bytes(&mut series, 1, &label);
        }
        for (t_ms, v) in samples {
            let mut sample = Vec::with_capacity(20);
            sample.push(1 << 3 | 1);
            sample.extend_from_slice(&v.to_le_bytes());
            sample.push(2 << 3);
            push_varint(&mut sample, *t_ms as u64);
            push_bytes(&mut series, 2, &sample);
        }
        push_bytes(&mut self.message, 1, &series);
        self.samples += samples.len();
    }

    /// Samples added so far.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// The compressed body, `None` where nothing was added or it is beyond what Snappy can hold
    /// (4 GiB).
    #[must_use]
    pub fn body(&self) -> Option<Vec<u8>> {
        if self.samples == 0 {
            return None;
        }
        snap::raw::Encoder::new().compress_vec(&self.message).ok()
    }
}

fn push_varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

fn push_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    push_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_as_protobuf_writes_it() {
        let mut r = Request::default();
        r.add(&Labels::empty(), &[]);
        assert_eq!(r.body(), None);
        r.add(&Labels::from_pairs([("a", "b")]), &[(300, 1.0)]);
        let body = r.body().expect("a body");
        let plain = snap::raw::Decoder::new().decompress_vec(&body).expect("snappy");
        let expect: &[u8] = &[
            0x0a, 22, 0x0a, 6, 0x0a, 1, b'a', 0x12, 1, b'b', 0x12, 12, 0x09, 0, 0, 0, 0, 0, 0,
            0xf0, 0x3f, 0x10, 0xac, 0x02,
        ];
        assert_eq!(plain, expect);
    }
}
