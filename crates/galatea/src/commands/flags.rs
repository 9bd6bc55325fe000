//! The flags that change a configuration, shared by `train`, `inspect` and `config show`.

use crate::settings::{Settings, path_value};
use std::path::PathBuf;

/// A configuration file and the flags that override it.
#[derive(clap::Args, Default)]
pub(crate) struct Flags {
    /// A configuration file (`galatea config init` prints one); flags override it
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// A .txt or .jsonl file, or "language" for the embedded story language
    #[arg(long, value_name = "PATH|language", help_heading = "Data")]
    pub(crate) data: Option<PathBuf>,
    /// Level of the embedded language: 1 to 3, from one template and small numbers to 96 templates
    #[arg(long, value_name = "N", help_heading = "Data", value_parser = clap::value_parser!(u8).range(1..=3))]
    level: Option<u8>,
    /// Where a document of a .txt file ends
    #[arg(long, value_name = "UNIT", help_heading = "Data", value_parser = ["line", "paragraph", "file"])]
    document: Option<String>,
    /// The field of a .jsonl line that holds the text, or the answer of a pair
    #[arg(long, value_name = "NAME", help_heading = "Data")]
    field: Option<String>,
    /// The field of a .jsonl line that holds the prompt of a pair
    #[arg(long, value_name = "NAME", help_heading = "Data")]
    prompt_field: Option<String>,
    /// Tokens at the start of every row that are given, never noised and not learned
    #[arg(long, value_name = "TOKENS", help_heading = "Data")]
    prompt: Option<u32>,
    /// How documents become rows: one after another, one a row, or a prompt and its answer a row (by a tab, or two fields); the
    /// first two are chosen by looking at the text if not given
    #[arg(long, value_name = "LAYOUT", help_heading = "Data", value_parser = ["packed", "padded", "pairs"])]
    layout: Option<String>,
    /// Tokens a row; chosen by looking at the text if not given
    #[arg(long, value_name = "TOKENS", help_heading = "Data", value_parser = clap::value_parser!(u32).range(1..))]
    len: Option<u32>,
    /// What a token is
    #[arg(long, value_name = "KIND", help_heading = "Data", value_parser = ["chars", "words", "bytes", "bpe"])]
    tokenizer: Option<String>,
    /// A tokenizer.json to use instead of building one from the text
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    tokenizer_file: Option<PathBuf>,
    /// Size of the vocabulary, for words and bpe
    #[arg(long, value_name = "N", help_heading = "Data", value_parser = clap::value_parser!(u32).range(1..))]
    vocab: Option<u32>,
    /// What noise does to a token: hide it, replace it (dense: by a neighbour), or blur its embedding
    #[arg(long, value_name = "KIND", help_heading = "Model", value_parser = ["mask", "uniform", "hybrid", "dense", "gaussian"])]
    process: Option<String>,
    /// The loss [default: that of the noise: masked, uniform, gidd, diffusion-lm]; --set objective.KEY=VALUE for its settings
    #[arg(
        long,
        value_name = "NAME",
        help_heading = "Model",
        value_parser = ["masked", "uniform", "d3pm", "sedd", "gidd", "flow", "block", "diffusion-lm"]
    )]
    objective: Option<String>,
    /// The noise schedule (log-linear, cosine, sqrt, ...)
    #[arg(long, value_name = "NAME", help_heading = "Model")]
    schedule: Option<String>,
    /// The architecture
    #[arg(long, value_name = "KIND", help_heading = "Model", value_parser = ["encoder", "dit"])]
    arch: Option<String>,
    /// Width of the model
    #[arg(long, value_name = "N", help_heading = "Model", value_parser = clap::value_parser!(u32).range(1..))]
    d_model: Option<u32>,
    /// Blocks of the model
    #[arg(long, value_name = "N", help_heading = "Model", value_parser = clap::value_parser!(u32).range(1..))]
    layers: Option<u32>,
    /// Attention heads
    #[arg(long, value_name = "N", help_heading = "Model", value_parser = clap::value_parser!(u32).range(1..))]
    heads: Option<u32>,
    /// Rows a step
    #[arg(long, value_name = "ROWS", help_heading = "Training", value_parser = clap::value_parser!(u32).range(1..))]
    batch: Option<u32>,
    /// Optimizer steps
    #[arg(long, value_name = "N", help_heading = "Training", value_parser = clap::value_parser!(u32).range(1..))]
    steps: Option<u32>,
    /// Seconds of training; the run ends at whichever limit comes first
    #[arg(long, value_name = "S", help_heading = "Training", value_parser = positive, allow_negative_numbers = true)]
    seconds: Option<f64>,
    /// What activations and products are computed in; bf16 is faster where the processor multiplies it [default: f32]
    #[arg(long, value_name = "TYPE", help_heading = "Training", value_parser = ["f32", "bf16"])]
    dtype: Option<String>,
    /// Compute blocks twice rather than keep them for the backward pass: less memory, more time
    #[arg(long, help_heading = "Training")]
    checkpointing: bool,
    /// Seed of parameters, order and noise
    #[arg(long, value_name = "SEED", help_heading = "Training", value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    seed: Option<u64>,
    /// The optimizer
    #[arg(long, value_name = "KIND", help_heading = "Training", value_parser = ["adamw", "muon"])]
    optimizer: Option<String>,
    /// Learning rate of AdamW (of Muon: --muon-lr)
    #[arg(long, value_name = "RATE", help_heading = "Training", value_parser = positive, allow_negative_numbers = true)]
    lr: Option<f64>,
    /// Learning rate of Muon, which moves the matrices
    #[arg(long, value_name = "RATE", help_heading = "Training", value_parser = positive, allow_negative_numbers = true)]
    muon_lr: Option<f64>,
    /// Begin with the parameters and the tokenizer of another run: fine-tuning
    #[arg(long, value_name = "DIR", help_heading = "Training")]
    init: Option<PathBuf>,
    /// The run's folder: checkpoints and logs [default: runs/run]
    #[arg(long, value_name = "DIR", help_heading = "Training")]
    pub(crate) out: Option<PathBuf>,
    /// Any other key of a configuration, as in --set optimizer.clip=0.5; may be repeated
    #[arg(long = "set", value_name = "SECTION.NAME=VALUE")]
    sets: Vec<String>,
}

