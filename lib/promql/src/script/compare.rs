//! Does a result say what is expected?

use std::collections::BTreeMap;
use std::sync::Arc;

use periplus_model::float::format_g;
use periplus_model::{FloatHistogram, Labels, METRIC_NAME, SampleBuffer, almost_equal};

use super::eval::{Eval, Expected, ExpectedSeries};
use super::items::Item;
use crate::value::{StepGrid, StepMatrix, Value};

/// Relative error allowed in numbers.
const EPSILON: f64 = 1e-6;

/// Differences told of one result at most.
const DIFFERENCES_MAX: usize = 10;

/// Something that is not as expected.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Difference {
    pub(super) what: String,
    pub(super) expected: String,
    pub(super) got: String,
}

impl Difference {
    pub(super) fn new(
        what: impl Into<String>,
        expected: impl Into<String>,
        got: impl Into<String>,
    ) -> Self {
        Self { what: what.into(), expected: expected.into(), got: got.into() }
    }
}

/// A sample of a result.
#[derive(Clone, Debug)]
pub(super) enum Point {
    Float(f64),
    Histogram(Arc<FloatHistogram>),
}

impl Point {
    fn text(&self) -> String {
        match self {
            Self::Float(v) => format_g(*v),
            Self::Histogram(h) => h.to_test_expression(),
        }
    }
}

/// A series of a result, its samples by time.
type Points = (Labels, Vec<(i64, Point)>);

/// What differs between a result and what is expected of it.
pub(super) fn compare(eval: &Eval, value: &Value) -> Vec<Difference> {
    let mut out = match (value, eval.instant) {
        (Value::String(got), _) => string(eval, got),
        (Value::Scalar { values, .. }, true) => {
            scalar(eval, values.first().copied().unwrap_or(f64::NAN))
        }
        (Value::Scalar { grid, values }, false) => {
            let points = values.iter().enumerate();
            let points = points.map(|(i, v)| (grid.time(i), Point::Float(*v))).collect();
            matrix(eval, &[(Labels::empty(), points)])
        }
        (Value::Vector(got), true) => vector(eval, &at_step(got, 0)),
        (Value::Vector(got), false) => matrix(eval, &steps(got)),
        (Value::Range(got), _) => {
            let series: Vec<Points> =
                got.iter().map(|(labels, s)| (labels.clone(), samples(s))).collect();
            matrix(eval, &series)
        }
    };
    out.truncate(DIFFERENCES_MAX);
    out
}

/// What differs at one step of a range query between its result and what is expected of the instant
/// query.
pub(super) fn compare_step(eval: &Eval, value: &Value, step: usize) -> Vec<Difference> {
    let mut out = match value {
        Value::Scalar { values, .. } => scalar(eval, values.get(step).copied().unwrap_or(f64::NAN)),
        Value::Vector(got) => {
            let mut out = unsorted(&got.series.iter().map(|s| &s.labels).collect::<Vec<_>>());
            out.extend(vector(eval, &at_step(got, step)));
            out
        }
        other => vec![Difference::new("kind of result", "a scalar or vector", kind(other))],
    };
    out.truncate(DIFFERENCES_MAX);
    out
}

fn kind(value: &Value) -> String {
    match value {
        Value::Scalar { .. } => "a scalar".to_owned(),
        Value::String(s) => format!("the string {s:?}"),
        Value::Vector(v) => format!("a vector of {} series", v.series.len()),
        Value::Range(v) => format!("a range vector of {} series", v.len()),
    }
}

fn describe(expected: &Expected) -> String {
    match expected {
        Expected::Scalar(v) => format!("the scalar {}", format_g(*v)),
        Expected::String(s) => format!("the string {s:?}"),
        Expected::Series(list) => format!("{} series", list.len()),
    }
}

fn string(eval: &Eval, got: &str) -> Vec<Difference> {
    match &eval.expected {
        Expected::String(want) if want == got => Vec::new(),
        other => vec![Difference::new("result", describe(other), format!("the string {got:?}"))],
    }
}

fn scalar(eval: &Eval, got: f64) -> Vec<Difference> {
    match &eval.expected {
        Expected::Scalar(want) if almost_equal(*want, got, EPSILON) => Vec::new(),
        other => {
            let got = format!("the scalar {}", format_g(got));
            vec![Difference::new("result", describe(other), got)]
        }
    }
}

/// The samples at one step.
fn at_step(matrix: &StepMatrix, step: usize) -> Vec<(Labels, Point)> {
    let at = |s: &crate::value::StepSeries| {
        let point = match s.histogram_at(step) {
            Some(h) => Point::Histogram(Arc::clone(h)),
            None => Point::Float(s.values.get(step).copied().unwrap_or(f64::NAN)),
        };
        (s.labels.clone(), point)
    };
    matrix.series.iter().filter(|s| s.present.get(step)).map(at).collect()
}

fn steps(matrix: &StepMatrix) -> Vec<Points> {
    let mut out = Vec::new();
    for s in &matrix.series {
        let points: Vec<(i64, Point)> = s
            .present
            .ones()
            .map(|i| {
                let point = match s.histogram_at(i) {
                    Some(h) => Point::Histogram(Arc::clone(h)),
                    None => Point::Float(s.values.get(i).copied().unwrap_or(f64::NAN)),
                };
                (matrix.grid.time(i), point)
            })
            .collect();
        if !points.is_empty() {
            out.push((s.labels.clone(), points));
        }
    }
    out
}

fn samples(buffer: &SampleBuffer) -> Vec<(i64, Point)> {
    let point = |(i, t): (usize, &i64)| {
        let point = match buffer.histogram_at(i) {
            Some(h) => Point::Histogram(Arc::clone(h)),
            None => Point::Float(buffer.values.get(i).copied().unwrap_or(f64::NAN)),
        };
        (*t, point)
    };
    buffer.ts.iter().enumerate().map(point).collect()
}

