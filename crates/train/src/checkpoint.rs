//! Checkpoints: folders that are whole or not there.
//!
//! `<run>/checkpoint-<step>/` holds model.safetensors (parameters), ema.safetensors (their average), optimizer.safetensors
//! (moments), state.json, config.json and tokenizer.json, and schedule.json where the noise schedule learns. It is written under a
//! temporary name, flushed, and renamed.

use crate::Error;
use crate::config::Config;
use crate::corpus::{Corpus, Vocabulary};
use crate::relaxed::Learned;
use galatea_autograd::{Part, Session};
use galatea_kernels::Device;
use galatea_models::weights::{self, Origin, Weights, export, write_atomically};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What a run must know beside its tensors. Draws are functions of (seed, step), so no generator has a state to keep.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    /// Version of this layout.
    pub(crate) format: u32,
    /// Steps done.
    pub(crate) step: u32,
    /// Seconds of training.
    pub(crate) seconds: f64,
    /// Of the vocabulary.
    pub(crate) fingerprint: String,
    /// The times that blocks are trained at, where they are searched for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bounds: Option<[f64; 2]>,
}

const FORMAT: u32 = 1;
const KEPT: usize = 2;

impl State {
    pub(crate) fn new(step: u32, seconds: f64, corpus: &Corpus, bounds: Option<[f64; 2]>) -> Self {
        Self { format: FORMAT, step, seconds, fingerprint: corpus.vocabulary().fingerprint(), bounds }
    }
}

/// A checkpoint on disk.
pub(crate) struct Saved {
    dir: PathBuf,
    pub(crate) config: Config,
    pub(crate) state: State,
}

impl Saved {
    /// Opens a checkpoint folder, or the newest one in a run's folder.
    pub(crate) fn open(dir: &Path) -> Result<Self, Error> {
        let dir = newest(dir)?;
        let config = read_json(&dir.join("config.json"))?;
        let state: State = read_json(&dir.join("state.json"))?;
        if state.format != FORMAT {
            let reason = format!("format {} where this version reads {FORMAT}", state.format);
            return Err(Error::Damaged { path: dir.join("state.json"), reason });
        }
        Ok(Self { dir, config, state })
    }

    /// The vocabulary it was trained with.
    pub(crate) fn tokenizer(&self) -> Result<Vocabulary, Error> {
        Vocabulary::load(&self.config, &self.dir.join("tokenizer.json"))
    }

    pub(crate) fn check_vocabulary(&self, vocabulary: &Vocabulary) -> Result<(), Error> {
        let found = vocabulary.fingerprint();
        if found == self.state.fingerprint {
            return Ok(());
        }
        Err(Error::Vocabulary { path: self.dir.clone(), expected: self.state.fingerprint.clone(), found })
    }

    /// Restores every tensor of a training session.
    pub(crate) fn load(&self, session: &mut Session<Device>) -> Result<(), Error> {
        for (file, part) in [("model.safetensors", Part::Value), ("ema.safetensors", Part::Ema)] {
            load(session, part, &self.dir.join(file), "")?;
        }
        for (prefix, part) in MOMENTS {
            load(session, part, &self.dir.join("optimizer.safetensors"), prefix)?;
        }
        Ok(())
    }

    /// The schedule that learned, given to `take`, which says what does not fit.
    pub(crate) fn schedule(&self, take: impl FnOnce(Learned) -> Result<(), String>) -> Result<(), Error> {
        let path = self.dir.join(SCHEDULE);
        take(read_json(&path)?).map_err(|reason| Error::Damaged { path, reason })
    }

    /// Sets the parameters of a sampling session to the average.
    pub(crate) fn load_average(&self, session: &mut Session<Device>) -> Result<(), Error> {
        load(session, Part::Value, &self.dir.join("ema.safetensors"), "")
    }
}

const SCHEDULE: &str = "schedule.json";
const MOMENTS: [(&str, Part); 2] = [("moment_1.", Part::Moment1), ("moment_2.", Part::Moment2)];

fn load(session: &mut Session<Device>, part: Part, path: &Path, prefix: &str) -> Result<(), Error> {
    Ok(weights::load(session, part, path, prefix, Origin::Own)??)
}

/// Writes a checkpoint and removes all but the newest two.
pub(crate) fn save(
    run: &Path,
    config: &Config,
    state: &State,
    corpus: &Corpus,
    session: &Session<Device>,
    schedule: Option<&Learned>,
) -> Result<PathBuf, Error> {
    let target = run.join(format!("checkpoint-{:08}", state.step));
    let temporary = run.join(format!(".checkpoint-{:08}.{}.tmp", state.step, std::process::id()));
    let result = write_files(&temporary, config, state, corpus, session, schedule).and_then(|()| {
        if target.exists() {
            std::fs::remove_dir_all(&target).map_err(|source| Error::Io { path: target.clone(), source })?;
        }
        std::fs::rename(&temporary, &target).map_err(|source| Error::Io { path: target.clone(), source })
    });
    if let Err(error) = result {
        let _ = std::fs::remove_dir_all(&temporary);
        return Err(error);
    }
    let mut all = checkpoints(run);
    all.retain(|path| *path != target);
    for old in all.iter().rev().skip(KEPT - 1) {
        // An old checkpoint that will not go away is no reason to stop training.
        let _ = std::fs::remove_dir_all(old);
    }
    Ok(target)
}

fn write_files(
    dir: &Path,
    config: &Config,
    state: &State,
    corpus: &Corpus,
    session: &Session<Device>,
    schedule: Option<&Learned>,
) -> Result<(), Error> {
    std::fs::create_dir_all(dir).map_err(|source| Error::Io { path: dir.to_owned(), source })?;
    let write = |file: &str, tensors| Weights { tensors, ..Weights::default() }.write(&dir.join(file));
    write("model.safetensors", export(session, Part::Value)?)?;
    write("ema.safetensors", export(session, Part::Ema)?)?;
    let mut moments = std::collections::BTreeMap::new();
    for (prefix, part) in MOMENTS {
        moments.extend(export(session, part)?.into_iter().map(|(name, t)| (format!("{prefix}{name}"), t)));
    }
    write("optimizer.safetensors", moments)?;
    if let Some(schedule) = schedule {
        write_json(&dir.join(SCHEDULE), schedule)?;
    }
    write_json(&dir.join("config.json"), config)?;
    write_json(&dir.join("state.json"), state)?;
    write_atomically(&dir.join("tokenizer.json"), corpus.vocabulary().to_json().as_bytes())?;
    Ok(())
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_string_pretty(value).expect("plain structs of strings and numbers");
    Ok(write_atomically(path, text.as_bytes())?)
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, Error> {
    let text = std::fs::read(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
    serde_json::from_slice(&text).map_err(|e| Error::Damaged { path: path.to_owned(), reason: e.to_string() })
}

/// `dir` if it is a checkpoint, else the newest checkpoint inside it.
fn newest(dir: &Path) -> Result<PathBuf, Error> {
    if dir.join("model.safetensors").exists() {
        return Ok(dir.to_owned());
    }
    checkpoints(dir).pop().ok_or_else(|| Error::NoCheckpoint { path: dir.to_owned() })
}

/// The checkpoint folders of a run, oldest first.
fn checkpoints(run: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(run).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("checkpoint-")))
        .filter(|path| path.join("state.json").exists())
        .collect();
    found.sort();
    found
}
