//! Carrying a template out, with Go's rules and error texts, within bounds.

use std::fmt::Display;
use std::sync::Arc;

use super::functions::{self, Signature};
use super::methods;
use super::node::{Arg, Branch, Command, List, Node, Number, Operand, Pipe};
use super::parse::Set;
use super::value::Value;
use super::{Data, quoted};

/// How deep lists, templates and pipelines may stand in each other while running.
const DEPTH_MAX: usize = 200;
/// Steps: nodes walked and commands evaluated.
const STEPS_MAX: u64 = 1_000_000;

/// What keeps a part of a template from going on.
pub(super) enum Halt {
    Error(String),
    Break,
    Continue,
}

pub(super) type Done<T> = Result<T, Halt>;

/// The type a function wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ty {
    /// `interface{}`, or a builtin's any value.
    Any,
    Text,
    Vector,
    Sample,
}

impl Ty {
    const fn name(self) -> &'static str {
        match self {
            Self::Any => "interface {}",
            Self::Text => "string",
            Self::Vector => "template.queryResult",
            Self::Sample => "*template.sample",
        }
    }
}

pub(super) struct State<'a> {
    pub(super) data: &'a Data<'a>,
    name: &'a str,
    text: &'a str,
    set: &'a Set,
    vars: Vec<(String, Value)>,
    out: String,
    depth: usize,
    steps: u64,
    /// Where an error would be: byte and what stands there.
    at: (usize, &'a dyn Display),
    template: &'a str,
}

/// Runs the template `name` of `set`.
///
/// # Errors
/// Go's words for what went wrong.
pub(super) fn run(name: &str, text: &str, set: &Set, data: &Data<'_>) -> Result<String, String> {
    let empty = List::default();
    let root = set.get(name).unwrap_or(&empty);
    let mut s = State {
        data,
        name,
        text,
        set,
        vars: vec![("$".to_owned(), Value::Root)],
        out: String::new(),
        depth: 0,
        steps: 0,
        at: (0, &""),
        template: name,
    };
    match s.list(&Value::Root, root) {
        Ok(()) => Ok(s.out),
        Err(Halt::Error(e)) => Err(e),
        Err(Halt::Break | Halt::Continue) => Ok(s.out),
    }
}

impl<'a> State<'a> {
    fn at(&mut self, pos: usize, what: &'a dyn Display) {
        self.at = (pos, what);
    }

    pub(super) fn fail<T>(&self, what: impl AsRef<str>) -> Done<T> {
        let before = self.text.get(..self.at.0).unwrap_or(self.text);
        let column = before.rfind('\n').map_or(before.len(), |n| before.len() - n - 1);
        let line = 1 + before.bytes().filter(|b| *b == b'\n').count();
        let context = self.at.1.to_string();
        Err(Halt::Error(format!(
            "template: {}:{line}:{column}: executing {} at <{context}>: {}",
            self.name,
            quoted(self.template),
            what.as_ref()
        )))
    }

