//! From text to commands.

use super::eval::{self, Eval};
use super::load::{self, Load};

/// A script, read.
#[derive(Clone, Debug)]
pub struct Script {
    pub(super) commands: Vec<(usize, Command)>,
}

impl Script {
    /// Number of evaluations it asks for.
    #[must_use]
    pub fn evals(&self) -> usize {
        self.commands.iter().filter(|(_, c)| matches!(c, Command::Eval(_))).count()
    }
}

/// What a script asks for.
#[derive(Clone, Debug)]
pub(super) enum Command {
    /// Forget all samples.
    Clear,
    /// Add samples.
    Load(Load),
    /// Evaluate and compare.
    Eval(Box<Eval>),
}

/// A script that can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub struct ScriptError {
    /// Where, from 1.
    pub line: usize,
    /// What is wrong, and what is expected instead.
    pub message: String,
}

/// Reads a script. Queries are only read when they are run.
///
/// # Errors
/// The first line that can't be read.
pub fn parse(text: &str) -> Result<Script, ScriptError> {
    let lines: Vec<(usize, &str)> = text
        .split('\n')
        .enumerate()
        .map(|(i, l)| (i + 1, l.trim()))
        .map(|(i, l)| if l.starts_with('#') { (i, "") } else { (i, l) })
        .collect();
    let mut commands = Vec::new();
    let mut rest = lines.as_slice();
    while let Some(((number, line), after)) = rest.split_first() {
        rest = after;
        if line.is_empty() {
            continue;
        }
        let error = |(line, message): (usize, String)| ScriptError { line, message };
        let (word, arguments) = split_word(line);
        let block_end = rest.iter().position(|(_, l)| l.is_empty()).unwrap_or(rest.len());
        let (block, behind) = rest.split_at(block_end);
        let word = word.to_ascii_lowercase();
        let command = if word == "clear" {
            Command::Clear
        } else if let Some(kind) = word.strip_prefix("load") {
            rest = behind;
            Command::Load(load_block(*number, kind, arguments, block).map_err(error)?)
        } else if let Some(kind) = word.strip_prefix("eval") {
            let (eval, used) = eval::parse(*number, kind, arguments, block).map_err(error)?;
            rest = rest.get(used..).unwrap_or(behind);
            Command::Eval(Box::new(eval))
        } else {
            let message =
                format!("unknown command {word:?}, expected clear, load, load_with_nhcb or eval");
            return Err(error((*number, message)));
        };
        commands.push((*number, command));
    }
    Ok(Script { commands })
}

fn load_block(
    number: usize,
    kind: &str,
    arguments: &str,
    block: &[(usize, &str)],
) -> Result<Load, (usize, String)> {
    let with_nhcb = match kind {
        "" => false,
        "_with_nhcb" => true,
        _ => return Err((number, "expected load STEP or load_with_nhcb STEP".to_owned())),
    };
    let step = duration(arguments).map_err(|e| (number, format!("step {e}")))?;
    load::parse(step, with_nhcb, block)
}

/// The first word and what follows it.
pub(super) fn split_word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    (word, rest.trim_start())
}

/// A duration in milliseconds.
pub(super) fn duration(text: &str) -> Result<i64, String> {
    periplus_model::duration::parse_duration(text).map_err(|e| format!("{text:?}: {e}"))
}
