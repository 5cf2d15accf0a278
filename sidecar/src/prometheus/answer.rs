//! Query results of the HTTP API, read from the stream into columns.
//!
//! The text is never held whole when it is long: a blocking reader takes it piece by piece from a bounded
//! channel, and each value goes where it belongs as it is read. Values are exact: Prometheus prints the
//! shortest text that reads back as the same double.

use std::borrow::Cow;
use std::fmt;
use std::io::{BufReader, Read};

use bytes::{Buf, Bytes};
use futures::StreamExt;
use periplus_model::Labels;
use periplus_promql::value::{Bitmap, StepGrid};
use reqwest::Response;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use tokio::sync::mpsc;

use super::ClientError;

/// What an answer may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expect {
    /// The evaluation times asked for.
    pub(crate) grid: StepGrid,
    /// The most series.
    pub(crate) rows_max: u64,
    /// The most bytes of columns.
    pub(crate) bytes_max: u64,
}

/// What kind of value came back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    #[default]
    Vector,
    Scalar,
    String,
}

/// A result.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) kind: Kind,
    pub(crate) rows: Vec<AnswerRow>,
    pub(crate) warnings: Vec<String>,
    pub(crate) infos: Vec<String>,
    /// Native histograms were among the values; they are not in the rows.
    pub(crate) histograms: bool,
}

/// One series.
#[derive(Debug)]
pub(crate) struct AnswerRow {
    pub(crate) labels: Labels,
    /// One value a step.
    pub(crate) values: Vec<f64>,
    pub(crate) present: Bitmap,
}

/// Answers up to this many bytes are parsed where they arrive.
const INLINE_BYTES: usize = 256 << 10;

/// Reads an answer.
///
/// # Errors
/// An error of the API, a connection that breaks, text that is no answer, or more than expected.
pub(crate) async fn read(response: Response, expect: Expect) -> Result<Answer, ClientError> {
    let mut body = response.bytes_stream();
    let mut begin = Vec::new();
    while begin.len() <= INLINE_BYTES {
        match body.next().await {
            None => return parse(serde_json::Deserializer::from_slice(&begin), expect),
            Some(piece) => begin
                .extend_from_slice(&piece.map_err(|e| ClientError::Unreachable(e.to_string()))?),
        }
    }
    let (tx, rx) = mpsc::channel::<Result<Bytes, String>>(8);
    let parser = tokio::task::spawn_blocking(move || {
        let pieces = Pieces { rx, piece: Bytes::from(begin) };
        let reader = BufReader::with_capacity(64 << 10, pieces);
        parse(serde_json::Deserializer::from_reader(reader), expect)
    });
    while let Some(piece) = body.next().await {
        // The parser has left when it has found an error: it tells which.
        if tx.send(piece.map_err(|e| e.to_string())).await.is_err() {
            break;
        }
    }
    drop(tx);
    match parser.await {
        Ok(answer) => answer,
        Err(e) => Err(unexpected(format!("reading it: {e}"))),
    }
}

fn unexpected(problem: impl Into<String>) -> ClientError {
    ClientError::Unexpected { what: "query", problem: problem.into() }
}

/// The pieces of a body as a blocking reader.
struct Pieces {
    rx: mpsc::Receiver<Result<Bytes, String>>,
    piece: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        while self.piece.is_empty() {
            match self.rx.blocking_recv() {
                None => return Ok(0),
                Some(Ok(piece)) => self.piece = piece,
                Some(Err(e)) => return Err(std::io::Error::other(e)),
            }
        }
        let n = self.piece.len().min(out.len());
        let (to, _) = out.split_at_mut(n);
        self.piece.copy_to_slice(to);
        Ok(n)
    }
}

fn parse<'de, R: serde_json::de::Read<'de>>(
    mut deserializer: serde_json::Deserializer<R>,
    expect: Expect,
) -> Result<Answer, ClientError> {
    let mut state = State { expect, answer: Answer::default(), error: None };
    let parsed = TopLevel(&mut state).deserialize(&mut deserializer);
    if let Some((kind, message)) = state.error {
        return Err(ClientError::Api { kind, message });
    }
    parsed.map_err(|e| {
        if e.is_io() { ClientError::Unreachable(e.to_string()) } else { unexpected(e.to_string()) }
    })?;
    deserializer.end().map_err(|e| unexpected(e.to_string()))?;
    Ok(state.answer)
}

struct State {
    expect: Expect,
    answer: Answer,
    /// Kind and message of the API's error, or of ours for a limit.
    error: Option<(String, String)>,
}

/// The outermost object.
struct TopLevel<'a>(&'a mut State);

