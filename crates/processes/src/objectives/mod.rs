//! Losses and bounds on a denoiser's outputs, each with its gradient.
//!
//! Every objective is a function of one position's row: `f64` slices in, nats out, and the gradient with respect to the
//! row where a buffer for it is given (it is overwritten). [`batch`] runs a row function over \[batch, len, vocab\]
//! arrays. A weight in time belongs to the schedule, so the row functions take alpha_bar and its derivative, never t.
//!
//! | objective | process | module |
//! |---|---|---|
//! | masked NELBO (SUBS, MD4, LLaDA), continuous or T steps | mask | [`masked`] |
//! | uniform-state NELBO (UDLM, Duo) | uniform | [`uniform`] |
//! | bound of any noise that changes in time (GIDD), its training weights | mask + uniform | [`interpolating`] |
//! | KL of posteriors + lambda CE (D3PM), T steps | any | [`d3pm`] |
//! | score entropy (SEDD) | both | [`score_entropy`] |
//! | generalised KL of a mixture path (flow matching) | both | [`flow`] |
//! | all of these in the one form that a kernel computes | | [`divergence`] |
//! | rounding NLL: dot, distance, Bayes logits | Gaussian | [`rounding`] |
//! | mean embedding of a softmax, output prior, unit rows (CDCD, Plaid) | Gaussian | [`reparam`] |
//! | prompts that are not noised, answers that count alike (LLaDA's SFT) | any | [`answer`] |
//! | MSE, e2e terms of Diffusion-LM | Gaussian | [`embedding`] |
//! | variational bound in nats per token | Gaussian | [`bound`] |

pub mod answer;
pub mod bound;
pub mod d3pm;
pub mod divergence;
pub mod embedding;
pub mod flow;
pub mod interpolating;
pub mod masked;
pub mod reparam;
pub mod rounding;
pub mod row;
pub mod score_entropy;
pub mod uniform;

use crate::Error;
use crate::error::same_shape;
use ndarray::{ArrayRef2, ArrayRef3, Axis};

/// The arrays of one batch: clean tokens, noisy tokens and the denoiser's logits.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// The clean tokens, \[batch, len\].
    pub x_0: &'a ArrayRef2<u32>,
    /// The noisy tokens, \[batch, len\].
    pub x_t: &'a ArrayRef2<u32>,
    /// The denoiser's output at x_t, \[batch, len, vocab\].
    pub logits: &'a ArrayRef3<f32>,
}

/// One position of a [`Batch`], as a row objective sees it.
#[derive(Debug)]
pub struct Row<'a> {
    /// The row of the batch, for what differs between rows (time, weight).
    pub b: usize,
    /// The position in the row.
    pub l: usize,
    /// The clean token.
    pub x_0: u32,
    /// The noisy token.
    pub x_t: u32,
    /// The logits, \[vocab\].
    pub logits: &'a [f64],
    /// Where the gradient with respect to the logits goes, if it is wanted.
    pub dlogits: Option<&'a mut [f64]>,
}

