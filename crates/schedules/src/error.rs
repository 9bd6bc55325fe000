//! What can be wrong with a schedule.

/// Why a schedule, a table or a time grid could not be built.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A parameter lies outside the range in which the schedule is a schedule.
    #[error("{schedule}: {parameter} must be {expected}, found {found}")]
    Parameter {
        /// The schedule's name.
        schedule: &'static str,
        /// The parameter's name.
        parameter: &'static str,
        /// The range that it must lie in, in words.
        expected: &'static str,
        /// The value that was given.
        found: f64,
    },
    /// A name that no schedule has.
    #[error("unknown schedule `{found}`; expected one of {}", names.join(", "))]
    UnknownName {
        /// The name that was given.
        found: String,
        /// The names there are.
        names: &'static [&'static str],
    },
    /// The text of a schedule cannot be read.
    #[error(
        "cannot read the schedule `{found}`: {reason}; write a name, or a name and its numbers as in `log-linear(0.001)`"
    )]
    Syntax {
        /// The text that was given.
        found: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A table of times, signal powers or betas that is empty, not finite, out of range or out of order.
    #[error("{table}: entry {index} is {found}, expected {expected}")]
    Table {
        /// What the table holds.
        table: &'static str,
        /// The first entry that is wrong (the table's length where an entry is missing).
        index: usize,
        /// The value found there (NaN where an entry is missing).
        found: f64,
        /// What every entry must be, in words.
        expected: &'static str,
    },
    /// A subset of timesteps that the chain cannot be respaced to.
    #[error("cannot take {wanted} of {available} timesteps: {reason}")]
    Spacing {
        /// How many were asked for.
        wanted: usize,
        /// How many there are.
        available: usize,
        /// What is wrong with the request.
        reason: &'static str,
    },
}

/// `found` where it satisfies `holds`, else a [`Error::Parameter`].
pub(crate) fn parameter(
    schedule: &'static str,
    parameter: &'static str,
    expected: &'static str,
    found: f64,
    holds: bool,
) -> Result<f64, Error> {
    if holds && found.is_finite() { Ok(found) } else { Err(Error::Parameter { schedule, parameter, expected, found }) }
}
