//! The selectors of an expression.

use super::ast::{Expr, VectorSelector};

/// All vector selectors of an expression, those of range selectors included, in the order of the text;
/// of a leaf, those of what stood there.
#[must_use]
pub fn selectors(e: &Expr) -> Vec<&VectorSelector> {
    let mut out = Vec::new();
    collect(e, &mut out);
    out
}

fn collect<'a>(e: &'a Expr, out: &mut Vec<&'a VectorSelector>) {
    match e {
        Expr::Number(_) | Expr::String(_) => {}
        Expr::Paren(p) => collect(&p.expr, out),
        Expr::Unary(u) => collect(&u.expr, out),
        Expr::Binary(b) => {
            collect(&b.lhs, out);
            collect(&b.rhs, out);
        }
        Expr::Aggregate(a) => {
            if let Some(param) = &a.param {
                collect(param, out);
            }
            collect(&a.expr, out);
        }
        Expr::Call(c) => c.args.iter().for_each(|a| collect(a, out)),
        Expr::VectorSelector(s) => out.push(s),
        Expr::MatrixSelector(m) => out.push(&m.selector),
        Expr::Subquery(s) => collect(&s.expr, out),
        Expr::Leaf(l) => collect(&l.original, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::parse;

    #[test]
    fn all_of_them_in_order() {
        let names = |q: &str| {
            let e = parse(q).unwrap();
            selectors(&e).iter().map(|s| s.name.clone()).collect::<Vec<_>>()
        };
        let q = "topk(scalar(k), a) + on() -(b) / rate(c[5m]) - max_over_time(rate(d[1m])[5m:1m])";
        assert_eq!(names(q), ["k", "a", "b", "c", "d"]);
        assert!(names("1 + time()").is_empty());
    }
}
