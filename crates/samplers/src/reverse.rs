//! The reverse step of one position.

use crate::ancestral::AncestralOptions;
use crate::draws::{At, Draws, stream};
use crate::levels::Level;
use crate::noise::Noise;
use crate::{Conditioning, Idiom, Output, Rule, filter};
use galatea_processes::FlowRates;

/// The numbers that all positions of a step share.
#[derive(Clone, Copy)]
pub(crate) struct Step {
    pub(crate) here: Level,
    pub(crate) there: Level,
    /// -d alpha_bar / dt here.
    pub(crate) slope: f64,
    /// The probability of being taken back, where tokens stay; and the posterior's share elsewhere.
    pub(crate) sigma: f64,
    pub(crate) kappa: f64,
    /// Whether the step ends at the clean text, so that no mask may be left.
    pub(crate) clean: bool,
    /// Whether it is the last of the levels.
    pub(crate) last: bool,
}

/// Rows of numbers, \[vocab\] each.
pub(crate) struct Scratch {
    pub(crate) p: Vec<f64>,
    pub(crate) q: Vec<f64>,
    pub(crate) race: Vec<f64>,
    /// The law without a condition, where there is one.
    pub(crate) dropped: Vec<f64>,
}

impl Scratch {
    pub(crate) fn new(vocab: usize) -> Self {
        let row = || vec![0.0; vocab];
        Self { p: row(), q: row(), race: row(), dropped: row() }
    }
}

