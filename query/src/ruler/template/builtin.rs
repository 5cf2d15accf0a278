//! Go's own template functions.

use std::cmp::Ordering;
use std::sync::Arc;

use super::functions::query_escape;
use super::printf;
use super::value::Value;

/// Calls a builtin; `None` where `name` is none.
pub(super) fn call(name: &str, args: &[Value], most: usize) -> Option<Result<Value, String>> {
    let text = |s: String| Ok(Value::text(s));
    Some(match (name, args) {
        ("not", [v]) => Ok(Value::Bool(!v.is_true())),
        ("len", [v]) => length(v),
        ("index", [item, indexes @ ..]) => index(item, indexes),
        ("slice", [item, indexes @ ..]) => slice(item, indexes),
        ("print", all) => text(printf::print(all)),
        ("println", all) => text(printf::println(all)),
        ("printf", [Value::Text(layout), all @ ..]) => {
            printf::printf(layout, all, most).map(Value::text)
        }
        ("html", all) => text(html(&joined(all))),
        ("js", all) => text(js(&joined(all))),
        ("urlquery", all) => text(query_escape(&joined(all))),
        ("eq", [first, others @ ..]) => equal_any(first, others).map(Value::Bool),
        ("ne", [a, b]) => equal(a, b).map(|e| Value::Bool(!e)),
        ("lt", [a, b]) => order(a, b).map(|o| Value::Bool(o == Some(Ordering::Less))),
        ("le", [a, b]) => less_or_equal(a, b).map(Value::Bool),
        ("gt", [a, b]) => less_or_equal(a, b).map(|l| Value::Bool(!l)),
        ("ge", [a, b]) => order(a, b).map(|o| Value::Bool(o != Some(Ordering::Less))),
        ("call", [v, ..]) => Err(format!("non-function {} of type {}", v.print(), v.type_name())),
        _ => return None,
    })
}

fn joined(all: &[Value]) -> String {
    printf::print(all)
}

fn less_or_equal(a: &Value, b: &Value) -> Result<bool, String> {
    let order = order(a, b)?;
    Ok(matches!(order, Some(Ordering::Less | Ordering::Equal)))
}

#[derive(PartialEq)]
enum Basic<'a> {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(&'a str),
}

fn basic(v: &Value) -> Option<Basic<'_>> {
    match v {
        Value::Bool(b) => Some(Basic::Bool(*b)),
        Value::Int(n) => Some(Basic::Int(*n)),
        Value::Float(v) => Some(Basic::Float(*v)),
        Value::Text(s) | Value::Html(s) => Some(Basic::Text(s)),
        Value::Duration(ns) => Some(Basic::Int(*ns)),
        _ => None,
    }
}

fn incompatible(a: &Value, b: &Value) -> String {
    format!("incompatible types for comparison: {} and {}", a.type_name(), b.type_name())
}

