//! D3PM's structured noises.

use super::SLACK;
use crate::error::same_shape;
use crate::{Dense, Error};
use ndarray::{Array2, ArrayRef2};

impl Dense {
    /// D3PM's band-diagonal noise: beta / V to each of the `width` neighbours on either side, the rest stays.
    ///
    /// # Errors
    /// [`Error::Stochastic`] if the neighbours' share exceeds 1.
    pub fn band(vocab: usize, betas: &[f64], width: usize) -> Result<Self, Error> {
        Self::neighbours(vocab, betas, |beta, gap| if gap <= width { beta / vocab as f64 } else { 0.0 })
    }

    /// D3PM's discretised Gaussian: a neighbour at distance k gets exp(-(2 k / (V - 1))² · 255² / ((V - 1)² beta)) over
    /// the sum of these from -`width` to `width`, the rest stays. It is doubly stochastic, so its limit is uniform.
    ///
    /// The scale 255 is that of the original, written for grey levels; only beta / 255² matters.
    ///
    /// # Errors
    /// [`Error::Stochastic`] for a beta that is not a number.
    pub fn discretised_gaussian(vocab: usize, betas: &[f64], width: usize) -> Result<Self, Error> {
        let last = (vocab.max(2) - 1) as f64;
        let weight = |beta: f64, gap: usize| {
            let distance = gap as f64 * 255.0 / last * 2.0 / last;
            (-distance * distance / beta).exp()
        };
        let total = |beta: f64| 1.0 + 2.0 * (1..=width).map(|gap| weight(beta, gap)).sum::<f64>();
        Self::neighbours(vocab, betas, |beta, gap| if gap <= width { weight(beta, gap) / total(beta) } else { 0.0 })
    }

    /// Q_t = exp(beta_t R) for a rate matrix R whose rows sum to 0: D3PM's nearest-neighbour noise, for one.
    ///
    /// # Errors
    /// [`Error::Shape`] if `rates` is not square, [`Error::Rates`] if R is no rate matrix, [`Error::Parameter`] for a beta that is
    /// negative or not finite.
    pub fn exponential(rates: &ArrayRef2<f64>, betas: &[f64]) -> Result<Self, Error> {
        same_shape("rates", &[rates.nrows(), rates.nrows()], rates.shape())?;
        for ((row, values), own) in rates.rows().into_iter().enumerate().zip(rates.diag()) {
            let sum = values.sum();
            let mut away = values.iter().enumerate().filter(|(j, _)| *j != row);
            if away.any(|(_, rate)| rate.is_nan() || *rate < 0.0)
                || sum.is_nan()
                || sum.abs() > SLACK * own.abs().max(1.0)
            {
                return Err(Error::Rates { row, sum });
            }
        }
        if let Some(&found) = betas.iter().find(|beta| **beta < 0.0 || !beta.is_finite()) {
            return Err(Error::Parameter { parameter: "every beta", expected: "at least 0 and finite", found });
        }
        Self::new(betas.iter().map(|beta| stochastic(exp(&(rates * *beta)))).collect())
    }

    fn neighbours(vocab: usize, betas: &[f64], share: impl Fn(f64, usize) -> f64) -> Result<Self, Error> {
        let matrix = |&beta: &f64| {
            let away = |i: usize, j: usize| if i == j { 0.0 } else { share(beta, i.abs_diff(j)) };
            Array2::from_shape_fn((vocab, vocab), |(i, j)| {
                if i == j { 1.0 - (0..vocab).map(|k| away(i, k)).sum::<f64>() } else { away(i, j) }
            })
        };
        Self::new(betas.iter().map(matrix).collect())
    }
}

/// exp(m) by scaling to a norm below 1/2, a Taylor sum, and squaring back.
pub(super) fn exp(m: &Array2<f64>) -> Array2<f64> {
    let norm = m.rows().into_iter().map(|row| row.iter().map(|x| x.abs()).sum::<f64>()).fold(0.0, f64::max);
    let halvings = if norm > 0.5 { (norm / 0.5).log2().ceil().min(60.0) as i32 } else { 0 };
    let scaled = m / 2f64.powi(halvings);
    let (mut sum, mut term) = (Array2::eye(m.nrows()), Array2::eye(m.nrows()));
    // 0.5^20 / 20! is far below one unit in the last place.
    for k in 1..=20 {
        term = term.dot(&scaled) / f64::from(k);
        sum += &term;
    }
    for _ in 0..halvings {
        sum = sum.dot(&sum);
    }
    sum
}

/// Puts right what rounding has done to rows that sum to 1: every squaring doubles it.
pub(super) fn stochastic(mut q: Array2<f64>) -> Array2<f64> {
    q.mapv_inplace(|q| q.max(0.0));
    for mut row in q.rows_mut() {
        let sum = row.sum();
        row.mapv_inplace(|q| q / sum);
    }
    q
}
