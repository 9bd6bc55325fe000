//! Ancestral sampling: step by step from the posterior q(x_s | x_t, p(x_0)), for masks and for uniform noise.

use crate::draws::{Draws, Keyed, stream};
use crate::levels::Level;
use crate::tokens::Tokens;
use crate::{Canvas, Error, Failure, Filter, Fixed, Idiom, Levels, Sampler, filter};
use galatea_processes::{Categorical, Denoiser, Limit};

/// Whether the denoiser's answer depends on t.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TimeDependence {
    /// It does, or nobody knows: the denoiser is asked in every step.
    #[default]
    Conditioned,
    /// It does not: its last answer is used again while the canvas stays as it is, which gives the same text.
    Free,
}

/// What the denoiser's distribution at a position is conditioned on. It matters under uniform noise only: a mask says
/// nothing about the token behind it.
///
/// The posterior multiplies p by the likelihood of the position's own x_t. A p that has seen x_t already is therefore
/// divided by that likelihood first, or x_t would count twice: p(x_t) is multiplied by
/// (1 - alpha_bar) / (1 - alpha_bar + V alpha_bar).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Conditioning {
    /// On the noisy tokens of the other positions: what minimises the bounds of D3PM, UDLM and Duo, and what their
    /// samplers assume.
    #[default]
    Others,
    /// On all noisy tokens, its own included: what minimises the cross-entropy of x_0.
    All,
}

/// What happens to the noise that is left at the last level, where alpha_bar may still be below 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum NoiseRemoval {
    /// One more step, to alpha_bar = 1, drawn like the others.
    #[default]
    Sample,
    /// One more step to the likeliest token of its posterior.
    Argmax,
    /// Nothing: the last canvas is a draw of the last level, noise included.
    Off,
}

/// The options of [`Ancestral`].
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AncestralOptions {
    /// The seed of every draw.
    pub seed: u64,
    /// The number of the batch's first sample under this seed: samples 4..8 may be made alone, with the same result.
    pub first_sample: u32,
    /// How logits become p(x_0).
    pub filter: Filter,
    /// What the denoiser's distribution at a position is conditioned on.
    pub conditioning: Conditioning,
    /// Whether the denoiser depends on t.
    pub time: TimeDependence,
    /// What happens to the noise that is left.
    pub noise_removal: NoiseRemoval,
    /// How uniforms become a token.
    pub idiom: Idiom,
}

/// The ancestral sampler: x_s ~ q(x_s | x_t, p(x_0 | x_t)) along the levels, every position for itself.
///
/// Positions are drawn independently given x_t, so the law of the text is exact only as the steps become small. Fixed
/// tokens hold from the first canvas to the last. Under the mask limit a token once written stays.
///
/// # Shapes
/// Canvases \[batch, len\]; the denoiser's logits \[batch, len, vocab\] with the process's vocabulary.
///
/// # Source
/// Austin et al. (2021), D3PM, section 3; Sahoo et al. (2024), MDLM, algorithm of section 4 (with the cached p(x_0));
/// Schiff et al. (2024), UDLM, equation 10; Sahoo et al. (2025), Duo.
pub struct Ancestral<D> {
    tokens: Tokens<D>,
    process: Categorical,
    levels: Levels,
    options: AncestralOptions,
    p: Vec<f64>,
    failed: bool,
}

impl<D: Denoiser> Ancestral<D> {
    /// The sampler at the noisiest level, before its first step.
    ///
    /// # Errors
    /// [`Error`] for an empty canvas, a fixed or forbidden token outside the vocabulary, a fixed mask, or an option
    /// outside its range.
    pub fn new(
        denoiser: D,
        process: Categorical,
        levels: Levels,
        fixed: Fixed,
        options: AncestralOptions,
    ) -> Result<Self, Error> {
        let draws = Keyed::new(options.seed, options.first_sample, fixed.dim())?;
        Self::with_draws(denoiser, process, levels, fixed, options, Box::new(draws))
    }

