//! Prometheus's JSON, byte for byte, written straight from columns.
//!
//! Two things differ from what a general serializer does: strings inside of metrics are escaped as
//! little as JSON asks for while all others escape `<`, `>` and `&` too, and numbers are strings. The
//! timestamps of a grid are written once and copied for every series.

use bytes::Bytes;
use periplus_model::float::format_json;
use periplus_model::{FloatHistogram, Labels, SampleBuffer};
use periplus_promql::value::{StepGrid, StepSeries, Value};

/// Appends JSON to a buffer.
#[derive(Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self { out: Vec::with_capacity(1024) }
    }

    /// An empty one with room for so many bytes and a series that goes beyond them.
    #[must_use]
    pub fn with_room(bytes: usize) -> Self {
        Self { out: Vec::with_capacity(bytes + bytes / 4) }
    }

    /// What was written.
    #[must_use]
    pub fn finish(self) -> Bytes {
        Bytes::from(self.out)
    }

    /// Bytes written and not yet taken.
    #[must_use]
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing is waiting.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Whether a brace or bracket was just opened, so that no comma has to follow.
    #[must_use]
    pub fn ends_open(&self) -> bool {
        matches!(self.out.last(), None | Some(b'{' | b'['))
    }

    /// Bytes as they are.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// An integer.
    pub fn integer(&mut self, n: i64) {
        self.raw(itoa::Buffer::new().format(n).as_bytes());
    }

    /// A string outside of metrics.
    pub fn string(&mut self, s: &str) {
        self.quoted(s, true);
    }

    /// A string of a metric.
    pub fn label(&mut self, s: &str) {
        self.quoted(s, false);
    }

    fn quoted(&mut self, s: &str, html: bool) {
        self.out.push(b'"');
        let bytes = s.as_bytes();
        let mut from = 0;
        for (i, b) in bytes.iter().enumerate() {
            let separator = html && *b == 0xe2 && is_line_separator(bytes, i);
            let escaped = match *b {
                0..0x20 | b'"' | b'\\' => true,
                b'<' | b'>' | b'&' => html,
                _ => separator,
            };
            if !escaped {
                continue;
            }
            self.out.extend_from_slice(bytes.get(from..i).unwrap_or_default());
            from = i + 1;
            match *b {
                b'"' | b'\\' => self.out.extend_from_slice(&[b'\\', *b]),
                b'\n' => self.raw(b"\\n"),
                b'\r' => self.raw(b"\\r"),
                b'\t' => self.raw(b"\\t"),
                _ if separator => {
                    self.raw(b"\\u202");
                    self.out.push(if bytes.get(i + 2) == Some(&0xa8) { b'8' } else { b'9' });
                    from = i + 3;
                }
                control => {
                    let hex = |n: u8| if n < 10 { b'0' + n } else { b'a' + n - 10 };
                    self.raw(b"\\u00");
                    self.out.extend_from_slice(&[hex(control >> 4), hex(control & 15)]);
                }
            }
        }
        self.out.extend_from_slice(bytes.get(from..).unwrap_or_default());
        self.out.push(b'"');
    }

    /// A list of strings.
    pub fn strings<S: AsRef<str>>(&mut self, all: &[S]) {
        self.out.push(b'[');
        for (i, s) in all.iter().enumerate() {
            if i > 0 {
                self.out.push(b',');
            }
            self.string(s.as_ref());
        }
        self.out.push(b']');
    }

    /// A label set.
    pub fn labels(&mut self, labels: &Labels) {
        self.out.push(b'{');
        for (i, (n, v)) in labels.iter().enumerate() {
            if i > 0 {
                self.out.push(b',');
            }
            self.label(n);
            self.out.push(b':');
            self.label(v);
        }
        self.out.push(b'}');
    }

    /// Milliseconds as seconds with three decimals, or none.
    pub fn timestamp(&mut self, t_ms: i64) {
        if t_ms < 0 {
            self.out.push(b'-');
        }
        let t = t_ms.unsigned_abs();
        self.raw(itoa::Buffer::new().format(t / 1000).as_bytes());
        let ms = (t % 1000) as u16;
        if ms != 0 {
            let digit = |n: u16| b'0' + (n % 10) as u8;
            self.out.extend_from_slice(&[b'.', digit(ms / 100), digit(ms / 10), digit(ms)]);
        }
    }

    /// A sample value, quoted.
    pub fn value(&mut self, v: f64) {
        self.out.push(b'"');
        self.digits(v);
        self.out.push(b'"');
    }

    /// A sample value. Most are whole numbers or of middling size; the rest takes the slow and exact way.
    fn digits(&mut self, v: f64) {
        // The cast saturates, and NaN becomes 0, which it does not equal: nothing odd passes.
        let whole = v as i64;
        if whole as f64 == v
            && whole.unsigned_abs() < 1_000_000_000_000_000
            && (whole != 0 || v.is_sign_positive())
        {
            self.raw(itoa::Buffer::new().format(whole).as_bytes());
        } else if (1e-5..1e15).contains(&v.abs()) {
            self.raw(zmij::Buffer::new().format_finite(v).as_bytes());
        } else {
            self.raw(format_json(v).as_bytes());
        }
    }

    fn histogram(&mut self, h: &FloatHistogram) {
        self.raw(b"{\"count\":");
        self.value(h.count);
        self.raw(b",\"sum\":");
        self.value(h.sum);
        let mut first = true;
        for b in h.iter_all().filter(|b| b.count != 0.0) {
            self.raw(if first { b",\"buckets\":[[" } else { b",[" });
            first = false;
            self.out.push(match (b.lower_inclusive, b.upper_inclusive) {
                (false, true) => b'0',
                (true, false) => b'1',
                (false, false) => b'2',
                (true, true) => b'3',
            });
            for v in [b.lower, b.upper, b.count] {
                self.out.push(b',');
                self.value(v);
            }
            self.out.push(b']');
        }
        if !first {
            self.out.push(b']');
        }
        self.out.push(b'}');
    }

    /// A series of an instant vector.
    fn instant(&mut self, s: &StepSeries, t_ms: i64) {
        self.raw(b"{\"metric\":");
        self.labels(&s.labels);
        let histogram = s.histogram_at(0);
        let field: &[u8] = match histogram {
            Some(_) => b",\"histogram\":[",
            None => b",\"value\":[",
        };
        self.raw(field);
        self.timestamp(t_ms);
        self.out.push(b',');
        match histogram {
            Some(h) => self.histogram(h),
            None => self.value(s.values.first().copied().unwrap_or(f64::NAN)),
        }
        self.raw(b"]}");
    }

    fn range(&mut self, s: &StepSeries, times: &StepTimes) {
        self.raw(b"{\"metric\":");
        self.labels(&s.labels);
        let mut histograms = s.histograms.iter().map(|(step, _)| *step as usize).peekable();
        let mut first = true;
        for i in s.present.ones() {
            if histograms.next_if_eq(&i).is_some() {
                continue;
            }
            let time = times.of(i);
            match std::mem::take(&mut first) {
                true => {
                    self.raw(b",\"values\":[");
                    self.raw(time.get(1..).unwrap_or_default());
                }
                false => self.raw(time),
            }
            self.digits(s.values.get(i).copied().unwrap_or(f64::NAN));
            self.raw(b"\"]");
        }
        if !first {
            self.out.push(b']');
        }
        let mut first = true;
        for (step, h) in &s.histograms {
            let field: &[u8] = if first { b",\"histograms\":[" } else { b"," };
            self.raw(field);
            first = false;
            let time = times.of(*step as usize);
            // Without the comma before it, and the quote behind it.
            self.raw(time.get(1..time.len().saturating_sub(1)).unwrap_or_default());
            self.histogram(h);
            self.out.push(b']');
        }
        if !first {
            self.out.push(b']');
        }
        self.out.push(b'}');
    }

    fn samples(&mut self, labels: &Labels, samples: &SampleBuffer) {
        self.raw(b"{\"metric\":");
        self.labels(labels);
        for histograms in [false, true] {
            let mut first = true;
            for (i, t) in samples.ts.iter().enumerate() {
                let h = samples.histogram_at(i);
                if h.is_some() != histograms {
                    continue;
                }
                let field: &[u8] = match (first, histograms) {
                    (true, false) => b",\"values\":[[",
                    (true, true) => b",\"histograms\":[[",
                    (false, _) => b",[",
                };
                self.raw(field);
                first = false;
                self.timestamp(*t);
                self.out.push(b',');
                match h {
                    Some(h) => self.histogram(h),
                    None => self.value(samples.values.get(i).copied().unwrap_or(f64::NAN)),
                }
                self.out.push(b']');
            }
            if !first {
                self.out.push(b']');
            }
        }
        self.out.push(b'}');
    }
}

