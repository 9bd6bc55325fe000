//! What a stepwise sampler asks of a process: closed forms by the levels' alpha_bar, any other process by its own clock.

use crate::draws::{At, Draws, stream};
use crate::filter;
use crate::levels::Level;
use galatea_processes::{Categorical, Limit, TokenProcess};

/// How far from alike the prior's probabilities may be and still count as uniform.
const ALIKE: f64 = 1e-9;

pub(crate) enum Noise {
    /// Uniform or mask noise, at the levels' alpha_bar.
    Levels(Categorical),
    /// Any process, at the levels' times.
    Clock(Box<dyn TokenProcess + Send>),
}

impl Noise {
    pub(crate) fn vocab(&self) -> usize {
        match self {
            Self::Levels(process) => process.vocab(),
            Self::Clock(process) => process.vocab(),
        }
    }

    /// The mask of a process in which a written token stays.
    pub(crate) fn absorbing(&self) -> Option<u32> {
        match self {
            Self::Levels(process) => match process.limit() {
                Limit::Mask(mask) => Some(mask),
                Limit::Uniform => None,
            },
            Self::Clock(_) => None,
        }
    }

    /// The id that pure noise consists of, where it is one id: a mask, which no text holds.
    pub(crate) fn blank(&self) -> Option<u32> {
        match self {
            Self::Levels(_) => self.absorbing(),
            Self::Clock(process) => process.prior().iter().position(|&p| p > 1.0 - ALIKE).map(|k| k as u32),
        }
    }

    /// pi(k) of uniform or mask noise; of other noise none of the rules that ask for it is allowed.
    #[inline]
    pub(crate) fn pi(&self, k: u32) -> f64 {
        match self {
            Self::Levels(process) => process.pi(k),
            Self::Clock(_) => 0.0,
        }
    }

    /// A draw of pure noise.
    pub(crate) fn start(&self, draws: &mut dyn Draws, at: At) -> u32 {
        if let Some(blank) = self.blank() {
            return blank;
        }
        let vocab = self.vocab();
        match self {
            Self::Levels(_) => draws.below(stream::START, at, vocab) as u32,
            Self::Clock(process) => {
                let prior = process.prior();
                if prior.iter().all(|p| (p * vocab as f64 - 1.0).abs() < ALIKE) {
                    return draws.below(stream::START, at, vocab) as u32;
                }
                let mut u = [0.0];
                draws.uniforms(stream::START, at, &mut u);
                filter::draw(&prior.to_vec(), u[0]) as u32
            }
        }
    }

    /// Writes q(x_s | x_t, p), normalised.
    pub(crate) fn posterior(&self, here: Level, there: Level, x_t: u32, p: &[f64], q: &mut [f64]) {
        match self {
            Self::Levels(process) => process.posterior(here.alpha_bar, there.alpha_bar, x_t, p, q),
            Self::Clock(process) => process.posterior(here.t, there.t, x_t, p, q),
        }
    }

    /// Writes the law of x_s for x_0 ~ p.
    pub(crate) fn forward(&self, there: Level, p: &[f64], q: &mut [f64]) {
        match self {
            Self::Levels(process) => {
                for (k, (q, p)) in q.iter_mut().zip(p).enumerate() {
                    *q = there.alpha_bar * p + (1.0 - there.alpha_bar) * process.pi(k as u32);
                }
            }
            Self::Clock(process) => process.marginal(there.t, p, q),
        }
    }

    /// Divides p(x_0 | all of x_t) by the likelihood of the position's own token, q(x_t | x_0), in place; p stays as it is
    /// where it leaves no doubt. `scratch` is overwritten.
    pub(crate) fn forget_own(&self, here: Level, x_t: u32, p: &mut [f64], scratch: &mut [f64]) {
        if p[x_t as usize] >= 1.0 {
            return;
        }
        self.likelihood(here, x_t, scratch);
        let divided = |(p, q): (&f64, &f64)| if *q > 0.0 { p / q } else { 0.0 };
        let total: f64 = p.iter().zip(scratch.iter()).map(divided).sum();
        if total > 0.0 && total.is_finite() {
            p.iter_mut().zip(scratch.iter()).for_each(|(p, q)| *p = divided((p, q)) / total);
        }
    }

    /// Multiplies p(x_0 | the other positions) by the likelihood of the position's own token.
    pub(crate) fn remember_own(&self, here: Level, x_t: u32, p: &mut [f64], scratch: &mut [f64]) {
        self.likelihood(here, x_t, scratch);
        let total: f64 = p.iter().zip(scratch.iter()).map(|(p, q)| p * q).sum();
        if total > 0.0 {
            p.iter_mut().zip(scratch.iter()).for_each(|(p, q)| *p *= q / total);
        }
    }

    /// Writes q(x_t | x_0 = k) for every k.
    fn likelihood(&self, here: Level, x_t: u32, q: &mut [f64]) {
        match self {
            Self::Levels(process) => {
                q.fill((1.0 - here.alpha_bar) * process.pi(x_t));
                q[x_t as usize] += here.alpha_bar;
            }
            Self::Clock(process) => {
                q.fill(1.0);
                process.weigh(here.t, 0.0, x_t, q);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use galatea_processes::Hybrid;

    #[test]
    fn forgetting_undoes_remembering() {
        let hybrid = Noise::Clock(Box::new(Hybrid::new(4, 3, 0.2, 1.0).expect("sound")));
        let uniform = Noise::Levels(Categorical::new(4, Limit::Uniform).expect("sound"));
        let here = Level { t: 0.6, alpha_bar: 0.4 };
        for noise in [hybrid, uniform] {
            let before = [0.2, 0.5, 0.3, 0.0];
            let (mut p, mut scratch) = (before, [0.0; 4]);
            noise.remember_own(here, 1, &mut p, &mut scratch);
            assert!(p[1] > before[1]);
            noise.forget_own(here, 1, &mut p, &mut scratch);
            assert!(p.iter().zip(&before).all(|(a, b)| (a - b).abs() < 1e-14), "{p:?}");
        }
    }
}
