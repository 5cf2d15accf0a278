//! `periplus test`: what is expected, tried out.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::bail;
use periplus_query::ruler::unit::test_file;

/// Run unit tests of rules, in promtool's format.
///
/// Example: periplus test rules alerts_test.yml
#[derive(clap::Args, Debug)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand, Debug)]
enum What {
    /// Run test files of rules: series and times in, the alerts and values expected out
    Rules {
        /// Files of tests, as promtool reads them.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Run only tests whose name this expression matches; may be repeated.
        #[arg(long, value_name = "REGEX")]
        run: Vec<String>,
    },
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let What::Rules { files, run } = &args.what;
    let mut out = std::io::stdout().lock();
    let mut bad = 0;
    for file in files {
        writeln!(out, "Unit Testing:  {}", file.display())?;
        match test_file(file, run) {
            Ok(report) => {
                for w in &report.warnings {
                    writeln!(out, "  WARNING: {w}")?;
                }
                match report.failures.is_empty() {
                    true => writeln!(out, "  SUCCESS")?,
                    false => {
                        writeln!(out, "  FAILED:")?;
                        bad += 1;
                    }
                }
                for f in &report.failures {
                    writeln!(out, "{f}\n")?;
                }
            }
            Err(e) => {
                writeln!(out, "  FAILED:\n{e}\n")?;
                bad += 1;
            }
        }
        writeln!(out)?;
    }
    if bad > 0 {
        bail!("{bad} of {} files fail", files.len());
    }
    Ok(())
}
