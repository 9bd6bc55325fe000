//! Step by step along noise levels, every position for itself: ancestral sampling and its relatives.

use crate::canvas::canvases;
use crate::corrector::{self, Gibbs};
use crate::draws::{Draws, Keyed};
use crate::error::parameter;
use crate::levels::Level;
use crate::noise::Noise;
use crate::reverse::{Reverse, Scratch, Step};
use crate::revise::kappa_of;
use crate::tokens::Tokens;
use crate::{Canvas, Changes, Error, Failure, Filter, Fixed, Idiom, Levels, Output, Revise, Rule, Sampler, Steps};
use galatea_processes::{Categorical, Denoiser, TokenProcess};
use ndarray::{Array2, Array3};

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
    /// One more step to the likeliest token of p(x_0), whatever the present one is.
    Greedy,
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
    /// What the denoiser's numbers are.
    pub output: Output,
    /// What the denoiser's distribution at a position is conditioned on.
    pub conditioning: Conditioning,
    /// How a step is taken.
    pub rule: Rule,
    /// What a step may take back; with [`Rule::Posterior`] only.
    pub revise: Revise,
    /// What is drawn again between two steps.
    pub corrector: Option<Gibbs>,
    /// Whether the denoiser depends on t.
    pub time: TimeDependence,
    /// What happens to the noise that is left.
    pub noise_removal: NoiseRemoval,
    /// How uniforms become a token.
    pub idiom: Idiom,
}

/// The stepwise sampler: x_s ~ q(x_s | x_t, p(x_0 | x_t)) along the levels, every position for itself; or another
/// [`Rule`] in place of the posterior, with what [`Revise`] takes back, and a [`Gibbs`] corrector between steps.
///
/// Positions are drawn independently given x_t, so the law of the text is exact only as the steps become small (or with
/// correctors). Fixed tokens hold from the first canvas to the last. Under the mask limit a token once written stays,
/// unless a revision or a flow takes it back.
///
/// # Shapes
/// Canvases \[batch, len\]; the denoiser's logits \[batch, len, vocab\] with the process's vocabulary.
///
/// # Source
/// Austin et al. (2021), D3PM, section 3; Sahoo et al. (2024), MDLM, algorithm of section 4 (with the cached p(x_0));
/// Schiff et al. (2024), UDLM, equation 10; Sahoo et al. (2025), Duo; von Rütte et al. (2025), GIDD; and those of
/// [`Rule`] and [`Revise`].
pub struct Ancestral<D: Denoiser> {
    tokens: Tokens<D>,
    noise: Noise,
    steps: Steps,
    options: AncestralOptions,
    scratch: Scratch,
    /// The tokens of the present step.
    written: Vec<(usize, usize, u32)>,
    /// sigma of every position of a row, where it depends on confidence.
    shares: Vec<f64>,
    dropped: Option<Dropped<D::Error>>,
    /// The canvas before a step that a corrector follows, and what the corrector chooses.
    before: Array2<u32>,
    choice: corrector::Choice,
    classified: Option<Classified<D::Error>>,
    failed: bool,
}

/// A classifier's answers to every change of the present canvas.
struct Classified<E> {
    changes: Box<dyn Changes<Error = E>>,
    gamma: f64,
    log_p: Array3<f32>,
}

/// The model without the condition, and what it last said.
struct Dropped<E> {
    denoiser: Box<dyn Denoiser<Error = E>>,
    gamma: f64,
    logits: Array3<f32>,
}

impl<D: Denoiser> Ancestral<D> {
    /// The sampler at the noisiest level, before its first step.
    ///
    /// # Errors
    /// [`Error`] for an empty canvas, a fixed or forbidden token outside the vocabulary, a fixed mask, an option
    /// outside its range, or options that do not go together.
    pub fn new(
        denoiser: D,
        process: Categorical,
        steps: impl Into<Steps>,
        fixed: Fixed,
        options: AncestralOptions,
    ) -> Result<Self, Error> {
        let draws = Keyed::new(options.seed, options.first_sample, fixed.dim())?;
        Self::with_draws(denoiser, process, steps, fixed, options, Box::new(draws))
    }

