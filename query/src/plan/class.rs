//! What every node of a query is when its series are spread over parts: one bottom-up walk.
//!
//! A node is *closed* when its answer over the whole fleet is the union of its answers over the
//! parts, and the series of different parts can't be mistaken for each other, since they keep
//! external labels that tell the parts apart. Only closed nodes (and aggregations whose partial
//! states merge) may be answered elsewhere; all else is *open*, and says why.

use periplus_promql::parse::ast::{AggregateExpr, AggregateOp, Call, Expr, VectorSelector};
use periplus_promql::partial::PartialKind;

use super::apart::{Apart, NameMask};
use super::fleet::Fleet;
use super::matching;
use super::part_set::PartSet;
use super::route::{Route, is_replica_label};
use super::rules::{Rule, rule};

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Class {
    /// No series are asked for: the same everywhere.
    Constant,
    /// Closed.
    Closed {
        /// External labels that every series of the answer carries as its part has them.
        keep: NameMask,
        /// The parts whose answer can be anything but empty.
        parts: PartSet,
    },
    /// An aggregation over something closed, whose groups span parts.
    Partial {
        /// What the partial states are.
        kind: PartialKind,
        /// The parts that contribute.
        parts: PartSet,
    },
    /// Must be evaluated here, because of this.
    Open(&'static str),
}

/// A node's class, and its children's in the order of [`children`].
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) class: Class,
    /// All parts that any selector below can match.
    pub(super) touched: PartSet,
    pub(super) kids: Vec<Node>,
}

/// The subexpressions of `e` in the order in which they are evaluated.
pub(super) fn children(e: &Expr) -> Vec<&Expr> {
    match e {
        Expr::Number(_) | Expr::String(_) | Expr::VectorSelector(_) | Expr::Leaf(_) => vec![],
        Expr::MatrixSelector(_) => vec![],
        Expr::Paren(p) => vec![&p.expr],
        Expr::Unary(u) => vec![&u.expr],
        Expr::Binary(b) => vec![&b.lhs, &b.rhs],
        Expr::Aggregate(a) => std::iter::once(&a.expr).chain(&a.param).collect(),
        Expr::Call(c) => c.args.iter().collect(),
        Expr::Subquery(s) => vec![&s.expr],
    }
}

/// Classifies expressions over one fleet.
pub(super) struct Classifier<'a> {
    pub(super) fleet: &'a Fleet,
    pub(super) apart: Apart<'a>,
}

impl<'a> Classifier<'a> {
    pub(super) fn new(fleet: &'a Fleet) -> Self {
        Self { fleet, apart: Apart::new(fleet) }
    }

    /// The class of `e` and of everything below it. The parser bounds how deep this goes.
    pub(super) fn classify(&self, e: &Expr) -> Node {
        let kids: Vec<Node> = children(e).into_iter().map(|c| self.classify(c)).collect();
        let touched = kids.iter().fold(self.fleet.no_parts(), |all, k| all.union(&k.touched));
        let (class, touched) = match e {
            Expr::Number(_) | Expr::String(_) => (Class::Constant, touched),
            Expr::Leaf(_) => (Class::Open("it is an answer already"), touched),
            Expr::VectorSelector(s) => self.selector(s),
            Expr::MatrixSelector(m) => self.selector(&m.selector),
            Expr::Paren(_) | Expr::Subquery(_) | Expr::Unary(_) => (same_as_first(&kids), touched),
            Expr::Binary(b) => (self.binary(b, &kids, &touched), touched),
            Expr::Aggregate(a) => (self.aggregate(a, &kids), touched),
            Expr::Call(c) => self.call(c, &kids, touched),
        };
        Node { class, touched, kids }
    }

    fn selector(&self, s: &VectorSelector) -> (Class, PartSet) {
        let parts = Route::new(self.fleet, &s.matchers).parts(self.fleet);
        if s.matchers.iter().any(|m| is_replica_label(self.fleet, &m.name)) {
            return (Class::Open("it chooses replicas, which only a fetch of series can"), parts);
        }
        (Class::Closed { keep: self.apart.all_names(), parts: parts.clone() }, parts)
    }

    fn binary(
        &self,
        b: &periplus_promql::parse::ast::BinaryExpr,
        kids: &[Node],
        touched: &PartSet,
    ) -> Class {
        let [l, r] = kids else { return Class::Open("it lacks an operand") };
        match matching::join(&self.apart, b, &l.class, &r.class) {
            Class::Open(_) if touched.len() == 1 && both_closed(l, r) => {
                Class::Closed { keep: 0, parts: touched.clone() }
            }
            class => class,
        }
    }

    fn aggregate(&self, a: &AggregateExpr, kids: &[Node]) -> Class {
        let Some(inner) = kids.first() else { return Class::Open("it lacks an operand") };
        if kids.get(1).is_some_and(|param| param.class != Class::Constant) {
            return Class::Open("its parameter depends on series");
        }
        let (keep, parts) = match &inner.class {
            Class::Constant => return Class::Constant,
            Class::Closed { keep, parts } => (*keep, parts.clone()),
            Class::Partial { .. } => return Class::Open("what it aggregates spans clusters"),
            Class::Open(why) => return Class::Open(why),
        };
        let named = self.apart.mask(&a.grouping);
        let mut group = if a.without { keep & !named } else { keep & named };
        if let (AggregateOp::CountValues, Some(Expr::String(label))) = (a.op, &a.param) {
            let label = String::from_utf8_lossy(&label.value).into_owned();
            group &= !self.apart.mask(&[label]);
        }
        if a.op == AggregateOp::LimitRatio {
            // Each series is kept or not by its own labels, whatever else is in its group.
            return Class::Closed { keep, parts };
        }
        if self.apart.told_apart(group, &parts) {
            let keeps_series =
                matches!(a.op, AggregateOp::Topk | AggregateOp::Bottomk | AggregateOp::Limitk);
            return Class::Closed { keep: if keeps_series { keep } else { group }, parts };
        }
        match partial_kind(a) {
            Some(kind) => Class::Partial { kind, parts },
            None => Class::Open("it can't be put together from parts"),
        }
    }

