//! Everything a change must pass, cheapest first, in one profile so that nothing is compiled twice.

use crate::test::Totals;
use crate::{Outcome, kernels, process, readme, smoke, test, tidy};
use anyhow::Result;
use std::path::Path;
use std::time::{Duration, Instant};

/// One step of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Fmt,
    Tidy,
    Clippy,
    Kernels,
    Test,
    Doc,
    Smoke,
}

/// In the order in which they run: what costs least comes first.
const STEPS: [Step; 7] = [Step::Fmt, Step::Tidy, Step::Clippy, Step::Kernels, Step::Test, Step::Doc, Step::Smoke];
const FMT: &[&str] = &["fmt", "--all", "--check"];
const CLIPPY: &[&str] = &["clippy", "--workspace", "--all-targets", "--release", "--", "-D", "warnings"];
/// With the driver and the compiler of CUDA kernels, which need neither a GPU nor a toolkit to be built; the command line
/// stands for all that is between it and the kernels.
const CUDA_CLIPPY: &[&str] = &[
    "clippy",
    "--package",
    "galatea-kernels",
    "--package",
    "galatea",
    "--features",
    "galatea-kernels/cuda,galatea/cuda",
    "--all-targets",
    "--release",
    "--",
    "-D",
    "warnings",
];
/// What is there with that feature alone, and whether a GPU would take the launches of every case. They are run in the
/// interpreter by the next step, so not here.
const CUDA_TEST: &str = "GALATEA_SCHEDULES=0 cargo test --release --package galatea-kernels --features cuda --lib";
/// In release like the rest: the dependencies' metadata is then clippy's.
const DOC: &[&str] = &["doc", "--workspace", "--no-deps", "--release"];

impl Step {
    fn name(self) -> &'static str {
        match self {
            Self::Fmt => "fmt",
            Self::Tidy => "tidy",
            Self::Clippy => "clippy",
            Self::Kernels => "kernels",
            Self::Test => "test",
            Self::Doc => "doc",
            Self::Smoke => "smoke",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        STEPS.into_iter().find(|step| step.name() == name)
    }

    /// What the step runs, as a person would type it.
    fn line(self, root: &Path) -> Result<String> {
        Ok(match self {
            Self::Fmt => format!("cargo {}", FMT.join(" ")),
            Self::Tidy => "cargo xtask tidy".to_owned(),
            Self::Clippy => format!("cargo {}", CLIPPY.join(" ")),
            Self::Kernels => format!("cargo xtask kernels check && cargo {} && {CUDA_TEST}", CUDA_CLIPPY.join(" ")),
            Self::Test => readme::command(root, "cargo test")?,
            Self::Doc => format!("RUSTDOCFLAGS=\"-D warnings\" cargo {}", DOC.join(" ")),
            Self::Smoke => smoke::line(root)?,
        })
    }
}

/// What to run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    steps: Vec<Step>,
    list: bool,
}

impl Options {
    /// Reads `[--only STEP]... [--list]`.
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, String> {
        let names = || STEPS.map(Step::name).join(", ");
        let mut only = Vec::new();
        let mut list = false;
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            match argument.as_str() {
                "--list" => list = true,
                "--only" => {
                    let name = rest.next().ok_or_else(|| format!("`--only` wants one of {}", names()))?;
                    let step = Step::parse(name);
                    only.push(step.ok_or_else(|| format!("there is no step `{name}`, only {}", names()))?);
                }
                other => return Err(format!("`ci` does not know `{other}`, only --only STEP and --list")),
            }
        }
        let steps = STEPS.into_iter().filter(|step| only.is_empty() || only.contains(step)).collect();
        Ok(Self { steps, list })
    }
}

/// Runs the steps until one fails. The last line is `N passed, N failed`: the tests, and one more failure where the
/// step that failed was another.
pub(crate) fn run(root: &Path, options: &Options) -> Result<Outcome> {
    if options.list {
        options.steps.iter().for_each(|step| println!("{}", step.name()));
        return Ok(Outcome::Passed);
    }
    let start = Instant::now();
    let mut report = Report::default();
    for (i, &step) in options.steps.iter().enumerate() {
        let line = step.line(root);
        let shown = line.as_deref().unwrap_or("(its command is not known)");
        println!("\n==> [{}/{}] {}: {shown}", i + 1, options.steps.len(), step.name());
        let begin = Instant::now();
        let outcome = line.and_then(|line| execute(root, step, &line, &mut report.totals));
        let passed = outcome.unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            false
        });
        report.steps.push((step, begin.elapsed(), passed));
        println!("<== {} {} in {:.1} s", step.name(), word(passed), begin.elapsed().as_secs_f64());
        if !passed {
            break;
        }
    }
    print!("\n{}", report.text(options.steps.len(), start.elapsed()));
    Ok(if report.failed().is_none() { Outcome::Passed } else { Outcome::Failed })
}