    /// As [`new`](Self::new), with random numbers of the caller's instead of the seed's.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn with_draws(
        denoiser: D,
        process: Categorical,
        levels: Levels,
        fixed: Fixed,
        options: AncestralOptions,
        draws: Box<dyn Draws>,
    ) -> Result<Self, Error> {
        let (vocab, limit) = (process.vocab(), process.limit());
        let mut forbidden = options.filter.forbidden.clone();
        let mask = match limit {
            Limit::Mask(mask) => Some(mask),
            Limit::Uniform => None,
        };
        fixed.check(vocab, mask)?;
        forbidden.extend(mask);
        Filter { forbidden: forbidden.clone(), ..options.filter }.check(vocab)?;
        let tokens = Tokens::new(denoiser, (vocab, limit), fixed, forbidden, levels.first().t, draws);
        Ok(Self { tokens, process, levels, options, p: vec![0.0; vocab], failed: false })
    }

    /// Overwrites a position that is not fixed, as an edit between two steps; the mask id opens it again.
    ///
    /// # Errors
    /// [`Error::Position`], [`Error::Token`] or [`Error::WriteFixed`].
    pub fn write(&mut self, row: usize, position: usize, token: u32) -> Result<(), Error> {
        self.tokens.write(row, position, token)
    }

    /// The levels of the next step and whether it removes the noise that is left; `None` at the end.
    fn next_step(&self) -> Option<(Level, Level, bool)> {
        let (levels, i) = (self.levels.as_slice(), self.tokens.canvas.step);
        if i < self.levels.steps() {
            return Some((levels[i], levels[i + 1], false));
        }
        let noise_left = match self.process.limit() {
            Limit::Mask(_) => self.tokens.canvas.decided.iter().any(|decided| !decided),
            Limit::Uniform => self.levels.last().alpha_bar < 1.0 && self.tokens.fixed.free() > 0,
        };
        let wanted = match self.options.noise_removal {
            NoiseRemoval::Sample | NoiseRemoval::Argmax => true,
            NoiseRemoval::Off => false,
        };
        let clean = Level { t: 0.0, alpha_bar: 1.0 };
        (i == self.levels.steps() && noise_left && wanted).then_some((self.levels.last(), clean, true))
    }

    fn step(&mut self, here: Level, there: Level, removal: bool) -> Result<(), Failure<D::Error>> {
        let reused = match self.options.time {
            TimeDependence::Free => true,
            TimeDependence::Conditioned => false,
        };
        self.tokens.predict(here.t, reused)?;
        let (batch, len) = self.tokens.canvas.ids.dim();
        let rule = if removal { self.options.noise_removal } else { NoiseRemoval::Sample };
        let mut written = Vec::new();
        for row in 0..batch {
            for position in 0..len {
                if !self.tokens.open(row, position) {
                    continue;
                }
                let (at, x_t) =
                    (self.tokens.at(self.tokens.canvas.step, row, position), self.tokens.canvas.ids[[row, position]]);
                let (logits, draws) = self.tokens.row(row, position);
                let (process, options, p) = (&self.process, &self.options, &mut self.p[..]);
                let mut reverse = Reverse { process, options, here, there, x_t, logits, p };
                let token = match rule {
                    NoiseRemoval::Argmax => reverse.argmax(),
                    NoiseRemoval::Sample | NoiseRemoval::Off if options.idiom == Idiom::Exact => {
                        let mut pair = [0.0; 2];
                        draws.uniforms(stream::TOKENS, at, &mut pair);
                        reverse.draw(pair)
                    }
                    NoiseRemoval::Sample | NoiseRemoval::Off => reverse
                        .posterior()
                        .map(|q| options.idiom.draw(draws, stream::TOKENS, at, &q, &mut vec![0.0; q.len()]) as u32),
                };
                written.push((row, position, token.ok_or(Failure::Output { row, position })?));
            }
        }
        self.tokens.apply(&written, there.t);
        if self.next_step().is_none() {
            self.tokens.close();
        }
        Ok(())
    }
}

