//! The variational bound of a denoiser over a corpus.

use super::{Estimate, Mean};
use crate::draws::stream;
use crate::error::parameter;
use crate::{Error, Failure};
use galatea_processes::objectives::interpolating;
use galatea_processes::{Denoiser, Interpolating, TokenProcess};
use galatea_random::Philox;
use ndarray::{Array2, Array3, ArrayRef2, Axis};

/// The options of [`nelbo`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BoundOptions {
    /// The seed of times and noise.
    pub seed: u64,
    /// How many times each text is noised.
    pub rounds: usize,
    /// How many texts the denoiser is given at once. A call has one time, so that 1 spreads the times most.
    pub batch: usize,
    /// The times are those of \[t_min, 1\]: above 0 the bound lacks a little and varies less.
    pub t_min: f64,
}

impl Default for BoundOptions {
    /// Every text four times, one by one, at all times.
    fn default() -> Self {
        Self { seed: 0, rounds: 4, batch: 1, t_min: 0.0 }
    }
}

/// Estimates the continuous-time NELBO in nats per text: the mean over texts, times and noise of the sum over positions.
///
/// The times of all calls are one lattice, t = t_min + (1 - t_min) frac(u + call / calls), those of a text as far apart as
/// they can be: the estimate has the same mean as with independent times and a smaller variance. An exact denoiser's
/// NELBO is the entropy of the texts. The bound's terms at the ends are not in it: reconstruction where alpha_bar(0) < 1,
/// and the prior's where alpha_bar(1) > 0.
///
/// # Shapes
/// `texts` \[texts, len\]; the denoiser's logits \[batch, len, vocab\] with the process's vocabulary, the last batch smaller.
///
/// # Errors
/// [`Failure::Refused`] for no text, a token outside the vocabulary or an option outside its range; [`Failure::Output`] with
/// the number of the text for logits that are not finite; else the denoiser's own error.
///
/// # Source
/// Kingma et al. (2021), "Variational diffusion models", appendix I.1 (the lattice); von Rütte et al. (2025), equation 6
/// (the integrand, of which those of MDLM and UDLM are cases).
pub fn nelbo<D: Denoiser, P: Interpolating + TokenProcess>(
    denoiser: &mut D,
    process: &P,
    texts: &ArrayRef2<u32>,
    options: &BoundOptions,
) -> Result<Estimate, Failure<D::Error>> {
    check(process.vocab(), texts, options).map_err(Failure::Refused)?;
    let (count, len) = texts.dim();
    let calls = count.div_ceil(options.batch);
    let offset = Philox::new(options.seed, stream::TIME, 0, 0).uniform();
    let mut mean = Mean::default();
    let mut row = vec![0.0; process.vocab()];
    for (call, x_0) in texts.axis_chunks_iter(Axis(0), options.batch).enumerate() {
        let batch = x_0.nrows();
        let (mut x_t, mut logits) = (Array2::zeros((batch, len)), Array3::zeros((batch, len, process.vocab())));
        for round in 0..options.rounds {
            let place = (call as f64 / calls as f64 + round as f64) / options.rounds as f64;
            let t = options.t_min + (1.0 - options.t_min) * (offset + place).fract();
            let step = (call * options.rounds + round) as u32;
            let times = Array2::from_elem((batch, 1), t);
            process
                .corrupt(&x_0, &times, options.seed, stream::NOISE, step, &mut x_t)
                .expect("the ids were checked and the shapes are those of the batch");
            denoiser.denoise(&x_t, t, &mut logits).map_err(Failure::Denoiser)?;
            for b in 0..batch {
                let mut nats = 0.0;
                for l in 0..len {
                    row.iter_mut().zip(logits.index_axis(Axis(0), b).row(l)).for_each(|(r, &x)| *r = f64::from(x));
                    let weight = interpolating::weight(process, x_0[[b, l]], x_t[[b, l]], t);
                    let token = interpolating::nelbo(process, &row, x_0[[b, l]], x_t[[b, l]], t, weight, None);
                    if token.is_nan() {
                        return Err(Failure::Output { row: call * options.batch + b, position: l });
                    }
                    nats += token;
                }
                mean.push((1.0 - options.t_min) * nats);
            }
        }
    }
    Ok(mean.estimate())
}

fn check(vocab: usize, texts: &ArrayRef2<u32>, options: &BoundOptions) -> Result<(), Error> {
    let (batch, len) = texts.dim();
    if batch == 0 || len == 0 {
        return Err(Error::Empty { batch, len });
    }
    if let Some(((row, position), &token)) = texts.indexed_iter().find(|(_, id)| **id as usize >= vocab) {
        return Err(Error::Token { token, row, position, vocab });
    }
    parameter("rounds", "at least 1", options.rounds as f64, options.rounds > 0)?;
    parameter("batch", "at least 1", options.batch as f64, options.batch > 0)?;
    parameter("t_min", "in [0, 1)", options.t_min, (0.0..1.0).contains(&options.t_min))?;
    Ok(())
}