fn vector(eval: &Eval, got: &[(Labels, Point)]) -> Vec<Difference> {
    let Expected::Series(expected) = &eval.expected else {
        let got = format!("a vector of {} series", got.len());
        return vec![Difference::new("result", describe(&eval.expected), got)];
    };
    let mut out = Vec::new();
    let mut left: BTreeMap<&Labels, &ExpectedSeries> =
        expected.iter().map(|s| (&s.labels, s)).collect();
    for (i, (labels, point)) in got.iter().enumerate() {
        let Some(want) = left.remove(labels) else {
            let twice = expected.iter().any(|s| s.labels == *labels);
            let nothing = if twice { "only once" } else { "nothing" };
            out.push(Difference::new(show(labels), nothing, point.text()));
            continue;
        };
        if eval.ordered && want.position != i + 1 {
            let place = |n: usize| format!("place {n}");
            out.push(Difference::new(show(labels), place(want.position), place(i + 1)));
        }
        let item = want.items.first().unwrap_or(&Item::Missing);
        out.extend(
            point_differs(item, point)
                .map(|want| Difference::new(show(labels), want, point.text())),
        );
    }
    out.extend(left.into_values().map(|s| {
        let want = s.items.first().map_or(String::new(), item_text);
        Difference::new(show(&s.labels), want, "nothing")
    }));
    out
}

fn matrix(eval: &Eval, got: &[Points]) -> Vec<Difference> {
    let Expected::Series(expected) = &eval.expected else {
        let got = format!("a range of {} series", got.len());
        return vec![Difference::new("result", describe(&eval.expected), got)];
    };
    if eval.ordered {
        return vec![Difference::new("result", "an ordered vector", "a range of series")];
    }
    let mut out = unsorted(&got.iter().map(|(labels, _)| labels).collect::<Vec<_>>());
    let grid = eval.range_vector.unwrap_or(eval.grid);
    let mut left: BTreeMap<&Labels, &ExpectedSeries> =
        expected.iter().map(|s| (&s.labels, s)).collect();
    for (labels, points) in got {
        let Some(want) = left.remove(labels) else {
            out.push(Difference::new(show(labels), "nothing", points_text(points)));
            continue;
        };
        out.extend(points_differ(want, &grid, points));
    }
    out.extend(left.into_values().map(|s| {
        let want: Vec<String> = s.items.iter().map(item_text).collect();
        Difference::new(show(&s.labels), want.join(" "), "nothing")
    }));
    out
}

fn points_differ(
    want: &ExpectedSeries,
    grid: &StepGrid,
    points: &[(i64, Point)],
) -> Vec<Difference> {
    let mut out = Vec::new();
    if want.items.len() > grid.steps() {
        let steps = format!("{} values", grid.steps());
        let items = format!("{} values", want.items.len());
        out.push(Difference::new(show(&want.labels), items, format!("at most {steps}")));
    }
    let mut got: BTreeMap<i64, &Point> = points.iter().map(|(t, p)| (*t, p)).collect();
    for (i, item) in want.items.iter().enumerate() {
        let t = grid.time(i);
        let place = || format!("{} at {t} ms", show(&want.labels));
        match (item, got.remove(&t)) {
            (Item::Missing, None) => {}
            (Item::Missing, Some(p)) => {
                out.push(Difference::new(place(), "nothing", p.text()));
            }
            (_, None) => out.push(Difference::new(place(), item_text(item), "nothing")),
            (_, Some(p)) => {
                out.extend(
                    point_differs(item, p).map(|want| Difference::new(place(), want, p.text())),
                );
            }
        }
    }
    for (t, p) in got {
        let place = format!("{} at {t} ms", show(&want.labels));
        out.push(Difference::new(place, "nothing", p.text()));
    }
    out
}

/// What is expected, where the point is something else.
fn point_differs(item: &Item, point: &Point) -> Option<String> {
    let same = match (item, point) {
        (Item::Missing, Point::Float(v)) => almost_equal(0.0, *v, EPSILON),
        (Item::Float(want), Point::Float(got)) => almost_equal(*want, *got, EPSILON),
        (Item::Histogram(want, hint_set), Point::Histogram(got)) => {
            let (want, got) = ((**want).clone().compacted(0), (**got).clone().compacted(0));
            want.almost_same_as(&got, EPSILON)
                && (!hint_set || want.counter_reset_hint == got.counter_reset_hint)
        }
        _ => false,
    };
    (!same).then(|| item_text(item))
}

fn item_text(item: &Item) -> String {
    match item {
        Item::Missing => "_".to_owned(),
        Item::Float(v) => format_g(*v),
        Item::Histogram(h, _) => h.to_test_expression(),
    }
}

fn points_text(points: &[(i64, Point)]) -> String {
    let texts: Vec<String> = points.iter().take(20).map(|(_, p)| p.text()).collect();
    texts.join(" ")
}

fn unsorted(labels: &[&Labels]) -> Vec<Difference> {
    labels
        .windows(2)
        .filter(|w| w[0] > w[1])
        .map(|w| {
            let order = format!("{} after {}", show(w[1]), show(w[0]));
            Difference::new("order of series", "sorted by labels", order)
        })
        .take(1)
        .collect()
}

/// `name{label="value"}`.
pub(super) fn show(labels: &Labels) -> String {
    let name = labels.value(METRIC_NAME);
    let rest = labels.filter(|n| n != METRIC_NAME);
    if rest.is_empty() && !name.is_empty() { name.to_owned() } else { format!("{name}{rest:?}") }
}