    /// Counts a step; the template ends where it takes too many, too long or writes too much.
    fn step(&mut self) -> Done<()> {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            return self.fail(format!("more than {STEPS_MAX} steps"));
        }
        if self.steps.is_multiple_of(64) && std::time::Instant::now() > self.data.deadline {
            return self.fail("it takes too long");
        }
        Ok(())
    }

    fn write(&mut self, text: &str) -> Done<()> {
        if self.out.len() + text.len() > self.data.output_bytes_max {
            let max = self.data.output_bytes_max;
            return self.fail(format!("output is longer than {max} bytes"));
        }
        self.out.push_str(text);
        Ok(())
    }

    fn deeper(&mut self) -> Done<()> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return self.fail(format!("exceeded maximum template depth ({DEPTH_MAX})"));
        }
        Ok(())
    }

    fn list(&mut self, dot: &Value, list: &'a List) -> Done<()> {
        self.deeper()?;
        for node in &list.nodes {
            self.step()?;
            self.node(dot, node)?;
        }
        self.depth -= 1;
        Ok(())
    }

    fn node(&mut self, dot: &Value, node: &'a Node) -> Done<()> {
        match node {
            Node::Text(t) => self.write(t),
            Node::Action { pos, pipe } => {
                self.at(*pos, node);
                let value = self.pipe(dot, pipe)?;
                if pipe.variables.is_empty() {
                    self.at(*pos, node);
                    let text = value.print();
                    self.write(&text)?;
                }
                Ok(())
            }
            Node::Break => Err(Halt::Break),
            Node::Continue => Err(Halt::Continue),
            Node::If { pos, branch } => {
                self.at(*pos, node);
                self.branch(dot, branch, false)
            }
            Node::With { pos, branch } => {
                self.at(*pos, node);
                self.branch(dot, branch, true)
            }
            Node::Range { pos, branch } => {
                self.at(*pos, node);
                let mark = self.vars.len();
                let done = self.range(dot, branch);
                self.vars.truncate(mark);
                match done {
                    Err(Halt::Break) => Ok(()),
                    other => other,
                }
            }
            Node::Template { pos, name, pipe } => {
                self.at(*pos, node);
                self.template(dot, name, pipe.as_ref())
            }
        }
    }

    fn branch(&mut self, dot: &Value, branch: &'a Branch, with: bool) -> Done<()> {
        let mark = self.vars.len();
        let value = self.pipe(dot, &branch.pipe)?;
        let done = match (value.is_true(), &branch.otherwise) {
            (true, _) => self.list(if with { &value } else { dot }, &branch.list),
            (false, Some(list)) => self.list(dot, list),
            (false, None) => Ok(()),
        };
        self.vars.truncate(mark);
        done
    }

    fn range(&mut self, dot: &Value, branch: &'a Branch) -> Done<()> {
        let value = self.pipe(dot, &branch.pipe)?;
        let items: Vec<(Value, Value)> = match &value {
            Value::Nothing | Value::Nil => Vec::new(),
            Value::Vector(v) => (0i64..)
                .zip(v)
                .map(|(i, s)| (Value::Int(i), Value::Sample(Arc::clone(s))))
                .collect(),
            Value::Labels(l) => l.iter().map(|(n, v)| (Value::text(n), Value::text(v))).collect(),
            Value::Map(m) => m.iter().map(|(k, v)| (Value::text(&**k), v.clone())).collect(),
            Value::Int(n) if branch.pipe.variables.len() > 1 => {
                return self.fail(format!("can't use {n} to iterate over more than one variable"));
            }
            // Lazily bounded: each iteration is a step.
            Value::Int(n) => (0..(*n).clamp(0, STEPS_MAX as i64 + 1))
                .map(|i| (Value::Nothing, Value::Int(i)))
                .collect(),
            other => return self.fail(format!("range can't iterate over {}", other.print())),
        };
        if items.is_empty() {
            return match &branch.otherwise {
                Some(list) => self.list(dot, list),
                None => Ok(()),
            };
        }
        let mark = self.vars.len();
        let depth = self.depth;
        for (index, item) in items {
            self.step()?;
            self.range_variables(&branch.pipe, index, &item)?;
            match self.list(&item, &branch.list) {
                Ok(()) | Err(Halt::Continue) => {}
                Err(other) => {
                    self.depth = depth;
                    return Err(other);
                }
            }
            self.depth = depth;
            self.vars.truncate(mark);
        }
        Ok(())
    }

    /// With one variable it gets the element, with two they get index and element.
    fn range_variables(&mut self, pipe: &Pipe, index: Value, item: &Value) -> Done<()> {
        let n = pipe.variables.len();
        if pipe.assigns {
            match pipe.variables.as_slice() {
                [one] => self.assign(one, item.clone())?,
                [first, second] => {
                    self.assign(first, index)?;
                    self.assign(second, item.clone())?;
                }
                _ => {}
            }
            return Ok(());
        }
        let top = self.vars.len();
        if n > 0
            && let Some(v) = self.vars.get_mut(top - 1)
        {
            v.1 = item.clone();
        }
        if n > 1
            && let Some(v) = self.vars.get_mut(top - 2)
        {
            v.1 = index;
        }
        Ok(())
    }

    fn template(&mut self, dot: &Value, name: &'a str, pipe: Option<&'a Pipe>) -> Done<()> {
        let Some(list) = self.set.get(name) else {
            return self.fail(format!("template {} not defined", quoted(name)));
        };
        let dot = match pipe {
            Some(p) => self.pipe(dot, p)?,
            None => Value::Nothing,
        };
        let vars = std::mem::replace(&mut self.vars, vec![("$".to_owned(), dot.clone())]);
        let outer = std::mem::replace(&mut self.template, name);
        let done = self.list(&dot, list);
        (self.vars, self.template) = (vars, outer);
        done
    }

    fn assign(&mut self, name: &str, value: Value) -> Done<()> {
        match self.vars.iter_mut().rev().find(|v| v.0 == name) {
            Some(v) => {
                v.1 = value;
                Ok(())
            }
            None => self.fail(format!("undefined variable: {name}")),
        }
    }

    fn pipe(&mut self, dot: &Value, pipe: &'a Pipe) -> Done<Value> {
        self.deeper()?;
        self.at(pipe.pos, pipe);
        let mut value = None;
        for c in &pipe.commands {
            self.step()?;
            value = Some(self.command(dot, c, value)?);
        }
        let value = value.unwrap_or(Value::Nothing);
        for name in &pipe.variables {
            match pipe.assigns {
                true => self.assign(name, value.clone())?,
                false => self.vars.push((name.clone(), value.clone())),
            }
        }
        self.depth -= 1;
        Ok(value)
    }

    fn command(&mut self, dot: &Value, c: &'a Command, last: Option<Value>) -> Done<Value> {
        let Some(first) = c.args.first() else { return Ok(Value::Nothing) };
        let args = c.args.get(1..).unwrap_or_default();
        match &first.what {
            Operand::Identifier(name) => {
                self.at(first.pos, first);
                self.call(dot, name, (c.pos, c), args, last)
            }
            Operand::Field(_) | Operand::Chain(..) => self.fields(dot, first, args, last),
            Operand::Variable(names) if names.len() > 1 => self.fields(dot, first, args, last),
            _ => {
                if !args.is_empty() || last.is_some() {
                    if !matches!(first.what, Operand::Pipe(_)) {
                        self.at(first.pos, first);
                    }
                    return self.fail(format!("can't give argument to non-function {first}"));
                }
                if matches!(first.what, Operand::Nil) {
                    self.at(first.pos, first);
                    return self.fail("nil is not a command");
                }
                self.plain(dot, first)
            }
        }
    }

    /// The value of an operand, no function applied to anything.
    fn plain(&mut self, dot: &Value, arg: &'a Arg) -> Done<Value> {
        match &arg.what {
            Operand::Pipe(p) => return self.pipe(dot, p),
            Operand::Identifier(name) => {
                self.at(arg.pos, arg);
                return self.call(dot, name, (arg.pos, arg), &[], None);
            }
            Operand::Field(_) | Operand::Chain(..) => return self.fields(dot, arg, &[], None),
            Operand::Variable(names) if names.len() > 1 => {
                return self.fields(dot, arg, &[], None);
            }
            _ => self.at(arg.pos, arg),
        }
        Ok(match &arg.what {
            Operand::Bool(b) => Value::Bool(*b),
            Operand::Dot => dot.clone(),
            Operand::Number(_, Number::Int(n)) => Value::Int(*n),
            Operand::Number(_, Number::Float(v)) => Value::Float(*v),
            Operand::Number(text, Number::TooLarge) => {
                return self.fail(format!("{text} overflows int"));
            }
            Operand::String(_, s) => Value::text(s.as_str()),
            Operand::Variable(names) => self.variable(names)?,
            _ => Value::Nil,
        })
    }

    fn variable(&self, names: &[String]) -> Done<Value> {
        let name = names.first().map_or("", String::as_str);
        match self.vars.iter().rev().find(|v| v.0 == name) {
            Some(v) => Ok(v.1.clone()),
            None => self.fail(format!("undefined variable: {name}")),
        }
    }

    /// `.a.b`, `$x.a.b`, `(pipeline).a.b`; only the last may be a method with arguments.
    fn fields(
        &mut self,
        dot: &Value,
        arg: &'a Arg,
        args: &'a [Arg],
        last: Option<Value>,
    ) -> Done<Value> {
        self.at(arg.pos, arg);
        let (mut receiver, names) = match &arg.what {
            Operand::Field(names) => (dot.clone(), names.as_slice()),
            Operand::Variable(names) => (self.variable(names)?, names.get(1..).unwrap_or_default()),
            Operand::Chain(node, _) if matches!(node.what, Operand::Nil) => {
                return self.fail(format!("indirection through explicit nil in {arg}"));
            }
            Operand::Chain(node, names) => (self.plain(dot, node)?, names.as_slice()),
            _ => return self.plain(dot, arg),
        };
        let Some((name, before)) = names.split_last() else { return Ok(receiver) };
        for n in before {
            receiver = self.field(dot, n, (arg, &[]), None, &receiver)?;
        }
        self.field(dot, name, (arg, args), last, &receiver)
    }

    fn field(
        &mut self,
        dot: &Value,
        name: &str,
        (node, args): (&'a Arg, &'a [Arg]),
        last: Option<Value>,
        receiver: &Value,
    ) -> Done<Value> {
        if let Some(signature) = methods::signature(receiver, name) {
            let argv = self.arguments(dot, name, signature, args, last)?;
            return match methods::call(receiver, name, &argv) {
                Ok(v) => Ok(v),
                Err(e) => {
                    self.at(node.pos, node);
                    self.fail(format!("error calling {name}: {e}"))
                }
            };
        }
        let has_arguments = !args.is_empty() || last.is_some();
        let found = match receiver {
            Value::Nothing => return Ok(Value::Nothing),
            Value::Labels(_) | Value::Map(_) if has_arguments => {
                return self.fail(format!("{name} is not a method but has arguments"));
            }
            Value::Labels(l) => Some(Value::text(l.value(name))),
            Value::Map(m) => Some(m.get(name).cloned().unwrap_or(Value::Nothing)),
            Value::Root => match name {
                "Labels" => Some(Value::Labels(self.data.labels.clone())),
                "ExternalLabels" => Some(Value::Labels(self.data.external_labels.clone())),
                "ExternalURL" => Some(Value::text(self.data.external_url)),
                "Value" => Some(Value::of(&self.data.value)),
                _ => None,
            },
            Value::Sample(s) => match name {
                "Labels" => Some(Value::Labels(s.labels.clone())),
                "Value" => Some(Value::of(&s.value)),
                _ => None,
            },
            Value::Histogram(h) => match name {
                "Count" => Some(Value::Float(h.count)),
                "Sum" => Some(Value::Float(h.sum)),
                "ZeroCount" => Some(Value::Float(h.zero_count)),
                "ZeroThreshold" => Some(Value::Float(h.zero_threshold)),
                "Schema" => Some(Value::Int(i64::from(h.schema))),
                _ => None,
            },
            _ => None,
        };
        match found {
            Some(_) if has_arguments => {
                self.fail(format!("{name} has arguments but cannot be invoked as function"))
            }
            Some(v) => Ok(v),
            None => {
                self.fail(format!("can't evaluate field {name} in type {}", receiver.type_name()))
            }
        }
    }

    fn call(
        &mut self,
        dot: &Value,
        name: &str,
        (pos, node): (usize, &'a dyn Display),
        args: &'a [Arg],
        last: Option<Value>,
    ) -> Done<Value> {
        if name == "and" || name == "or" {
            return self.either(dot, name, args, last);
        }
        let Some(signature) = functions::signature(name) else {
            return self.fail(format!("{} is not a defined function", quoted(name)));
        };
        let argv = self.arguments(dot, name, signature, args, last)?;
        match functions::call(name, self.data, argv) {
            Ok(v) => Ok(v),
            Err(e) => {
                self.at(pos, node);
                self.fail(format!("error calling {name}: {e}"))
            }
        }
    }

    /// `and` and `or` evaluate no more arguments than they need.
    fn either(
        &mut self,
        dot: &Value,
        name: &str,
        args: &'a [Arg],
        last: Option<Value>,
    ) -> Done<Value> {
        if args.is_empty() && last.is_none() {
            return self.fail(format!("wrong number of args for {name}: want at least 1 got 0"));
        }
        let mut value = Value::Nothing;
        for a in args {
            value = self.argument(dot, Ty::Any, a)?;
            if value.is_true() == (name == "or") {
                return Ok(value);
            }
        }
        Ok(last.unwrap_or(value))
    }

    fn arguments(
        &mut self,
        dot: &Value,
        name: &str,
        signature: Signature,
        args: &'a [Arg],
        last: Option<Value>,
    ) -> Done<Vec<Value>> {
        let given = args.len() + usize::from(last.is_some());
        let fixed = signature.fixed.len();
        match signature.variadic {
            Some(_) if given < fixed => {
                let text = format!(
                    "wrong number of args for {name}: want at least {fixed} got {}",
                    args.len()
                );
                return self.fail(text);
            }
            None if given != fixed => {
                let text = format!("wrong number of args for {name}: want {fixed} got {given}");
                return self.fail(text);
            }
            _ => {}
        }
        let wanted =
            |i: usize| signature.fixed.get(i).copied().or(signature.variadic).unwrap_or(Ty::Any);
        let mut argv = Vec::with_capacity(given);
        for (i, a) in args.iter().enumerate() {
            argv.push(self.argument(dot, wanted(i), a)?);
        }
        if let Some(last) = last {
            argv.push(self.checked(last, wanted(args.len()))?);
        }
        Ok(argv)
    }

    fn argument(&mut self, dot: &Value, ty: Ty, arg: &'a Arg) -> Done<Value> {
        self.at(arg.pos, arg);
        match &arg.what {
            Operand::Nil if ty == Ty::Text => self.fail("cannot assign nil to string"),
            Operand::Nil => Ok(Value::Nil),
            Operand::Bool(_) | Operand::Number(..) | Operand::String(..) => match ty {
                Ty::Any => self.plain(dot, arg),
                Ty::Text if matches!(arg.what, Operand::String(..)) => self.plain(dot, arg),
                Ty::Text => self.fail(format!("expected string; found {arg}")),
                _ => self.fail(format!("can't handle {arg} for arg of type {}", ty.name())),
            },
            _ => {
                let value = self.plain(dot, arg)?;
                self.checked(value, ty)
            }
        }
    }

    fn checked(&self, value: Value, ty: Ty) -> Done<Value> {
        let fits = match (&value, ty) {
            (Value::Nothing, Ty::Text) => return self.fail("invalid value; expected string"),
            (Value::Nothing | Value::Nil, _) | (_, Ty::Any) => true,
            (Value::Text(_), Ty::Text) => true,
            (Value::Vector(_), Ty::Vector) => true,
            (Value::Sample(_), Ty::Sample) => true,
            _ => false,
        };
        if fits {
            return Ok(value);
        }
        self.fail(format!(
            "wrong type for value; expected {}; got {}",
            ty.name(),
            value.type_name()
        ))
    }
}
