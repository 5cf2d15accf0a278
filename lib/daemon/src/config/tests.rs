use std::io::Write;

use clap::builder::PossibleValuesParser;

use super::*;

fn command() -> Command {
    let sub = Command::new("sidecar")
        .arg(config_argument())
        .arg(Arg::new("listen").long("listen").required(true).help("address"))
        .arg(
            Arg::new("level")
                .long("level")
                .value_parser(PossibleValuesParser::new(["info", "debug"])),
        )
        .arg(
            Arg::new("limit").long("limit").value_parser(clap::value_parser!(u32)).help("how many"),
        )
        .arg(Arg::new("endpoint").long("endpoint").action(ArgAction::Append))
        .arg(Arg::new("fast").long("fast").action(ArgAction::SetTrue));
    with_environment(Command::new("periplus").subcommand(sub))
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut f = tempfile::NamedTempFile::new().unwrap();
    f.write_all(text.as_bytes()).unwrap();
    f
}

fn run(text: &str, flags: &[&str]) -> Result<ArgMatches, ConfigError> {
    let f = file(text);
    let mut args: Vec<OsString> = vec!["periplus".into(), "sidecar".into()];
    args.extend(flags.iter().map(OsString::from));
    args.extend(["--config".into(), f.path().into()]);
    let matches = matches(&command(), &args)?;
    Ok(matches.subcommand().unwrap().1.clone())
}

#[test]
fn the_file_fills_what_flags_leave_open() {
    let m = run(
        "# a comment\nlisten: 127.0.0.1:1\nlimit: 7\nendpoint: [a, b]\nfast: true\n",
        &["--limit", "9"],
    )
    .unwrap();
    assert_eq!(m.get_one::<String>("listen").unwrap(), "127.0.0.1:1");
    assert_eq!(*m.get_one::<u32>("limit").unwrap(), 9);
    assert_eq!(m.get_many::<String>("endpoint").unwrap().collect::<Vec<_>>(), ["a", "b"]);
    assert!(m.get_flag("fast"));
}

#[track_caller]
fn refused(text: &str, words: &[&str]) {
    let error = run(text, &[]).unwrap_err().to_string();
    for word in words {
        assert!(error.contains(word), "{word:?} is not in: {error}");
    }
}

#[test]
fn errors_name_line_field_and_remedy() {
    refused(
        "listen: a\nlimt: 3\n",
        &["line 2", "field limt", "unknown field", "did you mean limit?"],
    );
    refused("listen: a\n\nlimit: many\n", &["line 3", "field limit", "\"many\"", "how many"]);
    refused("listen: a\nlevel: loud\n", &["line 2", "field level", "info, debug"]);
    refused("listen: a\nfast: 3\n", &["field fast", "true or false"]);
    refused("listen: [a, b]\n", &["field listen", "one value"]);
    refused("listen: {a: b}\n", &["field listen", "mapping"]);
    refused("listen: a\nconfig: x\n", &["field config", "unknown field"]);
    refused("- a\n- b\n", &["one `name: value` per flag"]);
    refused("listen: a\nlisten: b\n", &["listen"]);
    refused("level: info\n", &["--listen"]);
}

#[test]
fn environment_names_follow_flags() {
    let c = command();
    let sub = c.find_subcommand("sidecar").unwrap();
    let arg = sub.get_arguments().find(|a| a.get_long() == Some("listen")).unwrap();
    assert_eq!(arg.get_env().unwrap(), "PERIPLUS_LISTEN");
    assert_eq!(environment_name("wal-dir"), "PERIPLUS_WAL_DIR");
}

#[test]
fn a_file_is_checked_alone() {
    let f = file("listen: x\nlimit: 3\n");
    let c = command();
    assert_eq!(check_file(c.find_subcommand("sidecar").unwrap(), f.path()).unwrap(), 2);
    let f = file("listen: x\nlimit: -3\n");
    assert!(check_file(c.find_subcommand("sidecar").unwrap(), f.path()).is_err());
    assert!(run("", &["--listen", "x"]).is_ok());
}
