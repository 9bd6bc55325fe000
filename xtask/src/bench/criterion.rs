//! The criterion benches and the end-to-end rows below them: one run, one report.

use super::baseline::{self, Baseline, Series};
use super::{machine, report, row, write};
use crate::{Outcome, process};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The end-to-end rows: their names in a filter, and what the row program is told.
const ROWS: [(&str, &[&str]); 5] = [
    ("step/2x128/f32", &["step", "--batch", "2", "--dtype", "f32"]),
    ("step/2x128/bf16", &["step", "--batch", "2", "--dtype", "bf16"]),
    ("sample/1x128x32/f32", &["sample", "--steps", "32", "--dtype", "f32"]),
    ("sample/1x128x32/bf16", &["sample", "--steps", "32", "--dtype", "bf16"]),
    ("sample/1x128x32/int8", &["sample", "--steps", "32", "--dtype", "int8"]),
];

/// What to run and what to do with the times.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Options {
    save: Option<String>,
    against: Option<String>,
    /// For criterion: the filter first, if there is one.
    rest: Vec<String>,
}

impl Options {
    /// Reads `[FILTER] [--save NAME] [--against NAME] [ARGUMENT]...`.
    pub(super) fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let place = match argument.as_str() {
                "--save" => &mut options.save,
                "--against" => &mut options.against,
                _ => {
                    options.rest.push(argument.clone());
                    continue;
                }
            };
            let name = rest.next().filter(|name| !name.starts_with('-'));
            *place = Some(name.ok_or_else(|| format!("`{argument}` wants the name of a baseline"))?.clone());
        }
        Ok(options)
    }

    /// Whether the filter lets this row through.
    fn wants(&self, name: &str) -> bool {
        self.rest.first().filter(|first| !first.starts_with('-')).is_none_or(|filter| name.contains(filter.as_str()))
    }
}

/// Runs the benches whose names contain the filter, or all, then the rows; reports and compares.
pub(super) fn run(root: &Path, options: &Options) -> Result<Outcome> {
    let target = process::target(root)?;
    // A baseline that cannot be read is known before minutes of measuring.
    let old = options.against.as_deref().map(|name| Baseline::read(&baseline::path(&target, name))).transpose()?;
    println!("machine: {}", machine());
    let results = results(&target);
    let rooflines = results.join("roofline.jsonl");
    let before = std::fs::metadata(&rooflines).map_or(0, |file| file.len() as usize);
    let mut command = process::cargo(root, &["bench", "--package", "galatea-benches", "--"]);
    command.args(&options.rest);
    if !process::succeeds(command)? {
        return Ok(Outcome::Failed);
    }
    let benches = appended(&rooflines, before)?;
    let rows = rows(root, options)?;
    let report = json!({ "machine": machine(), "benches": benches, "rows": rows });
    let markdown = report::roofline(&report);
    let folder = target.join("bench");
    write(&folder.join("bench.json"), &format!("{report:#}\n"))?;
    write(&folder.join("roofline.md"), &markdown)?;
    println!("results: {}, {}", results.display(), folder.join("roofline.md").display());
    let new = Baseline { machine: machine(), series: series(&benches, &rows) };
    if let Some(old) = old {
        println!("\n{}", new.compare(&old));
    }
    if let Some(name) = &options.save {
        let path = baseline::path(&target, name);
        write(&path, &new.to_json())?;
        println!("baseline: {} series in {}", new.series.len(), path.display());
    }
    Ok(Outcome::Passed)
}

fn rows(root: &Path, options: &Options) -> Result<Vec<Value>> {
    let wanted: Vec<_> = ROWS.into_iter().filter(|(name, _)| options.wants(name)).collect();
    let mut rows = Vec::new();
    if wanted.is_empty() {
        return Ok(rows);
    }
    let program = row::build(root)?;
    for (name, arguments) in wanted {
        match row::measure(&program, arguments)? {
            Ok(row) => {
                println!("{}", report::line(&row));
                rows.push(row);
            }
            Err(why) => println!("skipped: {name}: {why}"),
        }
    }
    Ok(rows)
}

/// Criterion's folder: `CRITERION_HOME`, or `criterion` in the target folder.
fn results(target: &Path) -> PathBuf {
    std::env::var_os("CRITERION_HOME").map_or_else(|| target.join("criterion"), PathBuf::from)
}

/// The lines of JSON that a file has beyond its first `from` bytes.
fn appended(path: &Path, from: usize) -> Result<Vec<Value>> {
    let Ok(bytes) = std::fs::read(path) else { return Ok(Vec::new()) };
    let text = String::from_utf8_lossy(bytes.get(from..).unwrap_or_default()).into_owned();
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines
        .map(|line| serde_json::from_str(line).with_context(|| format!("{} has a line `{line}`", path.display())))
        .collect()
}

/// Every time of a run under its name.
fn series(benches: &[Value], rows: &[Value]) -> std::collections::BTreeMap<String, Series> {
    let read = |value: &Value, unit: &str, scale: f64| {
        let number = |key: &str| value[format!("{key}_{unit}")].as_f64().map(|x| x * scale);
        let name = format!("{}/{}", value["name"].as_str()?, value["threads"]);
        Some((name, Series { median_ns: number("median")?, mad_ns: number("mad")? }))
    };
    let benches = benches.iter().filter_map(|bench| read(bench, "ns", 1.0));
    benches.chain(rows.iter().filter_map(|row| read(row, "ms", 1e6))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &[&str]) -> Result<Options, String> {
        Options::parse(&arguments.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_not_ours_goes_to_criterion() {
        let parsed = options(&["gemm", "--save", "a", "--noplot", "--against", "b"]).expect("two names");
        assert_eq!((parsed.save.as_deref(), parsed.against.as_deref()), (Some("a"), Some("b")));
        assert_eq!(parsed.rest, ["gemm", "--noplot"]);
        assert!(options(&["--save", "--against"]).is_err_and(|message| message.contains("--save")));
    }

    #[test]
    fn the_filter_is_for_the_rows_too() {
        let wanted = |arguments: &[&str]| {
            let options = options(arguments).expect("no names are missing");
            ROWS.iter().filter(|(name, _)| options.wants(name)).count()
        };
        assert_eq!([wanted(&[]), wanted(&["step/2x"]), wanted(&["gemm"]), wanted(&["--noplot"])], [5, 2, 0, 5]);
    }

    #[test]
    fn series_carry_nanoseconds_whatever_the_unit_was() {
        let bench = json!({ "name": "gemm/a", "threads": 1, "median_ns": 5.0, "mad_ns": 1.0 });
        let row = json!({ "name": "step/a", "threads": 2, "median_ms": 5.0, "mad_ms": 1.0 });
        let series = series(&[bench], &[row]);
        assert_eq!(series["gemm/a/1"], Series { median_ns: 5.0, mad_ns: 1.0 });
        assert_eq!(series["step/a/2"], Series { median_ns: 5e6, mad_ns: 1e6 });
    }
}