impl<'de> DeserializeSeed<'de> for TopLevel<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for TopLevel<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an answer of the query API")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (mut kind, mut message, mut failed, mut data) =
            (String::new(), String::new(), false, false);
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            match &*key {
                "status" => failed = map.next_value::<String>()? != "success",
                "data" => {
                    data = true;
                    map.next_value_seed(Data(self.0))?;
                }
                "errorType" => kind = map.next_value()?,
                "error" => message = map.next_value()?,
                "warnings" => self.0.answer.warnings = map.next_value()?,
                "infos" => self.0.answer.infos = map.next_value()?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if failed {
            self.0.error = Some((kind, message));
        } else if !data {
            return Err(A::Error::custom("no data in it"));
        }
        Ok(())
    }
}

struct Data<'a>(&'a mut State);

impl<'de> DeserializeSeed<'de> for Data<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for Data<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("resultType and result")
    }
    fn visit_none<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_map(self)
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut known = false;
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            match &*key {
                "resultType" => {
                    self.0.answer.kind = match &*map.next_value::<Cow<'_, str>>()? {
                        "vector" | "matrix" => Kind::Vector,
                        "scalar" => Kind::Scalar,
                        "string" => Kind::String,
                        other => return Err(A::Error::custom(format!("result type {other:?}"))),
                    };
                    known = true;
                }
                "result" if !known => return Err(A::Error::custom("a result before its type")),
                "result" if self.0.answer.kind == Kind::Vector => {
                    map.next_value_seed(Rows(self.0))?
                }
                "result" if self.0.answer.kind == Kind::Scalar => {
                    let mut row = new_row(self.0, Labels::empty()).map_err(A::Error::custom)?;
                    map.next_value_seed(Point { grid: self.0.expect.grid, row: &mut row })?;
                    self.0.answer.rows.push(row);
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// A row for the answer, counted before it is made.
fn new_row(state: &mut State, labels: Labels) -> Result<AnswerRow, String> {
    let steps = state.expect.grid.steps();
    let rows = state.answer.rows.len() as u64 + 1;
    let limit =
        |what: &str, max: u64| format!("the answer has more than {max} {what}; narrow the query");
    let exceeded = if rows > state.expect.rows_max {
        Some(limit("series", state.expect.rows_max))
    } else if rows.saturating_mul(steps as u64).saturating_mul(8) > state.expect.bytes_max {
        Some(limit("bytes", state.expect.bytes_max))
    } else {
        None
    };
    if let Some(message) = exceeded {
        state.error = Some(("limit".to_owned(), message.clone()));
        return Err(message);
    }
    Ok(AnswerRow { labels, values: vec![0.0; steps], present: Bitmap::new(steps, false) })
}

struct Rows<'a>(&'a mut State);

impl<'de> DeserializeSeed<'de> for Rows<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Rows<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("series")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(OneRow(self.0))?.is_some() {}
        Ok(())
    }
}

struct OneRow<'a>(&'a mut State);

impl<'de> DeserializeSeed<'de> for OneRow<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for OneRow<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a series")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut row = new_row(self.0, Labels::empty()).map_err(A::Error::custom)?;
        let grid = self.0.expect.grid;
        while let Some(key) = map.next_key::<Cow<'_, str>>()? {
            match &*key {
                "metric" => row.labels = map.next_value_seed(Metric)?,
                "value" => map.next_value_seed(Point { grid, row: &mut row })?,
                "values" => map.next_value_seed(Points { grid, row: &mut row })?,
                "histogram" | "histograms" => {
                    self.0.answer.histograms = true;
                    map.next_value::<IgnoredAny>()?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        self.0.answer.rows.push(row);
        Ok(())
    }
}

struct Metric;

impl<'de> DeserializeSeed<'de> for Metric {
    type Value = Labels;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Labels, D::Error> {
        d.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Metric {
    type Value = Labels;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("labels")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
        let mut pairs: Vec<(String, String)> = Vec::with_capacity(16);
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Labels::from_pairs(pairs))
    }
}

struct Points<'a> {
    grid: StepGrid,
    row: &'a mut AnswerRow,
}

impl<'de> DeserializeSeed<'de> for Points<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Points<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("points")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Point { grid: self.grid, row: self.row })?.is_some() {}
        Ok(())
    }
}

/// `[seconds, "value"]`, put at its step.
struct Point<'a> {
    grid: StepGrid,
    row: &'a mut AnswerRow,
}

