//! Times: criterion's benches with their rooflines, single rows of the seed's model, its two ways to write
//! a text, and the same works in other programs. And what each order of deciding positions costs a perfect network.

mod baseline;
mod criterion;
mod crossover;
mod orders;
mod panel;
mod peers;
mod report;
mod row;

use crate::{Outcome, USAGE, usage};
use anyhow::{Context, Result};
use std::path::Path;

/// Runs what the first of `arguments` names: a row, the crossover, the peers, or the benches whose names contain it.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<Outcome> {
    match arguments.split_first() {
        Some((first, _)) if matches!(first.as_str(), "--help" | "-h") => {
            print!("{USAGE}");
            Ok(Outcome::Passed)
        }
        Some((first, _)) if matches!(first.as_str(), "step" | "sample" | "decode") => row::run(root, arguments),
        Some((first, rest)) if first == "--gpu" => row::gpu(root, rest),
        Some((first, rest)) if first == "crossover" => crossover::run(root, rest),
        Some((first, rest)) if first == "orders" => orders::run(root, rest),
        Some((first, rest)) if first == "peers" => match peers::Options::parse(rest) {
            Ok(options) => peers::run(root, &options),
            Err(message) => Ok(usage(&message)),
        },
        _ => match criterion::Options::parse(arguments) {
            Ok(options) => criterion::run(root, &options),
            Err(message) => Ok(usage(&message)),
        },
    }
}

/// Writes a file and the folders above it.
fn write(path: &Path, text: &str) -> Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
    }
    std::fs::write(path, text).with_context(|| format!("could not write {}", path.display()))
}

/// The processor and the number of threads it offers, which belong beside every time that is quoted.
fn machine() -> String {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = model_name(&cpus).unwrap_or("unknown processor");
    format!("{model}, {} threads, {} {}", threads(), std::env::consts::OS, std::env::consts::ARCH)
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn model_name(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, name)| name.trim())
}

/// A number with three digits that count.
fn three_digits(x: f64) -> String {
    match x.abs() {
        a if a >= 100.0 => format!("{x:.0}"),
        a if a >= 10.0 => format!("{x:.1}"),
        a if a >= 1.0 => format!("{x:.2}"),
        a if a >= 0.01 => format!("{x:.3}"),
        _ => format!("{x:.5}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_is_the_first_model_name() {
        assert_eq!(model_name("processor\t: 0\nmodel name\t: Fast 9000\nmodel name\t: Slow\n"), Some("Fast 9000"));
        assert_eq!(model_name("processor\t: 0\n"), None);
    }

    #[test]
    fn a_call_that_makes_no_sense_is_a_usage_error() {
        for call in
            [&["peers", "--rounds"][..], &["peers", "--rounds", "0"], &["peers", "all"], &["--save"], &["--against"]]
        {
            let arguments: Vec<String> = call.iter().map(ToString::to_string).collect();
            let outcome = run(Path::new("/nowhere"), &arguments).expect("usage is decided before anything runs");
            assert_eq!(outcome, Outcome::Usage, "{call:?}");
        }
    }

    #[test]
    fn numbers_keep_three_digits() {
        assert_eq!(
            [1234.5, 56.78, 1.234, 0.5678, 0.000_123].map(three_digits),
            ["1234", "56.8", "1.23", "0.568", "0.00012"]
        );
    }
}
