//! Masked diffusion: cross-entropy where the canvas shows the mask.

use super::tokens::{Form, Moment, OnTokens};
use super::{Objective, Purpose};
use crate::Error;
use galatea_processes::objectives::masked;
use galatea_processes::times::quantise;
use galatea_schedules::Schedule;
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
}

impl OnTokens for Masked {
    fn form(&self, _objective: &Objective) -> Form {
        Form::CrossEntropy
    }

    fn moment(&self, objective: &Objective, t: f64, _purpose: Purpose) -> Moment {
        if self.steps == 0 {
            return Moment::new(objective, t, [masked::weight(&objective.schedule, t), 0.0, 0.0]);
        }
        let (t, alpha_bar) = (quantise(t, self.steps), |t: f64| objective.schedule.alpha_bar(t));
        let s = (t - 1.0 / self.steps as f64).max(0.0);
        Moment::new(objective, t, [masked::weight_of_steps(alpha_bar(t), alpha_bar(s), self.steps), 0.0, 0.0])
    }

    /// A schedule that starts below 1 has masked tokens in its first canvas, which are guessed.
    fn constant(&self, objective: &Objective) -> Result<f64, Error> {
        Ok(masked::reconstruction(objective.schedule.alpha_bar(0.0), objective.network_vocab()))
    }
}
