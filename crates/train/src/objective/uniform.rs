//! Uniform-state diffusion.

use super::{Batch, Inputs, Objective};
use galatea_autograd::{Limit, Recorder};
use galatea_models::Model;
use serde::{Deserialize, Serialize};

/// `kind = "uniform"`: the uniform-state NELBO in continuous time.
///
/// # Source
/// Schiff et al. (2024), UDLM; Sahoo et al. (2025), Duo.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Uniform {}

/// The rate of the bound, weighted -alpha_bar'.
pub(super) fn record(objective: &Objective, rec: &mut Recorder, model: &Model, inputs: Inputs) -> Batch {
    let Inputs { x_0, time, weight, level, .. } = inputs;
    let x_t = rec.corrupt_tokens(x_0, level, Limit::Uniform(objective.vocab as u32));
    let logits = model.logits(rec, objective.network_vocab(), x_t, time, None);
    let (loss, nelbo) = rec.uniform_nelbo(logits, x_0, x_t, level, weight);
    Batch { x_0, time, level, weight, loss, value: nelbo, token_weight: None }
}
