//! The perfect networks: an exact source behind the traits of a diffusion's denoiser.

use galatea_processes::{Denoiser, EmbeddingDenoiser, Limit};
use galatea_schedules::{Linear, Schedule};
use ndarray::{Array2, ArrayRef2, ArrayRef3, ArrayView1, ArrayViewMut1, Axis};

use super::{Error, ExactModel};

/// Gaussian noise below this variance counts as this much, so that t = 0 has an answer.
const SMALLEST_VARIANCE: f64 = 1e-12;

/// What a denoiser says about a canvas that no sequence of the source explains.
///
/// Steps that fill several positions at once from their marginals run into such canvases, even with exact marginals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Contradiction {
    /// Return [`Error::Impossible`].
    #[default]
    Fail,
    /// Answer as if the canvas were all noise, observed tokens kept, and go on. The sequence stays wrong.
    Prior,
}

/// Which of two distributions over x_0^i a network's output stands for: they differ in whether x_t^i itself is used.
///
/// Every step and bound that puts a soft x_0 into q(x_s | x_t, x_0) multiplies by the likelihood of x_t^i on its own:
/// q(x_s^i | x_t) = Q_ts(x_s^i, x_t^i) sum_v p(x_0^i = v | x_t without i) Q_bar_s(v, x_s^i) / normaliser, by Bayes' rule
/// and the independence of the noise. There (D3PM, UDLM, Duo; `Categorical::posterior`) the best output is
/// *without* i, and the posterior would count x_t^i twice. A cross-entropy, or a mixture of q(x_s | x_t, x_0) over
/// p(x_0 | x_t) as in flow matching, asks for the posterior. At a masked position the two agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reading {
    /// p(x_0^i | x_t), the minimiser of the cross-entropy.
    Posterior,
    /// p(x_0^i | x_t without position i), the minimiser of the uniform bounds.
    LeaveOneOut,
}

/// The exact denoiser of a source under masked or uniform noise.
///
/// Writes log p(x_0^i = v | ..) for every position i, in the [`Reading`] of its constructor, -inf where p is exactly
/// zero. Under a mask a position that is known gets 0 at its token and -inf elsewhere.
///
/// | limit | q(x_t^i \| x_0^i = v) | reads t |
/// |---|---|---|
/// | [`Limit::Mask`] | 1 where x_t^i is the mask, else 1 if v = x_t^i and 0 if not | no |
/// | [`Limit::Uniform`] | alpha_bar(t) \[v = x_t^i\] + (1 - alpha_bar(t)) / vocab | yes |
///
/// ```
/// use galatea_processes::Denoiser;
/// use galatea_text::language::{ExactDenoiser, ExactModel, Sudoku4};
/// use ndarray::{Array2, Array3};
///
/// // Fifteen cells of a sudoku are known: the last one follows.
/// let sudoku = Sudoku4::new();
/// let mut x_t = Array2::from_shape_vec((1, 16), sudoku.grids()[7].to_vec())?;
/// let last = std::mem::replace(&mut x_t[[0, 15]], 4);
/// let mut logits = Array3::zeros((1, 16, 5));
/// ExactDenoiser::masked(sudoku).denoise(&x_t, 0.1, &mut logits)?;
/// assert!(logits[[0, 15, last as usize]].abs() < 1e-6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct ExactDenoiser<M, S> {
    model: M,
    limit: Limit,
    schedule: S,
    reading: Reading,
    contradiction: Contradiction,
    contradictions: usize,
    log_evidence: Array2<f64>,
    marginals: Array2<f64>,
}

impl<M: ExactModel> ExactDenoiser<M, Linear> {
    /// The denoiser of the mask that follows the words, `vocab() as u32`; it has no use for a schedule.
    pub fn masked(model: M) -> Self {
        let limit = Limit::Mask(model.vocab() as u32);
        Self::new(model, limit, Linear)
    }
}

impl<M: ExactModel, S: Schedule> ExactDenoiser<M, S> {
    /// The denoiser of `model` under the given noise.
    ///
    /// Under [`Limit::Uniform`] noise is uniform over the model's own `vocab()` ids, and the reading is
    /// [`Reading::LeaveOneOut`], so that the uniform bounds and posterior steps are exact.
    pub fn new(model: M, limit: Limit, schedule: S) -> Self {
        let (log_evidence, marginals) = buffers(&model);
        let (contradiction, contradictions) = (Contradiction::Fail, 0);
        let reading = match limit {
            Limit::Uniform => Reading::LeaveOneOut,
            Limit::Mask(_) => Reading::Posterior,
        };
        Self { model, limit, schedule, reading, contradiction, contradictions, log_evidence, marginals }
    }

