//! Uniform-state diffusion.

use super::tokens::{Form, Moment, OnTokens};
use super::{Objective, Purpose};
use crate::Error;
use galatea_autograd::Link;
use galatea_processes::objectives::divergence::{uniform, uniform_weight};
use galatea_processes::{Categorical, Limit};
use galatea_schedules::Schedule;
use serde::{Deserialize, Serialize};

/// `kind = "uniform"`: the uniform-state NELBO in continuous time.
///
/// # Source
/// Schiff et al. (2024), UDLM; Sahoo et al. (2025), Duo.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Uniform {}

impl OnTokens for Uniform {
    fn form(&self, _objective: &Objective) -> Form {
        Form::Divergence(Link::Softmax)
    }

    fn moment(&self, objective: &Objective, t: f64, _purpose: Purpose) -> Moment {
        let (vocab, slope) = (objective.vocab, objective.schedule.alpha_bar_derivative(t));
        let mut moment = Moment::new(objective, t, [0.0; 3]);
        let w = uniform_weight(vocab, moment.alpha_bar, slope);
        (moment.weight, moment.classes) = ([0.0, w, w], uniform(vocab, moment.alpha_bar));
        moment
    }

    fn constant(&self, objective: &Objective) -> Result<f64, Error> {
        prior(objective)
    }
}

/// What is known of x_0 at t = 1 though the sampler begins without it: KL(q(x_1 | x_0) || uniform).
pub(super) fn prior(objective: &Objective) -> Result<f64, Error> {
    Ok(Categorical::new(objective.vocab, Limit::Uniform)?.prior_kl(objective.schedule.alpha_bar(1.0)))
}
