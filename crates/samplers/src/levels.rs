//! The noise levels that a sampler visits.

use crate::Error;
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
pub struct Levels(Vec<Level>);

impl Levels {
    /// The levels of `schedule` at the times of `grid`, which descend.
    ///
    /// # Errors
    /// [`Error::Level`] as in [`from_pairs`](Self::from_pairs).
    pub fn new(schedule: &impl Schedule, grid: &[f64]) -> Result<Self, Error> {
        Self::from_pairs(grid.iter().map(|&t| (t, schedule.alpha_bar(t))))
    }

    /// The levels (t, alpha_bar): at least two, t descending strictly, alpha_bar in \[0, 1\] and never descending.
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
            let before = if index == 0 { Level { t: f64::INFINITY, alpha_bar: 0.0 } } else { levels[index - 1] };
            if !(level.t.is_finite() && level.t < before.t) {
                return bad(index, "t", "finite and less than the one before", level.t);
            }
            if !(level.alpha_bar >= before.alpha_bar && level.alpha_bar <= 1.0) {
                return bad(index, "alpha_bar", "in [0, 1] and no less than the one before", level.alpha_bar);
            }
        }
        Ok(Self(levels))
    }

    /// All levels, the noisiest first.
    pub fn as_slice(&self) -> &[Level] {
        &self.0
    }

    /// The number of steps between them.
    pub fn steps(&self) -> usize {
        self.0.len() - 1
    }

    /// The noisiest level.
    pub fn first(&self) -> Level {
        self.0[0]
    }

    /// The level closest to the data.
    pub fn last(&self) -> Level {
        self.0[self.0.len() - 1]
    }
}
