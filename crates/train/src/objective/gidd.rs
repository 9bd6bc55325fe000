//! Masks and uniform tokens at once.

use super::tokens::{Form, Moment, OnTokens};
use super::{Objective, Purpose};
use crate::Error;
use galatea_autograd::Link;
use galatea_processes::objectives::divergence::hybrid;
use galatea_processes::objectives::interpolating;
use galatea_processes::{Hybrid, Interpolating};
use galatea_schedules::AnySchedule;
use serde::{Deserialize, Serialize};

/// `kind = "gidd"`: KL + IS of the marginals, weighted by class.
///
/// # Source
/// von Rütte et al. (2025), GIDD, theorem 3.1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gidd {
    /// What tokens weigh in training; the bound that is measured has its own weights.
    pub weighting: Weighting,
    /// The largest weight of "clip" and "dynamic".
    pub most: f64,
}

/// What tokens weigh in training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weighting {
    /// As the bound has it.
    Bound,
    /// The bound's weights, where they are not above `most`.
    Clip,
    /// 2 for a mask, 1 for another token, and little for one that is x_0; none above `most`.
    Dynamic,
}

impl Default for Gidd {
    fn default() -> Self {
        Self { weighting: Weighting::Dynamic, most: 2.0 }
    }
}

impl OnTokens for Gidd {
    fn form(&self, _objective: &Objective) -> Form {
        Form::Divergence(Link::Softmax)
    }

    fn moment(&self, objective: &Objective, t: f64, purpose: Purpose) -> Moment {
        // At the very end the weight of a mask is infinite and its divergence 0.
        let (t, process) = (t.min(1.0 - 1e-6), objective.hybrid());
        let weighting = match (purpose, self.weighting) {
            (Purpose::Measure, _) | (_, Weighting::Bound) => interpolating::Weighting::Bound,
            (_, Weighting::Clip) => interpolating::Weighting::Clip { min: 0.0, max: self.most },
            (_, Weighting::Dynamic) => interpolating::Weighting::Dynamic { min: 0.0, max: self.most },
        };
        // A mask, a hit and a miss of the token 0; of which token is all one, unless there is only one.
        let weight = [objective.mask(), 0, 1].map(|x_t| weighting.weight(&process, 0, x_t, t));
        let (alpha_bar, noise) = (process.alpha_bar(t), process.noise(t));
        Moment { t, alpha_bar, masks: noise.mask, weight, classes: hybrid(alpha_bar, noise) }
    }

    /// At t = 1 all is masks.
    fn constant(&self, _objective: &Objective) -> Result<f64, Error> {
        Ok(0.0)
    }
}

impl Objective {
    /// The process of hybrid noise.
    pub(crate) fn hybrid(&self) -> Hybrid {
        let AnySchedule::Hybrid(schedule) = &self.schedule else {
            unreachable!("ProcessConfig::schedule gives hybrid noise a hybrid schedule")
        };
        Hybrid::of(self.network_vocab(), self.mask(), *schedule).expect("a mask beside at least one token")
    }
}
