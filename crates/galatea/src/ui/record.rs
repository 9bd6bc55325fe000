//! Every step of a sampling run in a file: a line that says what it is, then a line a step.

use crate::spelling::Spelling;
use anyhow::Context;
use galatea_train::{Frame, Sampling};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// An open recording.
pub(crate) struct Record {
    file: BufWriter<File>,
    path: PathBuf,
}

impl Record {
    /// Begins a recording at `path`.
    ///
    /// # Errors
    /// If the file cannot be written, as for all that follow.
    pub(crate) fn create(path: &Path, model: &Path, sampling: &Sampling) -> anyhow::Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        let mut record = Self { file: BufWriter::new(file), path: path.to_owned() };
        record.line(&json!({
            "galatea_recording": 1, "model": model, "sampler": sampling.order.to_string(), "steps": sampling.steps,
            "seed": sampling.seed,
        }))?;
        Ok(record)
    }

    /// One step; `first` is the number of the text in the frame's first row.
    pub(crate) fn frame(&mut self, first: usize, frame: &Frame<'_>, spelling: &Spelling) -> anyhow::Result<()> {
        let row = |(ids, decided): (ndarray::ArrayView1<'_, u32>, ndarray::ArrayView1<'_, bool>)| {
            json!({
                "tokens": ids.iter().map(|&id| spelling.token(id)).collect::<Vec<_>>(),
                "decided": decided.to_vec(),
            })
        };
        let rows: Vec<Value> = frame.ids.rows().into_iter().zip(frame.decided.rows()).map(row).collect();
        self.line(&json!({
            "text": first, "step": frame.step, "steps": frame.steps, "passes": frame.passes, "t": frame.t, "rows": rows,
        }))
    }

    /// Puts the rest on the disk.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        self.file.flush().with_context(|| format!("cannot write {}", self.path.display()))
    }

    fn line(&mut self, value: &Value) -> anyhow::Result<()> {
        writeln!(self.file, "{value}").with_context(|| format!("cannot write {}", self.path.display()))
    }
}