    /// As [`new`](Self::new), with random numbers of the caller's instead of the seed's.
    ///
    /// # Errors
    /// As for [`new`](Self::new).
    pub fn with_draws(
        denoiser: D,
        process: Categorical,
        steps: impl Into<Steps>,
        fixed: Fixed,
        options: AncestralOptions,
        draws: Box<dyn Draws>,
    ) -> Result<Self, Error> {
        Self::build(denoiser, Noise::Levels(process), steps.into(), fixed, options, draws)
    }

    /// The sampler of any process, along the times of `grid` on the process's own clock: the hybrid noise of GIDD, the
    /// matrices of D3PM. An id that pure noise consists of is the mask and is never written.
    ///
    /// # Errors
    /// As for [`new`](Self::new), and for a grid that rises or leaves \[0, 1\].
    pub fn of(
        denoiser: D,
        process: impl TokenProcess + Send + 'static,
        grid: &[f64],
        fixed: Fixed,
        options: AncestralOptions,
    ) -> Result<Self, Error> {
        let draws = Keyed::new(options.seed, options.first_sample, fixed.dim())?;
        Self::of_with_draws(denoiser, process, grid, fixed, options, Box::new(draws))
    }

    /// As [`of`](Self::of), with random numbers of the caller's instead of the seed's.
    ///
    /// # Errors
    /// As for [`of`](Self::of).
    pub fn of_with_draws(
        denoiser: D,
        process: impl TokenProcess + Send + 'static,
        grid: &[f64],
        fixed: Fixed,
        options: AncestralOptions,
        draws: Box<dyn Draws>,
    ) -> Result<Self, Error> {
        // The process keeps its own count of what is left; the level's is that of a clock, which only has to be in range.
        let levels = Levels::from_pairs(grid.iter().map(|&t| (t, 1.0 - t)))?;
        Self::build(denoiser, Noise::Clock(Box::new(process)), levels.into(), fixed, options, draws)
    }

    fn build(
        denoiser: D,
        noise: Noise,
        steps: Steps,
        fixed: Fixed,
        options: AncestralOptions,
        draws: Box<dyn Draws>,
    ) -> Result<Self, Error> {
        let (vocab, blank) = (noise.vocab(), noise.blank());
        fixed.check(vocab, blank)?;
        let mut forbidden = options.filter.forbidden.clone();
        if options.output != Output::Verbatim {
            forbidden.extend(blank);
        }
        Filter { forbidden: forbidden.clone(), ..options.filter }.check(vocab)?;
        check(&noise, &steps, &options)?;
        let stays = match options.rule {
            Rule::Flow { divergence_free } => divergence_free <= 0.0,
            Rule::Posterior | Rule::Sampled | Rule::Tweedie | Rule::Euler => !options.revise.revises(),
        };
        let settled = noise.absorbing().is_some() && stays && options.output != Output::Verbatim;
        let start = |draws: &mut dyn Draws, at| noise.start(draws, at);
        let (len, t, free) = (fixed.dim().1, steps.first().t, fixed.free());
        let mut tokens = Tokens::starting((denoiser, vocab), (blank, settled), fixed, forbidden, t, draws, start);
        if matches!(options.revise, Revise::Confidence { .. }) {
            let decided = &tokens.canvas.decided;
            tokens.canvas.confidence = Some(decided.mapv(|decided| if decided { 1.0 } else { 0.0 }));
        }
        let (scratch, written, shares) = (Scratch::new(vocab), Vec::with_capacity(free), vec![0.0; len]);
        let corrector = options.corrector.filter(|gibbs| gibbs.sweeps > 0);
        let before = corrector.map_or(Array2::zeros((0, 0)), |_| tokens.canvas.ids.clone());
        let choice = corrector::Choice::new(corrector.map_or(0, |gibbs| gibbs.positions.min(len)));
        let options = AncestralOptions { corrector, ..options };
        Ok(Self {
            tokens,
            noise,
            steps,
            options,
            scratch,
            written,
            shares,
            dropped: None,
            before,
            choice,
            classified: None,
            failed: false,
        })
    }

