//! Score entropy: the network gives log-ratios of probabilities.

use super::tokens::{Form, Moment, OnTokens};
use super::uniform::prior;
use super::{Objective, Purpose};
use crate::Error;
use galatea_autograd::Link;
use galatea_processes::Limit;
use galatea_processes::objectives::divergence::score;
use galatea_schedules::Schedule;
use serde::{Deserialize, Serialize};

/// `kind = "sedd"`: denoising score entropy, weighted by the rate of noise, for masks or uniform noise.
///
/// The network's numbers are log-ratios log p_t(y) / p_t(x_t); under masks less log((exp(sigma) - 1) (V - 1)), V counting the
/// mask and sigma = -log alpha_bar, as SEDD scales them, so that a network of zeros says that nothing is known.
///
/// # Source
/// Lou, Meng, Ermon (2024), SEDD.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sedd {}

impl OnTokens for Sedd {
    fn form(&self, _objective: &Objective) -> Form {
        Form::Divergence(Link::Exp)
    }

    fn moment(&self, objective: &Objective, t: f64, _purpose: Purpose) -> Moment {
        let (rate, vocab) = (objective.schedule.rate(t), objective.network_vocab());
        let mut moment = Moment::new(objective, t, [0.0; 3]);
        let limit = match objective.masks() {
            Some(mask) => {
                moment.weight = [rate, 0.0, 0.0];
                Limit::Mask(mask)
            }
            None => {
                let each = rate / vocab as f64;
                moment.weight = [0.0, each, each];
                Limit::Uniform
            }
        };
        moment.classes = score(limit, vocab, moment.alpha_bar, objective.score_factor(moment.alpha_bar));
        moment
    }

    fn constant(&self, objective: &Objective) -> Result<f64, Error> {
        if objective.masks().is_some() { Ok(0.0) } else { prior(objective) }
    }
}

impl Objective {
    /// What exp(logits) is multiplied by to be a ratio of probabilities.
    fn score_factor(&self, alpha_bar: f64) -> f64 {
        match self.masks() {
            Some(_) => alpha_bar / ((1.0 - alpha_bar) * (self.network_vocab() - 1) as f64),
            None => 1.0,
        }
    }
}
