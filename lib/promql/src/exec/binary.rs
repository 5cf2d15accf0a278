//! Arithmetic and comparison between vectors.
//!
//! Series are matched once, not at every step: for each group of equal signatures the columns of
//! both sides are combined where both are present. What Prometheus refuses at a step (two series on
//! the one side, two results of the same labels) is refused here for that step too.

use periplus_model::Labels;
use rayon::prelude::*;

use super::Exec;
use super::matching::{Group, Matched, printed, result_labels, signature};
use super::row::{Frame, Row};
use crate::annotations::Annotations;
use crate::engine::QueryError;
use crate::functions::binop::{self, Outcome};
use crate::parse::ast::{Cardinality, Span};
use crate::plan::{Node, VectorBinary};
use crate::value::Bitmap;

/// Groups of matching series a worker combines at a time.
const GROUPS: usize = 64;

/// One operation between two vectors, sides arranged: `many` may have several series of a
/// signature at a step, `one` may not.
struct Operation<'a> {
    b: &'a VectorBinary,
    /// Whether the left operand is the `one` side.
    swapped: bool,
    many: &'a [Row],
    one: &'a [Row],
    /// Where any series of the `many` side is present.
    any_many: Bitmap,
    steps: usize,
    span: Span,
    delayed: bool,
}

impl Exec<'_> {
    pub(super) fn vector_binary(
        &mut self,
        b: &VectorBinary,
        n: &Node,
    ) -> Result<Frame, QueryError> {
        let left = self.take_frame(b.lhs)?;
        let right = self.take_frame(b.rhs)?;
        let filled = b.matching.fill_lhs.is_some() || b.matching.fill_rhs.is_some();
        if (left.rows.is_empty() || right.rows.is_empty())
            && !(filled && left.rows.len() + right.rows.len() > 0)
        {
            return Ok(Frame::default());
        }
        let swapped = b.matching.card == Cardinality::OneToMany;
        let (many, one) = if swapped { (&right, &left) } else { (&left, &right) };
        let steps = n.grid.steps();
        let op = Operation {
            b,
            swapped,
            any_many: any(&many.rows, steps),
            many: &many.rows,
            one: &one.rows,
            steps,
            span: n.span,
            delayed: self.spec.delayed_name_removal,
        };
        let matched = Matched::new(&b.matching, op.many, op.one);
        let bytes: usize = matched.groups.iter().map(|g| g.left.len().max(g.right.len())).sum();
        let charge = crate::limits::Charge::new(&self.account, (bytes * (steps * 9 + 160)) as u64)?;
        let cancel = self.cancel;
        type Part = Result<(Vec<Row>, Annotations), QueryError>;
        let parts: Vec<Part> = self.pool.install(|| {
            let chunk = |groups: &[Group]| {
                let (mut rows, mut said) = (Vec::with_capacity(groups.len()), Annotations::new());
                for g in groups {
                    cancel.check()?;
                    op.group(g, &mut rows, &mut said)?;
                }
                Ok((rows, said))
            };
            matched.groups.par_chunks(GROUPS).map(chunk).collect()
        });
        let mut rows = Vec::with_capacity(op.many.len());
        for part in parts {
            let (more, said) = part?;
            rows.extend(more);
            self.annotations.merge(said);
        }
        let mut out = Frame { rows, ordered: false, charge: Some(charge) };
        out.drop_empty();
        self.merge_unless_instant(&mut out, n.grid)?;
        Ok(out)
    }
}

fn any(rows: &[Row], steps: usize) -> Bitmap {
    let mut out = Bitmap::new(steps, false);
    rows.iter().for_each(|r| out.union_with(&r.present));
    out
}

