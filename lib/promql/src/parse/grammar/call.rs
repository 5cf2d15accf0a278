//! Function calls and lists of arguments.

use periplus_model::float::Quoted;

use super::super::ast::{Call, Expr, Span, ValueType};
use super::super::functions;
use super::super::token::{Kind, Token};
use super::{LOWEST, Parsed, Parser, Tree};

/// How many arguments of whatever kind are kept; more than any function takes, functions of any
/// number of strings apart.
const ARGS_KEPT: usize = 32;

impl Parser<'_> {
    /// A call of the function `name`; its `(` is pending.
    pub(super) fn call(&mut self, name: Token) -> Parsed<Tree> {
        let (mut args, count) = self.call_args()?;
        let text = self.text(name);
        let Some(func) = functions::lookup(text) else {
            let message = format!("unknown function with name {}", Quoted(text));
            return self.fail(name.span(), message);
        };
        let height = args.iter().map(|tree| tree.height).max().unwrap_or(0);
        let span = Span { start: name.start, end: self.last_closing };
        let mut call = Box::new(Call { func, args: Vec::new(), span });
        let checked = self.checker().call(&call, &mut args, count);
        call.args = args.into_iter().map(|tree| tree.expr).collect();
        self.node(Expr::Call(call), func.returns, height, checked)
    }

    /// `(expr, …)`, and how many there are; of very many only the first are kept.
    pub(super) fn call_args(&mut self) -> Parsed<(Vec<Tree>, usize)> {
        self.expect(Kind::LeftParen)?;
        let (mut args, mut count, mut odd_seen) = (Vec::new(), 0, false);
        if self.accept(Kind::RightParen)?.is_some() {
            return Ok((args, count));
        }
        loop {
            let arg = self.expr(LOWEST)?;
            count += 1;
            // Strings may come in any number; of anything else no function takes so many, and of
            // several errors of type the first counts.
            let odd = arg.value_type != ValueType::String;
            if args.len() < ARGS_KEPT || !odd || !odd_seen {
                odd_seen |= args.len() >= ARGS_KEPT && odd;
                args.push(arg);
            }
            let Some(comma) = self.accept(Kind::Comma)? else { break };
            if !self.peek()?.begins_expression() {
                let message = "trailing commas not allowed in function call args".to_owned();
                return self.fail(comma.span(), message);
            }
        }
        self.expect(Kind::RightParen)?;
        Ok((args, count))
    }
}
