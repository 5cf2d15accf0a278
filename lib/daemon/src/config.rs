//! One set of settings out of flags, environment and one YAML file.
//!
//! For a flag `--wal-dir` the environment variable is `PERIPLUS_WAL_DIR` and the field of the file
//! `wal-dir`. A flag wins over the environment, the environment over the file, the file over the default. A
//! list in the file is a flag given more than once; `true` sets a switch. Where a file is given
//! (`--config`), each of its fields must be an argument of the command at hand.

mod file;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

pub use file::Field;

/// The id of the argument that names the file.
pub const CONFIG_ARGUMENT: &str = "config";

/// The largest configuration file read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A configuration that can't be used. The text names the place, the field and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A flag or an environment variable is wrong, or help was asked for: clap knows what to print.
    #[error("{0}")]
    Arguments(#[from] clap::Error),
    /// The file can't be read.
    #[error("configuration file {path}: {reason}; check --config and the file's permissions", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The file is no YAML mapping.
    #[error("configuration file {path}: {reason}; write one `name: value` per flag", path = path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        reason: String,
    },
    /// A field of the file is wrong.
    #[error("configuration file {path}, line {line}, field {field}: {problem}; {remedy}", path = path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: u64,
        /// The field.
        field: String,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        remedy: String,
    },
}

/// Gives every argument of a command and of its subcommands its environment variable, and the command an
/// argument `--config FILE`. To be called once on the process's command.
#[must_use]
pub fn with_environment(command: Command) -> Command {
    let subcommands: Vec<String> =
        command.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    let mut command = command.mut_args(|arg| match arg.get_long() {
        Some(long) if takes_environment(&arg) => {
            // clap wants names that live as long as the process; there is one per flag.
            let name: &'static str = Box::leak(environment_name(long).into_boxed_str());
            arg.env(name)
        }
        _ => arg,
    });
    for name in subcommands {
        command = command.mut_subcommand(name, with_environment);
    }
    command
}

/// The argument that names the configuration file, for commands that run a service.
#[must_use]
pub fn config_argument() -> Arg {
    Arg::new(CONFIG_ARGUMENT)
        .long(CONFIG_ARGUMENT)
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .help("YAML file with settings; its fields are the names of the flags")
}

/// A duration as Prometheus writes it, for arguments.
///
/// # Errors
/// It is none; says how one is written.
pub fn duration(text: &str) -> Result<Duration, String> {
    match periplus_model::duration::parse_duration(text) {
        Ok(ms) => Ok(Duration::from_millis(ms.unsigned_abs())),
        Err(e) => Err(format!("{e}; write it as 500ms, 10s, 5m or 1h30m")),
    }
}

fn takes_environment(arg: &Arg) -> bool {
    !matches!(
        arg.get_action(),
        ArgAction::Help | ArgAction::HelpLong | ArgAction::HelpShort | ArgAction::Version
    ) && arg.get_env().is_none()
}

/// `wal-dir` → `PERIPLUS_WAL_DIR`.
#[must_use]
pub fn environment_name(flag: &str) -> String {
    format!("PERIPLUS_{}", flag.replace('-', "_").to_ascii_uppercase())
}

/// Parses the process's arguments, with the file's values where neither a flag nor the environment has
/// one. The command is to have passed through [`with_environment`]; the file is the one `--config` names
/// in the innermost subcommand.
///
/// # Errors
/// Everything that is wrong with the arguments, the environment or the file. For
/// [`ConfigError::Arguments`], print the error with its own `exit`.
pub fn matches(command: &Command, args: &[OsString]) -> Result<ArgMatches, ConfigError> {
    // Arguments the file supplies must not be missed on the way to it.
    let first = relaxed(command.clone()).try_get_matches_from(args)?;
    let (path, inner) = innermost(&first);
    let Some(file) = inner.try_get_one::<PathBuf>(CONFIG_ARGUMENT).ok().flatten() else {
        return Ok(command.clone().try_get_matches_from(args)?);
    };
    let target = find(command, &path);
    let fields = file::read(file)?;
    let mut all = args.to_vec();
    for field in &fields {
        let arg = file::argument(target, file, field)?;
        let given = matches!(
            inner.value_source(arg.get_id().as_str()),
            Some(ValueSource::CommandLine | ValueSource::EnvVariable)
        );
        if !given {
            all.extend(file::as_flags(arg, file, field)?.into_iter().map(OsString::from));
        }
    }
    command.clone().try_get_matches_from(&all).map_err(|e| file::locate(e, target, file, &fields))
}

/// Checks a file against a command without running anything; gives the number of fields.
///
/// # Errors
/// What is wrong with the file.
pub fn check_file(command: &Command, file: &Path) -> Result<usize, ConfigError> {
    let fields = file::read(file)?;
    let mut all = vec![OsString::from(command.get_name())];
    for field in &fields {
        let arg = file::argument(command, file, field)?;
        all.extend(file::as_flags(arg, file, field)?.into_iter().map(OsString::from));
    }
    command
        .clone()
        .no_binary_name(false)
        .try_get_matches_from(&all)
        .map_err(|e| file::locate(e, command, file, &fields))?;
    Ok(fields.len())
}

/// The same command with nothing required, subcommands too.
fn relaxed(command: Command) -> Command {
    let subcommands: Vec<String> =
        command.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    let mut command = command.mut_args(|a| {
        let keep = a.is_positional();
        if keep { a } else { a.required(false) }
    });
    for name in subcommands {
        command = command.mut_subcommand(name, relaxed);
    }
    command
}

fn innermost(matches: &ArgMatches) -> (Vec<String>, &ArgMatches) {
    let (mut path, mut inner) = (Vec::new(), matches);
    while let Some((name, sub)) = inner.subcommand() {
        path.push(name.to_owned());
        inner = sub;
    }
    (path, inner)
}

fn find<'a>(command: &'a Command, path: &[String]) -> &'a Command {
    let mut found = command;
    for name in path {
        match found.find_subcommand(name) {
            Some(sub) => found = sub,
            None => break,
        }
    }
    found
}

#[cfg(test)]
mod tests;
