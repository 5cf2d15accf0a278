//! The tree of a template. It prints itself as Go's does, because error messages quote it.

use std::fmt::{self, Display, Formatter};

/// A run of text and actions.
#[derive(Clone, Debug, Default)]
pub(super) struct List {
    pub(super) nodes: Vec<Node>,
}

/// A part of a template.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Text(String),
    Action { pos: usize, pipe: Pipe },
    Break,
    Continue,
    If { pos: usize, branch: Box<Branch> },
    Range { pos: usize, branch: Box<Branch> },
    With { pos: usize, branch: Box<Branch> },
    Template { pos: usize, name: String, pipe: Option<Pipe> },
}

/// A pipeline that decides, and what follows from it.
#[derive(Clone, Debug)]
pub(super) struct Branch {
    pub(super) pipe: Pipe,
    pub(super) list: List,
    pub(super) otherwise: Option<List>,
}

/// `$x := a | b`.
#[derive(Clone, Debug)]
pub(super) struct Pipe {
    pub(super) pos: usize,
    pub(super) assigns: bool,
    /// Variables, with their dollar.
    pub(super) variables: Vec<String>,
    pub(super) commands: Vec<Command>,
}

/// A word and its arguments.
#[derive(Clone, Debug)]
pub(super) struct Command {
    pub(super) pos: usize,
    pub(super) args: Vec<Arg>,
}

/// An operand and where it begins.
#[derive(Clone, Debug)]
pub(super) struct Arg {
    pub(super) pos: usize,
    pub(super) what: Operand,
}

/// An operand.
#[derive(Clone, Debug)]
pub(super) enum Operand {
    Bool(bool),
    Dot,
    Nil,
    /// The text as written, and what it says.
    Number(String, Number),
    /// The text as written, and what it says.
    String(String, String),
    /// `.a.b`.
    Field(Vec<String>),
    /// `$x.a.b`; the first has its dollar.
    Variable(Vec<String>),
    Identifier(String),
    Pipe(Box<Pipe>),
    /// `(pipeline).a.b`.
    Chain(Box<Arg>, Vec<String>),
}

/// A number: what it can be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    /// Written without point and exponent, or a character.
    Int(i64),
    /// Too large for an integer, but written as one.
    TooLarge,
    Float(f64),
}

impl Display for List {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.nodes.iter().try_for_each(|n| n.fmt(f))
    }
}

impl Display for Node {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(t) => f.write_str(t),
            Self::Action { pipe, .. } => write!(f, "{{{{{pipe}}}}}"),
            Self::Break => f.write_str("{{break}}"),
            Self::Continue => f.write_str("{{continue}}"),
            Self::If { branch, .. } => branch.print("if", f),
            Self::Range { branch, .. } => branch.print("range", f),
            Self::With { branch, .. } => branch.print("with", f),
            Self::Template { name, pipe, .. } => {
                write!(f, "{{{{template {}", super::quoted(name))?;
                if let Some(pipe) = pipe {
                    write!(f, " {pipe}")?;
                }
                f.write_str("}}")
            }
        }
    }
}

impl Branch {
    fn print(&self, name: &str, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{{{{{name} {}}}}}{}", self.pipe, self.list)?;
        if let Some(list) = &self.otherwise {
            write!(f, "{{{{else}}}}{list}")?;
        }
        f.write_str("{{end}}")
    }
}

impl Display for Pipe {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if !self.variables.is_empty() {
            let sign = if self.assigns { "=" } else { ":=" };
            write!(f, "{} {sign} ", self.variables.join(", "))?;
        }
        for (i, c) in self.commands.iter().enumerate() {
            if i > 0 {
                f.write_str(" | ")?;
            }
            c.fmt(f)?;
        }
        Ok(())
    }
}

impl Display for Command {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (i, a) in self.args.iter().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            match &a.what {
                Operand::Pipe(p) => write!(f, "({p})")?,
                _ => a.fmt(f)?,
            }
        }
        Ok(())
    }
}

impl Display for Arg {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.what {
            Operand::Bool(b) => b.fmt(f),
            Operand::Dot => f.write_str("."),
            Operand::Nil => f.write_str("nil"),
            Operand::Number(t, _) | Operand::String(t, _) => f.write_str(t),
            Operand::Field(names) => names.iter().try_for_each(|n| write!(f, ".{n}")),
            Operand::Variable(names) => f.write_str(&names.join(".")),
            Operand::Identifier(n) => f.write_str(n),
            Operand::Pipe(p) => p.fmt(f),
            Operand::Chain(node, names) => {
                match &node.what {
                    Operand::Pipe(p) => write!(f, "({p})")?,
                    _ => node.fmt(f)?,
                }
                names.iter().try_for_each(|n| write!(f, ".{n}"))
            }
        }
    }
}
