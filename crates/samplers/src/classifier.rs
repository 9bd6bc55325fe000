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

/// What every change of a single token does to log p(y | x_t).
pub trait Changes {
    /// What can go wrong in the model.
    type Error;

    /// Writes log p(y | x_t with x_l := v) for every position l and token v, up to a constant for each position.
    ///
    /// # Shapes
    /// `x_t` \[batch, len\], `log_p` \[batch, len, vocab\], every entry of which is overwritten.
    ///
    /// # Errors
    /// Whatever the model reports.
    fn changes(&mut self, x_t: &ArrayRef2<u32>, t: f64, log_p: &mut ArrayRef3<f32>) -> Result<(), Self::Error>;
}

/// All changes, one by one: len · vocab calls of the classifier, at masked positions only where noise is a mask.
///
/// # Source
/// Schiff et al. (2024), "Simple guidance mechanisms for discrete diffusion models", section 3.2 (D-CBG); Nisonoff et
/// al. (2024), "Unlocking guidance for discrete state-space diffusion and flow models".
#[derive(Clone, Debug)]
pub struct Every<C> {
    classifier: C,
    process: Categorical,
    changed: Array2<u32>,
    log_p: Array1<f64>,
}

impl<C> Every<C> {
    /// The changes of `classifier` under `process`.
    pub fn new(classifier: C, process: Categorical) -> Self {
        Self { classifier, process, changed: Array2::zeros((0, 0)), log_p: Array1::zeros(0) }
    }
}

impl<C: Classifier> Changes for Every<C> {
    type Error = C::Error;

    fn changes(&mut self, x_t: &ArrayRef2<u32>, t: f64, log_p: &mut ArrayRef3<f32>) -> Result<(), C::Error> {
        let (batch, len, vocab) = log_p.dim();
        if self.changed.dim() != x_t.dim() {
            (self.changed, self.log_p) = (Array2::zeros(x_t.dim()), Array1::zeros(batch));
        }
        self.changed.assign(x_t);
        for position in 0..len {
            let column = x_t.column(position);
            if column.iter().all(|&token| settled(&self.process, token)) {
                log_p.index_axis_mut(ndarray::Axis(1), position).fill(0.0);
                continue;
            }
            for token in 0..vocab as u32 {
                self.changed.column_mut(position).fill(token);
                self.classifier.classify(&self.changed, t, &mut self.log_p)?;
                for (row, &changed) in self.log_p.iter().enumerate() {
                    let counts = !settled(&self.process, column[row]);
                    log_p[[row, position, token as usize]] = if counts { changed as f32 } else { 0.0 };
                }
            }
            self.changed.column_mut(position).assign(&column);
        }
        Ok(())
    }
}

/// The first order of every change, g_l\[v\] - g_l\[x_l\] with g the gradient with respect to the one-hot rows: one call
/// instead of len · vocab, and exact for a log p that is linear.
///
/// # Source
/// Schiff et al. (2024), section 3.2 (the approximation); Grathwohl et al. (2021), "Oops I took a gradient".
#[derive(Clone, Debug)]
pub struct FirstOrder<C>(pub C);

impl<C: Gradient> Changes for FirstOrder<C> {
    type Error = C::Error;

    fn changes(&mut self, x_t: &ArrayRef2<u32>, t: f64, log_p: &mut ArrayRef3<f32>) -> Result<(), C::Error> {
        self.0.gradient(x_t, t, log_p)?;
        for (mut slopes, &own) in log_p.rows_mut().into_iter().zip(x_t) {
            let own = slopes[own as usize];
            slopes -= own;
        }
        Ok(())
    }
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

/// Guidance by a classifier as a denoiser, for every sampler: logit_v + gamma log p(y | x_t with x_l := v).
///
/// With an exact denoiser, [`Every`] change of the exact classifier and gamma = 1 that is Bayes' rule, so that unmasking one
/// position at a time draws from the law given y. For uniform noise, where a change of x_t is not a choice of x_0, an
/// ancestral sampler weighs its *posterior* instead: see [`Ancestral::classified`](crate::Ancestral::classified).
///
/// # Shapes
/// As the denoiser's.
///
/// # Source
/// Schiff et al. (2024), "Simple guidance mechanisms for discrete diffusion models", section 3.2.
#[derive(Clone, Debug)]
pub struct ClassifierGuided<D, C> {
    denoiser: D,
    changes: C,
    gamma: f64,
    log_p: Array3<f32>,
}

impl<D: Denoiser, C: Changes> ClassifierGuided<D, C> {
    /// `denoiser` guided by the changes that it makes to a classifier's answer.
    ///
    /// # Errors
    /// [`Error::Parameter`](crate::Error::Parameter) for a `gamma` that is not finite.
    pub fn new(denoiser: D, changes: C, gamma: f64) -> Result<Self, crate::Error> {
        crate::error::parameter("gamma", "finite", gamma, gamma.is_finite())?;
        Ok(Self { denoiser, changes, gamma, log_p: Array3::zeros((0, 0, 0)) })
    }
}

impl<D: Denoiser, C: Changes> Denoiser for ClassifierGuided<D, C> {
    type Error = Guided<D::Error, C::Error>;

    fn denoise(&mut self, x_t: &ArrayRef2<u32>, t: f64, logits: &mut ArrayRef3<f32>) -> Result<(), Self::Error> {
        self.denoiser.denoise(x_t, t, logits).map_err(Guided::Denoiser)?;
        if self.gamma == 0.0 {
            return Ok(());
        }
        if self.log_p.dim() != logits.dim() {
            self.log_p = Array3::zeros(logits.dim());
        }
        self.changes.changes(x_t, t, &mut self.log_p).map_err(Guided::Classifier)?;
        let gamma = self.gamma;
        logits
            .zip_mut_with(&self.log_p, |logit, &log_p| *logit = (f64::from(*logit) + gamma * f64::from(log_p)) as f32);
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
