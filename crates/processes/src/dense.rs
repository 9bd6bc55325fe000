//! Categorical chains given by their matrices: any noise, for vocabularies small enough to write it down.

use crate::Error;
use ndarray::{Array2, ArrayRef2};

/// A chain of T steps whose Q_t are arbitrary row-stochastic matrices, with their cumulative products.
///
/// Steps are numbered from 0: `q(i)` leads from state i to state i + 1, and state 0 is the data. D3PM's structured
/// noises ([`band`](Self::band), [`discretised_gaussian`](Self::discretised_gaussian), [`exponential`](Self::exponential))
/// are of this kind; uniform and mask noise have closed forms in [`Categorical`](crate::Categorical).
///
/// ```
/// use galatea_processes::Dense;
/// let chain = Dense::discretised_gaussian(5, &[200.0, 500.0, 1000.0], 4)?;
/// let mut q = [0.0; 5];
/// chain.posterior(2, 3, &[0.0, 0.0, 1.0, 0.0, 0.0], &mut q);
/// assert!((q.iter().sum::<f64>() - 1.0).abs() < 1e-12);
/// # Ok::<(), galatea_processes::Error>(())
/// ```
///
/// # Source
/// Austin et al. (2021), "Structured denoising diffusion models in discrete state-spaces", appendix A.
#[derive(Clone, Debug, PartialEq)]
pub struct Dense {
    q: Vec<Array2<f64>>,
    q_bar: Vec<Array2<f64>>,
}

/// How far from 1 a row may sum.
const SLACK: f64 = 1e-9;

impl Dense {
    /// The chain of the given one-step matrices, row i of each being q(next | i).
    ///
    /// # Errors
    /// [`Error::Shape`] if a matrix is missing or not square like the first, [`Error::Stochastic`] if a row is no
    /// distribution.
    pub fn new(q: Vec<Array2<f64>>) -> Result<Self, Error> {
        let vocab = q.first().map_or(0, Array2::nrows);
        if vocab == 0 {
            return Err(Error::Shape { array: "q", expected: vec![1, 1, 1], found: vec![q.len(), 0, 0] });
        }
        let mut q_bar: Vec<Array2<f64>> = Vec::with_capacity(q.len());
        for (step, matrix) in q.iter().enumerate() {
            crate::error::same_shape("q", &[vocab, vocab], matrix.shape())?;
            for (row, values) in matrix.rows().into_iter().enumerate() {
                let sum = values.sum();
                if values.iter().any(|q| q.is_nan() || *q < -SLACK) || (sum - 1.0).abs() > SLACK {
                    return Err(Error::Stochastic { step, row, sum });
                }
            }
            q_bar.push(q_bar.last().map_or_else(|| matrix.clone(), |before| before.dot(matrix)));
        }
        Ok(Self { q, q_bar })
    }

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
    /// [`Error::Shape`] if `rates` is not square, [`Error::Stochastic`] if R is no rate matrix.
    pub fn exponential(rates: &ArrayRef2<f64>, betas: &[f64]) -> Result<Self, Error> {
        crate::error::same_shape("rates", &[rates.nrows(), rates.nrows()], rates.shape())?;
        Self::new(betas.iter().map(|beta| exponential(&(rates * *beta))).collect())
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

    /// The number of ids.
    pub fn vocab(&self) -> usize {
        self.q[0].nrows()
    }

    /// The number of steps.
    pub fn steps(&self) -> usize {
        self.q.len()
    }

    /// The matrix of step `i`, \[vocab, vocab\].
    ///
    /// # Panics
    /// If there is no step `i`.
    pub fn q(&self, i: usize) -> &Array2<f64> {
        &self.q[i]
    }

    /// The product of the matrices of steps 0..=`i`, \[vocab, vocab\].
    ///
    /// # Panics
    /// If there is no step `i`.
    pub fn q_bar(&self, i: usize) -> &Array2<f64> {
        &self.q_bar[i]
    }

    /// Writes the distribution after step `i` of data distributed as `p_x_0`, p Q_bar_i.
    ///
    /// # Panics
    /// If there is no step `i` or a slice is not \[vocab\] long.
    pub fn marginal(&self, i: usize, p_x_0: &[f64], q: &mut [f64]) {
        assert!(p_x_0.len() == self.vocab() && q.len() == self.vocab(), "marginal: one probability per id");
        for (j, q) in q.iter_mut().enumerate() {
            *q = p_x_0.iter().zip(self.q_bar[i].column(j)).map(|(p, m)| p * m).sum();
        }
    }

    /// Writes the posterior before step `i` given the token `x_t` after it: (p Q_bar_{i-1}) ⊙ Q_i\[:, x_t\], normalised.
    /// Before step 0 there are the data themselves, so Q_bar_{-1} is the identity.
    ///
    /// An `x_t` that p cannot lead to gives all zeros.
    ///
    /// # Panics
    /// If there is no step `i`, a slice is not \[vocab\] long or `x_t` is outside the vocabulary.
    pub fn posterior(&self, i: usize, x_t: u32, p_x_0: &[f64], q_s: &mut [f64]) {
        if i == 0 {
            assert!(p_x_0.len() == self.vocab() && q_s.len() == self.vocab(), "posterior: one probability per id");
            q_s.copy_from_slice(p_x_0);
        } else {
            self.marginal(i - 1, p_x_0, q_s);
        }
        let mut total = 0.0;
        for (q, likelihood) in q_s.iter_mut().zip(self.q[i].column(x_t as usize)) {
            *q *= likelihood;
            total += *q;
        }
        if total > 0.0 {
            q_s.iter_mut().for_each(|q| *q /= total);
        }
    }
}

/// exp(m) by scaling to a norm below 1/2, a Taylor sum, and squaring back.
fn exponential(m: &Array2<f64>) -> Array2<f64> {
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
