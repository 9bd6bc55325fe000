//! Gaussian diffusion on embeddings.

use super::{Batch, Inputs, Objective, Purpose};
use galatea_autograd::{Recorder, Rows};
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
    inputs: Inputs,
    purpose: Purpose,
) -> Batch {
    let Inputs { x_0, time, weight, level, batch, len } = inputs;
    let encoder = model.embedding_encoder().expect("Config::validate admits only encoders that take time");
    let (d, rows) = (encoder.embedding_width(), batch * len);
    let rounding = encoder.rounding(rec, objective.vocab);
    let e = rec.embedding(x_0, rounding.table);
    let (z_t, _) = rec.corrupt_gaussian(e, level);
    let x_0_hat = encoder.x_0_hat(rec, z_t, time, None);
    // A row's weight, for each of its tokens.
    let zeros = rec.constant(&[batch, len, 1], vec![0.0; rows]);
    let w = rec.add_rows(zeros, weight, Rows::Batch);
    let (error_loss, error) = rec.squared_error(x_0_hat, e, w);
    let loss = match purpose {
        Purpose::Measure => error_loss,
        Purpose::Train { share } => {
            let (signal, sigma) = objective.signal_noise(0.0);
            let start = rec.constant(&[batch, 2], [signal as f32, sigma as f32].repeat(batch));
            let (x_start, _) = rec.corrupt_gaussian(e, start);
            let logits = encoder.round(rec, rounding, x_start);
            let mean = share / rows as f64;
            let w = rec.constant(&[batch, len], vec![mean as f32; rows]);
            let (nll_loss, _) = rec.cross_entropy(logits, x_0, w, None);
            let end = mean * objective.schedule.alpha_bar(1.0) / d as f64;
            let w = rec.constant(&[batch, len], vec![end as f32; rows]);
            let nothing = rec.constant(&[batch, len, d], vec![0.0; rows * d]);
            let nothing = rec.cast(nothing, rec.precision());
            let (end_loss, _) = rec.squared_error(x_start, nothing, w);
            let loss = rec.add(error_loss, nll_loss);
            rec.add(loss, end_loss)
        }
    };
    Batch { x_0, time, level, weight, loss, value: error, token_weight: None }
}
