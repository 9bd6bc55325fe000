//! Trained models behind the traits that samplers take.

use galatea_autograd::{Session, Var};
use galatea_kernels::Backend;
use galatea_processes::{Denoiser, EmbeddingDenoiser};
use ndarray::{ArrayRef2, ArrayRef3};

/// A network on tokens: a session whose program maps (x_t, time) to logits.
pub struct NetDenoiser<B: Backend> {
    session: Session<B>,
    x_t: Var,
    time: Var,
    logits: Var,
    time_value: Box<dyn Fn(f64) -> f32 + Send>,
}

impl<B: Backend> NetDenoiser<B> {
    /// Wraps a session; `time_value` maps t in [0, 1] to the number that the model was trained with.
    pub fn new(
        session: Session<B>,
        x_t: Var,
        time: Var,
        logits: Var,
        time_value: impl Fn(f64) -> f32 + Send + 'static,
    ) -> Self {
        Self { session, x_t, time, logits, time_value: Box::new(time_value) }
    }

    /// The session, to load parameters.
    pub fn session_mut(&mut self) -> &mut Session<B> {
        &mut self.session
    }
}

impl<B: Backend> Denoiser for NetDenoiser<B> {
    type Error = B::Error;

    /// # Panics
    /// If `x_t` or `logits` has another shape than the program, or is not in standard layout.
    fn denoise(&mut self, x_t: &ArrayRef2<u32>, t: f64, logits: &mut ArrayRef3<f32>) -> Result<(), B::Error> {
        self.session.set(self.x_t, x_t)?;
        self.session.write(self.time, &vec![(self.time_value)(t); x_t.nrows()])?;
        self.session.run()?;
        self.session.get(self.logits, logits)
    }
}

/// A network on embeddings: a session whose program maps (z_t, time) to x_0_hat.
pub struct NetEmbeddingDenoiser<B: Backend> {
    session: Session<B>,
    z_t: Var,
    time: Var,
    x_0_hat: Var,
    time_value: Box<dyn Fn(f64) -> f32 + Send>,
}

impl<B: Backend> NetEmbeddingDenoiser<B> {
    /// Wraps a session whose network is told t itself.
    pub fn new(session: Session<B>, z_t: Var, time: Var, x_0_hat: Var) -> Self {
        Self { session, z_t, time, x_0_hat, time_value: Box::new(|t| t as f32) }
    }

    /// The same network, told another number at t (the step of a chain, say).
    pub fn with_time(mut self, time_value: impl Fn(f64) -> f32 + Send + 'static) -> Self {
        self.time_value = Box::new(time_value);
        self
    }

    /// The session, to load parameters.
    pub fn session_mut(&mut self) -> &mut Session<B> {
        &mut self.session
    }
}

impl<B: Backend> EmbeddingDenoiser for NetEmbeddingDenoiser<B> {
    type Error = B::Error;

    /// # Panics
    /// If `z_t` or `x_0_hat` has another shape than the program, or is not in standard layout.
    fn denoise(&mut self, z_t: &ArrayRef3<f32>, t: f64, x_0_hat: &mut ArrayRef3<f32>) -> Result<(), B::Error> {
        self.session.set(self.z_t, z_t)?;
        self.session.write(self.time, &vec![(self.time_value)(t); z_t.dim().0])?;
        self.session.run()?;
        self.session.get(self.x_0_hat, x_0_hat)
    }
}
