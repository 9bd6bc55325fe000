//! Discrete flow matching on the mixture path.

use super::tokens::{Form, Moment, OnTokens};
use super::uniform::prior;
use super::{Objective, Purpose};
use crate::Error;
use galatea_autograd::Link;
use galatea_processes::objectives::{divergence, masked};
use serde::{Deserialize, Serialize};

/// `kind = "flow"`: the generalised KL of a mixture path, from masks or uniform noise.
///
/// The path's kappa is alpha_bar with its time turned round: the schedule `power(n)` is kappa(t) = t^n.
///
/// # Source
/// Gat et al. (2024), "Discrete flow matching"; Shaul et al. (2024), the generalised KL.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Flow {}

impl OnTokens for Flow {
    fn form(&self, _objective: &Objective) -> Form {
        Form::Divergence(Link::Softmax)
    }

    fn moment(&self, objective: &Objective, t: f64, _purpose: Purpose) -> Moment {
        let weight = masked::weight(&objective.schedule, t);
        Moment { classes: divergence::flow(), ..Moment::new(objective, t, [weight; 3]) }
    }

    fn constant(&self, objective: &Objective) -> Result<f64, Error> {
        if objective.masks().is_some() { Ok(0.0) } else { prior(objective) }
    }
}
