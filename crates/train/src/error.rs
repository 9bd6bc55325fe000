//! What can go wrong in a run.

use std::path::PathBuf;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A configuration file that cannot be read as one.
    #[error("{origin} is not a valid configuration:\n{reason}")]
    Toml {
        /// Where it came from.
        origin: String,
        /// What the parser says.
        reason: String,
    },
    /// A value that no run can have.
    #[error("{field} = {found}: expected {expected}")]
    Config {
        /// The field.
        field: &'static str,
        /// What would do.
        expected: String,
        /// What it is.
        found: String,
    },
    /// No such schedule.
    #[error("process.schedule: {source}")]
    Schedule {
        /// What the schedules say.
        source: galatea_schedules::Error,
    },
    /// The model's own errors, its files included.
    #[error(transparent)]
    Model(#[from] galatea_models::Error),
    /// Text and tokenizers.
    #[error(transparent)]
    Text(#[from] galatea_text::Error),
    /// The embedded language.
    #[error(transparent)]
    Language(#[from] galatea_text::language::Error),
    /// Noise processes.
    #[error(transparent)]
    Process(#[from] galatea_processes::Error),
    /// A sampler that met something that is not a distribution.
    #[error("sampling: {0}")]
    Sampling(String),
    /// An option or a fixed token that no sampler takes.
    #[error(transparent)]
    Refused(galatea_samplers::Error),
    /// An order that the model's process does not have.
    #[error("the order `{order}` needs {expected}: use `auto`, or train a model with that process")]
    Order {
        /// The order.
        order: String,
        /// What it needs.
        expected: &'static str,
    },
    /// Options that act on p(x_0), for a model that has none.
    #[error(
        "a temperature and top-p change the probabilities of clean tokens, and this model gives ratios of noisy ones: leave them out"
    )]
    Scores,
    /// A likelihood by masking, for a model that does not fill masks of whole texts.
    #[error(
        "a likelihood by masking needs a masked model of whole texts, and this one is {found}: measure its bound instead"
    )]
    Unmasked {
        /// What it is.
        found: &'static str,
    },
    /// The machine.
    #[error(transparent)]
    Machine(#[from] galatea_kernels::device::DeviceError),
    /// A file that cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A folder that holds no checkpoint.
    #[error(
        "{path} holds no checkpoint: expected a run's folder (with checkpoint-*/ inside) or a checkpoint folder (with model.safetensors)"
    )]
    NoCheckpoint {
        /// The folder.
        path: PathBuf,
    },
    /// A file of a checkpoint that is damaged.
    #[error("{path} is damaged ({reason}): use an older checkpoint of the run, if there is one")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Another tokenizer than the checkpoint's.
    #[error(
        "the tokenizer of {path} is not the one the model was trained with (fingerprint {found}, expected {expected}): restore tokenizer.json or train anew"
    )]
    Vocabulary {
        /// The checkpoint.
        path: PathBuf,
        /// The fingerprint in the state.
        expected: String,
        /// The tokenizer's.
        found: String,
    },
    /// The loss stopped being a number.
    #[error(
        "step {step}: the loss is not a number ({fault}); the last checkpoint is untouched: lower the learning rate or clip harder"
    )]
    NotANumber {
        /// The step.
        step: u32,
        /// The first NaN, as traced.
        fault: String,
    },
}

impl Error {
    /// Whether the caller asked for something impossible, rather than something having failed.
    pub fn is_usage(&self) -> bool {
        match self {
            Error::Toml { .. } | Error::Config { .. } | Error::Schedule { .. } => true,
            Error::Refused(_) | Error::Order { .. } | Error::Scores | Error::Unmasked { .. } => true,
            Error::Model(galatea_models::Error::Config { .. }) => true,
            Error::Model(_)
            | Error::Text(_)
            | Error::Language(_)
            | Error::Process(_)
            | Error::Sampling(_)
            | Error::Machine(_)
            | Error::Io { .. }
            | Error::NoCheckpoint { .. }
            | Error::Damaged { .. }
            | Error::Vocabulary { .. }
            | Error::NotANumber { .. } => false,
        }
    }
}