impl<D: Denoiser> Iterator for Ancestral<D> {
    type Item = Result<Canvas, Failure<D::Error>>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.advance()?;
        Some(step.map(|()| self.tokens.canvas.clone()))
    }
}

impl<D: Denoiser> Sampler for Ancestral<D> {
    type DenoiserError = D::Error;

    fn canvas(&self) -> &Canvas {
        &self.tokens.canvas
    }

    fn advance(&mut self) -> Option<Result<(), Failure<D::Error>>> {
        if self.failed {
            return None;
        }
        let (here, there, removal) = self.next_step()?;
        let step = self.step(here, there, removal);
        self.failed = step.is_err();
        Some(step)
    }
}

/// The reverse step of one position, whose p(x_0) is worked out only where the draw asks for it.
pub(crate) struct Reverse<'a> {
    pub(crate) process: &'a Categorical,
    pub(crate) options: &'a AncestralOptions,
    pub(crate) here: Level,
    pub(crate) there: Level,
    pub(crate) x_t: u32,
    pub(crate) logits: &'a [f32],
    pub(crate) p: &'a mut [f64],
}

impl Reverse<'_> {
    /// The token for two uniforms: the first chooses among keep, jump and draw, the second the token.
    ///
    /// A masked position that is kept needs no softmax, and most are kept in most steps.
    pub(crate) fn draw(&mut self, [route, token]: [f64; 2]) -> Option<u32> {
        let (a_t, a_s, t, s) = (self.here.alpha_bar, self.there.alpha_bar, self.here.t, self.there.t);
        match self.process.limit() {
            Limit::Mask(_) => {
                if route >= self.process.step(a_t, a_s, t, s).jump {
                    return Some(self.x_t);
                }
                self.predict().then(|| filter::draw(self.p, token) as u32)
            }
            Limit::Uniform => {
                if !self.predict() {
                    return None;
                }
                let step = self.process.soft_step(a_t, a_s, t, s, self.p[self.x_t as usize]);
                let drawn = if route < step.keep {
                    self.x_t
                } else if route < step.keep + step.jump {
                    filter::draw(self.p, token) as u32
                } else {
                    (token * self.process.vocab() as f64) as u32
                };
                Some(drawn)
            }
        }
    }

    /// The posterior itself, \[vocab\].
    pub(crate) fn posterior(&mut self) -> Option<Vec<f64>> {
        let mut q = vec![0.0; self.p.len()];
        self.predict().then(|| {
            self.process.posterior(self.here.alpha_bar, self.there.alpha_bar, self.x_t, self.p, &mut q);
            q
        })
    }

    /// The likeliest token of the posterior, the first of equals.
    fn argmax(&mut self) -> Option<u32> {
        let q = self.posterior()?;
        let best = (1..q.len()).fold(0, |best, k| if q[k] > q[best] { k } else { best });
        Some(best as u32)
    }

    /// Writes p(x_0), conditioned on the other positions only, and returns whether the logits could be read.
    fn predict(&mut self) -> bool {
        if !self.options.filter.apply(self.logits, self.p) {
            return false;
        }
        match (self.options.conditioning, self.process.limit()) {
            (Conditioning::Others, Limit::Uniform | Limit::Mask(_)) | (Conditioning::All, Limit::Mask(_)) => {}
            (Conditioning::All, Limit::Uniform) => self.forget_own(),
        }
        true
    }

    /// Divides p by the likelihood of the position's own token. Where p leaves no doubt there is nothing to divide.
    fn forget_own(&mut self) {
        let (noise, hit) = (1.0 - self.here.alpha_bar, self.process.vocab() as f64 * self.here.alpha_bar);
        let own = self.p[self.x_t as usize];
        let kept = own * noise / (noise + hit);
        let total = 1.0 - own + kept;
        if own < 1.0 && total > 0.0 {
            self.p[self.x_t as usize] = kept;
            self.p.iter_mut().for_each(|p| *p /= total);
        }
    }
}
