//! Masked diffusion: cross-entropy where the canvas shows the mask.

use super::tokens::{Form, Moment, OnTokens};
use super::{Objective, Purpose, T_MIN};
use crate::Error;
use galatea_processes::objectives::masked;
use galatea_processes::times::quantise;
use galatea_schedules::{AnySchedule, EvenWeight, Schedule};
use serde::{Deserialize, Serialize};

/// `kind = "masked"`: the masked NELBO under SUBS, weighted -alpha_bar' / (1 - alpha_bar), or that of a chain of `steps`.
///
/// # Source
/// Sahoo et al. (2024), MDLM; Shi et al. (2024), MD4; Nie et al. (2025), LLaDA: they differ in their schedules.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Masked {
    /// Steps of the chain whose bound is trained; 0 for continuous time.
    pub steps: usize,
    /// Which times are trained how often.
    pub times: Draw,
}

/// Which times of continuous time are trained how often; the bound is the same.
///
/// MDLM's change of variables is no draw but a schedule, `even-weight(p_min, p_max)`: its uniform times weigh alike.
///
/// # Source
/// Sahoo et al. (2024), MDLM; its code's `importance_sampling` and `change_of_variables`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Draw {
    /// Each alike, weighted by the bound's weight.
    #[default]
    Uniform,
    /// In proportion to the bound's weight, so that all weigh alike.
    Importance,
}

impl Masked {
    /// The schedule whose uniform times are those that importance sampling takes of `schedule`, if it does.
    ///
    /// # Errors
    /// If `schedule` has no noise, or all of it, at the earliest time that is trained: there is no such density.
    pub(super) fn even(&self, schedule: &AnySchedule) -> Result<Option<EvenWeight>, Error> {
        match self.times {
            Draw::Uniform => Ok(None),
            Draw::Importance => {
                let even = EvenWeight::new(schedule.noise(T_MIN), schedule.noise(1.0));
                even.map(Some).map_err(|source| Error::Schedule { source })
            }
        }
    }
}

impl OnTokens for Masked {
    fn form(&self, _objective: &Objective) -> Form {
        Form::CrossEntropy
    }

    fn moment(&self, objective: &Objective, t: f64, purpose: Purpose) -> Moment {
        let schedule = &objective.schedule;
        if let (Purpose::Train { .. }, Ok(Some(even))) = (purpose, self.even(schedule)) {
            let range = 1.0 - T_MIN;
            let t = schedule.time_of(even.alpha_bar((t - T_MIN) / range));
            return Moment::new(objective, t, [even.weight() / range, 0.0, 0.0]);
        }
        if self.steps == 0 {
            return Moment::new(objective, t, [masked::weight(schedule, t), 0.0, 0.0]);
        }
        let (t, alpha_bar) = (quantise(t, self.steps), |t: f64| schedule.alpha_bar(t));
        let s = (t - 1.0 / self.steps as f64).max(0.0);
        Moment::new(objective, t, [masked::weight_of_steps(alpha_bar(t), alpha_bar(s), self.steps), 0.0, 0.0])
    }

    /// A schedule that starts below 1 has masked tokens in its first canvas, which are guessed.
    fn constant(&self, objective: &Objective) -> Result<f64, Error> {
        Ok(masked::reconstruction(objective.schedule.alpha_bar(0.0), objective.network_vocab()))
    }
}
