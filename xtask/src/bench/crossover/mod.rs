//! Diffusion against autoregression with the same backbone: the row program measures, a table and a plot show it.

mod plot;
mod table;

use super::{machine, row, write};
use crate::{Outcome, process};
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};

/// Hands `arguments` to the row program, shows what it found and writes it as JSON, page and plot.
pub(super) fn run(root: &Path, arguments: &[String]) -> Result<Outcome> {
    let told = |flags: &[&str]| arguments.iter().any(|argument| flags.contains(&argument.as_str()));
    if told(&["--help", "-h"]) {
        return row::run(root, &["crossover".to_owned(), "--help".to_owned()]);
    }
    let mut command = Command::new(row::build(root)?);
    command.arg("crossover").args(arguments).stderr(Stdio::inherit());
    let output = command.output().with_context(|| format!("could not start {command:?}"))?;
    match output.status.code() {
        Some(0) => {}
        Some(2) => return Ok(Outcome::Refused),
        _ => return Ok(Outcome::Failed),
    }
    let mut found: Value =
        serde_json::from_slice(&output.stdout).with_context(|| format!("{command:?} printed no JSON object"))?;
    found["machine"] = machine().into();
    found["command"] = format!("cargo xtask bench crossover {}", arguments.join(" ")).trim_end().into();
    let folder = process::target(root)?.join("bench");
    let page = table::markdown(&found);
    let json = format!("{found:#}\n");
    write(&folder.join("crossover.json"), &json)?;
    write(&folder.join("crossover.md"), &page)?;
    write(&folder.join("crossover.svg"), &plot::panels(&found)?)?;
    if told(&["--json"]) {
        print!("{json}");
    } else {
        println!("\n{page}");
        println!("results: {0}/crossover.md, {0}/crossover.json, {0}/crossover.svg", folder.display());
    }
    Ok(Outcome::Passed)
}

/// A text, as the program prints it.
#[derive(Clone, Copy, Debug)]
struct Text {
    batch: u64,
    len: u64,
    /// None for autoregression, whose steps are its tokens.
    steps: Option<u64>,
    median_ms: f64,
    floor_ms: f64,
}

/// The texts of what was found.
fn texts(found: &Value) -> Vec<Text> {
    let rows = found["rows"].as_array().map(Vec::as_slice).unwrap_or_default();
    let read = |row: &Value| {
        let count = |key: &str| row[key].as_u64();
        Some(Text {
            batch: count("batch")?,
            len: count("len")?,
            steps: if row["way"] == "diffusion" { Some(count("steps")?) } else { None },
            median_ms: row["median_ms"].as_f64()?,
            floor_ms: row["floor_ms"].as_f64()?,
        })
    };
    rows.iter().filter_map(read).collect()
}

/// Each value once, in order.
fn distinct<T: Ord>(values: impl Iterator<Item = T>) -> Vec<T> {
    values.collect::<std::collections::BTreeSet<T>>().into_iter().collect()
}

#[cfg(test)]
fn example() -> Value {
    let text = |way: &str, batch: u64, len: u64, steps: u64, median: f64| {
        serde_json::json!({ "way": way, "batch": batch, "len": len, "steps": steps, "median_ms": median,
            "best_ms": median, "floor_ms": median / 2.0, "whole_ms": if steps == 8 { Some(1.1 * median) } else { None } })
    };
    let rows: Vec<Value> = [(1, 64, 100.0), (1, 128, 200.0), (16, 64, 110.0), (16, 128, 230.0)]
        .into_iter()
        .flat_map(|(batch, len, one)| {
            let step = batch as f64 * len as f64 / 64.0;
            let diffusion = [8, 16].map(|steps| text("diffusion", batch, len, steps, 10.0 * steps as f64 * step));
            [text("autoregression", batch, len, len, one)].into_iter().chain(diffusion)
        })
        .collect();
    let par: Vec<Value> = [(1, 64, 10), (1, 128, 10), (16, 64, 0), (16, 128, 0)]
        .map(|(batch, len, steps)| serde_json::json!({ "batch": batch, "len": len, "steps": steps, "floor_steps": 12 }))
        .into();
    serde_json::json!({ "machine": "m", "command": "cargo xtask bench crossover", "dtype": "f32", "threads": 2,
        "isa": "avx2", "peak_gflop_s": 500.0, "bandwidth_gb_s": 50.0, "weight_bytes": 226_000_000u64, "seconds": 99.0,
        "points": [], "rows": rows, "par": par })
}