    /// Mixes the posteriors of this sampler's denoiser, which has a condition, and of one that has not:
    /// log q = gamma log q_given + (1 - gamma) log q_dropped, up to the sum.
    ///
    /// With masks this is [`ClassifierFree`](crate::ClassifierFree) on p(x_0) while nothing is filtered; with uniform noise
    /// it is another thing, and what UDLM does.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a `gamma` that is not finite, [`Error::Together`] for another rule than the posterior.
    ///
    /// # Source
    /// Schiff et al. (2024), "Simple guidance mechanisms for discrete diffusion models", section 3.1.
    pub fn guided(mut self, dropped: impl Denoiser<Error = D::Error> + 'static, gamma: f64) -> Result<Self, Error> {
        parameter("gamma", "finite", gamma, gamma.is_finite())?;
        if self.options.rule != Rule::Posterior {
            return Err(Error::Together { option: "a mixture of posteriors", needs: "the posterior rule" });
        }
        let (batch, len) = self.tokens.canvas.ids.dim();
        let logits = Array3::zeros((batch, len, self.noise.vocab()));
        self.dropped = Some(Dropped { denoiser: Box::new(dropped), gamma, logits });
        Ok(self)
    }

    /// Weighs the posterior by a classifier: q(x_s) p(y | x_t with x_l := x_s)^gamma, up to the sum; the classifier is told s,
    /// the time of the text that it judges.
    ///
    /// For a text of one position and gamma = 1 that is the posterior given y itself, whatever the noise; with more
    /// positions it is so in the limit of small steps.
    ///
    /// # Errors
    /// [`Error::Parameter`] for a `gamma` that is not finite, [`Error::Together`] for another rule than the posterior.
    ///
    /// # Source
    /// Schiff et al. (2024), "Simple guidance mechanisms for discrete diffusion models", section 3.2 (D-CBG).
    pub fn classified(mut self, changes: impl Changes<Error = D::Error> + 'static, gamma: f64) -> Result<Self, Error> {
        parameter("gamma", "finite", gamma, gamma.is_finite())?;
        if self.options.rule != Rule::Posterior {
            return Err(Error::Together { option: "a weighed posterior", needs: "the posterior rule" });
        }
        let (batch, len) = self.tokens.canvas.ids.dim();
        let log_p = Array3::zeros((batch, len, self.noise.vocab()));
        self.classified = Some(Classified { changes: Box::new(changes), gamma, log_p });
        Ok(self)
    }

    /// Overwrites a position that is not fixed, as an edit between two steps; the mask id opens it again.
    ///
    /// # Errors
    /// [`Error::Position`], [`Error::Token`] or [`Error::WriteFixed`].
    pub fn write(&mut self, row: usize, position: usize, token: u32) -> Result<(), Error> {
        self.tokens.write(row, position, token)
    }

    /// The next step; `None` at the end.
    fn next_step(&self) -> Option<Step> {
        let i = self.tokens.canvas.step;
        if self.tokens.fixed.free() == 0 {
            return None;
        }
        let count = self.steps.as_slice().len();
        if let Some(&(here, there)) = self.steps.as_slice().get(i) {
            let sigma = self.options.revise.sigma(i, here, there);
            let kappa = kappa_of(sigma, there.alpha_bar);
            let (slope, last) = (self.steps.slope(i), i + 1 == count);
            return Some(Step { here, there, slope, sigma, kappa, clean: false, last });
        }
        let here = self.steps.last();
        let noise_left = match (self.tokens.blank, &self.noise) {
            (Some(blank), Noise::Levels(_)) => self.tokens.canvas.ids.iter().any(|&id| id == blank),
            (Some(_) | None, Noise::Clock(_)) => here.t > 0.0,
            (None, Noise::Levels(_)) => here.alpha_bar < 1.0,
        };
        let wanted = match self.options.noise_removal {
            NoiseRemoval::Sample | NoiseRemoval::Argmax | NoiseRemoval::Greedy => true,
            NoiseRemoval::Off => false,
        };
        let flows = matches!(self.options.rule, Rule::Flow { .. });
        let there = Level { t: 0.0, alpha_bar: 1.0 };
        let step = Step { here, there, slope: 0.0, sigma: 0.0, kappa: 1.0, clean: true, last: true };
        (i == count && noise_left && wanted && !flows).then_some(step)
    }

