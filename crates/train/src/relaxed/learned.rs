//! A noise schedule that learns beside the network, on the host: few numbers, in f64 to the last cast.

use crate::Error;
use galatea_random::Philox;
use galatea_schedules::{GammaWeights, LearnedGamma, Schedule, WarpWeights, Warped};
use serde::{Deserialize, Serialize};

/// A learned schedule at one moment of its training.
#[derive(Clone, Debug)]
pub(crate) enum Noise {
    /// Plaid's.
    Gamma(LearnedGamma),
    /// CDCD's.
    Warp(Warped),
}

impl Noise {
    /// -log SNR at t.
    pub(crate) fn gamma(&self, t: f64) -> f64 {
        -self.log_snr(t)
    }

    /// Its derivative in t.
    pub(crate) fn slope(&self, t: f64) -> f64 {
        match self {
            Noise::Gamma(gamma) => gamma.gamma_derivative(t),
            Noise::Warp(warped) => {
                let (level, slope) = warped.level(t);
                2.0 * slope / level
            }
        }
    }
}

impl Schedule for Noise {
    fn alpha_bar(&self, t: f64) -> f64 {
        match self {
            Noise::Gamma(gamma) => gamma.alpha_bar(t),
            Noise::Warp(warped) => warped.alpha_bar(t),
        }
    }
    fn rate(&self, t: f64) -> f64 {
        match self {
            Noise::Gamma(gamma) => gamma.rate(t),
            Noise::Warp(warped) => warped.rate(t),
        }
    }
    fn log_snr(&self, t: f64) -> f64 {
        match self {
            Noise::Gamma(gamma) => gamma.log_snr(t),
            Noise::Warp(warped) => warped.log_snr(t),
        }
    }
}

/// Which values of the schedule's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// Those of the last step.
    Now,
    /// Their moving average, which evaluates and samples.
    Average,
}

/// Numbers of one name, as a checkpoint has them: all are representable in f32.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct List {
    name: String,
    value: Vec<f64>,
    average: Vec<f64>,
    moment_1: Vec<f64>,
    moment_2: Vec<f64>,
}

impl List {
    fn new(name: &str, value: Vec<f64>) -> Self {
        let value: Vec<f64> = value.into_iter().map(rounded).collect();
        let zeros = vec![0.0; value.len()];
        Self { name: name.to_owned(), average: value.clone(), value, moment_1: zeros.clone(), moment_2: zeros }
    }

    fn lengths(&self) -> [usize; 4] {
        [&self.value, &self.average, &self.moment_1, &self.moment_2].map(Vec::len)
    }

    fn of(&self, which: Which) -> Vec<f64> {
        match which {
            Which::Now => self.value.clone(),
            Which::Average => self.average.clone(),
        }
    }
}

pub(super) fn rounded(x: f64) -> f64 {
    f64::from(x as f32)
}

/// A schedule, its moments and its average.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct LearnedNoise {
    lists: Vec<List>,
    /// CDCD's range of levels; Plaid's ends are among the numbers.
    range: Option<(f64, f64)>,
}

/// The stream of the first values.
const STREAM: u32 = 0x6e01;
const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.99;

impl LearnedNoise {
    /// Plaid's gamma(t) from `ends.0` to `ends.1` with `hidden` sigmoids drawn under `seed`.
    pub(crate) fn gamma(hidden: usize, ends: (f64, f64), seed: u64) -> Self {
        let draw = |row: u32| {
            let mut rng = Philox::new(seed, STREAM, 0, row);
            (0..hidden).map(|_| rng.normal()).collect::<Vec<f64>>()
        };
        let lists = vec![
            List::new("noise_schedule.W1", draw(0)),
            List::new("noise_schedule.b1", draw(1)),
            List::new("noise_schedule.W2", draw(2)),
            List::new("gamma_bounds.gamma_0", vec![ends.0]),
            List::new("gamma_bounds.gamma_1", vec![ends.1]),
        ];
        Self { lists, range: None }
    }

