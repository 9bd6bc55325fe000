//! Closed-form processes: between the token and a noise that treats all ids but one alike.

use crate::categorical::ratio;
use crate::{Categorical, Error, Limit, TokenProcess};
use galatea_random::unit_f64;
use galatea_schedules::Schedule;
use ndarray::Array1;

/// A number for the mask id and one for each other id.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shares {
    /// The mask's number (not used where there is no mask).
    pub mask: f64,
    /// The number of every other id.
    pub other: f64,
}

impl Shares {
    /// The number of id `k` where `mask` is the mask id.
    #[inline]
    pub fn of(self, k: u32, mask: Option<u32>) -> f64 {
        if mask == Some(k) { self.mask } else { self.other }
    }
}

/// A process q(x_t | x_0) = alpha_bar_t x_0 + noise_t with a noise that may change in time.
///
/// Between s and t its chain is q_ts = r I + 1 (noise_t - r noise_s) with r = alpha_bar_t / alpha_bar_s: a token stays with
/// probability r and else, wherever it was, takes what flowed in. Both closed forms get
/// [`TokenProcess`] from these answers.
///
/// # Source
/// von Rütte et al. (2025), "Generalized interpolating discrete diffusion" (GIDD); `docs/derivations/hybrid.md`.
pub trait Interpolating {
    /// The mask's id, where the process has one.
    fn mask(&self) -> Option<u32>;

    /// How many ids share [`Shares::other`]: all but the mask.
    fn others(&self) -> usize;

    /// The probability that a token was never replaced.
    fn alpha_bar(&self, t: f64) -> f64;

    /// The probability that x_t is a given id by noise, (1 - alpha_bar_t) pi_t; all ids together have 1 - alpha_bar_t.
    fn noise(&self, t: f64) -> Shares;

    /// The rate at which a token of another id turns into a given id, alpha_bar d/dt (noise / alpha_bar).
    fn inflow(&self, t: f64) -> Shares;
}

// A macro and not a blanket impl, so that references and boxes of any process are processes too.
macro_rules! token_process {
    ($([$($generics:tt)*] $process:ty),*) => {$(
        impl<$($generics)*> TokenProcess for $process {
            fn vocab(&self) -> usize {
                vocab(self)
            }
            fn prior(&self) -> Array1<f64> {
                let (noise, mask) = (self.noise(1.0), self.mask());
                let total = noise.mask + noise.other * self.others() as f64;
                (0..vocab(self) as u32).map(|k| noise.of(k, mask) / total).collect()
            }
            fn marginal(&self, t: f64, p_x_0: &[f64], q_t: &mut [f64]) {
                marginal(self, t, p_x_0, q_t);
            }
            fn average(&self, t: f64, g: &[f64], mean: &mut [f64]) {
                average(self, t, g, mean);
            }
            fn weigh(&self, t: f64, s: f64, x_t: u32, q_s: &mut [f64]) {
                weigh(self, t, s, x_t, q_s);
            }
            fn corrupt_token(&self, t: f64, x_0: u32, words: [u32; 4]) -> u32 {
                corrupt_token(self, t, x_0, words)
            }
        }
    )*};
}
token_process!([S: Schedule] Scheduled<S>, [] Hybrid);

fn vocab(process: &impl Interpolating) -> usize {
    process.others() + usize::from(process.mask().is_some())
}

fn marginal(process: &impl Interpolating, t: f64, p_x_0: &[f64], q_t: &mut [f64]) {
    check(process, &[p_x_0.len(), q_t.len()]);
    let (alpha_bar, noise, mask) = (process.alpha_bar(t), process.noise(t), process.mask());
    for (k, (q, p)) in q_t.iter_mut().zip(p_x_0).enumerate() {
        *q = alpha_bar * p + noise.of(k as u32, mask);
    }
}

fn average(process: &impl Interpolating, t: f64, g: &[f64], mean: &mut [f64]) {
    check(process, &[g.len(), mean.len()]);
    let (alpha_bar, noise, mask) = (process.alpha_bar(t), process.noise(t), process.mask());
    let common: f64 = g.iter().enumerate().map(|(k, g)| noise.of(k as u32, mask) * g).sum();
    for (mean, g) in mean.iter_mut().zip(g) {
        *mean = alpha_bar * g + common;
    }
}

fn weigh(process: &impl Interpolating, t: f64, s: f64, x_t: u32, q_s: &mut [f64]) {
    check(process, &[q_s.len()]);
    let (r, mask) = (ratio(process.alpha_bar(t), process.alpha_bar(s)), process.mask());
    // What flowed in is never negative; less than nothing is rounding.
    let inflow = (process.noise(t).of(x_t, mask) - r * process.noise(s).of(x_t, mask)).max(0.0);
    let own = q_s[x_t as usize];
    q_s.iter_mut().for_each(|q| *q *= inflow);
    q_s[x_t as usize] += r * own;
}

