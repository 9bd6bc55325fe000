//! Single rows: the program in `benches/src/bin/row.rs`, built in release.

use crate::{Outcome, process};
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Hands `arguments` to the program, whose output is all that standard output gets.
pub(super) fn run(root: &Path, arguments: &[String]) -> Result<Outcome> {
    let mut command = Command::new(build(root)?);
    let status = command.args(arguments).status().with_context(|| format!("could not start {command:?}"))?;
    Ok(match status.code() {
        Some(0) => Outcome::Passed,
        Some(2) => Outcome::Refused,
        _ => Outcome::Failed,
    })
}

/// Builds the program and says where it is.
pub(super) fn build(root: &Path) -> Result<PathBuf> {
    let arguments = ["build", "--quiet", "--release", "--package", "galatea-benches", "--bin", "row"];
    anyhow::ensure!(process::succeeds(process::cargo(root, &arguments))?, "galatea-benches does not build; see above");
    Ok(process::target(root)?.join("release").join(format!("row{}", std::env::consts::EXE_SUFFIX)))
}

/// The JSON object of one row, or the last thing the program said where it had none.
pub(super) fn measure(program: &Path, arguments: &[&str]) -> Result<Result<Value, String>> {
    let mut command = Command::new(program);
    command.args(arguments).arg("--json");
    let output = command.output().with_context(|| format!("could not start {command:?}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
        return Ok(Err(last.trim_start_matches("error: ").to_owned()));
    }
    Ok(Ok(serde_json::from_slice(&output.stdout).with_context(|| format!("{command:?} printed no JSON object"))?))
}
