//! Perfect denoisers of what `ExactDenoiser` has no limit for.

use galatea_processes::{Denoiser, TokenProcess};
use galatea_text::language::{Error, ExactModel};
use ndarray::{Array2, ArrayRef2, ArrayRef3, Axis};

/// log p(x_0^i | the noisy tokens at the other positions) under the noise of any process whose last id is no word: the
/// denoiser of GIDD's hybrid noise.
pub(crate) struct Noisy<M, P> {
    pub(crate) model: M,
    pub(crate) process: P,
}

impl<M: ExactModel, P: TokenProcess> Denoiser for Noisy<M, P> {
    type Error = Error;

    fn denoise(&mut self, x_t: &ArrayRef2<u32>, t: f64, logits: &mut ArrayRef3<f32>) -> Result<(), Error> {
        let shape = (self.model.len(), self.model.vocab());
        let (mut log_q, mut marginals) = (Array2::zeros(shape), Array2::zeros(shape));
        let mut likelihood = vec![1.0; self.process.vocab()];
        logits.fill(f32::NEG_INFINITY);
        for (row, text) in x_t.outer_iter().enumerate() {
            for (&token, mut log_q) in text.iter().zip(log_q.outer_iter_mut()) {
                likelihood.fill(1.0);
                self.process.weigh(t, 0.0, token, &mut likelihood);
                log_q.iter_mut().zip(&likelihood).for_each(|(log_q, q): (&mut f64, &f64)| *log_q = q.ln());
            }
            self.model.posterior_log(&log_q, &mut marginals)?;
            for ((i, v), &p) in marginals.indexed_iter() {
                if p > 0.0 {
                    logits.index_axis_mut(Axis(0), row)[[i, v]] = (p.ln() - log_q[[i, v]]) as f32;
                }
            }
        }
        Ok(())
    }
}

/// A denoiser of whole texts that is shown their beginnings: what it is not shown it takes for masks.
pub(crate) struct Growing<D> {
    pub(crate) denoiser: D,
    pub(crate) len: usize,
    pub(crate) mask: u32,
}

impl<D: Denoiser> Denoiser for Growing<D> {
    type Error = D::Error;

    fn denoise(&mut self, x_t: &ArrayRef2<u32>, t: f64, logits: &mut ArrayRef3<f32>) -> Result<(), D::Error> {
        let (batch, shown, vocab) = logits.dim();
        let mut whole = Array2::from_elem((batch, self.len), self.mask);
        x_t.indexed_iter().for_each(|(at, &id)| whole[at] = id);
        let mut answer = ndarray::Array3::zeros((batch, self.len, vocab));
        self.denoiser.denoise(&whole, t, &mut answer)?;
        logits.assign(&answer.slice(ndarray::s![.., ..shown, ..]));
        Ok(())
    }
}