impl Operation<'_> {
    fn fills(&self) -> bool {
        self.b.matching.fill_lhs.is_some() || self.b.matching.fill_rhs.is_some()
    }

    fn group(
        &self,
        g: &Group,
        out: &mut Vec<Row>,
        annotations: &mut Annotations,
    ) -> Result<(), QueryError> {
        let one: Vec<&Row> = g.right.iter().filter_map(|i| self.one.get(*i)).collect();
        self.check_one_side(g, &one)?;
        let one_to_one = self.b.matching.card == Cardinality::OneToOne;
        // Where something of this signature has been matched.
        let mut matched = Bitmap::new(self.steps, false);
        let mut produced: Vec<(Labels, Bitmap)> = Vec::new();
        for many in g.left.iter().filter_map(|i| self.many.get(*i)) {
            let mut alone = many.present.clone();
            for one in &one {
                let mut both = many.present.clone();
                both.intersect_with(&one.present);
                if !both.any() {
                    continue;
                }
                alone.subtract(&both);
                let pair = self.pair(many, one, &both, annotations);
                self.record(pair, one_to_one, &mut matched, &mut produced, out)?;
            }
            if let Some(fill) = self.b.matching.fill_rhs
                && alone.any()
            {
                let filler = self.filler(&many.labels, fill);
                let pair = self.pair(many, &filler, &alone, annotations);
                self.record(pair, one_to_one, &mut matched, &mut produced, out)?;
            }
        }
        let Some(fill) = self.b.matching.fill_lhs else { return Ok(()) };
        for one in one {
            let mut alone = one.present.clone();
            alone.subtract(&matched);
            if alone.any() {
                let filler = self.filler(&one.labels, fill);
                let pair = self.pair(&filler, one, &alone, annotations);
                self.record(pair, one_to_one, &mut matched, &mut produced, out)?;
            }
        }
        Ok(())
    }

    /// A series of the labels that match, of one value everywhere.
    fn filler(&self, of: &Labels, value: f64) -> Row {
        Row {
            labels: signature(&self.b.matching, of),
            drop_name: false,
            values: vec![value; self.steps],
            present: Bitmap::new(self.steps, true),
            hist: Vec::new(),
        }
    }

    /// # Errors
    /// Two series of the `one` side at a step at which they would be looked at.
    fn check_one_side(&self, g: &Group, one: &[&Row]) -> Result<(), QueryError> {
        let mut seen = Bitmap::new(self.steps, false);
        for (i, row) in one.iter().enumerate() {
            let looked_at =
                |step: &usize| row.present.get(*step) && (self.fills() || self.any_many.get(*step));
            if seen.overlaps(&row.present)
                && let Some(step) = seen.ones().find(looked_at)
            {
                let first = one.iter().take(i).find(|r| r.present.get(step)).unwrap_or(row);
                return Err(self.too_many(&g.signature, &first.labels, &row.labels));
            }
            seen.union_with(&row.present);
        }
        Ok(())
    }

    fn too_many(&self, signature: &Labels, a: &Labels, b: &Labels) -> QueryError {
        let side = if self.swapped { "left" } else { "right" };
        let (mut a, mut b) = (printed(a), printed(b));
        if a > b {
            std::mem::swap(&mut a, &mut b);
        }
        QueryError::execution(format!(
            "found duplicate series for the match group {} on the {side} hand-side of the \
             operation: [{a}, {b}];many-to-many matching not allowed: matching labels must be \
             unique on one side",
            printed(signature)
        ))
    }

    /// The result of two series at the steps given, and the steps at which there was one even when
    /// a comparison dropped it.
    fn pair(
        &self,
        many: &Row,
        one: &Row,
        steps: &Bitmap,
        annotations: &mut Annotations,
    ) -> (Row, Bitmap) {
        let b = self.b;
        let drop_now = !self.delayed && b.return_bool;
        let labels = result_labels(b.op, &b.matching, drop_now, &many.labels, &one.labels);
        let mut row = Row::empty(labels, self.steps);
        row.drop_name = b.return_bool;
        let (l, r) = if self.swapped { (one, many) } else { (many, one) };
        let plain = l.hist.is_empty() && r.hist.is_empty();
        if plain && (b.op.is_comparison() || binop::arithmetic(b.op, 0.0, 0.0).is_some()) {
            for i in steps.ones() {
                let (x, y) = (l.values[i], r.values[i]);
                match binop::arithmetic(b.op, x, y) {
                    Some(v) => row.set_float(i, v),
                    None => {
                        let keep = binop::compares(b.op, x, y);
                        if b.return_bool {
                            row.set_float(i, f64::from(u8::from(keep)));
                        } else if keep {
                            row.set_float(i, x);
                        }
                    }
                }
            }
            return (row, steps.clone());
        }
        let mut tried = steps.clone();
        for i in steps.ones() {
            let (Some(x), Some(y)) = (l.get(i), r.get(i)) else { continue };
            match binop::points(b.op, &x, &y, self.span, annotations) {
                Outcome::Value(_, keep) if b.return_bool => {
                    row.set_float(i, f64::from(u8::from(keep)));
                }
                Outcome::Value(p, true) => row.set(i, p),
                Outcome::Value(_, false) => {}
                Outcome::Nothing(why) => {
                    tried.set(i, false);
                    why.into_iter().for_each(|a| annotations.add(a));
                }
            }
        }
        (row, tried)
    }

    /// Keeps a result, unless there already is one it contradicts.
    fn record(
        &self,
        (row, steps): (Row, Bitmap),
        one_to_one: bool,
        matched: &mut Bitmap,
        produced: &mut Vec<(Labels, Bitmap)>,
        out: &mut Vec<Row>,
    ) -> Result<(), QueryError> {
        if one_to_one {
            if matched.overlaps(&steps) {
                return Err(QueryError::execution(
                    "multiple matches for labels: many-to-one matching must be explicit \
                     (group_left/group_right)",
                ));
            }
        } else {
            match produced.iter_mut().find(|(l, _)| *l == row.labels) {
                Some((_, known)) if known.overlaps(&steps) => {
                    return Err(QueryError::execution(
                        "multiple matches for labels: grouping labels must ensure unique matches",
                    ));
                }
                Some((_, known)) => known.union_with(&steps),
                None => produced.push((row.labels.clone(), steps.clone())),
            }
        }
        matched.union_with(&steps);
        if row.present.any() {
            out.push(row);
        }
        Ok(())
    }
}
