//! What can go wrong with a model before it runs.

use std::path::PathBuf;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A configuration that no model has.
    #[error("model.{field} = {found}: expected {expected}")]
    Config {
        /// The field.
        field: &'static str,
        /// What would do.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A file that cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that is not what it should be.
    #[error(
        "{path} is not a usable safetensors file ({reason}); it may be truncated or damaged: use another checkpoint"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A tensor that the model needs and the file has not.
    #[error("{path} has no tensor `{name}`; it has {found}. Is it a checkpoint of another model?")]
    Missing {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Some of the names it has.
        found: String,
    },
    /// A tensor of another shape.
    #[error(
        "{path}: tensor `{name}` has shape {found:?}, the model needs {expected:?}: the configuration differs from the checkpoint's"
    )]
    Shape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// What the model needs.
        expected: Vec<usize>,
        /// What the file has.
        found: Vec<usize>,
    },
}
