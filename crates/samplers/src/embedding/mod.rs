//! Gaussian diffusion on embeddings: DDPM, DDIM and DPM-Solver++, clamping, rounding, infilling, gradients.

mod guide;
mod options;

pub use guide::{Guidance, Guide, Unguided};
pub use options::{Clamp, EmbeddingOptions, Known, Method};

use crate::canvas::canvases;
use crate::draws::{At, Draws, Keyed, stream};
use crate::error::parameter;
use crate::filter::check_forbidden;
use crate::levels::Level;
use crate::rounding::Scores;
use crate::steps::Steps;
use crate::{Canvas, Error, Failure, Fixed, Rounding, Sampler};
use galatea_processes::{EmbeddingDenoiser, Gaussian, GaussianStep, Prediction};
use ndarray::{Array2, Array3, ArrayRef2, ArrayRef3, Zip};

/// The sampler of continuous diffusion: x_s = c_t x_t + c_0 x_0_hat + sigma noise along the levels.
///
/// The canvas shows the tokens of the present prediction: those that the model reads itself, or its rounding, which is
/// that of the embeddings themselves once the levels end at alpha_bar = 1; the first one, before any prediction, shows
/// the noise. When the denoiser is asked, its output array holds its own last answer, zeros at first: what a
/// self-conditioned model needs.
///
/// # Shapes
/// Canvases \[batch, len\]; embeddings \[batch, len, d\]; the table \[vocab, d\].
///
/// # Source
/// Li et al. (2022), Diffusion-LM, section 4; Song, Meng, Ermon (2021), DDIM; Lu et al. (2022), DPM-Solver++; Lugmayr et
/// al. (2022), RePaint; Gulrajani, Hashimoto (2023), Plaid.
pub struct Embedding<D, G = Unguided> {
    chain: Chain<D>,
    guide: G,
    guidance: Option<Guidance>,
    /// The gradient, the mean of the step and Adagrad's squares; without positions where nothing guides.
    slopes: [Array3<f32>; 3],
}

/// All of the sampler that no guide has a part in.
struct Chain<D> {
    denoiser: D,
    process: Gaussian,
    steps: Steps,
    fixed: Fixed,
    options: EmbeddingOptions,
    nearest: Rounding,
    rounding: Rounding,
    canvas: Canvas,
    z: Array3<f32>,
    /// The denoiser's last answer, and what was made of it.
    answer: Array3<f32>,
    x_0_hat: Array3<f32>,
    /// The x_0_hat of the step before and its log(signal / spread), for the multistep method.
    before: Option<(Array3<f32>, f64)>,
    noise: Array3<f32>,
    ids: Array2<u32>,
    scores: Scores,
    row: Vec<f64>,
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
        steps: impl Into<Steps>,
        fixed: Fixed,
        options: EmbeddingOptions,
    ) -> Result<Self, Error> {
        let draws = Keyed::new(options.seed, options.first_sample, fixed.dim())?;
        Self::with_draws(denoiser, table, steps, fixed, options, Box::new(draws))
    }

    /// As [`new`](Self::new), with random numbers of the caller's instead of the seed's.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn with_draws(
        denoiser: D,
        table: &ArrayRef2<f32>,
        steps: impl Into<Steps>,
        fixed: Fixed,
        options: EmbeddingOptions,
        mut draws: Box<dyn Draws>,
    ) -> Result<Self, Error> {
        let steps = steps.into();
        let nearest = Rounding::nearest(table)?.without_checked(&options.forbidden)?;
        let rounding = match &options.head_bias {
            Some(bias) => Rounding::head(table, bias)?.without_checked(&options.forbidden)?,
            None => nearest.clone(),
        };
        fixed.check(nearest.vocab(), None)?;
        options.check(&steps)?;
        let (batch, len) = fixed.dim();
        let mut z = Array3::zeros((batch, len, nearest.d()));
        let mut row = vec![0.0; nearest.d()];
        normals(&mut *draws, stream::START, 0, None, &mut row, &mut z);
        let decided = Array2::from_shape_fn((batch, len), |(row, position)| fixed.get(row, position).is_some());
        let (t, ids, changed) = (steps.first().t, Array2::zeros((batch, len)), Vec::with_capacity(batch * len));
        let canvas = Canvas { ids: ids.clone(), decided, step: 0, t, calls: 0, changed, confidence: None };
        let scores = Scores::new(batch * len, nearest.vocab());
        let like = |z: &Array3<f32>| Array3::zeros(z.raw_dim());
        let (answer, x_0_hat, noise) = (like(&z), like(&z), like(&z));
        let mut chain = Chain {
            denoiser,
            process: Gaussian,
            steps,
            fixed,
            options,
            nearest,
            rounding,
            canvas,
            z,
            answer,
            x_0_hat,
            before: None,
            noise,
            ids,
            scores,
            row,
            draws,
            failed: false,
        };
        chain.place_known(chain.steps.first(), Known::Noised, 0);
        // Normal draws are finite, so every row of the first canvas can be rounded.
        chain.rounding.round_into(&flat(&chain.z), &mut chain.scores, &mut chain.ids);
        chain.show();
        chain.canvas.changed.clear();
        let slopes = std::array::from_fn(|_| Array3::zeros((0, 0, 0)));
        Ok(Self { chain, guide: Unguided, guidance: None, slopes })
    }

    /// The same sampler, pulled by the gradient of `guide`.
    ///
    /// # Errors
    /// [`Error::Level`] for [`Guidance::Prediction`] and a step that begins without signal, [`Error::Parameter`] for a
    /// number of [`Guidance::Latents`] that is negative or not finite.
    pub fn guided<G: Guide<D::Error>>(self, guide: G, guidance: Guidance) -> Result<Embedding<D, G>, Error> {
        match guidance {
            Guidance::Prediction => self.chain.steps.check_signal()?,
            Guidance::Latents { rate, fluency, .. } => {
                let sound = |x: f64| x.is_finite() && x >= 0.0;
                parameter("the guide's rate", "finite and at least 0", rate, sound(rate))?;
                parameter("the guide's fluency", "finite and at least 0", fluency, sound(fluency))?;
            }
        }
        let slopes = std::array::from_fn(|_| Array3::zeros(self.chain.z.raw_dim()));
        Ok(Embedding { chain: self.chain, guide, guidance: Some(guidance), slopes })
    }
}

