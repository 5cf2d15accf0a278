//! Function calls and lists of arguments.

use periplus_model::float::Quoted;

use super::super::ast::{Call, Expr, Span};
use super::super::functions;
use super::super::token::{Kind, Token};
use super::{LOWEST, Parsed, Parser, Tree};

impl Parser<'_> {
    /// A call of the function `name`; its `(` is pending.
    pub(super) fn call(&mut self, name: Token) -> Parsed<Tree> {
        let mut args = self.call_args()?;
        let text = self.text(name);
        let Some(func) = functions::lookup(text) else {
            let message = format!("unknown function with name {}", Quoted(text));
            return self.fail(name.span(), message);
        };
        let height = args.iter().map(|tree| tree.height).max().unwrap_or(0);
        let span = Span { start: name.start, end: self.last_closing };
        let mut call = Box::new(Call { func, args: Vec::new(), span });
        let checked = self.checker().call(&call, &mut args);
        call.args = args.into_iter().map(|tree| tree.expr).collect();
        self.node(Expr::Call(call), func.returns, height, checked)
    }

    /// `(expr, …)`.
    pub(super) fn call_args(&mut self) -> Parsed<Vec<Tree>> {
        self.expect(Kind::LeftParen)?;
        let mut args = Vec::new();
        if self.accept(Kind::RightParen)?.is_some() {
            return Ok(args);
        }
        loop {
            args.push(self.expr(LOWEST)?);
            let Some(comma) = self.accept(Kind::Comma)? else { break };
            if !self.peek()?.begins_expression() {
                let message = "trailing commas not allowed in function call args".to_owned();
                return self.fail(comma.span(), message);
            }
        }
        self.expect(Kind::RightParen)?;
        Ok(args)
    }
}
