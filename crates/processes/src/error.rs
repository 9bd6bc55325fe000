//! What can be wrong with a process or its arguments.

/// Why a process could not be built or applied.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A vocabulary too small to diffuse over.
    #[error("a vocabulary needs at least {expected} ids, found {found}; count the mask id when the limit is a mask")]
    Vocabulary {
        /// The smallest vocabulary that works.
        expected: usize,
        /// The size that was given.
        found: usize,
    },
    /// A token id outside the vocabulary.
    #[error("token {token} at row {row}, position {position} is outside the vocabulary of {vocab} ids")]
    Token {
        /// The id.
        token: u32,
        /// Its row in the batch.
        row: usize,
        /// Its position in the row.
        position: usize,
        /// The vocabulary's size.
        vocab: usize,
    },
    /// The mask id outside the vocabulary.
    #[error(
        "the mask id {mask} is outside the vocabulary of {vocab} ids; use vocab + 1 and the last id for a new mask"
    )]
    Mask {
        /// The mask id.
        mask: u32,
        /// The vocabulary's size.
        vocab: usize,
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
    /// A matrix row that is no probability distribution.
    #[error(
        "row {row} of the matrix of step {step} sums to {sum} or has a negative entry; each row must be a distribution"
    )]
    Stochastic {
        /// The step of the chain.
        step: usize,
        /// The row.
        row: usize,
        /// What the row sums to.
        sum: f64,
    },
    /// A matrix row that is no set of rates.
    #[error(
        "row {row} of the rates sums to {sum} or has a negative rate; rates away are at least 0 and a row sums to 0"
    )]
    Rates {
        /// The row.
        row: usize,
        /// What the row sums to.
        sum: f64,
    },
    /// States that a chain cannot be respaced to.
    #[error("cannot keep the states {found:?}; they must rise strictly and end with {expected}, the chain's last")]
    States {
        /// The chain's last state.
        expected: usize,
        /// The states that were given.
        found: Vec<usize>,
    },
    /// A prompt that leaves nothing to answer.
    #[error("the prompt of row {row} has {prompt} of {len} tokens; at least one must be left for the answer")]
    Prompt {
        /// The row.
        row: usize,
        /// The prompt's length.
        prompt: usize,
        /// The row's length.
        len: usize,
    },
    /// A number among the logits that is none.
    #[error(
        "logit {id} at row {row}, position {position} is {found}; log-probabilities must be below +inf, and not all -inf"
    )]
    Logits {
        /// The row in the batch.
        row: usize,
        /// The position in the row.
        position: usize,
        /// The id.
        id: usize,
        /// What was found.
        found: f32,
    },
    /// The schedule of a process cannot be built.
    #[error(transparent)]
    Schedule(#[from] galatea_schedules::Error),
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

/// An [`Error::Parameter`] unless every number is in \[0, 1\]: a level or a time that is none would be noise in silence.
pub(crate) fn unit_interval<'a>(
    parameter: &'static str,
    numbers: impl IntoIterator<Item = &'a f64>,
) -> Result<(), Error> {
    match numbers.into_iter().find(|x| !(0.0..=1.0).contains(*x)) {
        None => Ok(()),
        Some(&found) => Err(Error::Parameter { parameter, expected: "in [0, 1]", found }),
    }
}

/// An [`Error::Shape`] unless the two shapes agree.
pub(crate) fn same_shape(array: &'static str, expected: &[usize], found: &[usize]) -> Result<(), Error> {
    if expected == found {
        return Ok(());
    }
    Err(Error::Shape { array, expected: expected.to_vec(), found: found.to_vec() })
}
