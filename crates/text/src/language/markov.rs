use galatea_random::Philox;
use ndarray::{Array1, Array2, ArrayRef2, Axis};

use super::exact::{check_evidence, draw, entropy_of, log_sum_exp};
use super::{Error, ExactModel};

/// A Markov chain of fixed length: p(x) = initial(x_1) prod_i transition(x_i, x_(i+1)).
#[derive(Debug, Clone)]
pub struct MarkovChain {
    len: usize,
    initial: Array1<f64>,
    transition: Array2<f64>,
    log_initial: Array1<f64>,
    log_transition: Array2<f64>,
}

impl MarkovChain {
    /// A chain of `len` tokens.
    ///
    /// # Shapes
    /// `initial`: `[vocab]`; `transition`: `[vocab, vocab]`, row = from, column = to.
    ///
    /// # Errors
    /// [`Error::Shape`] if `len` or the vocabulary is empty or the two disagree; [`Error::Distribution`] if `initial` or
    /// a row is no distribution to 1e-9.
    ///
    /// ```
    /// use galatea_text::language::{ExactModel, MarkovChain};
    /// use ndarray::arr2;
    /// let weather = MarkovChain::new(3, ndarray::arr1(&[0.5, 0.5]), arr2(&[[0.9, 0.1], [0.4, 0.6]]))?;
    /// assert!((weather.log_prob(&[0, 0, 1]) - (0.5_f64 * 0.9 * 0.1).ln()).abs() < 1e-12);
    /// # Ok::<(), galatea_text::language::Error>(())
    /// ```
    pub fn new(len: usize, initial: Array1<f64>, transition: Array2<f64>) -> Result<Self, Error> {
        let vocab = initial.len();
        if vocab == 0 || transition.dim() != (vocab, vocab) {
            let (expected, found) = (vec![vocab.max(1); 2], transition.shape().to_vec());
            return Err(Error::Shape { what: "transition", expected, found });
        }
        if len == 0 {
            return Err(Error::Shape { what: "chain", expected: vec![1], found: vec![0] });
        }
        distribution("initial", initial.iter())?;
        for (v, row) in transition.outer_iter().enumerate() {
            distribution(&format!("row {v} of transition"), row.iter())?;
        }
        let (log_initial, log_transition) = (initial.ln(), transition.ln());
        Ok(Self { len, initial, transition, log_initial, log_transition })
    }
}

fn distribution<'a>(what: &str, p: impl Iterator<Item = &'a f64> + Clone) -> Result<(), Error> {
    let sum = if p.clone().all(|p| *p >= 0.0 && p.is_finite()) { p.sum() } else { f64::NAN };
    if (sum - 1.0).abs() <= 1e-9 { Ok(()) } else { Err(Error::Distribution { what: what.to_owned(), sum }) }
}

impl ExactModel for MarkovChain {
    fn vocab(&self) -> usize {
        self.initial.len()
    }

    fn len(&self) -> usize {
        self.len
    }

    fn log_prob(&self, x: &[u32]) -> f64 {
        if x.len() != self.len || x.iter().any(|&v| v as usize >= self.vocab()) {
            return f64::NEG_INFINITY;
        }
        let steps = x.windows(2).map(|pair| self.log_transition[[pair[0] as usize, pair[1] as usize]]);
        self.log_initial[x[0] as usize] + steps.sum::<f64>()
    }

    /// Forward-backward: with the messages a_i(v) = log p(o_1..i, x_i = v) and b_i(v) = log p(o_(i+1).. | x_i = v),
    /// p(x_i = v | o) = exp(a_i(v) + b_i(v) - log p(o)).
    ///
    /// # Source
    /// Rabiner (1989), "A tutorial on hidden Markov models", section III.A, equations 19, 24 and 27.
    fn posterior_log(&self, log_evidence: &ArrayRef2<f64>, marginals: &mut ArrayRef2<f64>) -> Result<f64, Error> {
        let (len, vocab) = (self.len, self.vocab());
        check_evidence([len, vocab], log_evidence, marginals)?;
        let mut terms = vec![0.0; vocab];
        let mut forward = Array2::zeros((len, vocab));
        for v in 0..vocab {
            forward[[0, v]] = self.log_initial[v] + log_evidence[[0, v]];
        }
        for i in 1..len {
            for v in 0..vocab {
                for (u, term) in terms.iter_mut().enumerate() {
                    *term = forward[[i - 1, u]] + self.log_transition[[u, v]];
                }
                forward[[i, v]] = log_sum_exp(&terms) + log_evidence[[i, v]];
            }
        }
        let log_p = log_sum_exp(&forward.row(len - 1).to_vec());
        if log_p == f64::NEG_INFINITY {
            return Err(Error::Impossible);
        }
        let mut backward = Array1::<f64>::zeros(vocab);
        for i in (0..len).rev() {
            for v in 0..vocab {
                marginals[[i, v]] = (forward[[i, v]] + backward[v] - log_p).exp();
            }
            let ahead = &backward + &log_evidence.index_axis(Axis(0), i);
            for v in 0..vocab {
                for (u, term) in terms.iter_mut().enumerate() {
                    *term = self.log_transition[[v, u]] + ahead[u];
                }
                backward[v] = log_sum_exp(&terms);
            }
        }
        Ok(log_p)
    }

    /// H(x_1) + sum_i sum_v p(x_i = v) H(transition(v, .)), the chain rule.
    fn entropy(&self) -> f64 {
        let row_entropy = self.transition.map_axis(Axis(1), |row| entropy_of(row.iter().copied()));
        let mut marginal = self.initial.clone();
        let mut entropy = entropy_of(marginal.iter().copied());
        for _ in 1..self.len {
            entropy += marginal.dot(&row_entropy);
            marginal = marginal.dot(&self.transition);
        }
        entropy
    }

    fn sample(&self, rng: &mut Philox) -> Vec<u32> {
        let mut v = draw(self.initial.iter().copied(), rng);
        let mut x = vec![v as u32];
        for _ in 1..self.len {
            v = draw(self.transition.row(v).iter().copied(), rng);
            x.push(v as u32);
        }
        x
    }
}