impl<'de> DeserializeSeed<'de> for Point<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Point<'_> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a time and a value")
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let time: f64 =
            seq.next_element()?.ok_or_else(|| A::Error::custom("a point without a time"))?;
        let value = seq
            .next_element_seed(Number)?
            .ok_or_else(|| A::Error::custom("a point without a value"))?;
        let t = (time * 1000.0).round() as i64;
        let offset = t.saturating_sub(self.grid.start_ms);
        let step = self.grid.step_ms.max(1);
        let index = usize::try_from(offset / step).ok().filter(|_| offset % step == 0);
        let cell = index.and_then(|i| Some((i, self.row.values.get_mut(i)?)));
        let Some((i, cell)) = cell else {
            return Err(A::Error::custom(format!("a point at {time}, which was not asked for")));
        };
        *cell = value;
        self.row.present.set(i, true);
        Ok(())
    }
}

struct Number;

impl<'de> DeserializeSeed<'de> for Number {
    type Value = f64;
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<f64, D::Error> {
        d.deserialize_str(self)
    }
}

impl Visitor<'_> for Number {
    type Value = f64;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number in quotes")
    }
    fn visit_str<E: serde::de::Error>(self, s: &str) -> Result<f64, E> {
        match s {
            "NaN" => Ok(f64::from_bits(periplus_model::NORMAL_NAN_BITS)),
            _ => s.parse().map_err(|_| E::custom(format!("{s:?} is no number"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GRID: StepGrid = StepGrid { start_ms: 1_000, end_ms: 3_000, step_ms: 500 };

    fn read_text(text: &str, rows_max: u64) -> Result<Answer, ClientError> {
        let expect = Expect { grid: GRID, rows_max, bytes_max: 1 << 20 };
        let from_slice = parse(serde_json::Deserializer::from_slice(text.as_bytes()), expect);
        let reader = BufReader::with_capacity(3, text.as_bytes());
        let from_reader = parse(serde_json::Deserializer::from_reader(reader), expect);
        assert_eq!(from_slice.is_ok(), from_reader.is_ok(), "{text}");
        from_slice
    }

    #[test]
    fn a_matrix_becomes_columns() {
        let text = r#"{"status":"success","data":{"resultType":"matrix","result":[
            {"metric":{"b":"2","a":"x\n"},"values":[[1,"0.1"],[2.5,"+Inf"],[3,"NaN"]]}]},
            "warnings":["w"],"infos":["i"]}"#;
        let a = read_text(text, 1).unwrap();
        let row = &a.rows[0];
        assert_eq!(row.labels, Labels::from_pairs([("a", "x\n"), ("b", "2")]));
        assert_eq!(row.present.ones().collect::<Vec<_>>(), [0, 3, 4]);
        assert_eq!((row.values[0], row.values[3]), (0.1, f64::INFINITY));
        assert!(row.values[4].is_nan());
        assert_eq!((a.warnings, a.infos), (vec!["w".to_owned()], vec!["i".to_owned()]));
    }

    #[test]
    fn scalars_histograms_and_errors() {
        let wrap = |data: &str| format!(r#"{{"status":"success","data":{data}}}"#);
        let a = read_text(&wrap(r#"{"resultType":"scalar","result":[1,"5"]}"#), 1).unwrap();
        assert_eq!((a.kind, a.rows[0].values[0]), (Kind::Scalar, 5.0));
        let h = r#"{"resultType":"vector","result":[{"metric":{},"histogram":[1,{"count":"1"}]}]}"#;
        assert!(read_text(&wrap(h), 1).unwrap().histograms);
        let error = r#"{"status":"error","errorType":"execution","error":"too bad"}"#;
        let Err(ClientError::Api { kind, message }) = read_text(error, 1) else {
            panic!("an error is an error");
        };
        assert_eq!((kind.as_str(), message.as_str()), ("execution", "too bad"));
        let two = r#"{"resultType":"vector","result":[{"metric":{},"value":[1,"1"]},{"metric":{},"value":[1,"1"]}]}"#;
        assert!(
            matches!(read_text(&wrap(two), 1), Err(ClientError::Api { kind, .. }) if kind == "limit")
        );
        for bad in [
            r#"{"resultType":"vector","result":[{"metric":{},"value":[1.2,"1"]}]}"#,
            r#"{"resultType":"vector","result":[{"metric":{},"value":[9,"1"]}]}"#,
            r#"{"resultType":"vector","result":[{"metric":{},"value":[1,"x"]}]}"#,
            r#"{"resultType":"vector","result":["#,
            r#"{"result":[]}"#,
        ] {
            assert!(read_text(&wrap(bad), 9).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn garbage_is_an_error(text in r#"[\[\]{}",:0-9a-z]{0,60}"#) {
            let _ = read_text(&text, 2);
        }
    }
}
