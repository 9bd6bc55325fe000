//! The noise levels that a sampler visits.

use crate::Error;
use crate::error::parameter;
use galatea_schedules::Schedule;

/// A time and the signal left at it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    /// The time, which the denoiser is told.
    pub t: f64,
    /// The signal left, which the process needs.
    pub alpha_bar: f64,
}

/// Noise levels from noise to data: a schedule read off on a time grid, or given.
///
/// ```
/// use galatea_samplers::Levels;
/// use galatea_schedules::{Linear, grid};
/// let levels = Levels::new(&Linear, &grid::uniform(4))?;
/// assert_eq!(levels.steps(), 4);
/// assert_eq!(levels.as_slice()[1].alpha_bar, 0.25);
/// # Ok::<(), galatea_samplers::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Levels {
    levels: Vec<Level>,
    /// -d alpha_bar / dt where each step begins.
    slopes: Vec<f64>,
}

/// The plateau of ReMDM's loop: alpha_bar rises linearly to `alpha_bar` until the time falls to `t_on`, rests there until
/// `t_off`, and rises on to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plateau {
    /// The time at which the plateau begins.
    pub t_on: f64,
    /// The time at which it ends, less than `t_on`.
    pub t_off: f64,
    /// The signal on it.
    pub alpha_bar: f64,
}

impl Levels {
    /// The levels of `schedule` at the times of `grid`, which never rise.
    ///
    /// # Errors
    /// [`Error::Level`] as in [`from_pairs`](Self::from_pairs).
    pub fn new(schedule: &impl Schedule, grid: &[f64]) -> Result<Self, Error> {
        let mut levels = Self::from_pairs(grid.iter().map(|&t| (t, schedule.alpha_bar(t))))?;
        levels.slopes.iter_mut().zip(grid).for_each(|(slope, &t)| *slope = -schedule.alpha_bar_derivative(t));
        Ok(levels)
    }

    /// The levels (t, alpha_bar): at least two, t never rising, alpha_bar in \[0, 1\] and never descending.
    ///
    /// # Errors
    /// [`Error::Level`] with the first number that breaks this.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (f64, f64)>) -> Result<Self, Error> {
        let levels: Vec<Level> = pairs.into_iter().map(|(t, alpha_bar)| Level { t, alpha_bar }).collect();
        let bad = |index, parameter, expected, found| Err(Error::Level { index, parameter, expected, found });
        if levels.len() < 2 {
            return bad(levels.len(), "the number of levels", "at least two", levels.len() as f64);
        }
        for (index, level) in levels.iter().enumerate() {
            let before = if index == 0 { Level { t: f64::MAX, alpha_bar: 0.0 } } else { levels[index - 1] };
            if !(level.t.is_finite() && level.t <= before.t) {
                return bad(index, "t", "finite and no more than the one before", level.t);
            }
            if !(level.alpha_bar >= before.alpha_bar && level.alpha_bar <= 1.0) {
                return bad(index, "alpha_bar", "in [0, 1] and no less than the one before", level.alpha_bar);
            }
        }
        let slopes = levels.windows(2).map(|pair| chord(pair[0], pair[1])).collect();
        Ok(Self { levels, slopes })
    }

    /// The levels of ReMDM's loop on a time grid: linear up to the plateau, along it, and linear from it.
    ///
    /// # Errors
    /// [`Error::Parameter`] unless 0 < t_off < t_on < 1 and alpha_bar is in (0, 1); [`Error::Level`] for the grid.
    ///
    /// # Source
    /// Wang et al. (2025), ReMDM, section 4.2 (loop).
    pub fn plateau(grid: &[f64], plateau: Plateau) -> Result<Self, Error> {
        plateau.check()?;
        Self::from_pairs(grid.iter().map(|&t| (t, plateau.alpha_bar(t))))
    }

    /// The levels that the corrector of discrete flow matching takes with alpha_bar = 1 - t: steps of 1 / `steps`, and
    /// shorter ones wherever no longer one leaves its probabilities in \[0, 1\]; until a step would reach `t_min`.
    ///
    /// Together with [`Revise::Corrector`](crate::Revise).
    ///
    /// # Errors
    /// [`Error::Parameter`] for no steps or a `t_min` outside \[0, 1).
    ///
    /// # Source
    /// Gat et al. (2024), "Discrete flow matching", appendix D; ReMDM's programme.
    pub fn corrected(steps: usize, t_min: f64) -> Result<Self, Error> {
        parameter("steps", "at least 1", steps as f64, steps > 0)?;
        parameter("t_min", "in [0, 1)", t_min, (0.0..1.0).contains(&t_min))?;
        let (longest, least) = (1.0 / steps as f64, (1.0 - t_min) / steps as f64);
        let (mut t, mut pairs) = (1.0f64, vec![(1.0, 0.0)]);
        while t > least {
            let backward = corrector_rate(t);
            let step = if t < 1.0 { longest.min(1.0 / ((backward + 1.0) / t + backward / (1.0 - t))) } else { longest };
            t = (t - step).max(0.0);
            pairs.push((t, 1.0 - t));
        }
        Self::from_pairs(pairs)
    }

    /// All levels, the noisiest first.
    pub fn as_slice(&self) -> &[Level] {
        &self.levels
    }

    /// The number of steps between them.
    pub fn steps(&self) -> usize {
        self.levels.len() - 1
    }

    /// -d alpha_bar / dt at the beginning of every step: that of the schedule, or the chord where only levels are known.
    pub(crate) fn into_slopes(self) -> Vec<f64> {
        self.slopes
    }

    /// The noisiest level.
    pub fn first(&self) -> Level {
        self.levels[0]
    }

    /// The level closest to the data.
    pub fn last(&self) -> Level {
        self.levels[self.levels.len() - 1]
    }
}

