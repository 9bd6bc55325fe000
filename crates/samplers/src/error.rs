//! What can be wrong with a sampler's arguments, and what can go wrong while it runs.

/// Why a sampler could not be built or edited.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A canvas without positions.
    #[error("a canvas needs at least one row and one position, found batch {batch} and len {len}")]
    Empty {
        /// The number of rows.
        batch: usize,
        /// The number of positions.
        len: usize,
    },
    /// A position outside the canvas.
    #[error("row {row}, position {position} (token {token}) is outside the canvas of {batch} rows and {len} positions")]
    Position {
        /// The row.
        row: usize,
        /// The position in the row.
        position: usize,
        /// The token that should have gone there.
        token: u32,
        /// The canvas's number of rows.
        batch: usize,
        /// The canvas's number of positions.
        len: usize,
    },
    /// A token outside the vocabulary.
    #[error("token {token} at row {row}, position {position} is outside the vocabulary of {vocab} ids")]
    Token {
        /// The id.
        token: u32,
        /// Its row.
        row: usize,
        /// Its position in the row.
        position: usize,
        /// The vocabulary's size.
        vocab: usize,
    },
    /// The mask given as a fixed token.
    #[error("the mask id {mask} cannot be fixed at row {row}, position {position}; leave a free position unset")]
    FixedMask {
        /// The mask id.
        mask: u32,
        /// The row.
        row: usize,
        /// The position in the row.
        position: usize,
    },
    /// A write to a position that is fixed.
    #[error("row {row}, position {position} is fixed to token {token}; start another sampler to change it")]
    WriteFixed {
        /// The row.
        row: usize,
        /// The position in the row.
        position: usize,
        /// The token that it is fixed to.
        token: u32,
    },
    /// A forbidden id outside the vocabulary.
    #[error("the forbidden token {token} is outside the vocabulary of {vocab} ids")]
    Forbidden {
        /// The id.
        token: u32,
        /// The vocabulary's size.
        vocab: usize,
    },
    /// Every id is forbidden.
    #[error("all {vocab} ids are forbidden; leave at least one that may be written")]
    NothingAllowed {
        /// The vocabulary's size.
        vocab: usize,
    },
    /// A process whose noise is not a mask.
    #[error("an unmasking sampler needs a process with a mask, found the uniform limit; use an ancestral sampler")]
    NoMask,
    /// A process whose noise is a mask.
    #[error("a refining sampler needs a process of uniform noise, found the mask {mask}; use an unmasking sampler")]
    Masked {
        /// The mask id.
        mask: u32,
    },
    /// A noise level out of order or out of range.
    #[error("level {index}: {parameter} is {found}, expected {expected}")]
    Level {
        /// The first level that is wrong.
        index: usize,
        /// Which of its numbers.
        parameter: &'static str,
        /// What it must be, in words.
        expected: &'static str,
        /// What it is.
        found: f64,
    },
    /// An array of another shape than the others ask for.
    #[error("{array} has shape {found:?}, expected {expected:?}")]
    Shape {
        /// The array's name.
        array: &'static str,
        /// The shape that fits the other arguments.
        expected: Vec<usize>,
        /// The shape that was given.
        found: Vec<usize>,
    },
    /// Options that do not go together.
    #[error("{option} needs {needs}")]
    Together {
        /// The option.
        option: &'static str,
        /// What it goes with.
        needs: &'static str,
    },
    /// A number outside its range.
    #[error("{parameter} must be {expected}, found {found}")]
    Parameter {
        /// The parameter's name.
        parameter: &'static str,
        /// The range that it must lie in, in words.
        expected: &'static str,
        /// The value that was given.
        found: f64,
    },
}

/// Why a step could not be taken; `E` is the denoiser's own error.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure<E> {
    /// The denoiser reported an error.
    #[error("the denoiser failed: {0}")]
    Denoiser(#[source] E),
    /// What was to be done cannot be.
    #[error("{0}")]
    Refused(#[source] Error),
    /// The denoiser's output at a position cannot be read as a distribution or as an embedding.
    #[error("the denoiser's output at row {row}, position {position} has no finite largest value; look for NaN in it")]
    Output {
        /// The row.
        row: usize,
        /// The position in the row.
        position: usize,
    },
}

/// `found` where it `holds`, else an [`Error::Parameter`].
pub(crate) fn parameter(name: &'static str, expected: &'static str, found: f64, holds: bool) -> Result<f64, Error> {
    if holds { Ok(found) } else { Err(Error::Parameter { parameter: name, expected, found }) }
}
