//! The likelihood of one text under a masked denoiser.

use super::{Estimate, Mean};
use crate::draws::stream;
use crate::error::parameter;
use crate::filter::check_forbidden;
use crate::{Error, Failure, Fixed};
use galatea_processes::Denoiser;
use galatea_processes::objectives::log_sum_exp;
use galatea_random::Philox;
use ndarray::{Array2, Array3, Axis};

/// The options of [`masked_likelihood`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LikelihoodOptions {
    /// The seed of the masks.
    pub seed: u64,
    /// How many times the denoiser is called, each with another number of masks.
    pub calls: usize,
    /// How many sets of masks a call has.
    pub batch: usize,
}

impl Default for LikelihoodOptions {
    /// LLaDA's 128 sets, 16 at a time.
    fn default() -> Self {
        Self { seed: 0, calls: 8, batch: 16 }
    }
}

/// Estimates -log p(answer | prompt) in nats by masking random parts of the answer: the mean of
/// (n / k) sum over the k masked positions of -log p(x_0), for numbers k spread evenly over 1..=n.
///
/// For an exact denoiser the mean is -log p itself. The denoiser is told k / n as its t.
///
/// # Shapes
/// `text` \[len\]; `answer` lists its n positions that are scored, in any order; all others are shown.
///
/// # Errors
/// [`Failure::Refused`] for an answer without positions or outside the text, a token outside the vocabulary, or a number of
/// calls or sets of 0; [`Failure::Output`] for logits that are not finite; else the denoiser's own error.
///
/// # Source
/// Nie et al. (2025), LLaDA, equation 6 and `get_log_likelihood.py`.
pub fn masked_likelihood<D: Denoiser>(
    denoiser: &mut D,
    (vocab, mask): (usize, u32),
    text: &[u32],
    answer: &[usize],
    options: &LikelihoodOptions,
) -> Result<Estimate, Failure<D::Error>> {
    let number = |name, n: usize| parameter(name, "at least 1", n as f64, n > 0);
    number("calls", options.calls).and(number("batch", options.batch)).map_err(Failure::Refused)?;
    check(vocab, mask, text, answer).map_err(Failure::Refused)?;
    let (n, len) = (answer.len(), text.len());
    let first = Philox::new(options.seed, stream::TIME, 0, 0).below(n);
    let (mut x_t, mut logits) = (Array2::zeros((options.batch, len)), Array3::zeros((options.batch, len, vocab)));
    let mut mean = Mean::default();
    let mut order = answer.to_vec();
    for call in 0..options.calls {
        let k = 1 + (first + call * n / options.calls) % n;
        for (b, mut row) in x_t.rows_mut().into_iter().enumerate() {
            row.iter_mut().zip(text).for_each(|(x, &token)| *x = token);
            let mut rng = Philox::new(options.seed, stream::ORDER, call as u32, b as u32);
            for i in 0..k {
                order.swap(i, i + rng.below(n - i));
                row[order[i]] = mask;
            }
        }
        denoiser.denoise(&x_t, k as f64 / n as f64, &mut logits).map_err(Failure::Denoiser)?;
        for (b, row) in x_t.rows().into_iter().enumerate() {
            let mut nats = 0.0;
            for &position in answer.iter().filter(|&&position| row[position] == mask) {
                nats -= log_p(&logits, (b, position), mask, text[position])?;
            }
            mean.push(nats * n as f64 / k as f64);
        }
    }
    Ok(mean.estimate())
}

/// -log p(answer | prompt) in nats when the answer's positions are revealed in the given order, one call each: the chain rule.
///
/// For an exact denoiser every order gives the same, -log p itself.
///
/// # Shapes
/// As for [`masked_likelihood`].
///
/// # Errors
/// As for [`masked_likelihood`].
pub fn likelihood_in_order<D: Denoiser>(
    denoiser: &mut D,
    (vocab, mask): (usize, u32),
    text: &[u32],
    answer: &[usize],
) -> Result<f64, Failure<D::Error>> {
    check(vocab, mask, text, answer).map_err(Failure::Refused)?;
    let mut x_t = Array2::from_shape_fn((1, text.len()), |(_, l)| text[l]);
    let mut logits = Array3::zeros((1, text.len(), vocab));
    answer.iter().for_each(|&position| x_t[[0, position]] = mask);
    let mut nats = 0.0;
    for (i, &position) in answer.iter().enumerate() {
        let t = (answer.len() - i) as f64 / answer.len() as f64;
        denoiser.denoise(&x_t, t, &mut logits).map_err(Failure::Denoiser)?;
        nats -= log_p(&logits, (0, position), mask, text[position])?;
        x_t[[0, position]] = text[position];
    }
    Ok(nats)
}

/// log softmax(logits without the mask)\[token\] at a position.
fn log_p<E>(logits: &Array3<f32>, (row, position): (usize, usize), mask: u32, token: u32) -> Result<f64, Failure<E>> {
    let logits: Vec<f64> = logits.index_axis(Axis(0), row).row(position).iter().map(|&x| f64::from(x)).collect();
    let log_p = logits[token as usize] - log_sum_exp(&logits, Some(mask));
    if log_p.is_nan() { Err(Failure::Output { row, position }) } else { Ok(log_p) }
}

fn check(vocab: usize, mask: u32, text: &[u32], answer: &[usize]) -> Result<(), Error> {
    check_forbidden(&[mask], vocab)?;
    let mut fixed = Fixed::none(1, text.len());
    fixed.write(0, 0, text)?;
    fixed.check(vocab, Some(mask))?;
    if answer.is_empty() {
        return Err(Error::Empty { batch: 1, len: 0 });
    }
    if let Some(&position) = answer.iter().find(|&&position| position >= text.len()) {
        return Err(Error::Position { row: 0, position, token: mask, batch: 1, len: text.len() });
    }
    let mut seen = vec![false; text.len()];
    let twice = answer.iter().find(|&&position| std::mem::replace(&mut seen[position], true));
    let expected = "named once in the answer";
    parameter("a position", expected, twice.copied().unwrap_or(0) as f64, twice.is_none()).map(|_| ())
}