impl<D: EmbeddingDenoiser, G: Guide<D::Error>> Embedding<D, G> {
    /// The noisy embeddings, \[batch, len, d\].
    pub fn z(&self) -> &ArrayRef3<f32> {
        &self.chain.z
    }

    /// The noisy embeddings, to edit them between two steps; fixed positions are overwritten after the next one.
    pub fn z_mut(&mut self) -> &mut ArrayRef3<f32> {
        &mut self.chain.z
    }

    /// The last prediction as the last step used it, \[batch, len, d\]; zeros before the first step.
    pub fn x_0_hat(&self) -> &ArrayRef3<f32> {
        &self.chain.x_0_hat
    }

    /// The denoiser itself.
    pub fn denoiser(&self) -> &D {
        &self.chain.denoiser
    }

    fn step(&mut self, here: Level, there: Level) -> Result<(), Failure<D::Error>> {
        for turn in 0..self.chain.options.resampling {
            let draw = (self.chain.canvas.step * self.chain.options.resampling + turn) as u32;
            self.predict(here)?;
            let step = self.chain.reverse(here, there);
            if step.sigma > 0.0 {
                let bound = self.chain.options.noise_bound;
                normals(&mut *self.chain.draws, stream::NOISE, draw, bound, &mut self.chain.row, &mut self.chain.noise);
            } else {
                self.chain.noise.fill(0.0);
            }
            let target = &self.chain.x_0_hat;
            if let Some(Guidance::Latents { .. }) = self.guidance {
                let mean = |z: f32, x_0_hat: f32| step.apply(f64::from(z), f64::from(x_0_hat), 0.0) as f32;
                Zip::from(&mut self.slopes[1]).and(&self.chain.z).and(target).for_each(|m, &z, &x| *m = mean(z, x));
            }
            Zip::from(&mut self.chain.z).and(target).and(&self.chain.noise).for_each(|z, &x_0_hat, &noise| {
                *z = step.apply(f64::from(*z), f64::from(x_0_hat), f64::from(noise)) as f32;
            });
            self.pull_latents(step, there)?;
            self.chain.place_known(there, self.chain.options.known, draw + 1);
            if turn + 1 < self.chain.options.resampling {
                self.chain.diffuse(here, there, draw);
            }
        }
        self.chain.canvas.step += 1;
        self.chain.canvas.t = there.t;
        self.chain.show();
        if self.chain.canvas.step == self.chain.steps.as_slice().len() {
            self.chain.canvas.decided.fill(true);
        }
        Ok(())
    }

