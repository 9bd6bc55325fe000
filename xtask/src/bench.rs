//! The criterion benches.

use crate::{Outcome, process};
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Runs the benches whose names contain the first of `arguments`, or all, and says where the results are.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<Outcome> {
    let mut command = process::cargo(root, &["bench", "--package", "galatea-benches", "--"]);
    command.args(arguments);
    println!("machine: {}", machine());
    let success = process::succeeds(command)?;
    println!("results: {}", results(root)?.display());
    Ok(if success { Outcome::Passed } else { Outcome::Failed })
}

/// Criterion's folder: `CRITERION_HOME`, or `criterion` in the target folder.
fn results(root: &Path) -> Result<PathBuf> {
    if let Some(home) = std::env::var_os("CRITERION_HOME") {
        return Ok(PathBuf::from(home));
    }
    let text = process::output(process::cargo(root, &["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: Value = serde_json::from_str(&text).context("`cargo metadata` printed no JSON")?;
    let target = metadata["target_directory"].as_str().context("`cargo metadata` named no target_directory")?;
    Ok(Path::new(target).join("criterion"))
}

/// The processor and the number of threads it offers, which belong beside every time that is quoted.
fn machine() -> String {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model_name(&cpus).unwrap_or("unknown processor");
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{model}, {threads} threads, {} {}", std::env::consts::OS, std::env::consts::ARCH)
}

fn model_name(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, name)| name.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_the_first_model_name() {
        assert_eq!(model_name("processor\t: 0\nmodel name\t: Fast 9000\nmodel name\t: Slow\n"), Some("Fast 9000"));
        assert_eq!(model_name("processor\t: 0\n"), None);
    }
}
