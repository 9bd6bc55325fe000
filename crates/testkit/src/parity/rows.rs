//! Batches of logits, row by row.

use super::{Case, Fault};

/// The rows of a tensor whose last axis is the vocabulary.
pub(super) fn rows(case: &Case, name: &str) -> Result<Vec<Vec<f64>>, Fault> {
    let tensor = case.tensor(name)?;
    let fault = || Fault::Axes { name: name.to_owned(), expected: 3, found: tensor.shape().to_vec() };
    let width = tensor.shape().last().copied().filter(|&width| width > 0).ok_or_else(fault)?;
    Ok(case.vec(name)?.chunks(width).map(<[f64]>::to_vec).collect())
}

/// The mean of some numbers.
pub(super) fn mean(numbers: &[f64]) -> f64 {
    numbers.iter().sum::<f64>() / numbers.len() as f64
}