    /// CDCD's warp of the levels in `range` with as many bins, all even.
    pub(crate) fn warp(bins: usize, range: (f64, f64)) -> Self {
        let even = vec![-(bins as f64).ln(); bins];
        Self {
            lists: vec![List::new("loss_cdf.l_t", even.clone()), List::new("loss_cdf.l_u", even)],
            range: Some(range),
        }
    }

    /// The schedule.
    ///
    /// # Errors
    /// If its numbers are none of a schedule any more: training has diverged.
    pub(crate) fn noise(&self, which: Which) -> Result<Noise, Error> {
        let list = |i: usize| self.lists[i].of(which);
        let schedule = match self.range {
            None => LearnedGamma::new(GammaWeights {
                w_1: list(0),
                b_1: list(1),
                w_2: list(2),
                gamma_0: list(3)[0],
                gamma_1: list(4)[0],
            })
            .map(Noise::Gamma),
            Some((t_min, t_max)) => {
                Warped::new(WarpWeights { l_t: list(0), l_u: list(1) }, t_min, t_max).map(Noise::Warp)
            }
        };
        schedule.map_err(|source| Error::Schedule { source })
    }

    /// One step of Adam down a gradient (lists in the order of the schedule's numbers), and of the average.
    pub(crate) fn step(&mut self, gradient: &[Vec<f64>], lr: f64, step: u32, decay: f64) {
        let correction = |beta: f64| 1.0 / (1.0 - beta.powf(f64::from(step)));
        for (list, gradient) in self.lists.iter_mut().zip(gradient) {
            for (i, g) in gradient.iter().enumerate() {
                list.moment_1[i] = rounded(BETA_1 * list.moment_1[i] + (1.0 - BETA_1) * g);
                list.moment_2[i] = rounded(BETA_2 * list.moment_2[i] + (1.0 - BETA_2) * g * g);
                let (m, v) = (correction(BETA_1) * list.moment_1[i], correction(BETA_2) * list.moment_2[i]);
                list.value[i] = rounded(list.value[i] - lr * m / (v.sqrt() + 1e-8));
                list.average[i] = rounded(decay * list.average[i] + (1.0 - decay) * list.value[i]);
            }
        }
    }

    /// Takes the numbers of another of the same make, as a file has them.
    ///
    /// # Errors
    /// What differs, in words.
    pub(crate) fn take(&mut self, other: Self) -> Result<(), String> {
        let make =
            |noise: &Self| noise.lists.iter().map(|list| (list.name.clone(), list.lengths())).collect::<Vec<_>>();
        let expected: Vec<_> = self.lists.iter().map(|list| (list.name.clone(), [list.value.len(); 4])).collect();
        if make(&other) != expected {
            return Err(format!("expected the lists {expected:?}"));
        }
        self.lists = other.lists;
        for list in &mut self.lists {
            for values in [&mut list.value, &mut list.average, &mut list.moment_1, &mut list.moment_2] {
                values.iter_mut().for_each(|x| *x = rounded(*x));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        for mut noise in [LearnedNoise::gamma(5, (-3.0, 6.0), 7), LearnedNoise::warp(4, (2.0, 300.0))] {
            let gradient: Vec<Vec<f64>> = noise.lists.iter().map(|list| vec![0.1; list.value.len()]).collect();
            let fresh = noise.clone();
            noise.step(&gradient, 0.01, 1, 0.5);
            assert_ne!(noise, fresh);
            let text = serde_json::to_string(&noise).expect("lists of numbers");
            let mut back = fresh;
            back.take(serde_json::from_str(&text).expect("as written")).expect("of the same make");
            assert_eq!(back, noise);
            assert!(back.take(LearnedNoise::gamma(6, (-3.0, 6.0), 7)).is_err());
            let (now, average) =
                (noise.noise(Which::Now).expect("a schedule"), noise.noise(Which::Average).expect("one"));
            assert!(now.gamma(0.5).is_finite() && average.slope(0.5) > 0.0);
        }
    }
}