fn is_line_separator(bytes: &[u8], i: usize) -> bool {
    matches!(bytes.get(i..i + 3), Some([0xe2, 0x80, 0xa8 | 0xa9]))
}

/// `,[t,"` for every step of a grid, so that a point is three pieces: this, the digits, and `"]`.
#[derive(Debug)]
struct StepTimes {
    text: Vec<u8>,
    ends: Vec<u32>,
}

impl StepTimes {
    fn new(grid: StepGrid) -> Self {
        let mut w = Writer::new();
        let mut ends = Vec::with_capacity(grid.steps().min(1 << 20));
        for i in 0..grid.steps() {
            w.raw(b",[");
            w.timestamp(grid.time(i));
            w.raw(b",\"");
            ends.push(w.len() as u32);
        }
        Self { text: w.out, ends }
    }

    fn of(&self, i: usize) -> &[u8] {
        let from = match i.checked_sub(1) {
            None => 0,
            Some(before) => self.ends.get(before).copied().unwrap_or(0) as usize,
        };
        let to = self.ends.get(i).copied().unwrap_or(0) as usize;
        self.text.get(from..to).unwrap_or_default()
    }
}

/// Writes `"resultType":…,"result":…`. For an instant query `instant` is its time.
pub fn result(w: &mut Writer, value: &Value, instant: Option<i64>) {
    Cursor::default().write(w, value, instant, usize::MAX);
}

