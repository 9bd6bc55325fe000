//! What a run is: one TOML file, every field with a default.

mod data;

use crate::Error;
pub use crate::objective::ObjectiveConfig;
use crate::objective::{D3pm, DiffusionLm, Gidd, Masked, Uniform};
pub use data::{Data, DocumentChoice, LayoutChoice};
use galatea_autograd::{DType, Keep, Recorder};
use galatea_models::Model;
use galatea_schedules::AnySchedule;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A run's configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What is learned.
    pub data: Data,
    /// How text becomes tokens.
    pub tokenizer: TokenizerChoice,
    /// The denoiser.
    pub model: Model,
    /// The noise.
    pub process: ProcessConfig,
    /// The loss; `None` for the process's own.
    #[serde(default)]
    pub objective: Option<ObjectiveConfig>,
    /// How long and how wide.
    pub training: Training,
    /// How parameters move.
    pub optimizer: OptimizerConfig,
}

/// Which tokenizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenizerKind {
    /// 256 bytes.
    Bytes,
    /// The characters of the text.
    Chars,
    /// Words and punctuation by frequency.
    Words,
    /// Byte-pair encoding, trained on the text or loaded.
    Bpe,
}

/// `[tokenizer]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TokenizerChoice {
    /// Which one.
    pub kind: TokenizerKind,
    /// A tokenizer.json to load instead of building one from the text.
    pub path: Option<PathBuf>,
    /// The vocabulary's size, for words and BPE.
    pub vocab: usize,
}

impl Default for TokenizerChoice {
    fn default() -> Self {
        Self { kind: TokenizerKind::Chars, path: None, vocab: 8192 }
    }
}

/// Which noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProcessKind {
    /// A corrupted token becomes \[MASK\].
    Mask,
    /// A corrupted token becomes a random one.
    Uniform,
    /// A corrupted token becomes \[MASK\] or a random one.
    Hybrid,
    /// A corrupted token becomes a neighbour, by the matrices of a chain: affordable for a few hundred ids.
    Dense,
    /// Gaussian noise on embeddings.
    Gaussian,
}

/// `[process]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProcessConfig {
    /// Which noise.
    pub kind: ProcessKind,
    /// The schedule's name; empty for the process's own (log-linear, hybrid: hybrid, dense: linear, Gaussian: sqrt).
    pub schedule: String,
    /// The matrices of a dense process: "band(N)" or "gaussian(N)", N neighbours on either side; empty for "gaussian(8)".
    pub matrices: String,
}

impl Default for ProcessConfig {
    fn default() -> Self {
        Self { kind: ProcessKind::Mask, schedule: String::new(), matrices: String::new() }
    }
}

impl ProcessConfig {
    /// The matrices that are meant.
    pub fn matrices(&self) -> &str {
        if self.matrices.is_empty() { "gaussian(8)" } else { &self.matrices }
    }

    /// The schedule that is meant.
    ///
    /// # Errors
    /// If no schedule has that name, or it does not fit the process.
    pub fn schedule(&self) -> Result<AnySchedule, Error> {
        let name = match (self.schedule.as_str(), self.kind) {
            ("", ProcessKind::Mask | ProcessKind::Uniform) => "log-linear",
            ("", ProcessKind::Hybrid) => "hybrid",
            ("", ProcessKind::Dense) => "linear",
            ("", ProcessKind::Gaussian) => "sqrt",
            (name, _) => name,
        };
        let schedule: AnySchedule = name.parse().map_err(|source| Error::Schedule { source })?;
        if self.kind == ProcessKind::Hybrid && !matches!(schedule, AnySchedule::Hybrid(_)) {
            let expected =
                "hybrid(p_uniform, gamma), which says how masks and uniform tokens share the noise".to_owned();
            return Err(Error::Config { field: "process.schedule", expected, found: name.to_owned() });
        }
        Ok(schedule)
    }
}

impl ProcessKind {
    /// The word for it in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mask => "mask",
            Self::Uniform => "uniform",
            Self::Hybrid => "hybrid",
            Self::Dense => "dense",
            Self::Gaussian => "gaussian",
        }
    }

    /// The loss of a configuration that names none: the bound in continuous time, or Diffusion-LM's loss.
    pub fn objective(self) -> ObjectiveConfig {
        match self {
            Self::Mask => ObjectiveConfig::Masked(Masked::default()),
            Self::Uniform => ObjectiveConfig::Uniform(Uniform::default()),
            Self::Hybrid => ObjectiveConfig::Gidd(Gidd::default()),
            Self::Dense => ObjectiveConfig::D3pm(D3pm { steps: 100, ..D3pm::default() }),
            Self::Gaussian => ObjectiveConfig::DiffusionLm(DiffusionLm::default()),
        }
    }
}

