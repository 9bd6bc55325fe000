//! What every forward process on tokens can answer, whatever its noise.

use crate::Error;
use crate::error::{same_shape, unit_interval};
use galatea_random::block;
use ndarray::{Array1, ArrayRef2};

/// A Markov chain on token ids with its clock: all that a reverse step, a bound or a sampler needs to know of it.
///
/// Distributions are rows, x_t ~ p Q_bar_t and q_ts\[i, j\] = q(x_t = j | x_s = i), with s <= t in \[0, 1\]; other times are
/// read as the nearest end. Closed forms ([`Scheduled`](crate::Scheduled), [`Hybrid`](crate::Hybrid)) answer in O(vocab),
/// matrices ([`Dense`](crate::Dense)) in O(vocab²).
///
/// ```
/// use galatea_processes::{Categorical, Dense, Hybrid, Limit, Scheduled, TokenProcess};
/// use galatea_schedules::LogLinear;
/// let masked = Scheduled::new(Categorical::new(5, Limit::Mask(4))?, LogLinear::default());
/// let hybrid = Hybrid::new(5, 4, 0.1, 1.0)?;
/// let band = Dense::band(5, &[0.2; 8], 1)?;
/// let mut q_s = [0.0; 5];
/// for process in [&masked as &dyn TokenProcess, &hybrid, &band] {
///     process.posterior(0.75, 0.5, 2, &[0.25, 0.25, 0.25, 0.25, 0.0], &mut q_s);
///     assert!((q_s.iter().sum::<f64>() - 1.0).abs() < 1e-12);
/// }
/// # Ok::<(), galatea_processes::Error>(())
/// ```
///
/// # Panics
/// The methods panic if a slice is not \[vocab\] long or an id is outside the vocabulary.
pub trait TokenProcess {
    /// The number of ids, a mask included.
    fn vocab(&self) -> usize;

    /// The distribution at t = 1 that sampling starts from, \[vocab\].
    fn prior(&self) -> Array1<f64>;

    /// Writes the distribution of x_t when x_0 is distributed as `p_x_0`: p Q_bar_t.
    fn marginal(&self, t: f64, p_x_0: &[f64], q_t: &mut [f64]);

    /// Writes, for every clean token j, the mean of `g` over q(x_t | x_0 = j): Q_bar_t g, the transpose of
    /// [`marginal`](Self::marginal) and so the gradient with respect to `p_x_0` of what has the gradient `g` at q_t.
    fn average(&self, t: f64, g: &[f64], mean: &mut [f64]);

    /// Multiplies every entry k of `q_s` by the likelihood q(x_t | x_s = k).
    fn weigh(&self, t: f64, s: f64, x_t: u32, q_s: &mut [f64]);

    /// Draws x_t from q(x_t | x_0) with four random words.
    fn corrupt_token(&self, t: f64, x_0: u32, words: [u32; 4]) -> u32;

    /// Writes q(x_s | x_t, p), the posterior for a clean-token distribution `p_x_0` (a one-hot one for a known x_0):
    /// (p Q_bar_s) ⊙ q_ts\[:, x_t\], normalised. An `x_t` that p cannot lead to stays.
    ///
    /// # Source
    /// Austin et al. (2021), D3PM, equations 3 and 4.
    fn posterior(&self, t: f64, s: f64, x_t: u32, p_x_0: &[f64], q_s: &mut [f64]) {
        self.marginal(s, p_x_0, q_s);
        self.weigh(t, s, x_t, q_s);
        let total: f64 = q_s.iter().sum();
        if total > 0.0 {
            q_s.iter_mut().for_each(|q| *q /= total);
        } else {
            q_s.fill(0.0);
            q_s[x_t as usize] = 1.0;
        }
    }

    /// Draws x_t from q(x_t | x_0) for a batch, each row cut into equal blocks with a time of their own.
    ///
    /// # Shapes
    /// `x_0` and `x_t` \[batch, len\]; `t` \[batch, blocks\], blocks dividing len (one block: one time per row). Position l of
    /// row b reads block l of the counter (`seed`, `stream`, `step`, b), so a draw depends neither on the batch's size nor on
    /// its length.
    ///
    /// # Errors
    /// [`Error::Shape`] if the shapes do not fit, [`Error::Parameter`] for a time outside \[0, 1\], [`Error::Token`] for an id outside
    /// the vocabulary.
    fn corrupt(
        &self,
        x_0: &ArrayRef2<u32>,
        t: &ArrayRef2<f64>,
        seed: u64,
        stream: u32,
        step: u32,
        x_t: &mut ArrayRef2<u32>,
    ) -> Result<(), Error> {
        let (len, blocks) = (x_0.ncols(), t.ncols());
        same_shape("x_t", x_0.shape(), x_t.shape())?;
        if blocks == 0 || !len.is_multiple_of(blocks) {
            let (expected, found) = (vec![x_0.nrows(), 1], t.shape().to_vec());
            return Err(Error::Shape { array: "t (its blocks must divide the row)", expected, found });
        }
        same_shape("t", &[x_0.nrows(), blocks], t.shape())?;
        unit_interval("t", t)?;
        for ((row, position), &token) in x_0.indexed_iter() {
            if token as usize >= self.vocab() {
                return Err(Error::Token { token, row, position, vocab: self.vocab() });
            }
            let words = block(seed, stream, step, row as u32, position as u32);
            x_t[[row, position]] = self.corrupt_token(t[[row, position * blocks / len]], token, words);
        }
        Ok(())
    }
}

macro_rules! forward {
    ($($pointer:ty),*) => {$(
        impl<P: TokenProcess + ?Sized> TokenProcess for $pointer {
            fn vocab(&self) -> usize {
                (**self).vocab()
            }
            fn prior(&self) -> Array1<f64> {
                (**self).prior()
            }
            fn marginal(&self, t: f64, p_x_0: &[f64], q_t: &mut [f64]) {
                (**self).marginal(t, p_x_0, q_t);
            }
            fn average(&self, t: f64, g: &[f64], mean: &mut [f64]) {
                (**self).average(t, g, mean);
            }
            fn weigh(&self, t: f64, s: f64, x_t: u32, q_s: &mut [f64]) {
                (**self).weigh(t, s, x_t, q_s);
            }
            fn corrupt_token(&self, t: f64, x_0: u32, words: [u32; 4]) -> u32 {
                (**self).corrupt_token(t, x_0, words)
            }
            fn posterior(&self, t: f64, s: f64, x_t: u32, p_x_0: &[f64], q_s: &mut [f64]) {
                (**self).posterior(t, s, x_t, p_x_0, q_s);
            }
        }
    )*};
}
forward!(&P, Box<P>);
