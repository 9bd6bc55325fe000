//! Masked diffusion: cross-entropy where the canvas shows the mask.

use super::{Batch, Inputs, Objective};
use galatea_autograd::{Limit, Recorder};
use galatea_models::Model;
use serde::{Deserialize, Serialize};

/// `kind = "masked"`: the masked NELBO in continuous time, weighted -alpha_bar' / (1 - alpha_bar).
///
/// # Source
/// Sahoo et al. (2024), MDLM; Shi et al. (2024), MD4; Nie et al. (2025), LLaDA: they differ in their schedules.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Masked {}

/// SUBS: the mask has no probability, and a token that is shown costs nothing.
pub(super) fn record(objective: &Objective, rec: &mut Recorder, model: &Model, inputs: Inputs) -> Batch {
    let Inputs { x_0, time, weight, level, .. } = inputs;
    let mask = objective.mask();
    let x_t = rec.corrupt_tokens(x_0, level, Limit::Mask(mask));
    let w = rec.masked_weight(x_t, weight, mask);
    let (h, head) = model.hidden(rec, objective.network_vocab(), x_t, time, None);
    let (loss, nll) = rec.linear_cross_entropy(h, (head.w, Some(head.b)), x_0, w, Some(mask));
    Batch { x_0, time, level, weight, loss, value: nll, token_weight: Some(w) }
}
