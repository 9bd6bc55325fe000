//! The transformer of likelihood-trained continuous diffusion: Plaid, and the CDCD of the same authors' code.
//!
//! Embeddings have unit length, noise is Gaussian, and the output is a distribution over tokens whose mean embedding is the
//! prediction: x_0_hat = softmax(logits) E. The two differ in how the noise level enters (`condition`).
//!
//! # Source
//! Gulrajani & Hashimoto (2023), "Likelihood-based diffusion language models"; Dieleman et al. (2022), "Continuous diffusion for
//! categorical data".

mod conditions;
mod denoiser;

pub use conditions::Conditions;
pub use denoiser::{Gamma, NetPlaid, Wish, WishGuide, WishPlace};

use crate::Error;
use crate::encoder::{config, fan_in};
use galatea_autograd::{Activation, AttentionMask, Chunk, DType, Init, Recorder, Rows, Var};
use serde::{Deserialize, Serialize};

/// How the network is told the noise level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// Features of gamma = -log SNR added to the input; RMS norms; the logits begin at the exact posterior of a lone embedding
    /// (the output prior). Plaid.
    Gamma,
    /// Features of the noise level through an MLP into the shift of every layer norm. CDCD.
    Shift,
}

/// The network's shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Plaid {
    /// Width.
    pub d_model: usize,
    /// Blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the embeddings that noise is added to.
    pub d_embed: usize,
    /// How the noise level enters.
    pub condition: Condition,
    /// Hidden states are divided by this before the head (muP: the width over 256 in the published models).
    pub width_mult: f64,
}

impl Default for Plaid {
    fn default() -> Self {
        Self { d_model: 128, layers: 4, heads: 4, d_embed: 16, condition: Condition::Gamma, width_mult: 1.0 }
    }
}

/// Noisy embeddings and what the network is told of their level.
#[derive(Clone, Copy, Debug)]
pub struct Noisy {
    /// z [batch, len, d_embed].
    pub z: Var,
    /// [`Conditions::scales`], f32 [batch, 2].
    pub scales: Var,
    /// [`Conditions::features`], f32 [batch, [`Plaid::features`]].
    pub features: Var,
}

/// What the network makes of them.
#[derive(Clone, Copy, Debug)]
pub struct Denoised {
    /// Logits [batch, len, vocab].
    pub logits: Var,
    /// The mean embedding under them, [batch, len, d_embed].
    pub x_0_hat: Var,
}

/// The parameter behind E.
const TABLE: &str = "embedding_matrix.matrix";
const EPS: f32 = 1e-5;
/// Width of CDCD's features and of its condition.
const CONDITION: usize = 128;
/// What is added to an embedding's length before it divides.
const UNIT_EPS: f32 = 1e-8;

impl Plaid {
    /// Checks the numbers against each other.
    ///
    /// # Errors
    /// The first field that fits no model.
    pub fn validate(&self) -> Result<(), Error> {
        let sizes =
            [("d_model", self.d_model), ("layers", self.layers), ("heads", self.heads), ("d_embed", self.d_embed)];
        for (field, found) in sizes {
            if found == 0 || found > 1 << 20 {
                return Err(config(field, "a number from 1 to 1048576", found));
            }
        }
        if !self.d_model.is_multiple_of(2 * self.heads) {
            return Err(config("heads", format!("a divisor of d_model / 2 = {}", self.d_model / 2), self.heads));
        }
        if !(self.width_mult > 0.0 && self.width_mult.is_finite()) {
            return Err(config("width_mult", "a positive number", self.width_mult));
        }
        Ok(())
    }

    /// The rows that are learned, [vocab, d_embed], of any length.
    pub fn table(&self, rec: &mut Recorder, vocab: usize) -> Var {
        rec.table(TABLE, &[vocab, self.d_embed], Init::UnitRows)
    }

    /// E [vocab, d_embed]: the rows of `table` at unit length.
    pub fn embeddings(&self, rec: &mut Recorder, table: Var) -> Var {
        rec.unit_rows(table, UNIT_EPS)
    }

