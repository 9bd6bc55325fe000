//! The steps of a Gaussian sampler: from where to where.

use crate::{Error, Level, Levels};

/// Pairs of noise levels, each a reverse step from the first to the second.
///
/// [`Levels`] are the usual case, a chain in which every step begins where the one before it ended. A step may also begin
/// elsewhere (the time grid of Plaid's sampler ends each step a little before the next one begins), or end where it
/// began: then the denoiser is asked and nothing moves.
#[derive(Clone, Debug, PartialEq)]
pub struct Steps(Vec<(Level, Level)>);

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
        Ok(Self(pairs))
    }

    /// All steps in order.
    pub fn as_slice(&self) -> &[(Level, Level)] {
        &self.0
    }

    /// Where the first step begins.
    pub fn first(&self) -> Level {
        self.0[0].0
    }

    /// An error if a step begins without any signal.
    pub(crate) fn check_signal(&self) -> Result<(), Error> {
        match self.0.iter().position(|(here, _)| here.alpha_bar <= 0.0) {
            None => Ok(()),
            Some(index) => {
                let expected = "above 0 for a score temperature, a gradient or a model of the noise";
                Err(Error::Level { index, parameter: "alpha_bar", expected, found: self.0[index].0.alpha_bar })
            }
        }
    }
}

impl From<Levels> for Steps {
    fn from(levels: Levels) -> Self {
        Self(levels.as_slice().windows(2).map(|pair| (pair[0], pair[1])).collect())
    }
}