    /// Asks the denoiser, and makes of its answer the x_0_hat that the step goes towards.
    fn predict(&mut self, here: Level) -> Result<(), Failure<D::Error>> {
        let pulled = self.guidance == Some(Guidance::Prediction);
        if pulled {
            self.guide
                .gradient(&self.chain.z, here.t, &self.chain.answer, &mut self.slopes[0])
                .map_err(Failure::Denoiser)?;
        }
        self.chain.denoiser.denoise(&self.chain.z, here.t, &mut self.chain.answer).map_err(Failure::Denoiser)?;
        self.chain.canvas.calls += 1;
        let conversion = self.chain.options.prediction.to(Prediction::X0, here.alpha_bar);
        let convert = |z: f32, answer: f32| conversion.apply(f64::from(z), f64::from(answer)) as f32;
        Zip::from(&mut self.chain.x_0_hat)
            .and(&self.chain.z)
            .and(&self.chain.answer)
            .for_each(|x, &z, &a| *x = convert(z, a));
        self.chain.clamp()?;
        if !self.chain.denoiser.read(&self.chain.options.forbidden, &mut self.chain.ids) {
            let read =
                self.chain.rounding.round_into(&flat(&self.chain.x_0_hat), &mut self.chain.scores, &mut self.chain.ids);
            read.then_some(()).ok_or_else(|| unreadable(&self.chain.x_0_hat))?;
        }
        if self.chain.options.score_temperature != 1.0 {
            // noise_hat / temperature, as a prediction: x_0_hat / temperature + (1 - 1 / temperature) x_t / signal.
            let (inverse, signal) = (1.0 / self.chain.options.score_temperature, here.alpha_bar.sqrt());
            let colder = |x: f32, z: f32| (inverse * f64::from(x) + (1.0 - inverse) / signal * f64::from(z)) as f32;
            Zip::from(&mut self.chain.x_0_hat).and(&self.chain.z).for_each(|x, &z| *x = colder(*x, z));
        }
        if pulled {
            let scale = (1.0 - here.alpha_bar) / here.alpha_bar.sqrt();
            Zip::from(&mut self.chain.x_0_hat)
                .and(&self.slopes[0])
                .for_each(|x, &g| *x += (scale * f64::from(g)) as f32);
        }
        Ok(())
    }

    /// Moves the new embeddings up the guide's slope.
    fn pull_latents(&mut self, step: GaussianStep, there: Level) -> Result<(), Failure<D::Error>> {
        let Some(Guidance::Latents { steps, rate, fluency, t_min }) = self.guidance else { return Ok(()) };
        if there.t < t_min {
            return Ok(());
        }
        let [gradient, mean, squares] = &mut self.slopes;
        squares.fill(0.0);
        for _ in 0..steps {
            self.guide.gradient(&self.chain.z, there.t, &self.chain.answer, gradient).map_err(Failure::Denoiser)?;
            guide::ascend((rate, fluency, step.sigma), &mut self.chain.z, mean, gradient, squares);
        }
        Ok(())
    }
}

impl<D: EmbeddingDenoiser> Chain<D> {
    /// The step as numbers. The multistep method replaces x_0_hat by its extrapolation and keeps what the next one needs.
    fn reverse(&mut self, here: Level, there: Level) -> GaussianStep {
        let (a_t, a_s, t, s) = (here.alpha_bar, there.alpha_bar, here.t, there.t);
        match self.options.method {
            Method::Ddpm(variance) => self.process.ddpm(a_t, a_s, t, s, variance),
            Method::Ddim { eta } => self.process.ddim(a_t, a_s, t, s, eta),
            Method::Multistep { lower_order_final } => {
                let last = self.canvas.step + 1 == self.steps.as_slice().len();
                let half_log_snr = |alpha_bar: f64| 0.5 * (alpha_bar.ln() - (-alpha_bar).ln_1p());
                let (lambda_t, lambda_s) = (half_log_snr(a_t), half_log_snr(a_s));
                let weight = match &self.before {
                    // h / (2 h_before), which is no number or infinite where an end has no noise or no signal.
                    Some((_, lambda)) if !(last && lower_order_final) => {
                        0.5 * (lambda_s - lambda_t) / (lambda_t - lambda)
                    }
                    Some(_) | None => 0.0,
                };
                let weight = if weight.is_finite() { weight } else { 0.0 };
                match &mut self.before {
                    Some((before, lambda)) => {
                        *lambda = lambda_t;
                        Zip::from(before).and(&mut self.x_0_hat).for_each(|before, x| {
                            let now = *x;
                            *x = (f64::from(now) + weight * (f64::from(now) - f64::from(*before))) as f32;
                            *before = now;
                        });
                    }
                    None => self.before = Some((self.x_0_hat.clone(), lambda_t)),
                }
                self.process.ddim(a_t, a_s, t, s, 0.0)
            }
        }
    }