    fn step(&mut self, step: Step) -> Result<(), Failure<D::Error>> {
        let reused = match self.options.time {
            TimeDependence::Free => true,
            TimeDependence::Conditioned => false,
        };
        let asked = self.tokens.predict(step.here.t, reused)?;
        if let (true, Some(Dropped { denoiser, logits, .. })) = (asked, &mut self.dropped) {
            denoiser.denoise(&self.tokens.canvas.ids, step.here.t, logits).map_err(Failure::Denoiser)?;
            self.tokens.forbid(logits);
        }
        if let Some(Classified { changes, log_p, .. }) = &mut self.classified {
            changes.changes(&self.tokens.canvas.ids, step.there.t, log_p).map_err(Failure::Denoiser)?;
        }
        let (batch, len) = self.tokens.canvas.ids.dim();
        if self.options.corrector.is_some() {
            self.before.assign(&self.tokens.canvas.ids);
        }
        self.written.clear();
        for row in 0..batch {
            self.share(row, step.sigma);
            for position in 0..len {
                if self.takes_part(row, position, &step) {
                    let token = self.token(row, position, step)?;
                    self.written.push((row, position, token));
                }
            }
        }
        self.tokens.apply(&self.written, step.there.t);
        if let (Some(gibbs), false) = (self.options.corrector, step.clean) {
            self.correct(gibbs, step.there)?;
            let canvas = &mut self.tokens.canvas;
            canvas.changed.clear();
            let differ = self.before.indexed_iter().filter(|(at, id)| canvas.ids[*at] != **id);
            canvas.changed.extend(differ.map(|(at, _)| at));
        }
        if self.next_step().is_none() {
            self.tokens.close();
        }
        Ok(())
    }

    /// Whether a step can change a position.
    fn takes_part(&self, row: usize, position: usize, step: &Step) -> bool {
        let idle = self.noise.absorbing().is_some()
            && self.options.output != Output::Verbatim
            && match self.options.rule {
                Rule::Flow { divergence_free } => divergence_free <= 0.0,
                Rule::Posterior | Rule::Sampled | Rule::Tweedie | Rule::Euler => step.sigma <= 0.0,
            };
        self.tokens.free(row, position) && (!idle || self.tokens.blank(row, position))
    }

    fn token(&mut self, row: usize, position: usize, mut step: Step) -> Result<u32, Failure<D::Error>> {
        if matches!(self.options.revise, Revise::Confidence { .. }) {
            step.sigma = self.shares[position];
        }
        let x_t = self.tokens.canvas.ids[[row, position]];
        let at = self.tokens.at(self.tokens.canvas.step, row, position);
        let (logits, draws) = self.tokens.row(row, position);
        let (noise, options, scratch) = (&self.noise, &self.options, &mut self.scratch);
        let dropped = self.dropped.as_ref().map(|dropped| {
            let logits = dropped.logits.as_slice().expect("the logits were allocated in row-major order");
            (dropped.gamma, &logits[at.row as usize * self.noise.vocab()..][..self.noise.vocab()])
        });
        let classified = self.classified.as_ref().map(|classified| {
            let log_p = classified.log_p.as_slice().expect("the answers were allocated in row-major order");
            (classified.gamma, &log_p[at.row as usize * self.noise.vocab()..][..self.noise.vocab()])
        });
        let mut reverse = Reverse { noise, options, step, x_t, logits, dropped, classified, scratch };
        let token = match options.noise_removal {
            NoiseRemoval::Argmax if step.clean => reverse.argmax(),
            NoiseRemoval::Greedy if step.clean => reverse.greedy(),
            NoiseRemoval::Argmax | NoiseRemoval::Greedy | NoiseRemoval::Sample | NoiseRemoval::Off => {
                reverse.token(draws, at)
            }
        };
        let token = token.ok_or(Failure::Output { row, position })?;
        let written = (x_t != token).then(|| reverse.probability(token) as f32);
        if let (Some(confidence), Some(p)) = (&mut self.tokens.canvas.confidence, written) {
            confidence[[row, position]] = if self.tokens.blank == Some(token) { 0.0 } else { p };
        }
        Ok(token)
    }

    /// Divides sigma among the written positions of a row as softmax(-confidence).
    fn share(&mut self, row: usize, sigma: f64) {
        let Some(confidence) = &self.tokens.canvas.confidence else { return };
        let mut total = 0.0;
        for (position, share) in self.shares.iter_mut().enumerate() {
            let written = self.tokens.free(row, position) && !self.tokens.blank(row, position);
            *share = if written { (-f64::from(confidence[[row, position]])).exp() } else { 0.0 };
            total += *share;
        }
        let scale = if total > 0.0 { sigma / total } else { 0.0 };
        self.shares.iter_mut().for_each(|share| *share *= scale);
    }