fn execute(root: &Path, step: Step, line: &str, totals: &mut Totals) -> Result<bool> {
    match step {
        Step::Fmt => process::succeeds(process::cargo(root, FMT)),
        Step::Tidy => Ok(tidy::run(root)? == Outcome::Passed),
        Step::Clippy => process::succeeds(process::cargo(root, CLIPPY)),
        Step::Kernels => {
            let checked = kernels::check(root, false)?;
            if checked.failed() || !process::succeeds(process::cargo(root, CUDA_CLIPPY))? {
                return Ok(false);
            }
            let mut measured = test::measure(root, &kernels::with_compiler(root, CUDA_TEST)?)?;
            measured.skipped += usize::from(checked.skipped());
            *totals += measured;
            Ok(measured.failed == 0)
        }
        Step::Test => {
            let measured = test::measure(root, line)?;
            *totals += measured;
            Ok(measured.failed == 0)
        }
        Step::Doc => {
            let mut command = process::cargo(root, DOC);
            command.env("RUSTDOCFLAGS", "-D warnings");
            process::succeeds(command)
        }
        Step::Smoke => Ok(smoke::run(root)? == Outcome::Passed),
    }
}

/// What has happened so far.
#[derive(Default)]
struct Report {
    steps: Vec<(Step, Duration, bool)>,
    totals: Totals,
}

impl Report {
    fn failed(&self) -> Option<Step> {
        self.steps.iter().find(|(_, _, passed)| !passed).map(|&(step, _, _)| step)
    }

    fn text(&self, planned: usize, elapsed: Duration) -> String {
        let mut text = String::from("summary\n");
        for &(step, time, passed) in &self.steps {
            text += &format!("  {:<7} {:<6} {:>7.1} s\n", step.name(), word(passed), time.as_secs_f64());
        }
        let not_run = planned - self.steps.len();
        text += &format!("  {:<14} {:>7.1} s", "all", elapsed.as_secs_f64());
        text += &if not_run == 0 { "\n".to_owned() } else { format!(", {not_run} steps not run\n") };
        if self.totals != Totals::default() {
            text += &format!("tests: {}\n", self.totals);
        }
        if let Some(step) = self.failed() {
            text += &format!("failed: {0}; rerun it alone: cargo xtask ci --only {0}\n", step.name());
        }
        let mut totals = self.totals;
        // A step that fails without a failed test is one failure.
        if self.failed().is_some() && totals.failed == 0 {
            totals.failed = 1;
        }
        text + &totals.short() + "\n"
    }
}

fn word(passed: bool) -> &'static str {
    if passed { "ok" } else { "FAILED" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &[&str]) -> Result<Options, String> {
        Options::parse(&arguments.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    fn last_line(report: &Report) -> String {
        report.text(STEPS.len(), Duration::from_secs(9)).lines().last().unwrap_or_default().to_owned()
    }

    #[test]
    fn every_step_is_reached_by_its_name() {
        for step in STEPS {
            assert_eq!(options(&["--only", step.name()]).map(|o| o.steps), Ok(vec![step]));
        }
        assert_eq!(options(&[]).map(|o| o.steps), Ok(STEPS.to_vec()));
    }

    #[test]
    fn steps_keep_their_order_whatever_was_asked() {
        let steps = options(&["--only", "test", "--only", "fmt"]).map(|o| o.steps);
        assert_eq!(steps, Ok(vec![Step::Fmt, Step::Test]));
    }

    #[test]
    fn the_last_line_is_the_totals_of_the_tests() {
        let second = Duration::from_secs(1);
        let totals = Totals { passed: 7, failed: 0, skipped: 2 };
        let mut report = Report { steps: vec![(Step::Test, second, true)], totals };
        assert_eq!(last_line(&report), "7 passed, 0 failed");
        report.steps.push((Step::Doc, second, false));
        assert_eq!(last_line(&report), "7 passed, 1 failed");
        assert!(report.text(6, second).contains("cargo xtask ci --only doc\n"));
    }

    #[test]
    fn a_failing_test_is_counted_once_and_an_early_failure_is_counted_at_all() {
        let second = Duration::from_secs(1);
        let totals = Totals { passed: 7, failed: 3, skipped: 0 };
        let report = Report { steps: vec![(Step::Test, second, false)], totals };
        assert_eq!(last_line(&report), "7 passed, 3 failed");
        let report = Report { steps: vec![(Step::Fmt, second, false)], totals: Totals::default() };
        assert_eq!(last_line(&report), "0 passed, 1 failed");
    }
}
