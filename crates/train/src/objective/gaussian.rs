//! Gaussian diffusion on embeddings.

use super::e2e::{self, Ends};
use super::{Batch, Inputs, Objective, Purpose};
use galatea_autograd::{Recorder, Rows, Var};
use galatea_models::Model;
use galatea_schedules::Schedule;
use serde::{Deserialize, Serialize};

/// `kind = "diffusion-lm"`: squared error of x_0_hat, cross-entropy of rounding the start of the chain, and the signal left at
/// the end; the embeddings learn through all three.
///
/// # Source
/// Li et al. (2022), Diffusion-LM, section 4.1.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiffusionLm {}

/// The three terms; a bound needs the first alone.
pub(super) fn record(
    objective: &Objective,
    rec: &mut Recorder,
    model: &Model,
    (x_0, inputs): (Var, Inputs),
    [batch, len]: [usize; 2],
    purpose: Purpose,
) -> Batch {
    let Inputs { time, weight, level, .. } = inputs;
    let network = model.embedding_network().expect("Config::validate admits only networks on embeddings");
    let rounding = network.rounding(rec, objective.vocab);
    let (loss, value) = match purpose {
        Purpose::Train { share } => {
            let ends = Ends { start: objective.schedule.alpha_bar(0.0), end: objective.schedule.alpha_bar(1.0) };
            let inputs = e2e::Inputs { x_0, level, weight, first: None, noise: None };
            let denoise = |rec: &mut Recorder, x_t| network.x_0_hat(rec, x_t, time, None);
            let recorded = e2e::record(rec, inputs, rounding, ends, share, denoise);
            (recorded.loss, recorded.error)
        }
        Purpose::Measure => {
            let e = rec.embedding(x_0, rounding.table);
            let (z_t, _) = rec.corrupt_gaussian(e, level);
            let x_0_hat = network.x_0_hat(rec, z_t, time, None);
            // A row's weight, for each of its tokens.
            let zeros = rec.constant(&[batch, len, 1], vec![0.0; batch * len]);
            let w = rec.add_rows(zeros, weight, Rows::Batch);
            rec.squared_error(x_0_hat, e, w)
        }
    };
    Batch { x_0, x_t: None, inputs, loss, value, token_weight: None }
}