    /// Draws positions again at the level that the step has reached.
    fn correct(&mut self, gibbs: Gibbs, level: Level) -> Result<(), Failure<D::Error>> {
        let (batch, len) = self.tokens.canvas.ids.dim();
        let still = Step { here: level, there: level, slope: 0.0, sigma: 0.0, kappa: 1.0, clean: false, last: false };
        for sweep in 0..gibbs.sweeps {
            self.tokens.predict(level.t, false)?;
            self.written.clear();
            // The step has been counted already.
            let number = (self.tokens.canvas.step - 1) * gibbs.sweeps + sweep;
            for row in 0..batch {
                self.choice.clear();
                for position in 0..len {
                    if !self.tokens.free(row, position) {
                        continue;
                    }
                    let x_t = self.tokens.canvas.ids[[row, position]];
                    let at = self.tokens.at(number, row, position);
                    let (logits, draws) = self.tokens.row(row, position);
                    let (noise, options, scratch) = (&self.noise, &self.options, &mut self.scratch);
                    let dropped = None;
                    let classified = None;
                    let mut reverse =
                        Reverse { noise, options, step: still, x_t, logits, dropped, classified, scratch };
                    if !reverse.weigh_conditional() {
                        return Err(Failure::Output { row, position });
                    }
                    let Scratch { q, race, .. } = &mut self.scratch;
                    let key = gibbs.pick.key(q, x_t, draws, at);
                    self.choice.offer(key, || {
                        let token = self.options.idiom.draw(draws, crate::stream::CORRECTION, at, q, race);
                        (row, position, token as u32)
                    });
                }
                self.written.extend(self.choice.chosen());
            }
            self.tokens.put(&self.written);
        }
        Ok(())
    }
}

/// An error for options that do not go together.
fn check(noise: &Noise, steps: &Steps, options: &AncestralOptions) -> Result<(), Error> {
    options.revise.check(steps.as_slice().len())?;
    let together = |option, needs, holds: bool| if holds { Ok(()) } else { Err(Error::Together { option, needs }) };
    let closed = matches!(noise, Noise::Levels(_));
    let masked = noise.absorbing().is_some();
    let posterior = options.rule == Rule::Posterior;
    together("a revision", "the posterior rule", posterior || !options.revise.revises())?;
    together("this revision", "a process of masks or uniform tokens", closed || !options.revise.needs_levels())?;
    let confidence = matches!(options.revise, Revise::Confidence { .. });
    together("a revision by confidence", "a process of masks", masked || !confidence)?;
    together("scores", "a process of masks or uniform tokens", closed || options.output != Output::Score)?;
    let verbatim = options.output == Output::Verbatim;
    together("an output taken verbatim", "the flow rule", matches!(options.rule, Rule::Flow { .. }) || !verbatim)?;
    if let Some(gibbs) = options.corrector {
        gibbs.check()?;
        together("a Gibbs corrector", "noise in which a token may change", !masked)?;
    }
    let first = steps.first().alpha_bar;
    match options.rule {
        Rule::Posterior | Rule::Sampled => {}
        Rule::Tweedie => together("Tweedie's rule", "a process of masks or uniform tokens", closed)?,
        Rule::Euler => {
            together("Euler's rule", "a process of masks or uniform tokens", closed)?;
            parameter("the first alpha_bar of Euler's rule", "above 0", first, first > 0.0)?;
        }
        Rule::Flow { divergence_free } => {
            together("the flow rule", "a process of masks or uniform tokens", closed)?;
            let sound = divergence_free >= 0.0 && divergence_free.is_finite();
            parameter("divergence_free", "finite and at least 0", divergence_free, sound)?;
            let starts = first > 0.0 || divergence_free <= 0.0;
            parameter("the first alpha_bar of a flow with a divergence-free part", "above 0", first, starts)?;
        }
    }
    Ok(())
}

canvases!([D: Denoiser] Ancestral<D>, D::Error);

impl<D: Denoiser> Sampler for Ancestral<D> {
    type DenoiserError = D::Error;

    fn canvas(&self) -> &Canvas {
        &self.tokens.canvas
    }

    fn advance(&mut self) -> Option<Result<(), Failure<D::Error>>> {
        if self.failed {
            return None;
        }
        let step = self.next_step()?;
        let step = self.step(step);
        self.failed = step.is_err();
        Some(step)
    }
}
