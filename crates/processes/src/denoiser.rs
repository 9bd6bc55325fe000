//! The model, as the rest of the stack sees it.

use ndarray::{ArrayRef2, ArrayRef3};

/// A model of clean tokens given noisy ones: the only thing a user brings for a token process.
pub trait Denoiser {
    /// What can go wrong in the model.
    type Error;

    /// Writes the unnormalised log-probabilities of every position's clean token.
    ///
    /// Under the mask limit that is log p(x_0 | x_t). Under the uniform limit it is the law of the position's x_0 given the
    /// *other* positions of x_t: the posterior and the bounds multiply in the likelihood of the position's own x_t themselves,
    /// and a model trained on the uniform NELBO learns just that. (A model trained with plain cross-entropy gives p(x_0 | x_t),
    /// own token included: samplers take it with their conditioning set to all.)
    ///
    /// # Shapes
    /// `x_t` \[batch, len\] ids; `t` in \[0, 1\] (0 = data, 1 = noise; a time-free model ignores it);
    /// `logits` \[batch, len, vocab\], every entry of which is overwritten.
    ///
    /// # Errors
    /// Whatever the model reports.
    fn denoise(&mut self, x_t: &ArrayRef2<u32>, t: f64, logits: &mut ArrayRef3<f32>) -> Result<(), Self::Error>;
}

/// A model of clean embeddings given noisy ones: the counterpart of [`Denoiser`] for Gaussian noise.
pub trait EmbeddingDenoiser {
    /// What can go wrong in the model.
    type Error;

    /// Writes the prediction of the clean embeddings (or of what else the sampler has been told to expect).
    ///
    /// On entry the array holds the model's own last answer, and zeros when a sample begins: a self-conditioned model
    /// reads it before it writes.
    ///
    /// # Shapes
    /// `z_t` \[batch, len, d\], x_0_hat \[batch, len, d\], every entry of which is overwritten.
    ///
    /// # Errors
    /// Whatever the model reports.
    fn denoise(&mut self, z_t: &ArrayRef3<f32>, t: f64, x_0_hat: &mut ArrayRef3<f32>) -> Result<(), Self::Error>;

    /// Writes the tokens that the model's own output head reads in its last answer, none of them `forbidden`, and returns
    /// true. A model without a head returns false, and tokens are found by rounding.
    ///
    /// # Shapes
    /// `ids` \[batch, len\].
    fn read(&mut self, forbidden: &[u32], ids: &mut ArrayRef2<u32>) -> bool {
        let _ = (forbidden, ids);
        false
    }
}

macro_rules! forward {
    ($($pointer:ty),*) => {$(
        impl<D: Denoiser + ?Sized> Denoiser for $pointer {
            type Error = D::Error;
            fn denoise(&mut self, x_t: &ArrayRef2<u32>, t: f64, logits: &mut ArrayRef3<f32>) -> Result<(), D::Error> {
                (**self).denoise(x_t, t, logits)
            }
        }
        impl<D: EmbeddingDenoiser + ?Sized> EmbeddingDenoiser for $pointer {
            type Error = D::Error;
            fn denoise(&mut self, z_t: &ArrayRef3<f32>, t: f64, x_0_hat: &mut ArrayRef3<f32>) -> Result<(), D::Error> {
                (**self).denoise(z_t, t, x_0_hat)
            }
            fn read(&mut self, forbidden: &[u32], ids: &mut ArrayRef2<u32>) -> bool {
                (**self).read(forbidden, ids)
            }
        }
    )*};
}
forward!(&mut D, Box<D>);
