//! Gaussian diffusion on embeddings: DDPM and DDIM, clamping, rounding, infilling.

use crate::draws::{At, Draws, Keyed, stream};
use crate::error::parameter;
use crate::filter::check_forbidden;
use crate::levels::Level;
use crate::{Canvas, Error, Failure, Fixed, Levels, Rounding, Sampler};
use galatea_processes::{EmbeddingDenoiser, Gaussian, GaussianStep, Variance};
use ndarray::{Array2, Array3, ArrayRef2, ArrayRef3};

/// Which reverse step is taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// The posterior q(x_s | x_t, x_0_hat), with its own variance or the forward step's.
    Ddpm(Variance),
    /// The step of DDIM: `eta` = 0 is deterministic after the first draw, 1 is the posterior.
    Ddim {
        /// How much of the posterior's noise is added.
        eta: f64,
    },
}

/// Whether the prediction is moved to an embedding before it is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Clamp {
    /// The prediction is used as it is.
    #[default]
    Never,
    /// In every step the prediction becomes the nearest embedding.
    Nearest,
}

/// How fixed tokens are shown to the denoiser.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Known {
    /// With the noise of the level, drawn anew in every step (RePaint): what the denoiser was trained on.
    #[default]
    Noised,
    /// As clean embeddings after every step (Diffusion-LM); only the first canvas has them noised.
    Clean,
}

/// The options of [`Embedding`].
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddingOptions {
    /// The seed of every draw.
    pub seed: u64,
    /// The number of the batch's first sample under this seed.
    pub first_sample: u32,
    /// Which reverse step is taken.
    pub method: Method,
    /// Whether the prediction is moved to an embedding in every step.
    pub clamp: Clamp,
    /// How fixed tokens are shown to the denoiser.
    pub known: Known,
    /// Noise of a step beyond this is drawn again (truncated normals); at least 1e-2.
    pub noise_bound: Option<f64>,
    /// Ids that are never rounded or clamped to.
    pub forbidden: Vec<u32>,
    /// The bias of a tied output head that does the rounding; `None` rounds to the nearest embedding.
    pub head_bias: Option<Vec<f32>>,
}

impl Default for EmbeddingOptions {
    /// The posterior's own variance, no clamping, noised infilling, rounding to the nearest embedding.
    fn default() -> Self {
        Self {
            seed: 0,
            first_sample: 0,
            method: Method::Ddpm(Variance::Small),
            clamp: Clamp::Never,
            known: Known::Noised,
            noise_bound: None,
            forbidden: Vec::new(),
            head_bias: None,
        }
    }
}

/// The sampler of continuous diffusion: x_s = c_t x_t + c_0 x_0_hat + sigma noise along the levels.
///
/// The canvas shows the rounding of the present prediction, which is that of the embeddings themselves once the levels
/// end at alpha_bar = 1; the first one, before any prediction, that of the noise.
///
/// # Shapes
/// Canvases \[batch, len\]; embeddings \[batch, len, d\]; the table \[vocab, d\].
///
/// # Source
/// Li et al. (2022), Diffusion-LM, section 4; Song, Meng, Ermon (2021), DDIM; Lugmayr et al. (2022), RePaint.
pub struct Embedding<D> {
    denoiser: D,
    process: Gaussian,
    levels: Levels,
    fixed: Fixed,
    options: EmbeddingOptions,
    nearest: Rounding,
    rounding: Rounding,
    canvas: Canvas,
    z: Array3<f32>,
    x_0_hat: Array3<f32>,
    draws: Box<dyn Draws>,
    failed: bool,
}

impl<D: EmbeddingDenoiser> Embedding<D> {
    /// The sampler at the noisiest level, before its first step; `table` holds the embedding of every token.
    ///
    /// # Errors
    /// [`Error`] for an empty canvas or table, a fixed or forbidden token outside the table, or an option outside its
    /// range.
    pub fn new(
        denoiser: D,
        table: &ArrayRef2<f32>,
        levels: Levels,
        fixed: Fixed,
        options: EmbeddingOptions,
    ) -> Result<Self, Error> {
        let draws = Keyed::new(options.seed, options.first_sample, fixed.dim())?;
        Self::with_draws(denoiser, table, levels, fixed, options, Box::new(draws))
    }

