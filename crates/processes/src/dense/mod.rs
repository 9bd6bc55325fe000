//! Categorical chains given by their matrices: any noise, for vocabularies small enough to write it down.

mod information;
mod nearest;
mod noises;

pub use information::mutual_information;
pub use nearest::{doubly_stochastic, nearest_neighbour_rates, neighbour_walk_rates};

use crate::error::same_shape;
use crate::{Error, TokenProcess};
use galatea_random::unit_f64;
use ndarray::{Array1, Array2};

/// A chain of T steps whose Q_t are arbitrary row-stochastic matrices, with their cumulative products.
///
/// Steps are numbered from 0: `q(i)` leads from state i to state i + 1, and state 0 is the data. As a [`TokenProcess`]
/// state i has the time i / T, and a time between two states is read as the nearer one. D3PM's structured
/// noises ([`band`](Self::band), [`discretised_gaussian`](Self::discretised_gaussian), [`exponential`](Self::exponential))
/// are of this kind; uniform and mask noise have closed forms in [`Categorical`](crate::Categorical).
///
/// ```
/// use galatea_processes::{Dense, TokenProcess};
/// let chain = Dense::discretised_gaussian(5, &[200.0, 500.0, 1000.0], 4)?;
/// let mut q = [0.0; 5];
/// chain.posterior(1.0, 2.0 / 3.0, 3, &[0.0, 0.0, 1.0, 0.0, 0.0], &mut q);
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
    /// [`Error::Shape`] if there is no matrix or one is not square like the first, [`Error::Vocabulary`] below two ids,
    /// [`Error::Stochastic`] if a row is no distribution.
    pub fn new(q: Vec<Array2<f64>>) -> Result<Self, Error> {
        let Some(vocab) = q.first().map(Array2::nrows) else {
            return Err(Error::Shape { array: "q (at least one step)", expected: vec![1, 2, 2], found: vec![0] });
        };
        if vocab < 2 {
            return Err(Error::Vocabulary { expected: 2, found: vocab });
        }
        let mut q_bar: Vec<Array2<f64>> = Vec::with_capacity(q.len());
        for (step, matrix) in q.iter().enumerate() {
            same_shape("q", &[vocab, vocab], matrix.shape())?;
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

    /// The same chain on the kept states only: `states` are those after which a step of the new chain ends, and a step's
    /// matrix is the product of those it skips. A sampler of few steps wants this, since a posterior across several
    /// matrices multiplies them one by one.
    ///
    /// # Errors
    /// [`Error::States`] unless `states` rises strictly from at least 1 to exactly T.
    pub fn respace(&self, states: &[usize]) -> Result<Self, Error> {
        let rises = states.is_sorted_by(|a, b| a < b) && states.first().is_some_and(|&first| first > 0);
        if !rises || states.last() != Some(&self.steps()) {
            return Err(Error::States { expected: self.steps(), found: states.to_vec() });
        }
        let mut before = 0;
        let product = |&state: &usize| {
            let skipped = &self.q[before..state];
            before = state;
            skipped[1..].iter().fold(skipped[0].clone(), |product, q| product.dot(q))
        };
        Self::new(states.iter().map(product).collect())
    }

    /// The chain with its last step replaced by a fresh draw from `pi`, so that nothing of the data is left at the end and
    /// sampling may start from `pi`: what D3PM's cumulative tables do where they store the stationary law as the last state.
    ///
    /// # Errors
    /// [`Error::Shape`] if `pi` is not \[vocab\] long, [`Error::Stochastic`] if it is no distribution.
    pub fn ending_at(&self, pi: &[f64]) -> Result<Self, Error> {
        same_shape("pi", &[self.vocab()], &[pi.len()])?;
        let mut q = self.q.clone();
        let last = q.len() - 1;
        q[last] = Array2::from_shape_fn((self.vocab(), self.vocab()), |(_, j)| pi[j]);
        Self::new(q)
    }

    /// The state of a time.
    fn state(&self, t: f64) -> usize {
        (t.clamp(0.0, 1.0) * self.steps() as f64).round() as usize
    }

    /// Q_bar of a state, where it is not the identity.
    fn after(&self, state: usize) -> Option<&Array2<f64>> {
        state.checked_sub(1).map(|i| &self.q_bar[i])
    }
}

impl TokenProcess for Dense {
    fn vocab(&self) -> usize {
        self.q[0].nrows()
    }

    /// The mean row of Q_bar_T: the stationary law where the chain has forgotten the data, uniform for doubly stochastic
    /// matrices.
    fn prior(&self) -> Array1<f64> {
        let last = &self.q_bar[self.q_bar.len() - 1];
        last.columns().into_iter().map(|column| column.sum() / self.vocab() as f64).collect()
    }

    fn marginal(&self, t: f64, p_x_0: &[f64], q_t: &mut [f64]) {
        assert!(p_x_0.len() == self.vocab() && q_t.len() == self.vocab(), "marginal: one probability per id");
        match self.after(self.state(t)) {
            None => q_t.copy_from_slice(p_x_0),
            Some(q_bar) => {
                for (q, column) in q_t.iter_mut().zip(q_bar.columns()) {
                    *q = p_x_0.iter().zip(column).map(|(p, m)| p * m).sum();
                }
            }
        }
    }

    fn average(&self, t: f64, g: &[f64], mean: &mut [f64]) {
        assert!(g.len() == self.vocab() && mean.len() == self.vocab(), "average: one number per id");
        match self.after(self.state(t)) {
            None => mean.copy_from_slice(g),
            Some(q_bar) => {
                for (mean, row) in mean.iter_mut().zip(q_bar.rows()) {
                    *mean = row.iter().zip(g).map(|(q, g)| q * g).sum();
                }
            }
        }
    }

    /// Across more than one step the matrices are multiplied into a vector that is allocated for it.
    fn weigh(&self, t: f64, s: f64, x_t: u32, q_s: &mut [f64]) {
        assert_eq!(q_s.len(), self.vocab(), "weigh: one probability per id");
        let (end, start) = (self.state(t), self.state(s));
        if end <= start {
            let own = q_s[x_t as usize];
            q_s.fill(0.0);
            q_s[x_t as usize] = own;
            return;
        }
        let weigh = |q_s: &mut [f64], likelihood: &mut dyn Iterator<Item = f64>| {
            q_s.iter_mut().zip(likelihood).for_each(|(q, l)| *q *= l);
        };
        let last = self.q[end - 1].column(x_t as usize);
        if end - start == 1 {
            weigh(q_s, &mut last.iter().copied());
        } else {
            let steps = self.q[start..end - 1].iter().rev();
            let likelihood = steps.fold(last.to_owned(), |likelihood, q| q.dot(&likelihood));
            weigh(q_s, &mut likelihood.into_iter());
        }
    }

    fn corrupt_token(&self, t: f64, x_0: u32, words: [u32; 4]) -> u32 {
        let Some(q_bar) = self.after(self.state(t)) else { return x_0 };
        let mut left = unit_f64([words[0], words[1]]);
        let row = q_bar.row(x_0 as usize);
        let mut last = x_0;
        for (k, &q) in row.iter().enumerate().filter(|(_, q)| **q > 0.0) {
            last = k as u32;
            if left < q {
                break;
            }
            left -= q;
        }
        last
    }
}
