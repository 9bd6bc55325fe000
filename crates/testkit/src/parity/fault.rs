//! Why a fixture could not be checked.

use std::path::PathBuf;

/// Why a fixture could not be checked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// No check is registered for the folder, or none for this kind of file in it.
    #[error("unknown kind: {what}; known are {known}")]
    Unknown {
        /// What was met.
        what: String,
        /// What is known.
        known: String,
    },
    /// The file lacks a tensor.
    #[error("there is no tensor {name}")]
    Tensor {
        /// The tensor.
        name: String,
    },
    /// A tensor has another number of axes.
    #[error("{name} has the shape {found:?}; expected {expected} axes")]
    Axes {
        /// The tensor.
        name: String,
        /// The number of axes.
        expected: usize,
        /// The shape.
        found: Vec<usize>,
    },
    /// A setting is missing or has a value that no check knows.
    #[error("{key} in config.json: expected {expected}, found {found}")]
    Setting {
        /// The setting.
        key: String,
        /// What fits.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The file cannot be read.
    #[error("{path}: {why}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Our code refused what the fixture asks for.
    #[error("{0}")]
    Refused(Box<dyn std::error::Error + Send + Sync>),
    /// Our code panicked.
    #[error("our code panicked: {0}")]
    Panicked(String),
}

impl Fault {
    /// An error of the crates under test, for `map_err`.
    pub fn refused(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Refused(error.into())
    }
}

macro_rules! refusals {
    ($($error:ty),*) => {$(
        impl From<$error> for Fault {
            fn from(error: $error) -> Self {
                Self::refused(error)
            }
        }
    )*};
}
refusals!(
    galatea_schedules::Error,
    galatea_processes::Error,
    galatea_samplers::Error,
    galatea_models::Error,
    galatea_kernels::cpu::CpuError
);