    /// As [`new`](Self::new), with random numbers of the caller's instead of the seed's.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn with_draws(
        denoiser: D,
        table: &ArrayRef2<f32>,
        levels: Levels,
        fixed: Fixed,
        options: EmbeddingOptions,
        mut draws: Box<dyn Draws>,
    ) -> Result<Self, Error> {
        let nearest = Rounding::nearest(table)?.without_checked(&options.forbidden)?;
        let rounding = match &options.head_bias {
            Some(bias) => Rounding::head(table, bias)?.without_checked(&options.forbidden)?,
            None => nearest.clone(),
        };
        fixed.check(nearest.vocab(), None)?;
        match options.method {
            Method::Ddim { eta } => parameter("eta", "in [0, 1]", eta, (0.0..=1.0).contains(&eta))?,
            Method::Ddpm(Variance::Small | Variance::Large) => 0.0,
        };
        if let Some(bound) = options.noise_bound {
            parameter("noise_bound", "at least 0.01", bound, bound >= 0.01)?;
        }
        let (batch, len) = fixed.dim();
        let mut z = Array3::zeros((batch, len, nearest.d()));
        normals(&mut *draws, stream::START, 0, None, &mut z);
        let decided = Array2::from_shape_fn((batch, len), |(row, position)| fixed.get(row, position).is_some());
        let t = levels.first().t;
        let ids = Array2::zeros((batch, len));
        let canvas = Canvas { ids, decided, step: 0, t, calls: 0, changed: Vec::new(), confidence: None };
        let x_0_hat = Array3::zeros(z.raw_dim());
        let process = Gaussian;
        let mut sampler = Self {
            denoiser,
            process,
            levels,
            fixed,
            options,
            nearest,
            rounding,
            canvas,
            z,
            x_0_hat,
            draws,
            failed: false,
        };
        sampler.place_known(sampler.levels.first(), Known::Noised);
        // Normal draws are finite, so every row of the first canvas can be rounded.
        sampler.show(&sampler.rounded(&sampler.z).unwrap_or_default());
        sampler.canvas.changed.clear();
        Ok(sampler)
    }

    /// The noisy embeddings, \[batch, len, d\].
    pub fn z(&self) -> &ArrayRef3<f32> {
        &self.z
    }

    /// The noisy embeddings, to edit them between two steps; fixed positions are overwritten after the next one.
    pub fn z_mut(&mut self) -> &mut ArrayRef3<f32> {
        &mut self.z
    }

    /// The last prediction as the last step used it, \[batch, len, d\]; zeros before the first step.
    pub fn x_0_hat(&self) -> &ArrayRef3<f32> {
        &self.x_0_hat
    }

    fn step(&mut self, here: Level, there: Level) -> Result<(), Failure<D::Error>> {
        self.denoiser.denoise(&self.z, here.t, &mut self.x_0_hat).map_err(Failure::Denoiser)?;
        self.canvas.calls += 1;
        self.clamp()?;
        let ids = self.rounded(&self.x_0_hat).ok_or_else(|| unreadable(&self.x_0_hat))?;
        let step = self.reverse(here, there);
        let mut noise = Array3::zeros(self.z.raw_dim());
        if step.sigma > 0.0 {
            normals(&mut *self.draws, stream::NOISE, self.canvas.step as u32, self.options.noise_bound, &mut noise);
        }
        ndarray::Zip::from(&mut self.z).and(&self.x_0_hat).and(&noise).for_each(|z, &x_0_hat, &noise| {
            *z = step.apply(f64::from(*z), f64::from(x_0_hat), f64::from(noise)) as f32;
        });
        self.canvas.step += 1;
        self.canvas.t = there.t;
        self.place_known(there, self.options.known);
        self.show(&ids);
        if self.canvas.step == self.levels.steps() {
            self.canvas.decided.fill(true);
        }
        Ok(())
    }

    fn reverse(&self, here: Level, there: Level) -> GaussianStep {
        let (a_t, a_s, t, s) = (here.alpha_bar, there.alpha_bar, here.t, there.t);
        match self.options.method {
            Method::Ddpm(variance) => self.process.ddpm(a_t, a_s, t, s, variance),
            Method::Ddim { eta } => self.process.ddim(a_t, a_s, t, s, eta),
        }
    }

    fn clamp(&mut self) -> Result<(), Failure<D::Error>> {
        match self.options.clamp {
            Clamp::Never => return Ok(()),
            Clamp::Nearest => {}
        }
        let ids = self.nearest.round(&flat(&self.x_0_hat)).ok_or_else(|| unreadable(&self.x_0_hat))?;
        for (mut row, id) in self.x_0_hat.rows_mut().into_iter().zip(ids) {
            row.assign(&self.nearest.table().row(id as usize));
        }
        Ok(())
    }

    /// Overwrites the fixed positions with their embeddings at a level, noised or clean.
    fn place_known(&mut self, level: Level, known: Known) {
        let len = self.fixed.dim().1;
        let (signal, spread) = match known {
            Known::Noised => self.process.marginal(level.alpha_bar),
            Known::Clean => (1.0, 0.0),
        };
        let mut noise = vec![0.0; self.nearest.d()];
        for (index, mut z) in self.z.rows_mut().into_iter().enumerate() {
            let Some(token) = self.fixed.get(index / len, index % len) else { continue };
            if spread > 0.0 {
                let at = At { step: self.canvas.step as u32, row: index as u32 };
                self.draws.normals(stream::KNOWN, at, None, &mut noise);
            }
            let clean = self.nearest.table().row(token as usize);
            for ((z, &e), &noise) in z.iter_mut().zip(clean).zip(&noise) {
                *z = (signal * f64::from(e) + spread * noise) as f32;
            }
        }
    }

    fn rounded(&self, embeddings: &Array3<f32>) -> Option<Vec<u32>> {
        self.rounding.round(&flat(embeddings))
    }

    /// Puts tokens on the canvas, the fixed ones over what was rounded.
    fn show(&mut self, ids: &[u32]) {
        self.canvas.changed.clear();
        let len = self.fixed.dim().1;
        for (index, &id) in ids.iter().enumerate() {
            let (row, position) = (index / len, index % len);
            let id = self.fixed.get(row, position).unwrap_or(id);
            if std::mem::replace(&mut self.canvas.ids[[row, position]], id) != id {
                self.canvas.changed.push((row, position));
            }
        }
    }
}

