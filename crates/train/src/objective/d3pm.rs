//! Chains of T steps: the KL between posteriors, with an auxiliary cross-entropy.

use super::tokens::{Form, Moment, OnTokens};
use super::uniform::prior;
use super::{Objective, ObjectiveConfig, Purpose};
use crate::Error;
use galatea_autograd::Link;
use galatea_processes::objectives::divergence::d3pm;
use galatea_processes::objectives::masked::weight_of_steps;
use galatea_processes::times::quantise;
use galatea_schedules::Schedule;
use serde::{Deserialize, Serialize};

/// `kind = "d3pm"`: `steps` (KL of a random step's posterior + `lambda` CE(x_0)), the step into clean data being the
/// cross-entropy, for masks, uniform noise or a chain given by its matrices.
///
/// # Source
/// Austin et al. (2021), D3PM, equation 5: lambda = 0.01 for masks, 0 for uniform noise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct D3pm {
    /// T.
    pub steps: usize,
    /// The weight of the cross-entropy beside the KL of one step; the bound that is measured leaves it out.
    pub lambda: f64,
}

impl Default for D3pm {
    fn default() -> Self {
        Self { steps: 1000, lambda: 0.01 }
    }
}

impl OnTokens for D3pm {
    /// Under masks the posterior differs from x_0's where x_t is the mask, by the cross-entropy there.
    fn form(&self, objective: &Objective) -> Form {
        if objective.masks().is_some() { Form::CrossEntropy } else { Form::Divergence(Link::Softmax) }
    }

    fn moment(&self, objective: &Objective, t: f64, purpose: Purpose) -> Moment {
        let lambda = if purpose == Purpose::Measure { 0.0 } else { self.lambda };
        let (t, steps) = (quantise(t, self.steps), self.steps as f64);
        let s = t - 1.0 / steps;
        let mut moment = Moment::new(objective, t, [0.0; 3]);
        if objective.chain.is_some() {
            moment.weight = [0.0, steps, steps];
            return moment;
        }
        // The chain starts at the data, whatever the schedule says of its first instant.
        let alpha_bar_s = if s < 0.5 / steps { 1.0 } else { objective.schedule.alpha_bar(s) };
        if objective.masks().is_some() {
            let kl = weight_of_steps(moment.alpha_bar, alpha_bar_s, self.steps);
            moment.weight = [kl + steps * lambda, steps * lambda, 0.0];
        } else {
            moment.weight = [0.0, steps, steps];
            moment.classes = d3pm(objective.vocab, moment.alpha_bar, alpha_bar_s, lambda);
        }
        moment
    }

    fn constant(&self, objective: &Objective) -> Result<f64, Error> {
        if objective.masks().is_some() || objective.chain.is_some() { Ok(0.0) } else { prior(objective) }
    }
}

impl Objective {
    /// What the cross-entropy weighs beside the KL.
    pub(super) fn lambda(&self, purpose: Purpose) -> f32 {
        match (&self.loss, purpose) {
            (ObjectiveConfig::D3pm(d3pm), Purpose::Train { .. }) => d3pm.lambda as f32,
            _ => 0.0,
        }
    }
}
