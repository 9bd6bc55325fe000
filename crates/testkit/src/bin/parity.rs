//! Recomputes a folder of fixtures and prints a line for each.
#![forbid(unsafe_code)]

use anyhow::Context;
use clap::Parser;
use galatea_testkit::parity::{self, Checked, Comparison, Status};
use serde_json::json;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

/// Recomputes what the original implementations computed, with our code, and prints how far apart the two are.
///
/// A line per fixture: pass, FAIL or unknown; what used most of its tolerance, its error, the tolerance and how it is measured
/// (rel: largest difference over largest number; abs: largest difference; differ: how many integers are not equal).
/// Exit code 1 if anything failed, 2 for a wrong command line.
#[derive(Parser)]
#[command(name = "parity", version)]
struct Options {
    /// The folder of fixtures: one folder per family, each with safetensors files and a config.json (docs/fixtures.md).
    dir: PathBuf,
    /// Only fixtures whose "family/name" contains this.
    #[arg(long, default_value = "")]
    filter: String,
    /// One line of JSON per fixture and one of totals.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    // A panic of the code under test is reported in its fixture's line.
    std::panic::set_hook(Box::new(|_| {}));
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> anyhow::Result<bool> {
    let mut out = io::stdout().lock();
    let mut counts = [0usize; 3];
    for checked in parity::run(&options.dir, &options.filter, parity::KINDS)? {
        counts[checked.status as usize] += 1;
        let text = if options.json { object(&checked) } else { line(&checked) };
        writeln!(out, "{text}")?;
    }
    let [pass, fail, unknown] = counts;
    if options.json {
        writeln!(out, "{}", json!({ "pass": pass, "fail": fail, "unknown": unknown }))?;
    } else {
        writeln!(out, "{pass} pass, {fail} fail, {unknown} unknown")?;
    }
    out.flush().context("writing the results")?;
    if pass + fail + unknown == 0 {
        let place = options.dir.display();
        anyhow::bail!("no fixture in {place} matches \"{}\": expected folders of .safetensors files", options.filter);
    }
    Ok(fail == 0)
}

fn comparison(comparison: &Comparison) -> String {
    let Comparison { what, measure, error, tolerance } = comparison;
    match measure {
        parity::Measure::Exact => format!("{what}: {error} differ, none may"),
        other => format!("{what}: {error:.1e} of {tolerance:.0e} {}", other.word()),
    }
}

fn line(checked: &Checked) -> String {
    let status = match checked.status {
        Status::Pass => "pass   ",
        Status::Fail => "FAIL   ",
        Status::Unknown => "unknown",
    };
    let mut text = format!("{status} {:<42}", checked.fixture);
    match (&checked.fault, checked.report.worst()) {
        (Some(fault), _) => text += &format!(" {fault}"),
        (None, Some(worst)) => {
            text += &format!(" {} (worst of {})", comparison(worst), checked.comparisons().len());
        }
        (None, None) => text += " nothing was compared",
    }
    for failed in checked.comparisons().iter().filter(|c| !c.passed()) {
        text += &format!("\n        {}", comparison(failed));
    }
    text
}

fn object(checked: &Checked) -> String {
    let fault = checked.fault.as_ref().map(ToString::to_string);
    json!({
        "fixture": checked.fixture,
        "status": checked.status,
        "fault": fault,
        "worst": checked.report.worst(),
        "comparisons": checked.comparisons(),
    })
    .to_string()
}