    /// Chooses the meaning of the logits under uniform noise; a mask has one meaning only.
    #[must_use]
    pub fn reading(mut self, reading: Reading) -> Self {
        if self.limit == Limit::Uniform {
            self.reading = reading;
        }
        self
    }

    /// Chooses what happens on a canvas of probability zero.
    #[must_use]
    pub fn on_contradiction(mut self, contradiction: Contradiction) -> Self {
        self.contradiction = contradiction;
        self
    }

    /// How many canvases of probability zero were answered under [`Contradiction::Prior`].
    pub fn contradictions(&self) -> usize {
        self.contradictions
    }

    /// The source.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// The ids with a meaning: the words, and the mask if there is one.
    fn width(&self) -> usize {
        match self.limit {
            Limit::Uniform => self.model.vocab(),
            Limit::Mask(mask) => self.model.vocab().max(mask as usize + 1),
        }
    }

    /// Writes log q(x_t | x_0 = v) of one row.
    fn observe(&mut self, x_t: ArrayView1<'_, u32>, alpha_bar: f64) -> Result<(), Error> {
        let vocab = self.model.vocab();
        let (here, away) = match self.limit {
            Limit::Mask(_) => (0.0, f64::NEG_INFINITY),
            Limit::Uniform => {
                let replaced = (1.0 - alpha_bar) / vocab as f64;
                ((alpha_bar + replaced).ln(), replaced.ln())
            }
        };
        for (i, (&token, mut row)) in x_t.iter().zip(self.log_evidence.outer_iter_mut()).enumerate() {
            if self.limit == Limit::Mask(token) {
                row.fill(0.0);
            } else if (token as usize) < vocab {
                row.fill(away);
                row[token as usize] = here;
            } else {
                return Err(Error::Token { position: i, token, vocab });
            }
        }
        Ok(())
    }

    /// Marginals given `log_evidence`, or those of the prior if it is impossible and that is allowed.
    fn infer(&mut self) -> Result<(), Error> {
        match self.model.posterior_log(&self.log_evidence, &mut self.marginals) {
            Err(Error::Impossible) if self.contradiction == Contradiction::Prior => {
                self.contradictions += 1;
                self.log_evidence.fill(0.0);
                self.model.posterior_log(&self.log_evidence, &mut self.marginals).map(drop)
            }
            answer => answer.map(drop),
        }
    }

    /// Writes the logits of one position.
    fn write(&self, i: usize, x_t: u32, mut logits: ArrayViewMut1<'_, f32>) {
        logits.fill(f32::NEG_INFINITY);
        if matches!(self.limit, Limit::Mask(mask) if mask != x_t) {
            logits[x_t as usize] = 0.0;
            return;
        }
        let (p, log_q) = (self.marginals.row(i), self.log_evidence.row(i));
        for ((logit, &p), &log_q) in logits.iter_mut().zip(&p).zip(&log_q) {
            // The likelihood of x_t^i is divided out again; where it is zero (no noise at all) so is p, and -inf stays.
            let own = if self.reading == Reading::LeaveOneOut { log_q } else { 0.0 };
            if p > 0.0 {
                *logit = (p.ln() - own) as f32;
            }
        }
    }
}

impl<M: ExactModel, S: Schedule> Denoiser for ExactDenoiser<M, S> {
    type Error = Error;

    /// # Shapes
    /// `x_t`: `[batch, len]`; `logits`: `[batch, len, width]`, with the model's `vocab()` for the width under uniform
    /// noise and one more under a mask that follows the words; the mask's column is -inf.
    ///
    /// # Errors
    /// [`Error::Shape`], [`Error::Token`], and [`Error::Impossible`] under [`Contradiction::Fail`].
    fn denoise(&mut self, x_t: &ArrayRef2<u32>, t: f64, logits: &mut ArrayRef3<f32>) -> Result<(), Error> {
        let (len, width) = (self.model.len(), self.width());
        check_shape("x_t", vec![x_t.nrows(), len], x_t.shape())?;
        check_shape("logits", vec![x_t.nrows(), len, width], logits.shape())?;
        let alpha_bar = self.schedule.alpha_bar(t);
        for (x_t, mut logits) in x_t.outer_iter().zip(logits.outer_iter_mut()) {
            self.observe(x_t, alpha_bar)?;
            self.infer()?;
            for (i, (&x_t, logits)) in x_t.iter().zip(logits.outer_iter_mut()).enumerate() {
                self.write(i, x_t, logits);
            }
        }
        Ok(())
    }
}

