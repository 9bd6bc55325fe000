//! A schedule by mutual information: every step loses the same share of what is left to know about the data.

use super::noises::{exp, stochastic};
use crate::error::same_shape;
use crate::{Dense, Error};
use ndarray::{Array2, ArrayRef2};

impl Dense {
    /// The chain Q_t = exp((c_t - c_{t-1}) R) whose cumulative exponents c_t make the mutual information of x_t and x_0 fall
    /// linearly, I_t = (1 - t / T) H(x_0), for data distributed as `p_x_0`.
    ///
    /// For the rates of mask noise this is alpha_bar = 1 - t / T, whatever the data. At t = T nothing would be left only in the limit;
    /// the last exponent is that of a share `left` of the information, in (0, 1/T).
    ///
    /// # Errors
    /// [`Error::Shape`] if `rates` is not square or `p_x_0` not one number per id, [`Error::Rates`] or [`Error::Stochastic`] if
    /// they are no rate matrix or no distribution, [`Error::Parameter`] for no steps, another `left`, data of a single id, or rates that
    /// never lose that much information (a graph in several parts).
    ///
    /// # Source
    /// Austin et al. (2021), D3PM, the mutual-information schedule (`MutualInformationSchedule` of its code).
    pub fn linear_information(rates: &ArrayRef2<f64>, p_x_0: &[f64], steps: usize, left: f64) -> Result<Self, Error> {
        let vocab = rates.nrows();
        same_shape("rates", &[vocab, vocab], rates.shape())?;
        same_shape("p_x_0", &[vocab], &[p_x_0.len()])?;
        let sum: f64 = p_x_0.iter().sum();
        if p_x_0.iter().any(|p| p.is_nan() || *p < 0.0) || (sum - 1.0).abs() > super::SLACK {
            return Err(Error::Stochastic { step: 0, row: 0, sum });
        }
        let error = |parameter, expected, found| Error::Parameter { parameter, expected, found };
        if steps == 0 {
            return Err(error("the number of steps", "at least 1", 0.0));
        }
        if !(left > 0.0 && left < 1.0 / steps as f64) {
            return Err(error("the information left", "above 0 and below 1 / steps", left));
        }
        let entropy = entropy(p_x_0);
        if entropy <= 0.0 {
            return Err(error("the entropy of the data", "above 0", entropy));
        }
        // Refuses what is no rate matrix.
        Self::exponential(rates, &[0.0])?;
        let at = |exponent: f64| mutual_information(p_x_0, &stochastic(exp(&(rates * exponent))));
        let (mut exponents, mut before) = (Vec::with_capacity(steps), 0.0);
        for step in 1..=steps {
            let target = entropy * if step == steps { left } else { 1.0 - step as f64 / steps as f64 };
            // An exponent far enough, by doubling; then the one between, by halving. Information only falls.
            let mut high = if before > 0.0 { 2.0 * before } else { 1e-3 };
            while at(high) > target {
                high *= 2.0;
                if high > 1e9 {
                    return Err(error("the information that the rates can destroy", "all of it", at(high) / entropy));
                }
            }
            let mut low = before;
            for _ in 0..60 {
                let middle = 0.5 * (low + high);
                if at(middle) > target { low = middle } else { high = middle }
            }
            exponents.push(high - before);
            before = high;
        }
        Self::exponential(rates, &exponents)
    }
}

fn entropy(p: &[f64]) -> f64 {
    p.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum()
}

/// I(x_t; x_0) in nats for data distributed as `p_x_0` and q(x_t | x_0) in the rows of `q_bar`: Σ p_i q_ij log(q_ij / q_j).
///
/// # Panics
/// If `q_bar` has another number of rows than there are probabilities.
pub fn mutual_information(p_x_0: &[f64], q_bar: &Array2<f64>) -> f64 {
    assert_eq!(p_x_0.len(), q_bar.nrows(), "mutual_information: one row per id");
    let marginal: Vec<f64> =
        q_bar.columns().into_iter().map(|column| column.iter().zip(p_x_0).map(|(q, p)| q * p).sum()).collect();
    let mut information = 0.0;
    for (&p, row) in p_x_0.iter().zip(q_bar.rows()) {
        for (&q, m) in row.iter().zip(&marginal).filter(|(q, _)| **q > 0.0) {
            if p > 0.0 {
                information += p * q * (q / m).ln();
            }
        }
    }
    information
}
