//! Single rows: the program in `benches/src/bin/row.rs`, built in release.

use crate::{Outcome, process};
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Hands `arguments` to the program, whose output is all that standard output gets.
pub(super) fn run(root: &Path, arguments: &[String]) -> Result<Outcome> {
    start(Command::new(build(root)?).args(arguments))
}

/// The rows of a GPU: the same program, built with its backend.
pub(super) fn gpu(root: &Path, arguments: &[String]) -> Result<Outcome> {
    start(Command::new(build_with(root, &["--features", "cuda"])?).arg("gpu").args(arguments))
}

fn start(command: &mut Command) -> Result<Outcome> {
    let status = command.status().with_context(|| format!("could not start {command:?}"))?;
    Ok(match status.code() {
        Some(0) => Outcome::Passed,
        Some(2) => Outcome::Refused,
        _ => Outcome::Failed,
    })
}

/// Builds the program and says where it is.
pub(super) fn build(root: &Path) -> Result<PathBuf> {
    build_with(root, &[])
}

fn build_with(root: &Path, features: &[&str]) -> Result<PathBuf> {
    let package = ["build", "--quiet", "--release", "--package", "galatea-benches", "--bin", "row"];
    let arguments: Vec<&str> = package.into_iter().chain(features.iter().copied()).collect();
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