/// The exact mean E\[x_0 | z_t\] of a source under Gaussian noise on the embeddings of its tokens.
///
/// The evidence is q(z_t^i | x_0^i = v) = N(z_t^i; sqrt(alpha_bar(t)) E_v, (1 - alpha_bar(t)) I), and the answer
/// x_0_hat^i = sum_v p(x_0^i = v | z_t) E_v.
#[derive(Debug, Clone)]
pub struct ExactEmbeddingDenoiser<M, S> {
    model: M,
    schedule: S,
    embeddings: Array2<f64>,
    /// |E_v|^2 / 2 for each token.
    half_norms: Vec<f64>,
    log_evidence: Array2<f64>,
    marginals: Array2<f64>,
}

impl<M: ExactModel, S: Schedule> ExactEmbeddingDenoiser<M, S> {
    /// The denoiser of `model` whose token v has the embedding `embeddings[v]`.
    ///
    /// # Shapes
    /// `embeddings`: `[vocab, d]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if there is not one row per token.
    pub fn new(model: M, schedule: S, embeddings: Array2<f64>) -> Result<Self, Error> {
        check_shape("embeddings", vec![model.vocab(), embeddings.ncols()], embeddings.shape())?;
        let half_norms = embeddings.outer_iter().map(|e| 0.5 * e.dot(&e)).collect();
        let (log_evidence, marginals) = buffers(&model);
        Ok(Self { model, schedule, embeddings, half_norms, log_evidence, marginals })
    }

    /// The source.
    pub fn model(&self) -> &M {
        &self.model
    }

    /// The marginals p(x_0^i = v | z_t) of the last row denoised, `[len, vocab]`: what a rounding step draws from.
    pub fn marginals(&self) -> &Array2<f64> {
        &self.marginals
    }
}

impl<M: ExactModel, S: Schedule> EmbeddingDenoiser for ExactEmbeddingDenoiser<M, S> {
    type Error = Error;

    /// # Shapes
    /// `z_t` and `x_0_hat`: `[batch, len, d]`.
    ///
    /// # Errors
    /// [`Error::Shape`]; [`Error::Likelihood`] if `z_t` holds a number that is not finite.
    fn denoise(&mut self, z_t: &ArrayRef3<f32>, t: f64, x_0_hat: &mut ArrayRef3<f32>) -> Result<(), Error> {
        let shape = vec![z_t.len_of(Axis(0)), self.model.len(), self.embeddings.ncols()];
        check_shape("z_t", shape.clone(), z_t.shape())?;
        check_shape("x_0_hat", shape, x_0_hat.shape())?;
        let alpha_bar = self.schedule.alpha_bar(t);
        let variance = (1.0 - alpha_bar).max(SMALLEST_VARIANCE);
        for (z_t, mut x_0_hat) in z_t.outer_iter().zip(x_0_hat.outer_iter_mut()) {
            // log N up to a constant per row: (sqrt(alpha_bar) z E_v - alpha_bar |E_v|^2 / 2) / variance.
            self.log_evidence.assign(&z_t.mapv(f64::from).dot(&self.embeddings.t()));
            for mut row in self.log_evidence.outer_iter_mut() {
                for (log_q, half_norm) in row.iter_mut().zip(&self.half_norms) {
                    *log_q = (alpha_bar.sqrt() * *log_q - alpha_bar * half_norm) / variance;
                }
            }
            self.model.posterior_log(&self.log_evidence, &mut self.marginals)?;
            x_0_hat.assign(&self.marginals.dot(&self.embeddings).mapv(|x| x as f32));
        }
        Ok(())
    }
}

fn buffers(model: &impl ExactModel) -> (Array2<f64>, Array2<f64>) {
    let shape = (model.len(), model.vocab());
    (Array2::zeros(shape), Array2::zeros(shape))
}

fn check_shape(what: &'static str, expected: Vec<usize>, found: &[usize]) -> Result<(), Error> {
    if expected == found { Ok(()) } else { Err(Error::Shape { what, expected, found: found.to_vec() }) }
}