fn equal_any(first: &Value, others: &[Value]) -> Result<bool, String> {
    if others.is_empty() {
        return Err("missing argument for comparison".to_owned());
    }
    for other in others {
        if equal(first, other)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn equal(a: &Value, b: &Value) -> Result<bool, String> {
    let nothing = |v: &Value| matches!(v, Value::Nothing | Value::Nil);
    match (basic(a), basic(b)) {
        (Some(x), Some(y)) if std::mem::discriminant(&x) == std::mem::discriminant(&y) => {
            Ok(x == y)
        }
        (None, None) if nothing(a) || nothing(b) => Ok(nothing(a) && nothing(b)),
        (None, None) => Err(format!("non-comparable type {}: {}", b.print(), b.type_name())),
        _ if nothing(a) || nothing(b) => Ok(false),
        _ => Err(incompatible(a, b)),
    }
}

/// `None`: neither is less, as with NaN.
fn order(a: &Value, b: &Value) -> Result<Option<Ordering>, String> {
    const BAD: &str = "invalid type for comparison";
    let (Some(x), Some(y)) = (basic(a), basic(b)) else { return Err(BAD.to_owned()) };
    match (x, y) {
        (Basic::Int(x), Basic::Int(y)) => Ok(Some(x.cmp(&y))),
        (Basic::Float(x), Basic::Float(y)) => Ok(x.partial_cmp(&y)),
        (Basic::Text(x), Basic::Text(y)) => Ok(Some(x.cmp(y))),
        (Basic::Bool(_), Basic::Bool(_)) => Err(BAD.to_owned()),
        _ => Err(incompatible(a, b)),
    }
}

fn length(v: &Value) -> Result<Value, String> {
    let n = match v {
        Value::Text(s) | Value::Html(s) => s.len(),
        Value::Vector(v) => v.len(),
        Value::Labels(l) => l.len(),
        Value::Map(m) => m.len(),
        Value::Nothing | Value::Nil => return Err("len of untyped nil".to_owned()),
        other => return Err(format!("len of type {}", other.type_name())),
    };
    Ok(Value::Int(i64::try_from(n).unwrap_or(i64::MAX)))
}

fn position(v: &Value, length: usize) -> Result<usize, String> {
    match v {
        Value::Int(n) => usize::try_from(*n)
            .ok()
            .filter(|n| *n <= length)
            .ok_or_else(|| format!("index out of range: {n}")),
        Value::Nothing | Value::Nil => Err("cannot index slice/array with nil".to_owned()),
        other => Err(format!("cannot index slice/array with type {}", other.type_name())),
    }
}

fn index(item: &Value, indexes: &[Value]) -> Result<Value, String> {
    let mut item = item.clone();
    for i in indexes {
        item = match &item {
            Value::Labels(l) => match i {
                Value::Text(name) => Value::text(l.value(name)),
                other => {
                    return Err(format!("value has type {}; should be string", other.type_name()));
                }
            },
            Value::Map(m) => match i {
                Value::Text(name) => m.get(&**name).cloned().unwrap_or(Value::Nothing),
                other => {
                    return Err(format!("value has type {}; should be string", other.type_name()));
                }
            },
            Value::Vector(v) => {
                let at = position(i, v.len())?;
                let found = v.get(at).ok_or_else(|| format!("index out of range: {at}"))?;
                Value::Sample(Arc::clone(found))
            }
            Value::Text(s) => {
                let at = position(i, s.len())?;
                let b = s.as_bytes().get(at).ok_or_else(|| format!("index out of range: {at}"))?;
                Value::Int(i64::from(*b))
            }
            Value::Nothing | Value::Nil => return Err("index of untyped nil".to_owned()),
            other => return Err(format!("can't index item of type {}", other.type_name())),
        };
    }
    Ok(item)
}

fn slice(item: &Value, indexes: &[Value]) -> Result<Value, String> {
    let length = match item {
        Value::Text(s) => s.len(),
        Value::Vector(v) => v.len(),
        Value::Nothing | Value::Nil => return Err("slice of untyped nil".to_owned()),
        other => return Err(format!("can't slice item of type {}", other.type_name())),
    };
    if indexes.len() > 3 {
        return Err(format!("too many slice indexes: {}", indexes.len()));
    }
    if indexes.len() == 3 && matches!(item, Value::Text(_)) {
        return Err("cannot 3-index slice a string".to_owned());
    }
    let mut bounds = [0, length];
    for (slot, i) in bounds.iter_mut().zip(indexes) {
        *slot = position(i, length)?;
    }
    let [from, to] = bounds;
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    Ok(match item {
        Value::Text(s) => {
            let bytes = s.as_bytes().get(from..to).unwrap_or_default();
            Value::text(String::from_utf8_lossy(bytes).into_owned())
        }
        Value::Vector(v) => Value::Vector(v.get(from..to).unwrap_or_default().to_vec()),
        _ => Value::Nil,
    })
}

fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\0' => out.push('\u{fffd}'),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c => out.push(c),
        }
    }
    out
}

fn js(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\'' => out.push_str("\\'"),
            '"' => out.push_str("\\\""),
            '<' | '>' | '&' | '=' => out.push_str(&format!("\\u{:04X}", c as u32)),
            c if c < ' ' => out.push_str(&format!("\\u{:04X}", c as u32)),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", c as u32)),
            c => out.push(c),
        }
    }
    out
}