/// What activations and products are computed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arithmetic {
    /// 32-bit floating point.
    F32,
    /// bf16, with sums, parameters and their moments in f32: half the memory of activations, and faster where the processor
    /// multiplies bf16.
    Bf16,
}

/// `[training]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Training {
    /// Rows a micro-batch.
    pub batch: usize,
    /// Micro-batches a step.
    pub accumulation: usize,
    /// Optimizer steps.
    pub steps: u32,
    /// Wall-clock seconds of training; the run ends at whichever limit comes first, and the learning rate follows the one
    /// that is nearer.
    pub seconds: Option<f64>,
    /// What activations and products are computed in, in training and after it.
    pub dtype: Arithmetic,
    /// Whether blocks are computed a second time for their gradient rather than kept: less memory for more time.
    pub checkpointing: bool,
    /// The seed of everything.
    pub seed: u64,
    /// Steps between validations (0: only at the end).
    pub eval_every: u32,
    /// Steps between sample previews (0: none).
    pub sample_every: u32,
    /// Steps between checkpoints (0: only at the end).
    pub save_every: u32,
    /// Rows of the validation split that are measured.
    pub eval_rows: usize,
    /// Times drawn for each of them.
    pub eval_times: usize,
    /// A run, or a checkpoint, whose averaged parameters and tokenizer this one begins with: a model to fine-tune.
    pub init: Option<PathBuf>,
    /// The run's folder.
    pub out: PathBuf,
}

impl Default for Training {
    fn default() -> Self {
        Self {
            batch: 32,
            accumulation: 1,
            steps: 2000,
            seconds: None,
            dtype: Arithmetic::F32,
            checkpointing: false,
            seed: 1,
            eval_every: 500,
            sample_every: 500,
            save_every: 500,
            eval_rows: 512,
            eval_times: 4,
            init: None,
            out: PathBuf::from("runs/run"),
        }
    }
}

impl Training {
    /// An empty recording in this arithmetic.
    pub fn recorder(&self) -> Recorder {
        Recorder::with_precision(match self.dtype {
            Arithmetic::F32 => DType::F32,
            Arithmetic::Bf16 => DType::Bf16,
        })
    }

    /// What a training program keeps for its backward pass.
    pub fn keep(&self) -> Keep {
        if self.checkpointing { Keep::BlockInputs } else { Keep::Everything }
    }
}

/// Which optimizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OptimizerKind {
    /// AdamW for everything.
    #[serde(rename = "adamw")]
    AdamW,
    /// Muon for matrices, AdamW for the rest.
    Muon,
}

/// How the learning rate falls after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decay {
    /// To zero along half a cosine.
    Cosine,
    /// To zero along a line.
    Linear,
    /// Not at all.
    Constant,
}

/// `[optimizer]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// Which one.
    pub kind: OptimizerKind,
    /// Learning rate of AdamW.
    pub lr: f64,
    /// Learning rate of Muon.
    pub muon_lr: f64,
    /// Steps over which the rate rises from zero.
    pub warmup: u32,
    /// How the rate falls.
    pub decay: Decay,
    /// Decay of the first moment.
    pub beta_1: f64,
    /// Decay of the second moment.
    pub beta_2: f64,
    /// Muon's momentum.
    pub momentum: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Largest global norm of a gradient; 0 for no clip.
    pub clip: f64,
    /// Decay of the parameters' moving average (rises to it as (1 + step) / (10 + step)).
    pub ema: f64,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            kind: OptimizerKind::Muon,
            lr: 1e-2,
            muon_lr: 0.02,
            warmup: 50,
            decay: Decay::Cosine,
            beta_1: 0.9,
            beta_2: 0.98,
            momentum: 0.95,
            weight_decay: 0.0,
            clip: 1.0,
            ema: 0.99,
        }
    }
}

impl Config {
    /// Reads TOML; `origin` (a path) is named in errors.
    ///
    /// # Errors
    /// If it is not TOML, a key is unknown, or a value has the wrong type.
    pub fn from_toml(text: &str, origin: &str) -> Result<Self, Error> {
        toml::from_str(text).map_err(|e| Error::Toml { origin: origin.to_owned(), reason: e.to_string() })
    }

