//! The README's test command, and the totals of everything it ran.

use crate::{Outcome, process, readme};
use anyhow::Result;
use std::path::Path;

/// What the test programs of one run reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
}

impl Totals {
    /// Takes in one line of the run's output.
    ///
    /// A test that cannot do its work on this machine writes a line `skipped: why` to standard error itself, because
    /// the test harness swallows what the print macros write in a passing test. With one test thread the harness has
    /// by then begun the line with `test name ... `.
    fn read(&mut self, line: &str) {
        if let Some(result) = line.strip_prefix("test result: ") {
            self.passed += count(result, "passed");
            self.failed += count(result, "failed");
            self.skipped += count(result, "ignored");
        } else if line.starts_with("skipped:") || (line.starts_with("test ") && line.contains(" ... skipped:")) {
            self.skipped += 1;
        }
    }

    /// The totals of a run that ended as `success` says: one that broke off counts as a failure of its own.
    fn close(mut self, success: bool) -> Self {
        if !success {
            self.failed = self.failed.max(1);
        }
        self
    }

    /// `N passed, N failed`, which is all that the workspace's CI prints.
    pub(crate) fn short(&self) -> String {
        format!("{} passed, {} failed", self.passed, self.failed)
    }
}

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl std::fmt::Display for Totals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Runs the README's test command and prints the totals on the last line.
pub(crate) fn run(root: &Path) -> Result<Outcome> {
    let line = readme::command(root, "cargo test")?;
    println!("$ {line}");
    let totals = measure(root, &line)?;
    println!("{totals}");
    Ok(if totals.failed == 0 { Outcome::Passed } else { Outcome::Failed })
}

/// Runs a test command line, passing its output on, and adds up what it reports.
pub(crate) fn measure(root: &Path, line: &str) -> Result<Totals> {
    let mut totals = Totals::default();
    let success = process::watch(process::shell(root, line), |stream, line| {
        process::pass_on(stream, line);
        totals.read(line);
    })?;
    Ok(totals.close(success))
}

/// The number before `word` in `ok. 3 passed; 0 failed; 1 ignored; ...`.
fn count(result: &str, word: &str) -> usize {
    let mut words = result.split_whitespace().map(|w| w.trim_end_matches(';'));
    let mut before = words.next().unwrap_or_default();
    for current in words {
        if current == word {
            return before.parse().unwrap_or(0);
        }
        before = current;
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(output: &str) -> Totals {
        let mut totals = Totals::default();
        output.lines().for_each(|line| totals.read(line));
        totals
    }

    #[test]
    fn totals_are_the_sum_over_test_programs() {
        let output = "\
running 3 tests
test a ... ok
test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s
test result: FAILED. 12 passed; 2 failed; 1 ignored; 0 measured; 4 filtered out; finished in 1.30s
";
        assert_eq!(totals(output), Totals { passed: 15, failed: 2, skipped: 1 });
    }

    #[test]
    fn a_skip_is_counted_wherever_the_harness_puts_it() {
        let output = "skipped: no device\ntest x ... skipped: no AMX\nnothing skipped: here\ntest y ... ok\n";
        assert_eq!(totals(output).skipped, 2);
    }

    #[test]
    fn a_run_that_breaks_off_counts_as_a_failure() {
        assert_eq!(Totals::default().close(false).failed, 1);
        assert_eq!(Totals { failed: 3, ..Totals::default() }.close(false).failed, 3);
        assert_eq!(Totals::default().close(true).failed, 0);
        let broken = totals("test result: ok. 2 passed; 0 failed; 0 ignored\n").close(false);
        assert_eq!(
            (broken.to_string(), broken.short()),
            ("2 passed, 1 failed, 0 skipped".into(), "2 passed, 1 failed".into())
        );
    }
}