/// Applies a row objective at every position: fills `loss` and, if given, the gradient of the *sum* of `loss`.
///
/// ```
/// use galatea_processes::objectives::{batch, masked, Batch};
/// use galatea_schedules::{LogLinear, Schedule};
/// use ndarray::{array, Array2, Array3};
///
/// let (schedule, times, mask) = (LogLinear::default(), [0.25, 0.75], 3);
/// let (x_0, x_t) = (array![[0, 1], [2, 0]], array![[0, 3], [3, 3]]);
/// let logits = Array3::zeros((2, 2, 4));
/// let (mut loss, mut dlogits) = (Array2::zeros((2, 2)), Array3::zeros((2, 2, 4)));
/// batch(Batch { x_0: &x_0, x_t: &x_t, logits: &logits }, &mut loss, Some(&mut dlogits), |row| {
///     masked::nelbo(row.logits, row.x_0, row.x_t, mask, masked::weight(&schedule, times[row.b]), row.dlogits)
/// })?;
/// assert!((loss[[1, 0]] - 3f64.ln() / 0.75).abs() < 1e-12 && loss[[0, 0]] == 0.0);
/// # Ok::<(), galatea_processes::Error>(())
/// ```
///
/// # Shapes
/// `loss` \[batch, len\] in nats, `dlogits` \[batch, len, vocab\].
///
/// # Errors
/// [`Error::Shape`] if the arrays do not fit, [`Error::Token`] for an id outside the vocabulary, [`Error::Logits`] for a row
/// that is no distribution: a NaN stops here, where its place is known, and not in a text or a mean.
pub fn batch(
    batch: Batch<'_>,
    loss: &mut ArrayRef2<f64>,
    mut dlogits: Option<&mut ArrayRef3<f32>>,
    mut objective: impl FnMut(Row<'_>) -> f64,
) -> Result<(), Error> {
    let [rows, len, vocab] = [batch.logits.dim().0, batch.logits.dim().1, batch.logits.dim().2];
    same_shape("x_0", &[rows, len], batch.x_0.shape())?;
    same_shape("x_t", &[rows, len], batch.x_t.shape())?;
    same_shape("loss", &[rows, len], loss.shape())?;
    if let Some(dlogits) = &dlogits {
        same_shape("dlogits", batch.logits.shape(), dlogits.shape())?;
    }
    let (mut row, mut gradient) = (vec![0.0; vocab], vec![0.0; vocab]);
    for ((b, l), loss) in loss.indexed_iter_mut() {
        let (x_0, x_t) = (batch.x_0[[b, l]], batch.x_t[[b, l]]);
        for token in [x_0, x_t] {
            if token as usize >= vocab {
                return Err(Error::Token { token, row: b, position: l, vocab });
            }
        }
        finite(batch.logits.index_axis(Axis(0), b).row(l).iter().copied(), b, l)?;
        for (wide, &narrow) in row.iter_mut().zip(batch.logits.index_axis(Axis(0), b).row(l)) {
            *wide = f64::from(narrow);
        }
        let wanted = dlogits.is_some().then_some(gradient.as_mut_slice());
        *loss = objective(Row { b, l, x_0, x_t, logits: &row, dlogits: wanted });
        if let Some(dlogits) = &mut dlogits {
            for (narrow, &wide) in dlogits.index_axis_mut(Axis(0), b).row_mut(l).iter_mut().zip(&gradient) {
                *narrow = wide as f32;
            }
        }
    }
    Ok(())
}

/// log sum exp of the logits, the one at `without` left out.
pub fn log_sum_exp(logits: &[f64], without: Option<u32>) -> f64 {
    let kept = |k: usize| without != Some(k as u32);
    let max = logits.iter().enumerate().filter(|(k, _)| kept(*k)).fold(f64::NEG_INFINITY, |m, (_, &x)| m.max(x));
    if max == f64::NEG_INFINITY {
        return max;
    }
    let sum: f64 = logits.iter().enumerate().filter(|(k, _)| kept(*k)).map(|(_, &x)| (x - max).exp()).sum();
    max + sum.ln()
}

/// Turns logits into probabilities in place.
pub fn softmax(logits: &mut [f64]) {
    let total = log_sum_exp(logits, None);
    logits.iter_mut().for_each(|x| *x = (*x - total).exp());
}

/// That a row of logits has a softmax: no NaN, no +inf, not all -inf (an id may be forbidden, all may not).
fn finite(logits: impl Iterator<Item = f32> + Clone, row: usize, position: usize) -> Result<(), Error> {
    let bad = logits.clone().enumerate().find(|(_, x)| x.is_nan() || *x == f32::INFINITY);
    let all_forbidden = || logits.clone().all(|x| x == f32::NEG_INFINITY).then_some((0, f32::NEG_INFINITY));
    match bad.or_else(all_forbidden) {
        None => Ok(()),
        Some((id, found)) => Err(Error::Logits { row, position, id, found }),
    }
}