    /// The network on noisy embeddings; `x_0_hat` [batch, len, d_embed] is an earlier prediction of its own (self-conditioning),
    /// or nothing.
    pub fn denoise(&self, rec: &mut Recorder, noisy: Noisy, e: Var, x_0_hat: Option<Var>) -> Denoised {
        let Noisy { z, scales, features } = noisy;
        let vocab = rec.shape(e).dim(0);
        let scaled = rec.scale_rows(z, scales, Conditions::INPUT);
        let mut x = linear(rec, "model.input_linear", scaled, self.d_model, Activation::None, fan_in(self.d_embed));
        let w = rec.param("model.selfcond_linear.weight", &[self.d_model, self.d_embed], Init::Zeros);
        if let Some(x_0_hat) = x_0_hat {
            let known = rec.scale(x_0_hat, (self.d_embed as f32).sqrt());
            let known = rec.linear(known, w, None, Activation::None);
            x = rec.add(x, known);
        }
        let shift = match self.condition {
            Condition::Gamma => {
                let c = linear(rec, "model.gamma_linear", features, self.d_model, Activation::None, Init::Zeros);
                x = rec.add_rows(x, c, Rows::Batch);
                None
            }
            Condition::Shift => {
                let gelu = Activation::GeluErf;
                let c = biased(rec, "model.timestep_embed.0", features, CONDITION, gelu, fan_in(CONDITION));
                Some(biased(rec, "model.timestep_embed.2", c, CONDITION, gelu, fan_in(CONDITION)))
            }
        };
        for layer in 0..self.layers {
            rec.block();
            x = self.block(rec, layer, x, shift);
        }
        let gain = rec.param("model.output_norm.weight", &[self.d_model], Init::Ones);
        let bias = match self.condition {
            Condition::Gamma => None,
            Condition::Shift => Some(rec.param("model.output_norm.bias", &[self.d_model], Init::Zeros)),
        };
        let h = rec.layer_norm(x, Some(gain), bias, EPS);
        let h = rec.scale(h, (1.0 / self.width_mult) as f32);
        let w = rec.table("model.output_linear.weight", &[vocab, self.d_model], Init::Zeros);
        let b = rec.param("model.output_linear.bias", &[vocab], Init::Zeros);
        // In f32 from here on, whatever came before: near the data the prior and the errors are about small differences.
        let logits = rec.linear(h, w, Some(b), Activation::None);
        let mut logits = rec.cast(logits, DType::F32);
        if self.condition == Condition::Gamma {
            // log q(z | e) for e of unit length, up to what does not depend on e.
            let scaled = rec.scale_rows(z, scales, Conditions::PRIOR);
            let prior = rec.linear(scaled, e, None, Activation::None);
            logits = rec.add(logits, prior);
        }
        let p = rec.softmax(logits);
        Denoised { logits, x_0_hat: rec.mix(p, e) }
    }

    fn block(&self, rec: &mut Recorder, layer: usize, x: Var, shift: Option<Var>) -> Var {
        let (d, heads) = (self.d_model, self.heads as u32);
        let name = |part: &str| format!("model.blocks.{layer}.{part}");
        let residual = (1.0 / (self.layers as f64).sqrt()) as f32;
        let norm = |rec: &mut Recorder, number: usize| {
            let kind = if self.condition == Condition::Gamma { "rmsnorm" } else { "norm" };
            rec.param(&name(&format!("{kind}{number}.weight")), &[d], Init::Ones)
        };
        let shifted = |rec: &mut Recorder, number: usize, h: Var| match shift {
            None => h,
            Some(c) => {
                let part = name(&format!("norm{number}.cond_linear"));
                let c = biased(rec, &part, c, d, Activation::None, Init::Zeros);
                rec.add_rows(h, c, Rows::Batch)
            }
        };
        let gain = norm(rec, 1);
        let h = match self.condition {
            Condition::Gamma => rec.rms_norm(x, Some(gain), EPS),
            Condition::Shift => rec.layer_norm(x, Some(gain), None, EPS),
        };
        let h = shifted(rec, 1, h);
        let qkv = linear(rec, &name("attn_qkv"), h, 3 * d, Activation::None, fan_in(d));
        let qkv = rec.rotary(qkv, heads, 10_000.0);
        let y = rec.attention(qkv, heads, AttentionMask::Full, None);
        let y = linear(rec, &name("attn_out"), y, d, Activation::None, fan_in(d));
        let y = rec.scale(y, residual);
        let gain = norm(rec, 2);
        let (x, h) = match self.condition {
            Condition::Gamma => rec.add_rms_norm(x, y, 0.0, Some(gain), EPS),
            Condition::Shift => rec.add_layer_norm(x, y, 0.0, Some(gain), None, EPS),
        };
        let h = shifted(rec, 2, h);
        let u = linear(rec, &name("mlp.fc1"), h, 4 * d, Activation::Gelu, fan_in(d));
        let y = linear(rec, &name("mlp.fc2"), u, d, Activation::None, fan_in(4 * d));
        let y = rec.scale(y, residual);
        rec.add(x, y)
    }
}

fn linear(rec: &mut Recorder, name: &str, x: Var, o: usize, activation: Activation, init: Init) -> Var {
    let i = rec.shape(x).cols();
    let w = rec.param(&format!("{name}.weight"), &[o, i], init);
    rec.linear(x, w, None, activation)
}

fn biased(rec: &mut Recorder, name: &str, x: Var, o: usize, activation: Activation, init: Init) -> Var {
    let i = rec.shape(x).cols();
    let w = rec.param(&format!("{name}.weight"), &[o, i], init);
    let b = rec.param(&format!("{name}.bias"), &[o], Init::Zeros);
    rec.linear(x, w, Some(b), activation)
}

/// z = signal x_0 + sigma noise for x_0 [batch, len, d_embed] and level f32 [batch, 2] ([`Conditions::level`]), with gradients of
/// both. The noise is drawn, or the given one of x_0's shape.
pub fn corrupt(rec: &mut Recorder, x_0: Var, level: Var, noise: Option<Var>) -> Var {
    let chunk = |index| Chunk { index, of: 2 };
    match noise {
        None => rec.corrupt_gaussian(x_0, level).0,
        Some(noise) => {
            let signal = rec.scale_rows(x_0, level, chunk(0));
            let spread = rec.scale_rows(noise, level, chunk(1));
            rec.add(signal, spread)
        }
    }
}
