//! Guidance by a classifier: the texts that it says yes to.

use galatea_processes::{Categorical, Denoiser, Limit};
use ndarray::{Array1, Array2, Array3, ArrayRef1, ArrayRef2, ArrayRef3};

/// A model of whether a noisy text has a wanted property y.
pub trait Classifier {
    /// What can go wrong in the model.
    type Error;

    /// Writes log p(y | x_t) of every row.
    ///
    /// # Shapes
    /// `x_t` \[batch, len\], `log_p` \[batch\].
    ///
    /// # Errors
    /// Whatever the model reports.
    fn classify(&mut self, x_t: &ArrayRef2<u32>, t: f64, log_p: &mut ArrayRef1<f64>) -> Result<(), Self::Error>;
}

/// A classifier that can be differentiated.
pub trait Gradient {
    /// What can go wrong in the model.
    type Error;

    /// Writes the gradient of log p(y | x_t) with respect to the one-hot rows of x_t.
    ///
    /// # Shapes
    /// `x_t` \[batch, len\], `gradient` \[batch, len, vocab\], every entry of which is overwritten.
    ///
    /// # Errors
    /// Whatever the model reports.
    fn gradient(&mut self, x_t: &ArrayRef2<u32>, t: f64, gradient: &mut ArrayRef3<f32>) -> Result<(), Self::Error>;
}

/// What went wrong in a guided model.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Guided<D, C> {
    /// The denoiser reported an error.
    #[error("the denoiser failed: {0}")]
    Denoiser(#[source] D),
    /// The classifier reported an error.
    #[error("the classifier failed: {0}")]
    Classifier(#[source] C),
}

/// Guidance by the classifier's answer to every change of a single token: logit_v + gamma log p(y | x_t, x_l := v).
///
/// With an exact denoiser, the exact classifier and gamma = 1 that is Bayes' rule, so that sampling one position at a
/// time draws from the law given y. It costs len · vocab calls of the classifier; only masked positions are asked about
/// where noise is a mask.
///
/// # Shapes
/// As the denoiser's.
///
/// # Source
/// Schiff et al. (2024), "Simple guidance mechanisms for discrete diffusion models", section 3.2 (D-CBG); Nisonoff et
/// al. (2024), "Unlocking guidance for discrete state-space diffusion and flow models".
#[derive(Clone, Debug)]
pub struct ClassifierGuided<D, C> {
    denoiser: D,
    classifier: C,
    process: Categorical,
    gamma: f64,
    changed: Array2<u32>,
    log_p: Array1<f64>,
}

impl<D: Denoiser, C: Classifier> ClassifierGuided<D, C> {
    /// `denoiser` guided by `classifier`.
    ///
    /// # Errors
    /// [`Error::Parameter`](crate::Error::Parameter) for a `gamma` that is not finite.
    pub fn new(denoiser: D, classifier: C, process: Categorical, gamma: f64) -> Result<Self, crate::Error> {
        crate::error::parameter("gamma", "finite", gamma, gamma.is_finite())?;
        let (changed, log_p) = (Array2::zeros((0, 0)), Array1::zeros(0));
        Ok(Self { denoiser, classifier, process, gamma, changed, log_p })
    }
}

impl<D: Denoiser, C: Classifier> Denoiser for ClassifierGuided<D, C> {
    type Error = Guided<D::Error, C::Error>;

    fn denoise(&mut self, x_t: &ArrayRef2<u32>, t: f64, logits: &mut ArrayRef3<f32>) -> Result<(), Self::Error> {
        self.denoiser.denoise(x_t, t, logits).map_err(Guided::Denoiser)?;
        if self.gamma == 0.0 {
            return Ok(());
        }
        let (batch, len, vocab) = logits.dim();
        if self.changed.dim() != x_t.dim() {
            (self.changed, self.log_p) = (Array2::zeros(x_t.dim()), Array1::zeros(batch));
        }
        self.changed.assign(x_t);
        for position in 0..len {
            if (0..batch).all(|row| settled(&self.process, x_t[[row, position]])) {
                continue;
            }
            for token in 0..vocab as u32 {
                if self.process.limit() == Limit::Mask(token) {
                    continue;
                }
                self.changed.column_mut(position).fill(token);
                self.classifier.classify(&self.changed, t, &mut self.log_p).map_err(Guided::Classifier)?;
                for (row, &log_p) in self.log_p.iter().enumerate() {
                    let logit = &mut logits[[row, position, token as usize]];
                    *logit = (f64::from(*logit) + self.gamma * log_p) as f32;
                }
            }
            self.changed.column_mut(position).assign(&x_t.column(position));
        }
        Ok(())
    }
}

/// Guidance by a classifier's first-order change: logit_v + gamma (g_l\[v\] - g_l\[x_l\]) with g the gradient of
/// log p(y | x_t) with respect to the one-hot rows: one call instead of len · vocab, and exact for a log p that is linear.
///
/// # Source
/// Schiff et al. (2024), section 3.2 (the approximation); Grathwohl et al. (2021), "Oops I took a gradient".
#[derive(Clone, Debug)]
pub struct GradientGuided<D, C> {
    denoiser: D,
    classifier: C,
    gamma: f64,
    gradient: Array3<f32>,
}

impl<D: Denoiser, C: Gradient> GradientGuided<D, C> {
    /// `denoiser` guided by the gradient of `classifier`.
    ///
    /// # Errors
    /// [`Error::Parameter`](crate::Error::Parameter) for a `gamma` that is not finite.
    pub fn new(denoiser: D, classifier: C, gamma: f64) -> Result<Self, crate::Error> {
        crate::error::parameter("gamma", "finite", gamma, gamma.is_finite())?;
        Ok(Self { denoiser, classifier, gamma, gradient: Array3::zeros((0, 0, 0)) })
    }
}

impl<D: Denoiser, C: Gradient> Denoiser for GradientGuided<D, C> {
    type Error = Guided<D::Error, C::Error>;

    fn denoise(&mut self, x_t: &ArrayRef2<u32>, t: f64, logits: &mut ArrayRef3<f32>) -> Result<(), Self::Error> {
        self.denoiser.denoise(x_t, t, logits).map_err(Guided::Denoiser)?;
        if self.gradient.dim() != logits.dim() {
            self.gradient = Array3::zeros(logits.dim());
        }
        self.classifier.gradient(x_t, t, &mut self.gradient).map_err(Guided::Classifier)?;
        for ((row, position, token), logit) in logits.indexed_iter_mut() {
            let g = |v: usize| f64::from(self.gradient[[row, position, v]]);
            let own = x_t[[row, position]] as usize;
            *logit = (f64::from(*logit) + self.gamma * (g(token) - g(own))) as f32;
        }
        Ok(())
    }
}

/// Whether a token can no longer change.
fn settled(process: &Categorical, token: u32) -> bool {
    match process.limit() {
        Limit::Mask(mask) => token != mask,
        Limit::Uniform => false,
    }
}