fn corrupt_token(process: &impl Interpolating, t: f64, x_0: u32, words: [u32; 4]) -> u32 {
    let u = unit_f64([words[0], words[1]]);
    let alpha_bar = process.alpha_bar(t);
    if u < alpha_bar {
        return x_0;
    }
    let (noise, word) = (process.noise(t), u64::from(words[2]) << 32 | u64::from(words[3]));
    let uniform = ((u128::from(word) * process.others() as u128) >> 64) as u32;
    match process.mask() {
        None => uniform,
        Some(mask) if noise.other <= 0.0 || u < alpha_bar + noise.mask => mask,
        Some(mask) => uniform + u32::from(uniform >= mask),
    }
}

fn check(process: &impl Interpolating, lengths: &[usize]) {
    assert!(lengths.iter().all(|&len| len == vocab(process)), "a distribution needs one number per id");
}

/// A [`Categorical`] with the schedule that says when: uniform or masked noise, and with alpha_bar(t) = kappa(1 - t) the
/// mixture path of discrete flow matching.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scheduled<S> {
    process: Categorical,
    schedule: S,
}

impl<S: Schedule> Scheduled<S> {
    /// The process in the time of the schedule.
    pub fn new(process: Categorical, schedule: S) -> Self {
        Self { process, schedule }
    }

    /// The process without its clock.
    pub fn process(&self) -> &Categorical {
        &self.process
    }

    /// The clock.
    pub fn schedule(&self) -> &S {
        &self.schedule
    }

    fn shares(&self, mass: f64) -> Shares {
        match self.process.limit() {
            Limit::Uniform => Shares { mask: 0.0, other: mass / self.process.vocab() as f64 },
            Limit::Mask(_) => Shares { mask: mass, other: 0.0 },
        }
    }
}

impl<S: Schedule> Interpolating for Scheduled<S> {
    fn mask(&self) -> Option<u32> {
        match self.process.limit() {
            Limit::Uniform => None,
            Limit::Mask(mask) => Some(mask),
        }
    }
    fn others(&self) -> usize {
        self.process.vocab() - usize::from(self.mask().is_some())
    }
    fn alpha_bar(&self, t: f64) -> f64 {
        self.schedule.alpha_bar(t)
    }
    fn noise(&self, t: f64) -> Shares {
        self.shares(self.schedule.noise(t))
    }
    fn inflow(&self, t: f64) -> Shares {
        self.shares(self.schedule.rate(t))
    }
}

/// Masks and uniform tokens at once: q(x_t | x_0) = alpha_bar x_0 + a mask + a uniform token that is not the mask, in the
/// shares of [`galatea_schedules::Hybrid`].
///
/// Without uniform tokens it is the masked process of the linear schedule.
///
/// # Source
/// von Rütte et al. (2025), GIDD, its mask and uniform noise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hybrid {
    vocab: usize,
    mask: u32,
    schedule: galatea_schedules::Hybrid,
}

impl Hybrid {
    /// The process over `vocab` ids, `mask` among them.
    ///
    /// # Errors
    /// [`Error::Vocabulary`] below two ids, [`Error::Mask`] if the mask is not one of them, [`Error::Schedule`] for a
    /// `p_uniform` outside \[0, 1) or a `gamma` outside (0, 2\].
    pub fn new(vocab: usize, mask: u32, p_uniform: f64, gamma: f64) -> Result<Self, Error> {
        Self::of(vocab, mask, galatea_schedules::Hybrid::new(p_uniform, gamma)?)
    }

    /// The process of a schedule.
    ///
    /// # Errors
    /// [`Error::Vocabulary`] below two ids, [`Error::Mask`] if the mask is not one of them.
    pub fn of(vocab: usize, mask: u32, schedule: galatea_schedules::Hybrid) -> Result<Self, Error> {
        Categorical::new(vocab, Limit::Mask(mask))?;
        Ok(Self { vocab, mask, schedule })
    }

    /// The clock and the shares.
    pub fn schedule(&self) -> &galatea_schedules::Hybrid {
        &self.schedule
    }

    fn shares(&self, [mask, uniform]: [f64; 2]) -> Shares {
        Shares { mask, other: uniform / (self.vocab - 1) as f64 }
    }
}

impl Interpolating for Hybrid {
    fn mask(&self) -> Option<u32> {
        Some(self.mask)
    }
    fn others(&self) -> usize {
        self.vocab - 1
    }
    fn alpha_bar(&self, t: f64) -> f64 {
        self.schedule.alpha_bar(t)
    }
    fn noise(&self, t: f64) -> Shares {
        self.shares(self.schedule.noises(t))
    }
    fn inflow(&self, t: f64) -> Shares {
        self.shares(self.schedule.inflow(t))
    }
}
