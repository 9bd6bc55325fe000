//! The logs of a run: `log.jsonl`, one object a line, and `log.csv`, a table for plotting.

use anyhow::Context;
use galatea_train::{Evaluation, StepReport};
use serde_json::{Value, json};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;

const CSV: &str = "step,seconds,progress,loss,norm,lr,tokens_per_second,nats_per_token,bits_per_character,bits_per_document,standard_error_bits";
/// The file names.
pub(crate) const FILES: [&str; 2] = ["log.jsonl", "log.csv"];

/// Both logs, open for appending; a line is on its way to the disk before the next step begins.
pub(crate) struct Log {
    lines: File,
    table: File,
}

impl Log {
    /// Opens the logs in the folder `dir`, made if it is missing; what they say of steps after `step` is cut off, since those
    /// steps are about to be taken again.
    ///
    /// # Errors
    /// If a file cannot be read or written.
    pub(crate) fn open(dir: &Path, step: u32) -> anyhow::Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
        let lines = open(&dir.join(FILES[0]), "", |line| json_step(line).is_some_and(|s| s <= u64::from(step)))?;
        let table = open(&dir.join(FILES[1]), CSV, |line| csv_step(line).is_some_and(|s| s <= u64::from(step)))?;
        Ok(Self { lines, table })
    }

    /// What a session begins with.
    ///
    /// # Errors
    /// If the disk refuses, as for all that follow.
    pub(crate) fn begin(&mut self, step: u32, what: Value) -> anyhow::Result<()> {
        self.object(json!({"kind": "begin", "step": step, "version": env!("CARGO_PKG_VERSION"), "run": what}))
    }

    /// One optimizer step.
    pub(crate) fn step(&mut self, report: &StepReport, rate: f64) -> anyhow::Result<()> {
        let StepReport { step, loss, norm, lr, seconds, progress, .. } = *report;
        self.object(json!({
            "kind": "step", "step": step, "seconds": seconds, "progress": progress, "loss": loss, "norm": norm, "lr": lr,
            "tokens_per_second": rate,
        }))?;
        self.row(&format!("{step},{seconds:.4},{progress:.6},{loss},{norm},{lr},{rate:.1},,,,"))
    }

    /// One validation.
    pub(crate) fn evaluation(&mut self, step: u32, seconds: f64, e: &Evaluation) -> anyhow::Result<()> {
        self.object(json!({
            "kind": "evaluation", "step": step, "seconds": seconds, "nats_per_token": e.nats_per_token,
            "bits_per_character": e.bits_per_char, "bits_per_document": e.bits_per_document,
            "standard_error_bits": e.standard_error_bits, "entropy_bits_per_document": e.entropy_bits, "rows": e.rows,
        }))?;
        let Evaluation { nats_per_token, bits_per_char, bits_per_document, standard_error_bits, .. } = e;
        self.row(&format!(
            "{step},{seconds:.4},,,,,,{nats_per_token},{bits_per_char},{bits_per_document},{standard_error_bits}"
        ))
    }

    /// Texts that the model wrote.
    pub(crate) fn samples(&mut self, step: u32, texts: &[String]) -> anyhow::Result<()> {
        self.object(json!({"kind": "samples", "step": step, "texts": texts}))
    }

    fn object(&mut self, value: Value) -> anyhow::Result<()> {
        write(&mut self.lines, &value.to_string(), FILES[0])
    }

    fn row(&mut self, row: &str) -> anyhow::Result<()> {
        write(&mut self.table, row, FILES[1])
    }
}

fn write(file: &mut File, line: &str, name: &str) -> anyhow::Result<()> {
    // One write, so that a line is whole or not there; a file has no buffer of ours to flush.
    file.write_all(format!("{line}\n").as_bytes()).with_context(|| format!("cannot write {name}"))
}

/// Opens a log for appending, with `header` on top and only the lines below it that are to be kept.
fn open(path: &Path, header: &str, keep: impl Fn(&str) -> bool) -> anyhow::Result<File> {
    let named = || format!("cannot open {}", path.display());
    // A line cut short by a crash may end inside a character.
    let old = match fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(anyhow::Error::new(error).context(named())),
    };
    let header = if header.is_empty() { None } else { Some(header) };
    let kept = old.lines().filter(|line| Some(*line) != header && keep(line));
    let new: String = header.into_iter().chain(kept).flat_map(|line| [line, "\n"]).collect();
    if new != old {
        let draft = path.with_extension("tmp");
        fs::write(&draft, new).and_then(|()| fs::rename(&draft, path)).with_context(named)?;
    }
    OpenOptions::new().create(true).append(true).open(path).with_context(named)
}

fn json_step(line: &str) -> Option<u64> {
    serde_json::from_str::<Value>(line).ok()?.get("step")?.as_u64()
}

fn csv_step(line: &str) -> Option<u64> {
    line.split_once(',')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(step: u32) -> StepReport {
        StepReport { step, loss: 2.5, norm: 1.0, lr: 1e-3, seconds: f64::from(step), progress: 0.5 }
    }

    #[test]
    fn a_resumed_log_has_every_step_once() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let mut log = Log::open(dir.path(), 0)?;
        (1..=5).try_for_each(|step| log.step(&report(step), 10.0))?;
        drop(log);
        // The checkpoint was of step 3, and the last line was cut short by the crash.
        let path = dir.path().join("log.jsonl");
        let text = fs::read_to_string(&path)?;
        fs::write(&path, &text[..text.len() - 9])?;
        let mut log = Log::open(dir.path(), 3)?;
        (4..=6).try_for_each(|step| log.step(&report(step), 10.0))?;
        let text = fs::read_to_string(&path)?;
        assert_eq!(text.lines().map(json_step).collect::<Vec<_>>(), (1..=6).map(Some).collect::<Vec<_>>());
        let table = fs::read_to_string(dir.path().join("log.csv"))?;
        assert_eq!(table.lines().next(), Some(CSV));
        assert_eq!(table.lines().skip(1).map(csv_step).collect::<Vec<_>>(), (1..=6).map(Some).collect::<Vec<_>>());
        Ok(())
    }

    #[test]
    fn every_row_has_the_columns_of_the_header() -> anyhow::Result<()> {
        let dir = tempfile::tempdir()?;
        let mut log = Log::open(dir.path(), 0)?;
        log.step(&report(1), 10.0)?;
        let table = fs::read_to_string(dir.path().join("log.csv"))?;
        let columns = |line: &str| line.split(',').count();
        assert!(table.lines().all(|line| columns(line) == columns(CSV)), "{table}");
        Ok(())
    }
}