/// The reverse step of one position, whose p(x_0) is worked out only where the draw asks for it.
pub(crate) struct Reverse<'a> {
    pub(crate) noise: &'a Noise,
    pub(crate) options: &'a AncestralOptions,
    pub(crate) step: Step,
    pub(crate) x_t: u32,
    pub(crate) logits: &'a [f32],
    /// How much a condition counts, and the logits without it.
    pub(crate) dropped: Option<(f64, &'a [f32])>,
    /// gamma and a classifier's log p of every change.
    pub(crate) classified: Option<(f64, &'a [f32])>,
    pub(crate) scratch: &'a mut Scratch,
}

impl Reverse<'_> {
    /// The next token; `None` if the logits cannot be read.
    pub(crate) fn token(&mut self, draws: &mut dyn Draws, at: At) -> Option<u32> {
        match self.options.rule {
            Rule::Posterior => {
                if self.options.idiom == Idiom::Exact && self.has_routes() {
                    let mut pair = [0.0; 2];
                    draws.uniforms(stream::TOKENS, at, &mut pair);
                    return self.route(pair);
                }
                self.weigh_posterior().then(|| self.draw(draws, stream::TOKENS, at))
            }
            Rule::Tweedie => self.weigh_tweedie().then(|| self.draw(draws, stream::TOKENS, at)),
            // The step that cleans up is the analytic one: a rate says nothing about where it ends.
            Rule::Euler if self.step.clean => self.weigh_tweedie().then(|| self.draw(draws, stream::TOKENS, at)),
            Rule::Euler => self.weigh_euler().then(|| self.draw(draws, stream::TOKENS, at)),
            Rule::Sampled => self.sampled(draws, at),
            Rule::Flow { divergence_free } => self.flow(divergence_free, draws, at),
        }
    }

    /// The likeliest token of the next ones, the first of equals.
    pub(crate) fn argmax(&mut self) -> Option<u32> {
        self.weigh_posterior().then(|| largest(&self.scratch.q))
    }

    /// The likeliest token of p(x_0), whatever x_t is.
    pub(crate) fn greedy(&mut self) -> Option<u32> {
        if self.written() {
            return Some(self.x_t);
        }
        self.predict().then(|| largest(&self.scratch.p))
    }

    /// What p(x_0) gives a token; after a draw that worked it out.
    pub(crate) fn probability(&self, token: u32) -> f64 {
        self.scratch.p[token as usize]
    }

    /// Whether the position holds a token of a process in which tokens stay, which the model is not asked about.
    fn written(&self) -> bool {
        self.options.output != Output::Verbatim && self.noise.absorbing().is_some_and(|mask| mask != self.x_t)
    }

    fn draw(&mut self, draws: &mut dyn Draws, stream: u32, at: At) -> u32 {
        let Scratch { q, race, .. } = &mut *self.scratch;
        self.options.idiom.draw(draws, stream, at, q, race) as u32
    }

    /// Whether the next token can be drawn without its whole law.
    fn has_routes(&self) -> bool {
        match self.noise {
            Noise::Levels(_) if self.classified.is_some() => false,
            Noise::Levels(_) => self.dropped.is_none() && (self.noise.absorbing().is_some() || self.step.kappa >= 1.0),
            Noise::Clock(_) => false,
        }
    }

    /// The token for two uniforms: the first chooses among keep, jump and draw, the second the token.
    ///
    /// A masked position that is kept needs no softmax, and most are kept in most steps.
    pub(crate) fn route(&mut self, [route, token]: [f64; 2]) -> Option<u32> {
        if let Some(mask) = self.noise.absorbing() {
            if self.x_t != mask {
                return Some(if route < self.step.sigma { mask } else { self.x_t });
            }
            if route >= self.unmasking()[0] {
                return Some(mask);
            }
            return self.predict().then(|| filter::draw(&self.scratch.p, token) as u32);
        }
        let Noise::Levels(process) = self.noise else { return None };
        if !self.predict() {
            return None;
        }
        let Step { here, there, .. } = self.step;
        let own = self.scratch.p[self.x_t as usize];
        let step = process.soft_step(here.alpha_bar, there.alpha_bar, here.t, there.t, own);
        Some(if route < step.keep {
            self.x_t
        } else if route < step.keep + step.jump {
            filter::draw(&self.scratch.p, token) as u32
        } else {
            (token * process.vocab() as f64) as u32
        })
    }

    /// The weights of writing a mask and of leaving it, (alpha_bar_s - (1 - sigma) alpha_bar_t) / (1 - alpha_bar_t) and
    /// (1 - alpha_bar_s - sigma alpha_bar_t) / (1 - alpha_bar_t). A sigma too large makes the second negative.
    fn unmasking(&self) -> [f64; 2] {
        let Step { here, there, sigma, .. } = self.step;
        let (a_t, a_s) = (here.alpha_bar, there.alpha_bar);
        let noise = 1.0 - a_t;
        if noise <= 0.0 {
            return [0.0, 1.0];
        }
        [(a_s - (1.0 - sigma) * a_t) / noise, (1.0 - a_s - sigma * a_t) / noise]
    }

    /// Writes the law of x_s up to a factor: that of the model, or the mixture of two, and weighed by a classifier.
    pub(crate) fn weigh_posterior(&mut self) -> bool {
        if !self.weigh_mixture() {
            return false;
        }
        let Some((gamma, log_p)) = self.classified else { return true };
        let possible = self.scratch.q.iter().zip(log_p).filter(|(q, _)| **q > 0.0);
        let most = possible.map(|(_, &log_p)| gamma * f64::from(log_p)).fold(f64::NEG_INFINITY, f64::max);
        // Where the classifier excludes everything, or nothing is asked of it, the posterior stays.
        if gamma != 0.0 && most.is_finite() {
            let weight = |log_p: f32| (gamma * f64::from(log_p) - most).exp();
            self.scratch.q.iter_mut().zip(log_p).filter(|(q, _)| **q > 0.0).for_each(|(q, &log_p)| *q *= weight(log_p));
        }
        true
    }

    fn weigh_mixture(&mut self) -> bool {
        let Some((gamma, without)) = self.dropped.take() else { return self.weigh_psi() };
        let given = std::mem::replace(&mut self.logits, without);
        let readable = self.weigh_psi();
        self.scratch.dropped.copy_from_slice(&self.scratch.q);
        self.logits = given;
        if !(readable && self.weigh_psi()) {
            return false;
        }
        // The ratio first, and only where the condition leaves something: 0 to a negative power is no weight.
        for (q, &dropped) in self.scratch.q.iter_mut().zip(&self.scratch.dropped) {
            *q = if *q > 0.0 && dropped > 0.0 { (gamma * q.ln() + (1.0 - gamma) * dropped.ln()).exp() } else { *q };
        }
        true
    }

    /// Writes kappa q(x_s | x_t, p) + (1 - kappa) Fwd_s(q_0), up to a factor.
    fn weigh_psi(&mut self) -> bool {
        let Step { here, there, sigma, kappa, .. } = self.step;
        if let Some(mask) = self.noise.absorbing() {
            if self.x_t != mask {
                self.scratch.q.fill(0.0);
                self.scratch.q[self.x_t as usize] = 1.0 - sigma;
                self.scratch.q[mask as usize] = sigma;
                return true;
            }
            if !self.predict() {
                return false;
            }
            let [write, leave] = self.unmasking();
            let Scratch { p, q, .. } = &mut *self.scratch;
            q.iter_mut().zip(p.iter()).for_each(|(q, p)| *q = write * p);
            q[mask as usize] = leave;
            return true;
        }
        if !self.predict() {
            return false;
        }
        let Scratch { p, q, race, .. } = &mut *self.scratch;
        self.noise.posterior(here, there, self.x_t, p, q);
        if kappa < 1.0 {
            let data = Level { t: 0.0, alpha_bar: 1.0 };
            self.noise.posterior(here, data, self.x_t, p, race);
            self.noise.forward(there, race, p);
            q.iter_mut().zip(p.iter()).for_each(|(q, again)| *q = kappa * *q + (1.0 - kappa) * again);
        }
        true
    }

    /// Writes the law of the position's x_t given the others, q_t(x_t = k | others), for a corrector.
    pub(crate) fn weigh_conditional(&mut self) -> bool {
        if !self.predict() {
            return false;
        }
        let Scratch { p, q, .. } = &mut *self.scratch;
        self.noise.forward(self.step.here, p, q);
        true
    }

    /// Writes the weights of Tweedie's rule; see [`Rule::Tweedie`].
    pub(crate) fn weigh_tweedie(&mut self) -> bool {
        let Step { here, there, clean, .. } = self.step;
        // Without any signal the scores of p(x_0) are all alike, and only p itself still tells the tokens apart.
        if self.written() || (self.options.output != Output::Score && here.alpha_bar <= 0.0) {
            return self.weigh_posterior();
        }
        if !self.score() {
            return false;
        }
        let (noise, x_t) = (self.noise, self.x_t);
        let r = if there.alpha_bar > 0.0 { here.alpha_bar / there.alpha_bar } else { 1.0 };
        let (away, total) = ((1.0 - r) * noise.pi(x_t), self.scratch.p.iter().sum::<f64>());
        let Scratch { p, q, .. } = &mut *self.scratch;
        for (k, (q, s)) in (0u32..).zip(q.iter_mut().zip(p.iter())) {
            let back = s - (1.0 - r) * noise.pi(k) * total;
            *q = back * if k == x_t { r + away } else { away };
        }
        if let (true, Some(blank)) = (clean, noise.blank()) {
            q[blank as usize] = 0.0;
        }
        true
    }

    /// Writes the weights of Euler's rule; see [`Rule::Euler`].
    pub(crate) fn weigh_euler(&mut self) -> bool {
        if self.written() {
            return self.weigh_posterior();
        }
        if !self.score() {
            return false;
        }
        let Step { here, there, slope, .. } = self.step;
        let speed = (here.t - there.t) * slope / here.alpha_bar * self.noise.pi(self.x_t);
        let own = self.x_t as usize;
        let Scratch { p, q, .. } = &mut *self.scratch;
        let mut left = 1.0;
        for (k, (q, s)) in q.iter_mut().zip(p.iter()).enumerate() {
            *q = if k == own { 0.0 } else { speed * s };
            left -= *q;
        }
        q[own] = left;
        true
    }

    /// A draw of x_0 and then of its posterior.
    fn sampled(&mut self, draws: &mut dyn Draws, at: At) -> Option<u32> {
        if self.written() {
            return Some(self.x_t);
        }
        if !self.predict_all() {
            return None;
        }
        let Scratch { p, race, .. } = &mut *self.scratch;
        let x_0 = self.options.idiom.draw(draws, stream::TOKENS, at, p, race);
        p.fill(0.0);
        p[x_0] = 1.0;
        self.noise.posterior(self.step.here, self.step.there, self.x_t, &self.scratch.p, &mut self.scratch.q);
        Some(self.draw(draws, stream::TARGET, at))
    }

    /// A draw of x_0 and then of a jump; see [`Rule::Flow`].
    fn flow(&mut self, c: f64, draws: &mut dyn Draws, at: At) -> Option<u32> {
        let x_1 = if self.written() {
            self.x_t
        } else {
            if !self.predict_all() {
                return None;
            }
            let Scratch { p, race, .. } = &mut *self.scratch;
            self.options.idiom.draw(draws, stream::TOKENS, at, p, race) as u32
        };
        if self.step.last {
            return Some(x_1);
        }
        let total = self.weigh_flow(c, x_1);
        let mut jump = [0.0];
        draws.uniforms(stream::JUMP, at, &mut jump);
        let Step { here, there, .. } = self.step;
        if jump[0] < -(-(here.t - there.t) * total).exp_m1() {
            return Some(self.draw(draws, stream::TARGET, at));
        }
        Some(self.x_t)
    }

    /// Writes the rates u of leaving x_t when x_1 is the clean token, and returns their sum.
    pub(crate) fn weigh_flow(&mut self, c: f64, x_1: u32) -> f64 {
        let Step { here, slope, .. } = self.step;
        let rates = FlowRates::new(here.alpha_bar, slope, c);
        let mut total = 0.0;
        for (k, u) in (0u32..).zip(self.scratch.q.iter_mut()) {
            *u = rates.rate(x_1, self.x_t, k, self.noise.pi(k));
            total += *u;
        }
        total
    }

    /// Writes p(x_0) given the other positions only, and returns whether the logits could be read.
    pub(crate) fn predict(&mut self) -> bool {
        let here = self.step.here;
        match self.options.output {
            Output::Clean | Output::Verbatim => {
                let Scratch { p, q, .. } = &mut *self.scratch;
                if !self.options.filter.apply(self.logits, p) {
                    return false;
                }
                match self.options.conditioning {
                    Conditioning::Others => {}
                    // A mask says nothing about the token behind it.
                    Conditioning::All if self.noise.absorbing().is_some() => {}
                    Conditioning::All => self.noise.forget_own(here, self.x_t, p, q),
                }
                true
            }
            Output::Score => self.score() && self.clean_of_scores(),
        }
    }

    /// Writes p(x_0) given all positions, the own one included.
    pub(crate) fn predict_all(&mut self) -> bool {
        let all = self.options.conditioning == Conditioning::All || self.noise.absorbing().is_some();
        if all && self.options.output != Output::Score {
            return self.options.filter.apply(self.logits, &mut self.scratch.p);
        }
        if !self.predict() {
            return false;
        }
        let Scratch { p, q, .. } = &mut *self.scratch;
        if !all {
            self.noise.remember_own(self.step.here, self.x_t, p, q);
        }
        true
    }

    /// Writes the scores q_t(k) / q_t(x_t) into p.
    fn score(&mut self) -> bool {
        let own = self.x_t as usize;
        if self.options.output == Output::Score {
            for (s, &logit) in self.scratch.p.iter_mut().zip(self.logits) {
                if logit.is_nan() || logit == f32::INFINITY {
                    return false;
                }
                *s = f64::from(logit).exp();
            }
            self.scratch.p[own] = 1.0;
            return true;
        }
        if !self.predict() {
            return false;
        }
        let Scratch { p, q, .. } = &mut *self.scratch;
        self.noise.forward(self.step.here, p, q);
        let at_x_t = q[own];
        if at_x_t > 0.0 {
            p.iter_mut().zip(q.iter()).for_each(|(s, q)| *s = q / at_x_t);
        } else {
            // The process could not have produced x_t: it stays.
            p.fill(0.0);
        }
        p[own] = 1.0;
        true
    }

    /// Turns the scores in p into p(x_0): q_t is proportional to them, and q_t - (1 - alpha_bar) pi to p(x_0).
    fn clean_of_scores(&mut self) -> bool {
        let (noise, alpha_bar) = (self.noise, self.step.here.alpha_bar);
        let p = &mut self.scratch.p;
        let total: f64 = p.iter().sum();
        let mut kept = 0.0;
        for (k, p) in (0u32..).zip(p.iter_mut()) {
            *p = if noise.blank() == Some(k) { 0.0 } else { (*p / total - (1.0 - alpha_bar) * noise.pi(k)).max(0.0) };
            kept += *p;
        }
        if kept > 0.0 {
            p.iter_mut().for_each(|p| *p /= kept);
        }
        kept > 0.0 && kept.is_finite()
    }
}

fn largest(weights: &[f64]) -> u32 {
    (1..weights.len()).fold(0, |best, k| if weights[k] > weights[best] { k } else { best }) as u32
}