    fn call(&self, c: &Call, kids: &[Node], touched: PartSet) -> (Class, PartSet) {
        let touched = match c.func.name {
            "info" => touched.union(&self.info_series(c)),
            _ => touched,
        };
        if kids.iter().all(|k| k.class == Class::Constant) && c.func.name != "info" {
            return (Class::Constant, touched);
        }
        if let Some(why) = kids.iter().find_map(|k| match k.class {
            Class::Open(why) => Some(why),
            Class::Partial { .. } => Some("what it is applied to spans clusters"),
            _ => None,
        }) {
            return (Class::Open(why), touched);
        }
        let class = self.function(c, kids);
        match class {
            // One part alone holds all it can see: the part can evaluate anything.
            Class::Open(_) if touched.len() == 1 && !orders(c) => {
                (Class::Closed { keep: 0, parts: touched.clone() }, touched)
            }
            class => (class, touched),
        }
    }

    /// The parts `info` takes its labels from: it selects `target_info` (or what its second
    /// argument says) by itself.
    fn info_series(&self, c: &Call) -> PartSet {
        match c.args.get(1) {
            Some(Expr::VectorSelector(s)) => Route::new(self.fleet, &s.matchers).parts(self.fleet),
            _ => PartSet::all(self.fleet.parts.len()),
        }
    }

    fn function(&self, c: &Call, kids: &[Node]) -> Class {
        let name = c.func.name;
        let mut closed = kids.iter().filter_map(|k| match &k.class {
            Class::Closed { keep, parts } => Some((*keep, parts.clone(), k)),
            _ => None,
        });
        let Some((keep, parts, _)) = closed.next() else { return Class::Constant };
        if closed.next().is_some() && name != "info" {
            return Class::Open("two of its arguments depend on series");
        }
        let written = |arg: usize| match c.args.get(arg) {
            Some(Expr::String(s)) => {
                Some(self.apart.mask(&[String::from_utf8_lossy(&s.value).into_owned()]))
            }
            _ => None,
        };
        let le = self.apart.mask(&["le"]);
        let keep = match rule(name) {
            Some(Rule::EachSeries) => Some(keep),
            Some(Rule::Buckets) => Some(keep & !le),
            Some(Rule::BucketsAndLabel(arg)) => written(arg).map(|w| keep & !le & !w),
            Some(Rule::WritesLabel(arg)) => written(arg).map(|w| keep & !w),
            Some(Rule::All(why)) => return Class::Open(why),
            Some(Rule::NoSeries) => return Class::Open("its argument depends on series"),
            None => return Class::Open("no rule says how it behaves over clusters"),
        };
        match keep {
            Some(keep) if self.apart.told_apart(keep, &parts) => Class::Closed { keep, parts },
            _ => Class::Open("it overwrites labels that tell clusters apart"),
        }
    }
}

/// Only the order of its answer is its own, and answers arrive in no order.
fn orders(c: &Call) -> bool {
    c.func.name.starts_with("sort")
}

fn same_as_first(kids: &[Node]) -> Class {
    match kids.first().map(|k| &k.class) {
        Some(Class::Partial { .. }) => Class::Open("what it is applied to spans clusters"),
        Some(class) => class.clone(),
        None => Class::Open("it lacks an operand"),
    }
}

fn both_closed(l: &Node, r: &Node) -> bool {
    let fine = |n: &Node| matches!(n.class, Class::Closed { .. } | Class::Constant);
    fine(l) && fine(r)
}

/// The partial state that lets `a` be put together from parts, if there is one.
pub(super) fn partial_kind(a: &AggregateExpr) -> Option<PartialKind> {
    let k = || a.param.as_ref().and_then(literal_k);
    Some(match a.op {
        AggregateOp::Sum => PartialKind::Sum,
        AggregateOp::Avg => PartialKind::Avg,
        AggregateOp::Count => PartialKind::Count,
        AggregateOp::Min => PartialKind::Min,
        AggregateOp::Max => PartialKind::Max,
        AggregateOp::Group => PartialKind::Group,
        AggregateOp::Stddev => PartialKind::Stddev,
        AggregateOp::Stdvar => PartialKind::Stdvar,
        AggregateOp::Topk => PartialKind::Topk { k: k()? },
        AggregateOp::Bottomk => PartialKind::Bottomk { k: k()? },
        AggregateOp::Limitk => PartialKind::Limitk { k: k()? },
        AggregateOp::CountValues => PartialKind::CountValues,
        AggregateOp::Quantile | AggregateOp::LimitRatio => return None,
    })
}

/// A `k` that is the same at every step and in range; any other is the engine's to judge.
fn literal_k(e: &Expr) -> Option<u64> {
    match e {
        Expr::Number(n) if (1.0..9e15).contains(&n.value) => Some(n.value as u64),
        Expr::Paren(p) => literal_k(&p.expr),
        _ => None,
    }
}
