//! The steps of a sampler: from where to where.

use crate::levels::chord;
use crate::{Error, Level, Levels, Plateau};

/// Pairs of noise levels, each a reverse step from the first to the second.
///
/// [`Levels`] are the usual case, a chain in which every step begins where the one before it ended. A step may also begin
/// elsewhere (the time grid of Plaid's sampler ends each step a little before the next one begins), or end where it
/// began: then the denoiser is asked and nothing moves.
#[derive(Clone, Debug, PartialEq)]
pub struct Steps {
    pairs: Vec<(Level, Level)>,
    slopes: Vec<f64>,
}

impl Steps {
    /// The steps (here, there): at least one, t and alpha_bar finite, t never ascending and alpha_bar in \[0, 1\] never
    /// descending within a step.
    ///
    /// # Errors
    /// [`Error::Level`] with the first step that breaks this.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (Level, Level)>) -> Result<Self, Error> {
        let pairs: Vec<(Level, Level)> = pairs.into_iter().collect();
        let bad = |index, parameter, expected, found| Err(Error::Level { index, parameter, expected, found });
        if pairs.is_empty() {
            return bad(0, "the number of steps", "at least one", 0.0);
        }
        for (index, (here, there)) in pairs.iter().enumerate() {
            if !here.t.is_finite() {
                return bad(index, "t", "finite", here.t);
            }
            if !(there.t.is_finite() && there.t <= here.t) {
                return bad(index, "t", "finite and at most that of the step's beginning", there.t);
            }
            if !(0.0..=1.0).contains(&here.alpha_bar) {
                return bad(index, "alpha_bar", "in [0, 1]", here.alpha_bar);
            }
            if !(there.alpha_bar >= here.alpha_bar && there.alpha_bar <= 1.0) {
                return bad(index, "alpha_bar", "in [0, 1] and at least that of the step's beginning", there.alpha_bar);
            }
        }
        let slopes = pairs.iter().map(|(here, there)| chord(*here, *there)).collect();
        Ok(Self { pairs, slopes })
    }

    /// ReMDM's loop as it was published: a step follows the branch of the plateau that it begins on, so the step onto the
    /// plateau ends above it, and the last one on it ends where the next does not begin. [`Levels::plateau`] joins them.
    ///
    /// # Errors
    /// As for [`Levels::plateau`].
    ///
    /// # Source
    /// Wang et al. (2025), ReMDM, its published programme.
    pub fn plateau(grid: &[f64], plateau: Plateau) -> Result<Self, Error> {
        plateau.check()?;
        Self::from_pairs(grid.windows(2).map(|pair| {
            let (t, s) = (pair[0], pair[1]);
            let branch = plateau.branch(t);
            (Level { t, alpha_bar: branch(t) }, Level { t: s, alpha_bar: branch(s).min(1.0) })
        }))
    }

    /// BD3-LM's steps for a block, with alpha_bar = 1 - t: they begin at `steps` equally spaced times from 1 to 0 and are
    /// 1 / `steps` long, so that each ends a little before the next begins. The one that would begin at 0, where there is
    /// no noise to remove, is left out.
    ///
    /// # Errors
    /// [`Error::Parameter`] for no steps.
    ///
    /// # Source
    /// Arriola et al. (2025), BD3-LM, its published programme.
    pub fn lagging(steps: usize) -> Result<Self, Error> {
        crate::error::parameter("steps", "at least 1", steps as f64, steps > 0)?;
        let level = |t: f64| Level { t, alpha_bar: 1.0 - t };
        let begin = |i: usize| if steps > 1 { 1.0 - i as f64 / (steps - 1) as f64 } else { 1.0 };
        Self::from_pairs((0..steps.max(2) - 1).map(|i| {
            let t = begin(i);
            (level(t), level((t - 1.0 / steps as f64).max(0.0)))
        }))
    }

    /// All steps in order.
    pub fn as_slice(&self) -> &[(Level, Level)] {
        &self.pairs
    }

    /// Where the first step begins.
    pub fn first(&self) -> Level {
        self.pairs[0].0
    }

    /// Where the last step ends.
    pub fn last(&self) -> Level {
        self.pairs[self.pairs.len() - 1].1
    }

    /// -d alpha_bar / dt at the beginning of step `i`: that of the schedule, or the chord where only levels are known.
    ///
    /// # Panics
    /// If there is no step `i`.
    pub fn slope(&self, i: usize) -> f64 {
        self.slopes[i]
    }

    /// An error if a step begins without any signal.
    pub(crate) fn check_signal(&self) -> Result<(), Error> {
        match self.pairs.iter().position(|(here, _)| here.alpha_bar <= 0.0) {
            None => Ok(()),
            Some(index) => {
                let expected = "above 0 for a score temperature, a gradient or a model of the noise";
                Err(Error::Level { index, parameter: "alpha_bar", expected, found: self.pairs[index].0.alpha_bar })
            }
        }
    }
}

impl From<Levels> for Steps {
    fn from(levels: Levels) -> Self {
        let pairs = levels.as_slice().windows(2).map(|pair| (pair[0], pair[1])).collect();
        Self { pairs, slopes: levels.into_slopes() }
    }
}
