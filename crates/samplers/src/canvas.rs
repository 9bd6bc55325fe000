//! What a sampler shows after each step.

use crate::Failure;
use ndarray::Array2;

/// The text between two steps of a sampler.
#[derive(Clone, Debug, PartialEq)]
pub struct Canvas {
    /// The tokens, \[batch, len\]; a masked position holds the mask id, a Gaussian sampler shows what it would round to.
    pub ids: Array2<u32>,
    /// Which positions will not change any more, \[batch, len\].
    pub decided: Array2<bool>,
    /// How many steps have been taken.
    pub step: usize,
    /// The time that the canvas is at: 1 is noise, 0 is data.
    pub t: f64,
    /// How many times the denoiser has been called.
    pub calls: usize,
    /// The (row, position) pairs whose token the last step changed, in order.
    pub changed: Vec<(usize, usize)>,
    /// What the model gave each token when it was written, \[batch, len\]: 1 where fixed, 0 where undecided. Only
    /// samplers that rank positions have it.
    pub confidence: Option<Array2<f32>>,
}

/// A sampler is an iterator over canvases: each `next` takes one step, so a caller can watch, stop or edit in between.
///
/// The iterator ends when the text is done, or after the first failure. `next` hands out a copy of the canvas;
/// [`advance`](Self::advance) takes the same step without one, and after the first step without any allocation.
pub trait Sampler: Iterator<Item = Result<Canvas, Failure<Self::DenoiserError>>> {
    /// The error of the denoiser inside.
    type DenoiserError;

    /// The present canvas; before the first step, the noise (or the masks) and the fixed tokens.
    fn canvas(&self) -> &Canvas;

    /// Takes one step; `None` when the text is done, or after a failure.
    fn advance(&mut self) -> Option<Result<(), Failure<Self::DenoiserError>>>;

    /// Takes every step that is left and returns the last canvas.
    ///
    /// # Errors
    /// The first [`Failure`].
    fn finish(mut self) -> Result<Canvas, Failure<Self::DenoiserError>>
    where
        Self: Sized,
    {
        while let Some(step) = self.advance() {
            step?;
        }
        Ok(self.canvas().clone())
    }
}

/// Makes a [`Sampler`] the iterator that it promises to be: a step, and a copy of the canvas.
macro_rules! canvases {
    ([$($generics:tt)*] $sampler:ty, $error:ty) => {
        impl<$($generics)*> Iterator for $sampler {
            type Item = Result<$crate::Canvas, $crate::Failure<$error>>;

            fn next(&mut self) -> Option<Self::Item> {
                let step = $crate::Sampler::advance(self)?;
                Some(step.map(|()| $crate::Sampler::canvas(self).clone()))
            }
        }
    };
}
pub(crate) use canvases;