    /// Writes TOML with every field.
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("a configuration has only tables, strings and numbers")
    }

    /// Checks the values against each other.
    ///
    /// # Errors
    /// The first field whose value no run can have.
    pub fn validate(&self) -> Result<(), Error> {
        let bad = |field: &'static str, expected: &str, found: &dyn std::fmt::Display| {
            Err(Error::Config { field, expected: expected.to_owned(), found: found.to_string() })
        };
        let Training { batch, accumulation, steps, seconds, eval_rows, eval_times, .. } = self.training;
        for (field, value) in [
            ("training.batch", batch),
            ("training.accumulation", accumulation),
            ("training.eval_rows", eval_rows),
            ("training.eval_times", eval_times),
            ("data.len", self.data.len),
            ("tokenizer.vocab", self.tokenizer.vocab),
        ] {
            if value == 0 || value > 1 << 24 {
                return bad(field, "a number from 1 to 16777216", &value);
            }
        }
        if steps == 0 {
            return bad("training.steps", "at least 1", &steps);
        }
        if let Some(s) = seconds.filter(|s| !(s.is_finite() && *s > 0.0)) {
            return bad("training.seconds", "a positive number of seconds", &s);
        }
        if self.data.source == "language" && !(1..=3).contains(&self.data.level) {
            return bad("data.level", "1, 2 or 3", &self.data.level);
        }
        if !(0.0..1.0).contains(&self.data.validation) || self.data.validation == 0.0 {
            return bad("data.validation", "a fraction between 0 and 1", &self.data.validation);
        }
        if self.data.layout == LayoutChoice::Pairs && (self.data.source == "language" || self.data.prompt > 0) {
            let found = format!("{} with source = \"{}\" and layout = \"pairs\"", self.data.prompt, self.data.source);
            return bad("data.prompt", "tokens of a story or of a text, or 0 and pairs from a file", &found);
        }
        let o = &self.optimizer;
        for (field, value, below) in [
            ("optimizer.lr", o.lr, f64::INFINITY),
            ("optimizer.muon_lr", o.muon_lr, f64::INFINITY),
            ("optimizer.beta_1", o.beta_1, 1.0),
            ("optimizer.beta_2", o.beta_2, 1.0),
            ("optimizer.momentum", o.momentum, 1.0),
            ("optimizer.weight_decay", o.weight_decay, f64::INFINITY),
            ("optimizer.clip", o.clip, f64::INFINITY),
            ("optimizer.ema", o.ema, 1.0),
        ] {
            if !(value >= 0.0 && value < below) {
                return bad(field, if below == 1.0 { "from 0 up to but not 1" } else { "not negative" }, &value);
            }
        }
        self.process.schedule()?;
        self.objective()?;
        self.model.validate()?;
        match self.process.kind {
            ProcessKind::Mask | ProcessKind::Uniform | ProcessKind::Hybrid | ProcessKind::Dense => {
                self.model.on_tokens()?
            }
            ProcessKind::Gaussian => crate::relaxed::validate(self)?,
        }
        if self.data.prompts()
            && matches!(
                self.objective()?,
                ObjectiveConfig::Block(_)
                    | ObjectiveConfig::DiffusionLm(_)
                    | ObjectiveConfig::Plaid(_)
                    | ObjectiveConfig::Cdcd(_)
            )
        {
            let expected =
                "rows without prompts for this loss: whole texts of tokens can have them, blocks and embeddings cannot";
            return bad("data.prompt", expected, &self.objective()?.name());
        }
        match self.process.kind {
            ProcessKind::Mask | ProcessKind::Hybrid | ProcessKind::Gaussian => {}
            ProcessKind::Uniform | ProcessKind::Dense if !self.model.uses_time() => {
                let expected = "time given to the model (encoder: time = \"given\", dit: time_conditioning = true)";
                return bad(
                    "model",
                    &format!("{expected}: a canvas without masks does not show its noise level"),
                    &"none",
                );
            }
            ProcessKind::Uniform | ProcessKind::Dense => {}
        }
        Ok(())
    }

    /// The loss that is meant.
    ///
    /// # Errors
    /// If it is not one of the process (the error names those that are), or a setting is not one of the loss.
    pub fn objective(&self) -> Result<ObjectiveConfig, Error> {
        let kind = self.process.kind;
        let Some(objective) = &self.objective else { return Ok(kind.objective()) };
        if objective.processes().contains(&kind) {
            objective.validate()?;
            return Ok(objective.clone());
        }
        let fit = ObjectiveConfig::all().into_iter().filter(|o| o.processes().contains(&kind));
        let names: Vec<String> = fit.map(|o| format!("\"{}\"", o.name())).collect();
        let expected = format!("{} for process.kind = \"{}\"", names.join(" or "), kind.name());
        Err(Error::Config { field: "objective.kind", expected, found: format!("\"{}\"", objective.name()) })
    }

    /// This configuration with the model told the time where its process needs it.
    pub fn with_time(mut self) -> Self {
        if self.process.kind != ProcessKind::Mask {
            match &mut self.model {
                Model::Encoder(encoder) => encoder.time = galatea_models::TimeInput::Given,
                Model::Dit(dit) => dit.time_conditioning = true,
                // It takes none: the check of the configuration says so.
                Model::Llama(_) => {}
                Model::DiffusionLm(_) | Model::Plaid(_) => {}
            }
        }
        self
    }
}
