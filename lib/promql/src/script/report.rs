//! What differs, for people.

use std::fmt;

/// How a script went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Evaluations written in the script.
    pub evals: usize,
    /// Queries run: those, and the ones that must agree with them.
    pub queries: usize,
    /// What differs.
    pub failures: Vec<Failure>,
}

impl Report {
    /// Whether all is as expected.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.failures.is_empty()
    }

    /// Evaluations of which something differs.
    #[must_use]
    pub fn failed_evals(&self) -> usize {
        let mut lines: Vec<usize> = self.failures.iter().map(|f| f.line).collect();
        lines.dedup();
        lines.len()
    }
}

/// One thing that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Line of the command, from 1.
    pub line: usize,
    /// The query that was run; empty for a failed `load`.
    pub query: String,
    /// How it was run: `instant at 5m`, `range from 4m to 6m step 1m (step at 5m)`.
    pub run: String,
    /// What is about: a series, an annotation, the error.
    pub what: String,
    /// What should be.
    pub expected: String,
    /// What is.
    pub got: String,
}

impl fmt::Display for Failure {
    /// Several lines, the first `line N: QUERY`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}\n  run:      {}\n  ", self.line, self.query, self.run)?;
        write!(
            f,
            "differs:  {}\n  expected: {}\n  got:      {}",
            self.what, self.expected, self.got
        )
    }
}

impl fmt::Display for Report {
    /// Every failure, then a line that counts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for failure in &self.failures {
            writeln!(f, "{failure}\n")?;
        }
        let (evals, queries) = (self.evals, self.queries);
        match self.failed_evals() {
            0 => write!(f, "{evals} evaluations hold ({queries} queries)"),
            n => write!(f, "{n} of {evals} evaluations differ ({queries} queries)"),
        }
    }
}
