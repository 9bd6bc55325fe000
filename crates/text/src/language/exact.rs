use galatea_random::Philox;
use ndarray::{Array2, ArrayRef2};

use super::Error;

/// A distribution over sequences x of `len` tokens below `vocab` that answers every question exactly.
///
/// A mask is no token of the source: [`vocab`](Self::vocab) counts the words alone, and a masked process takes the id
/// one past them, `vocab() as u32`.
#[allow(clippy::len_without_is_empty, reason = "the length is a constant of the source, never zero")]
pub trait ExactModel {
    /// The number of tokens; ids run from 0 to `vocab() - 1`.
    fn vocab(&self) -> usize;

    /// The length of every sequence.
    fn len(&self) -> usize;

    /// The log-probability of `x` in nats: -inf outside the support, for another length or an unknown token too.
    fn log_prob(&self, x: &[u32]) -> f64;

    /// Bayes' rule in the log domain: the marginals of p(x | o) and log p(o), where o_i depends on x_i alone.
    ///
    /// p(x | o) = p(x) prod_i q(o_i | x_i) / p(o). The sums are taken in the log domain throughout, so that 48 rows of
    /// Gaussian evidence thousands of nats apart do not underflow.
    ///
    /// # Shapes
    /// `log_evidence` and `marginals`: `[len, vocab]`; entry (i, v) is log q(o_i | x_i = v) in nats, up to a constant
    /// per row, and the probability p(x_i = v | o). All zeros is a mask, -inf excludes a word.
    ///
    /// # Errors
    /// [`Error::Shape`]; [`Error::Likelihood`] for NaN or +inf; [`Error::Impossible`] if p(o) = 0, with `marginals`
    /// unspecified.
    fn posterior_log(&self, log_evidence: &ArrayRef2<f64>, marginals: &mut ArrayRef2<f64>) -> Result<f64, Error>;

    /// [`posterior_log`](Self::posterior_log) for likelihoods q(o_i | x_i = v) >= 0 on any scale per row.
    ///
    /// # Shapes
    /// `evidence` and `marginals`: `[len, vocab]`. A row of ones is a mask, a one-hot row fixes a word.
    ///
    /// # Errors
    /// As [`posterior_log`](Self::posterior_log); [`Error::Likelihood`] for a negative entry.
    fn posterior(&self, evidence: &ArrayRef2<f64>, marginals: &mut ArrayRef2<f64>) -> Result<f64, Error> {
        for ((row, _), &value) in evidence.indexed_iter() {
            if value.is_nan() || value < 0.0 {
                return Err(Error::Likelihood { row, value });
            }
        }
        // Most entries of masked evidence are 0 or 1, whose logarithms need no call.
        let log = |&e: &f64| if e == 1.0 { 0.0 } else { e.ln() };
        let log_evidence: Array2<f64> = evidence.map(log);
        self.posterior_log(&log_evidence, marginals)
    }

    /// The entropy -sum_x p(x) log p(x) in nats, in closed form.
    fn entropy(&self) -> f64;

    /// A sequence drawn from p.
    fn sample(&self, rng: &mut Philox) -> Vec<u32>;
}

macro_rules! forward {
    ($($pointer:ty),*) => {$(
        impl<M: ExactModel + ?Sized> ExactModel for $pointer {
            fn vocab(&self) -> usize {
                (**self).vocab()
            }
            fn len(&self) -> usize {
                (**self).len()
            }
            fn log_prob(&self, x: &[u32]) -> f64 {
                (**self).log_prob(x)
            }
            fn posterior_log(&self, log_evidence: &ArrayRef2<f64>, marginals: &mut ArrayRef2<f64>) -> Result<f64, Error> {
                (**self).posterior_log(log_evidence, marginals)
            }
            fn entropy(&self) -> f64 {
                (**self).entropy()
            }
            fn sample(&self, rng: &mut Philox) -> Vec<u32> {
                (**self).sample(rng)
            }
        }
    )*};
}
forward!(&M, Box<M>);

/// Checks both arguments of a posterior against `[len, vocab]` and the evidence for NaN and +inf.
pub(super) fn check_evidence(
    [len, vocab]: [usize; 2],
    log_evidence: &ArrayRef2<f64>,
    marginals: &ArrayRef2<f64>,
) -> Result<(), Error> {
    for (what, found) in [("evidence", log_evidence.shape()), ("marginals", marginals.shape())] {
        if found != [len, vocab] {
            return Err(Error::Shape { what, expected: vec![len, vocab], found: found.to_vec() });
        }
    }
    for (row, values) in log_evidence.outer_iter().enumerate() {
        // One pass that a compiler can vectorise; the culprit is looked for only when there is one.
        if values.iter().any(|v| v.is_nan() || *v == f64::INFINITY) {
            let value = values.iter().copied().find(|v| v.is_nan() || *v == f64::INFINITY);
            return Err(Error::Likelihood { row, value: value.unwrap_or(f64::NAN) });
        }
    }
    Ok(())
}

/// log sum_k exp(x_k), and -inf for an empty or impossible sum.
pub(super) fn log_sum_exp(x: &[f64]) -> f64 {
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if max == f64::NEG_INFINITY {
        return max;
    }
    max + x.iter().map(|v| (v - max).exp()).sum::<f64>().ln()
}

/// -sum_k p_k log p_k in nats, with 0 log 0 = 0.
pub(super) fn entropy_of(p: impl IntoIterator<Item = f64>) -> f64 {
    p.into_iter().filter(|p| *p > 0.0).map(|p| -p * p.ln()).sum()
}

/// An index drawn with the probabilities `p`, which sum to one up to rounding.
pub(super) fn draw(p: impl IntoIterator<Item = f64>, rng: &mut Philox) -> usize {
    let mut u = rng.uniform();
    let mut last = 0;
    for (k, p) in p.into_iter().enumerate() {
        if p > 0.0 {
            last = k;
            if u < p {
                return k;
            }
        }
        u -= p;
    }
    // Rounding can leave a sliver of u beyond the last outcome that is possible.
    last
}
