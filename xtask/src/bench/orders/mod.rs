//! Every order of deciding positions with a perfect network: `galatea oracle --orders` measures, a table and a plot show it.

mod plot;

use super::{three_digits, write};
use crate::{Outcome, process};
use anyhow::{Context, Result};
use serde_json::Value;
use std::path::Path;
use std::process::Stdio;

/// Hands `arguments` to `galatea oracle --orders` and writes what it found as JSON, page and plot.
pub(super) fn run(root: &Path, arguments: &[String]) -> Result<Outcome> {
    let mut command =
        process::cargo(root, &["run", "--quiet", "--release", "-p", "galatea", "--", "oracle", "--orders"]);
    if arguments.iter().any(|argument| ["--help", "-h"].contains(&argument.as_str())) {
        let status = command.arg("--help").status().with_context(|| format!("could not start {command:?}"))?;
        return Ok(if status.success() { Outcome::Passed } else { Outcome::Failed });
    }
    command.arg("--json").args(arguments).stderr(Stdio::inherit());
    let output = command.output().with_context(|| format!("could not start {command:?}"))?;
    match output.status.code() {
        Some(0) => {}
        Some(2) => return Ok(Outcome::Refused),
        _ => return Ok(Outcome::Failed),
    }
    let found: Value =
        serde_json::from_slice(&output.stdout).with_context(|| format!("{command:?} printed no JSON object"))?;
    let folder = process::target(root)?.join("bench");
    let page = markdown(&found);
    write(&folder.join("orders.json"), &format!("{found:#}\n"))?;
    write(&folder.join("orders.md"), &page)?;
    write(&folder.join("orders.svg"), &plot::panels(&rows(&found))?)?;
    println!("{page}\nresults: {0}/orders.md, {0}/orders.json, {0}/orders.svg", folder.display());
    Ok(Outcome::Passed)
}

/// A row, as the program prints it.
#[derive(Clone, Debug)]
struct Row {
    order: String,
    rule: String,
    passes: f64,
    valid: f64,
    valid_error: f64,
    kl: Option<(f64, f64)>,
    /// Whether `kl` is an upper bound.
    bound: bool,
}

fn rows(found: &Value) -> Vec<Row> {
    let rows = found["orders"].as_array().map(Vec::as_slice).unwrap_or_default();
    let read = |row: &Value| {
        let number = |key: &str| row[key].as_f64();
        Some(Row {
            order: row["order"].as_str()?.to_owned(),
            rule: row["rule"].as_str()?.to_owned(),
            passes: number("passes")?,
            valid: number("valid_share")?,
            valid_error: number("valid_standard_error")?,
            kl: number("kl_bits").zip(number("kl_standard_error")),
            bound: row["kl_is_upper_bound"] == true,
        })
    };
    rows.iter().filter_map(read).collect()
}

fn markdown(found: &Value) -> String {
    let mut page = String::from("| order | evaluations | grammatical, % | KL, bits |\n|---|---|---|---|\n");
    for row in rows(found) {
        // A mean that is not told from zero by rounding is zero.
        let kl = row.kl.map_or("-".to_owned(), |(mean, error)| {
            let mean = if mean.abs() < 5e-4 { 0.0 } else { mean };
            let most = if row.bound { "≤ " } else { "" };
            format!("{most}{} ± {}", three_digits(mean), three_digits(error))
        });
        let (valid, error) = (100.0 * row.valid, 100.0 * row.valid_error);
        page += &format!("| {} | {:.1} | {valid:.1} ± {error:.1} | {kl} |\n", row.rule, row.passes);
    }
    page
}

#[cfg(test)]
fn example() -> Value {
    serde_json::json!({ "orders": [
        { "order": "ancestral", "rule": "ancestral, 4 steps", "passes": 4.0, "valid_share": 0.25,
          "valid_standard_error": 0.01, "kl_bits": 5.0, "kl_standard_error": 0.1 },
        { "order": "ancestral", "rule": "ancestral, 48 steps", "passes": 30.4, "valid_share": 0.75,
          "valid_standard_error": 0.01, "kl_bits": -1e-9, "kl_standard_error": 1e-9 },
        { "order": "best of each gap", "rule": "best of each gap, all above 0.9", "passes": 5.0, "valid_share": 0.0,
          "valid_standard_error": 0.0, "kl_bits": null, "kl_standard_error": null },
    ] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_told_and_what_has_no_sum_has_a_dash() {
        let page = markdown(&example());
        for line in [
            "| ancestral, 4 steps | 4.0 | 25.0 ± 1.0 | 5.00 ± 0.100 |",
            "| ancestral, 48 steps | 30.4 | 75.0 ± 1.0 | 0.00000 ± 0.00000 |",
            "| best of each gap, all above 0.9 | 5.0 | 0.0 ± 0.0 | - |",
        ] {
            assert!(page.contains(line), "{page}");
        }
    }
}
