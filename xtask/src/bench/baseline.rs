//! A run's times kept under a name, and what a later run says beside them.

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The times of one bench: the middle, and how far single samples lie from it in the middle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Series {
    pub(super) median_ns: f64,
    pub(super) mad_ns: f64,
}

/// Everything that a run measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Baseline {
    pub(super) machine: String,
    pub(super) series: BTreeMap<String, Series>,
}

/// How far apart two medians must be to be two: this many combined deviations,
const DEVIATIONS: f64 = 3.0;
/// and this share of the older one, since a quiet minute shows no noise at all.
const SHARE: f64 = 0.01;

/// What became of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Change {
    /// Beyond the noise of both runs, by this factor of the old time.
    Faster(f64),
    /// As above.
    Slower(f64),
    /// Within the noise.
    Same(f64),
    /// In the new run only.
    New,
    /// In the old run only.
    Gone,
}

impl Series {
    /// The change from `old` to `self`.
    fn since(self, old: Self) -> Change {
        let noise = DEVIATIONS * old.mad_ns.hypot(self.mad_ns);
        let difference = self.median_ns - old.median_ns;
        let factor = self.median_ns / old.median_ns;
        if difference.abs() <= noise.max(SHARE * old.median_ns) {
            Change::Same(factor)
        } else if difference < 0.0 {
            Change::Faster(factor)
        } else {
            Change::Slower(factor)
        }
    }
}

impl Baseline {
    /// Every series of either run with its change, in order of name.
    pub(super) fn changes(&self, old: &Self) -> BTreeMap<String, Change> {
        let gone = old.series.keys().map(|name| (name.clone(), Change::Gone));
        let mut changes: BTreeMap<String, Change> = gone.collect();
        for (name, series) in &self.series {
            let change = old.series.get(name).map_or(Change::New, |old| series.since(*old));
            changes.insert(name.clone(), change);
        }
        changes
    }

    /// A table of what changed and a count of what did not.
    pub(super) fn compare(&self, old: &Self) -> String {
        let mut text = String::new();
        if self.machine != old.machine {
            text += &format!("the baseline is of another machine: {}\n\n", old.machine);
        }
        text += "| series | before, ms | now, ms | change | noise | |\n|---|---|---|---|---|---|\n";
        let (mut same, mut counts) = (0, [0; 4]);
        for (name, change) in self.changes(old) {
            let (kind, word) = match change {
                Change::Same(_) => {
                    same += 1;
                    continue;
                }
                Change::Faster(_) => (0, "faster"),
                Change::Slower(_) => (1, "slower"),
                Change::New => (2, "new"),
                Change::Gone => (3, "not measured"),
            };
            counts[kind] += 1;
            let (before, now) = (old.series.get(&name), self.series.get(&name));
            let ms =
                |series: Option<&Series>| series.map_or_else(String::new, |s| super::three_digits(s.median_ns / 1e6));
            let (by, noise) = match (before, now) {
                (Some(before), Some(now)) => {
                    let noise = DEVIATIONS * before.mad_ns.hypot(now.mad_ns) / before.median_ns;
                    let by = now.median_ns / before.median_ns - 1.0;
                    (format!("{:+.1} %", 100.0 * by), format!("{:.1} %", 100.0 * noise))
                }
                _ => (String::new(), String::new()),
            };
            text += &format!("| `{name}` | {} | {} | {by} | {noise} | {word} |\n", ms(before), ms(now));
        }
        let [faster, slower, new, gone] = counts;
        text + &format!("\n{faster} faster, {slower} slower, {same} within the noise, {new} new, {gone} not measured\n")
    }

    /// As a file.
    pub(super) fn to_json(&self) -> String {
        let series = |s: &Series| json!({ "median_ns": s.median_ns, "mad_ns": s.mad_ns });
        let map: Map<String, Value> = self.series.iter().map(|(name, s)| (name.clone(), series(s))).collect();
        format!("{:#}\n", json!({ "machine": self.machine, "series": map }))
    }