/// How far a result is written, so that it can be written piece by piece.
#[derive(Debug, Default)]
pub struct Cursor {
    begun: bool,
    /// The series that is looked at next.
    next: usize,
    /// Whether a series was written.
    any: bool,
    times: Option<StepTimes>,
}

impl Cursor {
    /// Whether nothing was written yet.
    #[must_use]
    pub const fn is_new(&self) -> bool {
        !self.begun
    }

    /// Writes on until at least `enough` bytes wait in `w`, by whole series; whether the result is at its end.
    pub fn write(
        &mut self,
        w: &mut Writer,
        value: &Value,
        instant: Option<i64>,
        enough: usize,
    ) -> bool {
        match value {
            Value::Scalar { grid, values } if instant.is_some() => {
                w.raw(b"\"resultType\":\"scalar\",\"result\":[");
                w.timestamp(grid.start_ms);
                w.raw(b",");
                w.value(values.first().copied().unwrap_or(f64::NAN));
                w.raw(b"]");
                true
            }
            // A range query of a scalar is a series without labels.
            Value::Scalar { grid, values } => {
                let series = StepSeries {
                    labels: Labels::empty(),
                    values: values.clone(),
                    present: periplus_promql::value::Bitmap::new(grid.steps(), true),
                    histograms: Vec::new(),
                };
                self.open(w, b"matrix");
                w.range(&series, &StepTimes::new(*grid));
                w.raw(b"]");
                true
            }
            Value::String(text) => {
                w.raw(b"\"resultType\":\"string\",\"result\":[");
                w.timestamp(instant.unwrap_or(0));
                w.raw(b",");
                w.string(text);
                w.raw(b"]");
                true
            }
            Value::Vector(m) if instant.is_some() => {
                self.open(w, b"vector");
                let there = |s: &StepSeries| s.present.get(0);
                self.series(w, &m.series, there, enough, |w, s| w.instant(s, m.grid.start_ms))
            }
            Value::Vector(m) => {
                self.open(w, b"matrix");
                let times = self.times.take().unwrap_or_else(|| StepTimes::new(m.grid));
                let there = |s: &StepSeries| s.present.ones().next().is_some();
                let ended = self.series(w, &m.series, there, enough, |w, s| w.range(s, &times));
                self.times = Some(times);
                ended
            }
            Value::Range(all) => {
                self.open(w, b"matrix");
                self.series(w, all, |_| true, enough, |w, (labels, s)| w.samples(labels, s))
            }
        }
    }

    fn open(&mut self, w: &mut Writer, kind: &[u8]) {
        if !std::mem::replace(&mut self.begun, true) {
            w.raw(b"\"resultType\":\"");
            w.raw(kind);
            w.raw(b"\",\"result\":[");
        }
    }

    /// Writes series from the next on; the bracket behind the last.
    fn series<S>(
        &mut self,
        w: &mut Writer,
        all: &[S],
        there: impl Fn(&S) -> bool,
        enough: usize,
        one: impl Fn(&mut Writer, &S),
    ) -> bool {
        while let Some(s) = all.get(self.next) {
            if w.len() >= enough {
                return false;
            }
            self.next += 1;
            if !there(s) {
                continue;
            }
            if std::mem::replace(&mut self.any, true) {
                w.raw(b",");
            }
            one(w, s);
        }
        w.raw(b"]");
        true
    }
}

#[cfg(test)]
mod tests;