/// Embeddings \[batch, len, d\] as \[batch · len, d\].
fn flat(embeddings: &Array3<f32>) -> ndarray::ArrayView2<'_, f32> {
    let (batch, len, d) = embeddings.dim();
    embeddings.view().into_shape_with_order((batch * len, d)).expect("embeddings are kept in row-major order")
}

/// Where the first embedding is that is not finite, or the largest of all where they overflowed in the product.
fn unreadable<E>(embeddings: &Array3<f32>) -> Failure<E> {
    let broken = embeddings.indexed_iter().find(|(_, x)| !x.is_finite());
    let ((row, position, _), _) = broken.unwrap_or(((0, 0, 0), &0.0));
    Failure::Output { row, position }
}

fn normals(draws: &mut dyn Draws, stream: u32, step: u32, bound: Option<f64>, out: &mut Array3<f32>) {
    let mut noise = vec![0.0; out.dim().2];
    for (row, mut z) in out.rows_mut().into_iter().enumerate() {
        draws.normals(stream, At { step, row: row as u32 }, bound, &mut noise);
        z.iter_mut().zip(&noise).for_each(|(z, &noise)| *z = noise as f32);
    }
}

impl Rounding {
    fn without_checked(self, forbidden: &[u32]) -> Result<Self, Error> {
        check_forbidden(forbidden, self.vocab())?;
        Ok(self.without(forbidden))
    }
}

impl<D: EmbeddingDenoiser> Iterator for Embedding<D> {
    type Item = Result<Canvas, Failure<D::Error>>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.advance()?;
        Some(step.map(|()| self.canvas.clone()))
    }
}

impl<D: EmbeddingDenoiser> Sampler for Embedding<D> {
    type DenoiserError = D::Error;

    fn canvas(&self) -> &Canvas {
        &self.canvas
    }

    fn advance(&mut self) -> Option<Result<(), Failure<D::Error>>> {
        let (levels, i) = (self.levels.as_slice(), self.canvas.step);
        if self.failed || i >= self.levels.steps() {
            return None;
        }
        let step = self.step(levels[i], levels[i + 1]);
        self.failed = step.is_err();
        Some(step)
    }
}
