//! The YAML file: its fields with their lines, turned into flags.

use std::collections::BTreeMap;
use std::path::Path;

use clap::error::{ContextKind, ContextValue};
use clap::{Arg, ArgAction, Command};
use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{CONFIG_ARGUMENT, ConfigError, FILE_BYTES_MAX};

/// A field of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its line, from 1.
    pub line: u64,
    value: Value,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
enum Value {
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Value>),
    Map(BTreeMap<String, Value>),
    Null(()),
}

/// The fields of a file, in order of name.
pub(super) fn read(path: &Path) -> Result<Vec<Field>, ConfigError> {
    let unreadable = |reason: String| ConfigError::Unreadable { path: path.to_owned(), reason };
    let size = std::fs::metadata(path).map_err(|e| unreadable(e.to_string()))?.len();
    if size > FILE_BYTES_MAX {
        return Err(unreadable(format!("{size} bytes, over the limit of {FILE_BYTES_MAX}")));
    }
    let text = std::fs::read_to_string(path).map_err(|e| unreadable(e.to_string()))?;
    let only_comments =
        text.lines().all(|l| l.trim().is_empty() || l.trim_start().starts_with('#'));
    if only_comments {
        return Ok(Vec::new());
    }
    let map: BTreeMap<String, Spanned<Value>> = serde_saphyr::from_str(&text)
        .map_err(|e| ConfigError::Syntax { path: path.to_owned(), reason: e.to_string() })?;
    let mut fields: Vec<Field> = map
        .into_iter()
        .map(|(name, v)| {
            let line = v.referenced.line();
            Field { name, line, value: v.value }
        })
        .collect();
    fields.sort_by_key(|f| f.line);
    Ok(fields)
}

fn wrong(
    path: &Path,
    field: &Field,
    problem: impl Into<String>,
    remedy: impl Into<String>,
) -> ConfigError {
    ConfigError::Field {
        path: path.to_owned(),
        line: field.line,
        field: field.name.clone(),
        problem: problem.into(),
        remedy: remedy.into(),
    }
}

/// The argument a field stands for.
pub(super) fn argument<'c>(
    command: &'c Command,
    path: &Path,
    field: &Field,
) -> Result<&'c Arg, ConfigError> {
    let names = || {
        command
            .get_arguments()
            .filter_map(|a| a.get_long())
            .filter(|n| !matches!(*n, CONFIG_ARGUMENT | "help" | "version"))
    };
    let found = command
        .get_arguments()
        .find(|a| a.get_long() == Some(field.name.as_str()) && names().any(|n| n == field.name));
    found.ok_or_else(|| {
        let near = names().min_by_key(|n| distance(n, &field.name));
        let remedy = match near {
            Some(n) if distance(n, &field.name) <= 3 => format!("did you mean {n}?"),
            _ => format!("`{} --help` lists the flags a file may set", command.get_name()),
        };
        wrong(path, field, "unknown field", remedy)
    })
}

/// The flags that say what the field says.
pub(super) fn as_flags(arg: &Arg, path: &Path, field: &Field) -> Result<Vec<String>, ConfigError> {
    let flag = format!("--{}", field.name);
    let takes_value = arg.get_action().takes_values();
    if !takes_value {
        return match field.value {
            Value::Bool(true) => Ok(vec![flag]),
            Value::Bool(false) => Ok(Vec::new()),
            _ => Err(wrong(path, field, "is a switch", "write true or false")),
        };
    }
    let one = |v: &Value| scalar(v).map(|s| format!("{flag}={s}"));
    match &field.value {
        Value::List(items) if matches!(arg.get_action(), ArgAction::Append) => items
            .iter()
            .map(|v| {
                one(v).ok_or_else(|| wrong(path, field, "a nested list", "write plain values"))
            })
            .collect(),
        Value::List(_) => {
            Err(wrong(path, field, "a list where one value is wanted", "write one value"))
        }
        Value::Null(()) => Err(wrong(path, field, "no value", "write a value or remove the field")),
        v => one(v).map(|f| vec![f]).ok_or_else(|| {
            wrong(path, field, "a mapping where a value is wanted", "write one value")
        }),
    }
}

fn scalar(v: &Value) -> Option<String> {
    match v {
        Value::Bool(b) => Some(b.to_string()),
        Value::Integer(i) => Some(i.to_string()),
        Value::Float(f) => Some(f.to_string()),
        Value::Text(s) => Some(s.clone()),
        Value::List(_) | Value::Map(_) | Value::Null(()) => None,
    }
}

/// Says which field of the file an error of clap's is about, if it is about one.
pub(super) fn locate(
    error: clap::Error,
    command: &Command,
    path: &Path,
    fields: &[Field],
) -> ConfigError {
    let Some(ContextValue::String(shown)) = error.get(ContextKind::InvalidArg) else {
        return ConfigError::Arguments(error);
    };
    let long = shown.trim_start_matches('-').split([' ', '=', '[']).next().unwrap_or_default();
    let Some(field) = fields.iter().find(|f| f.name == long) else {
        return ConfigError::Arguments(error);
    };
    let value = match error.get(ContextKind::InvalidValue) {
        Some(ContextValue::String(v)) => format!("invalid value {v:?}"),
        _ => "invalid value".to_owned(),
    };
    let problem = match std::error::Error::source(&error) {
        Some(reason) => format!("{value}: {reason}"),
        None => value,
    };
    let remedy = match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(all)) => format!("one of {}", all.join(", ")),
        _ => {
            let help = command
                .get_arguments()
                .find(|a| a.get_long() == Some(long))
                .and_then(|a| a.get_help().map(ToString::to_string))
                .unwrap_or_default();
            format!("--{long} is: {help}")
        }
    };
    wrong(path, field, problem, remedy)
}

/// Levenshtein's distance, for names of flags.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, cb) in row.iter_mut().skip(1).zip(&b) {
            let above = *cell;
            let cost = usize::from(ca != *cb);
            left = (above + 1).min(left + 1).min(diagonal + cost);
            *cell = left;
            diagonal = above;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}