    fn clamp(&mut self) -> Result<(), Failure<D::Error>> {
        match self.options.clamp {
            Clamp::Never => return Ok(()),
            Clamp::Nearest => {}
        }
        if !self.nearest.round_into(&flat(&self.x_0_hat), &mut self.scores, &mut self.ids) {
            return Err(unreadable(&self.x_0_hat));
        }
        for (mut row, &id) in self.x_0_hat.rows_mut().into_iter().zip(&self.ids) {
            row.assign(&self.nearest.table().row(id as usize));
        }
        Ok(())
    }

    /// Back from `there` to `here`, as the forward process goes: sqrt(r) z + sqrt(1 - r) noise.
    fn diffuse(&mut self, here: Level, there: Level, draw: u32) {
        let r = if there.alpha_bar > 0.0 { here.alpha_bar / there.alpha_bar } else { 1.0 };
        let (signal, spread) = self.process.marginal(r.min(1.0));
        normals(&mut *self.draws, stream::RESAMPLING, draw, None, &mut self.row, &mut self.noise);
        Zip::from(&mut self.z).and(&self.noise).for_each(|z, &noise| {
            *z = (signal * f64::from(*z) + spread * f64::from(noise)) as f32;
        });
    }

    /// Overwrites the fixed positions with their embeddings at a level, noised or clean.
    fn place_known(&mut self, level: Level, known: Known, draw: u32) {
        let len = self.fixed.dim().1;
        let (signal, spread) = match known {
            Known::Noised => self.process.marginal(level.alpha_bar),
            Known::Clean => (1.0, 0.0),
        };
        for (index, mut z) in self.z.rows_mut().into_iter().enumerate() {
            let Some(token) = self.fixed.get(index / len, index % len) else { continue };
            if spread > 0.0 {
                self.draws.normals(stream::KNOWN, At { step: draw, row: index as u32 }, None, &mut self.row);
            }
            let clean = self.nearest.table().row(token as usize);
            for ((z, &e), &noise) in z.iter_mut().zip(clean).zip(&self.row) {
                *z = (signal * f64::from(e) + spread * noise) as f32;
            }
        }
    }

    /// Puts the tokens that were read on the canvas, the fixed ones over them.
    fn show(&mut self) {
        self.canvas.changed.clear();
        for ((at, id), &read) in self.canvas.ids.indexed_iter_mut().zip(&self.ids) {
            let token = self.fixed.get(at.0, at.1).unwrap_or(read);
            if std::mem::replace(id, token) != token {
                self.canvas.changed.push(at);
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

fn normals(
    draws: &mut dyn Draws,
    stream: u32,
    step: u32,
    bound: Option<f64>,
    noise: &mut [f64],
    out: &mut Array3<f32>,
) {
    for (row, mut z) in out.rows_mut().into_iter().enumerate() {
        draws.normals(stream, At { step, row: row as u32 }, bound, noise);
        z.iter_mut().zip(&*noise).for_each(|(z, &noise)| *z = noise as f32);
    }
}

impl Rounding {
    fn without_checked(self, forbidden: &[u32]) -> Result<Self, Error> {
        check_forbidden(forbidden, self.vocab())?;
        Ok(self.without(forbidden))
    }
}

canvases!([D: EmbeddingDenoiser, G: Guide<D::Error>] Embedding<D, G>, D::Error);

impl<D: EmbeddingDenoiser, G: Guide<D::Error>> Sampler for Embedding<D, G> {
    type DenoiserError = D::Error;

    fn canvas(&self) -> &Canvas {
        &self.chain.canvas
    }

    fn advance(&mut self) -> Option<Result<(), Failure<D::Error>>> {
        let &(here, there) = self.chain.steps.as_slice().get(self.chain.canvas.step)?;
        if self.chain.failed {
            return None;
        }
        let step = self.step(here, there);
        self.chain.failed = step.is_err();
        Some(step)
    }
}