impl Plateau {
    pub(crate) fn check(&self) -> Result<(), Error> {
        parameter("t_on", "in (0, 1)", self.t_on, self.t_on > 0.0 && self.t_on < 1.0)?;
        parameter("t_off", "above 0 and below t_on", self.t_off, self.t_off > 0.0 && self.t_off < self.t_on)?;
        parameter("alpha_bar", "in (0, 1)", self.alpha_bar, self.alpha_bar > 0.0 && self.alpha_bar < 1.0)?;
        Ok(())
    }

    /// Whether a step that begins at `t` is one along the plateau.
    pub(crate) fn holds(t_on: f64, t_off: f64, t: f64) -> bool {
        t <= t_on && t > t_off
    }

    fn alpha_bar(&self, t: f64) -> f64 {
        if Self::holds(self.t_on, self.t_off, t) { self.alpha_bar } else { self.branch(t)(t) }
    }

    /// The line that a step from `t` follows.
    pub(crate) fn branch(&self, t: f64) -> impl Fn(f64) -> f64 + use<> {
        let Self { t_on, t_off, alpha_bar } = *self;
        move |s| {
            if t > t_on {
                (1.0 - s) * alpha_bar / (1.0 - t_on)
            } else if t > t_off {
                alpha_bar
            } else {
                1.0 - s * (1.0 - alpha_bar) / t_off
            }
        }
    }
}

/// b(t) of the corrector of discrete flow matching: how much faster than the plain chain it goes back.
pub(crate) fn corrector_rate(t: f64) -> f64 {
    10.0 * t.max(0.0).powf(0.25) * (1.0 - t).max(0.0).powf(0.25)
}