impl Flags {
    /// What the file and the flags say.
    ///
    /// # Errors
    /// If the file cannot be read, or one of them says something that no configuration has.
    pub(crate) fn settings(&self) -> anyhow::Result<Settings> {
        let mut settings = match &self.config {
            Some(path) => Settings::read(path)?,
            None => Settings::default(),
        };
        settings.overlay(self.overrides(&settings)?);
        Ok(settings)
    }

    /// What the flags say; `below` is what they override.
    ///
    /// # Errors
    /// If a path is not Unicode or a `--set` is not an assignment.
    pub(crate) fn overrides(&self, below: &Settings) -> anyhow::Result<Settings> {
        let mut said = Settings::default();
        said.set_some("data.source", self.data.as_deref().map(path_value).transpose()?);
        said.set_some("data.level", self.level.map(i64::from));
        said.set_some("data.document", self.document.clone());
        said.set_some("data.field", self.field.clone());
        said.set_some("data.prompt_field", self.prompt_field.clone());
        said.set_some("data.prompt", self.prompt.map(i64::from));
        said.set_some("data.layout", self.layout.clone());
        said.set_some("data.len", self.len.map(i64::from));
        said.set_some("tokenizer.kind", self.tokenizer.clone());
        said.set_some("tokenizer.path", self.tokenizer_file.as_deref().map(path_value).transpose()?);
        said.set_some("tokenizer.vocab", self.vocab.map(i64::from));
        said.set_some("process.kind", self.process.clone());
        said.set_some("process.schedule", self.schedule.clone());
        said.set_some("objective.kind", self.objective.clone());
        said.set_some("model.kind", self.arch.clone());
        said.set_some("model.d_model", self.d_model.map(i64::from));
        said.set_some("model.layers", self.layers.map(i64::from));
        said.set_some("model.heads", self.heads.map(i64::from));
        said.set_some("training.batch", self.batch.map(i64::from));
        said.set_some("training.steps", self.steps.map(i64::from));
        said.set_some("training.seconds", self.seconds);
        said.set_some("training.dtype", self.dtype.clone());
        said.set_some("training.checkpointing", self.checkpointing.then_some(true));
        said.set_some("training.seed", self.seed.map(|seed| seed as i64));
        said.set_some("optimizer.kind", self.optimizer.clone());
        said.set_some("optimizer.lr", self.lr);
        said.set_some("optimizer.muon_lr", self.muon_lr);
        said.set_some("training.init", self.init.as_deref().map(path_value).transpose()?);
        said.set_some("training.out", self.out.as_deref().map(path_value).transpose()?);
        // Somebody who limits the seconds alone does not mean the default number of steps.
        if self.seconds.is_some() && self.steps.is_none() && !below.says("training.steps") {
            said.set("training.steps", i64::from(u32::MAX));
        }
        // A block's hidden layer keeps its usual proportion to the width.
        let kind = self.arch.as_deref().or_else(|| below.text("model.kind")).unwrap_or("encoder");
        if let Some(width) = self.d_model.filter(|_| kind == "encoder") {
            said.set("model.d_ff", 4 * i64::from(width));
        }
        self.sets.iter().try_for_each(|assignment| said.assign(assignment))?;
        Ok(said)
    }
}

/// A finite number above zero.
pub(crate) fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if x.is_finite() && x > 0.0 => Ok(x),
        _ => Err("expected a number above 0".to_owned()),
    }
}

/// A finite number that is not negative.
pub(crate) fn not_negative(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if x.is_finite() && x >= 0.0 => Ok(x),
        _ => Err("expected a number that is not negative".to_owned()),
    }
}

/// A probability that is not zero.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(x) if x > 0.0 && x <= 1.0 => Ok(x),
        _ => Err("expected a number above 0 and at most 1".to_owned()),
    }
}