    /// From a file.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("could not read {}: a run with `--save` writes a baseline", path.display()))?;
        let value: Value = serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))?;
        let series = value["series"].as_object().with_context(|| format!("{} has no `series`", path.display()))?;
        let number = |name: &str, series: &Value, key: &str| {
            series[key].as_f64().with_context(|| format!("{}: `{name}` has no number `{key}`", path.display()))
        };
        let read = |(name, s): (&String, &Value)| {
            let series = Series { median_ns: number(name, s, "median_ns")?, mad_ns: number(name, s, "mad_ns")? };
            Ok((name.clone(), series))
        };
        let machine = value["machine"].as_str().unwrap_or("unknown").to_owned();
        Ok(Self { machine, series: series.iter().map(read).collect::<Result<_>>()? })
    }
}

/// Where a baseline is: a path as it stands, a name in the folder of baselines.
pub(super) fn path(target: &Path, name: &str) -> PathBuf {
    if name.contains(['/', '\\']) || name.ends_with(".json") {
        PathBuf::from(name)
    } else {
        target.join("bench/baselines").join(format!("{name}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(median_ns: f64, mad_ns: f64) -> Series {
        Series { median_ns, mad_ns }
    }

    fn baseline(all: &[(&str, f64, f64)]) -> Baseline {
        let series = all.iter().map(|&(name, median, mad)| (name.to_owned(), series(median, mad)));
        Baseline { machine: "one".into(), series: series.collect() }
    }

    #[test]
    fn a_change_within_the_noise_of_both_runs_is_none() {
        // Three times the root of 3^2 + 4^2 is 15.
        assert_eq!(series(115.0, 4.0).since(series(100.0, 3.0)), Change::Same(1.15));
        assert_eq!(series(116.0, 4.0).since(series(100.0, 3.0)), Change::Slower(1.16));
        assert_eq!(series(85.0, 4.0).since(series(100.0, 3.0)), Change::Same(0.85));
        assert_eq!(series(84.0, 4.0).since(series(100.0, 3.0)), Change::Faster(0.84));
    }

    #[test]
    fn a_percent_is_no_change_however_quiet_the_runs_were() {
        assert_eq!(series(101.0, 0.0).since(series(100.0, 0.0)), Change::Same(1.01));
        assert!(matches!(series(101.5, 0.0).since(series(100.0, 0.0)), Change::Slower(_)));
        assert!(matches!(series(98.5, 0.0).since(series(100.0, 0.0)), Change::Faster(_)));
    }

    #[test]
    fn what_only_one_run_measured_is_named() {
        let (old, new) = (baseline(&[("a", 1.0, 0.0), ("b", 1.0, 0.0)]), baseline(&[("b", 2.0, 0.0), ("c", 1.0, 0.0)]));
        let changes: Vec<_> = new.changes(&old).into_iter().collect();
        let expected = [("a", Change::Gone), ("b", Change::Slower(2.0)), ("c", Change::New)];
        assert_eq!(changes, expected.map(|(name, change)| (name.to_owned(), change)));
        let text = new.compare(&old);
        assert!(text.ends_with("0 faster, 1 slower, 0 within the noise, 1 new, 1 not measured\n"), "{text}");
        assert!(text.contains("+100.0 %"), "{text}");
    }

    #[test]
    fn a_file_gives_back_what_was_written() {
        let written = baseline(&[("gemm/a", 1234.5, 6.25), ("step", 1e9, 0.0)]);
        let path = std::env::temp_dir().join(format!("baseline-{}.json", std::process::id()));
        std::fs::write(&path, written.to_json()).expect("the folder for temporary files is writable");
        let read = Baseline::read(&path);
        std::fs::remove_file(&path).expect("it was written above");
        assert_eq!(read.expect("it is a baseline"), written);
    }

    #[test]
    fn a_name_is_a_file_among_the_baselines_and_a_path_is_itself() {
        let target = Path::new("target");
        assert_eq!(path(target, "main"), Path::new("target/bench/baselines/main.json"));
        assert_eq!(path(target, "docs/main.json"), Path::new("docs/main.json"));
    }
}