/// The time grid of Duo's psi samplers: `high` times from 1 to `t`, `middle` times at `t`, `low` times from there to
/// `t_min`. A step at `t` to `t` changes nothing but what [`Revise`](crate::Revise) takes back.
///
/// ```
/// let grid = galatea_samplers::levels::resting_grid(3, 2, 2, 0.4, 0.0);
/// assert_eq!(grid, [1.0, 0.7, 0.4, 0.4, 0.4, 0.4, 0.0]);
/// ```
///
/// # Source
/// Sahoo et al. (2026), the psi samplers of Duo (linear-constant-linear).
pub fn resting_grid(high: usize, middle: usize, low: usize, t: f64, t_min: f64) -> Vec<f64> {
    let line = |count: usize, from: f64, to: f64| {
        (0..count).map(move |i| {
            let u = if count > 1 { i as f64 / (count - 1) as f64 } else { 0.0 };
            if i + 1 == count && count > 1 { to } else { from + (to - from) * u }
        })
    };
    line(high, 1.0, t).chain(std::iter::repeat_n(t, middle)).chain(line(low, t, t_min)).collect()
}

/// The slope of alpha_bar against the direction of time between two levels.
pub(crate) fn chord(here: Level, there: Level) -> f64 {
    let dt = here.t - there.t;
    if dt > 0.0 { (there.alpha_bar - here.alpha_bar) / dt } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Steps;
    use galatea_schedules::{Linear, Sine, grid};

    const PLATEAU: Plateau = Plateau { t_on: 0.55, t_off: 0.05, alpha_bar: 0.9 };

    #[test]
    fn a_plateau_rests_and_joins() {
        let grid = grid::uniform(40);
        let levels = Levels::plateau(&grid, PLATEAU).expect("sound");
        for pair in levels.as_slice().windows(2) {
            assert!(pair[1].alpha_bar >= pair[0].alpha_bar);
        }
        let on = levels.as_slice().iter().filter(|level| level.alpha_bar == 0.9).count();
        assert_eq!(on, grid.iter().filter(|&&t| t <= 0.55 && t > 0.05).count());
        assert_eq!((levels.first().alpha_bar, levels.last().alpha_bar), (0.0, 1.0));
        // The published one differs only at the joints.
        let (published, levels) = (Steps::plateau(&grid, PLATEAU).expect("sound"), Steps::from(levels));
        let end = |steps: &Steps, i: usize| steps.as_slice()[i].1.alpha_bar;
        let differ = |i: usize| (end(&published, i) - end(&levels, i)).abs() > 1e-12;
        assert!((0..40).filter(|&i| differ(i)).count() <= 2 && (0..40).any(differ));
    }

    #[test]
    fn slopes_are_those_of_the_schedule_or_of_the_chord() {
        let grid = grid::uniform(100);
        let levels = Steps::from(Levels::new(&Sine, &grid).expect("descends"));
        let chords = Levels::from_pairs(grid.iter().map(|&t| (t, Sine.alpha_bar(t)))).expect("descends");
        let chords = Steps::from(chords);
        for (i, &t) in grid[..100].iter().enumerate() {
            assert!((levels.slope(i) + Sine.alpha_bar_derivative(t)).abs() < 1e-12);
            assert!((levels.slope(i) - chords.slope(i)).abs() < 0.02);
        }
    }

    #[test]
    fn the_corrector_leaves_probabilities() {
        let steps = Steps::from(Levels::corrected(8, 1e-5).expect("sound"));
        for &(from, to) in &steps.as_slice()[1..] {
            let b = corrector_rate(from.t);
            let back = b * (to.alpha_bar - from.alpha_bar) / from.alpha_bar;
            let on = (b + 1.0) * (to.alpha_bar - from.alpha_bar) / (1.0 - from.alpha_bar);
            assert!((0.0..=1.0).contains(&back) && (0.0..=1.0 + 1e-12).contains(&on), "{back} {on}");
        }
    }

    #[test]
    fn unsound_levels_are_named() {
        assert!(matches!(Levels::new(&Linear, &[]), Err(Error::Level { parameter: "the number of levels", .. })));
        let twisted = Plateau { t_on: 0.1, t_off: 0.2, alpha_bar: 0.5 };
        assert!(matches!(Levels::plateau(&[1.0, 0.0], twisted), Err(Error::Parameter { parameter: "t_off", .. })));
        assert!(matches!(Levels::corrected(0, 0.1), Err(Error::Parameter { parameter: "steps", .. })));
    }
}
