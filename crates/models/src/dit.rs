//! The diffusion transformer with adaLN and rotary positions, under the parameter names of the checkpoints of MDLM, SEDD,
//! UDLM, Duo, ReMDM, GIDD and BD3-LM: one network, whose output means what the objective says.
//!
//! # Source
//! Peebles & Xie 2023 (adaLN-zero); Lou et al. 2024 and Sahoo et al. 2024 for text; Arriola et al. 2025 in blocks.

use crate::attend::Attend;
use crate::encoder::{config, fan_in};
use crate::{Error, Head};
use galatea_autograd::{Activation, Chunk, Init, Recorder, Var};
use serde::{Deserialize, Serialize};

/// What the model is told of the noise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Told {
    /// The total noise sigma = -ln alpha_bar (SEDD, MDLM, UDLM, Duo, BD3-LM).
    #[default]
    TotalNoise,
    /// The time t (GIDD).
    Time,
}

/// The shape of a DiT.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dit {
    /// Width.
    pub d_model: usize,
    /// Blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the conditioning vector.
    pub cond_dim: usize,
    /// Whether the noise level is given; if not, zero is, and the conditioning is a learned constant.
    pub time_conditioning: bool,
    /// As what it is given.
    pub told: Told,
    /// Dropout of attention and feed-forward outputs, in training.
    pub dropout: f32,
}

impl Default for Dit {
    fn default() -> Self {
        Self {
            d_model: 128,
            layers: 4,
            heads: 4,
            cond_dim: 64,
            time_conditioning: false,
            told: Told::TotalNoise,
            dropout: 0.0,
        }
    }
}

const EPS: f32 = 1e-5;
const FREQUENCIES: u32 = 256;

fn chunk(index: u32, of: u32) -> Chunk {
    Chunk { index, of }
}

impl Dit {
    /// Checks the numbers against each other.
    ///
    /// # Errors
    /// The first field that fits no model.
    pub fn validate(&self) -> Result<(), Error> {
        let sizes =
            [("d_model", self.d_model), ("layers", self.layers), ("heads", self.heads), ("cond_dim", self.cond_dim)];
        for (field, found) in sizes {
            if found == 0 || found > 1 << 20 {
                return Err(config(field, "a number from 1 to 1048576", found));
            }
        }
        if !self.d_model.is_multiple_of(2 * self.heads) {
            return Err(config("heads", format!("a divisor of d_model / 2 = {}", self.d_model / 2), self.heads));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(config("dropout", "a number from 0 up to but not 1", self.dropout));
        }
        Ok(())
    }

    /// What the head reads for ids u32 [batch, len] under the noise that `time` [batch] tells, and the head.
    pub fn hidden(&self, rec: &mut Recorder, vocab: usize, ids: Var, time: Var, visible: Option<Var>) -> (Var, Head) {
        self.hidden_with(rec, vocab, ids, time, &Attend::All(visible))
    }

    /// [`Dit::hidden`] in which a position attends to those that `attend` says.
    pub(crate) fn hidden_with(
        &self,
        rec: &mut Recorder,
        vocab: usize,
        ids: Var,
        time: Var,
        attend: &Attend,
    ) -> (Var, Head) {
        let (d, c) = (self.d_model, self.cond_dim);
        let table = rec.table("vocab_embed.embedding", &[vocab, d], Init::Normal { std: 0.02 });
        let mut x = rec.embedding(ids, table);
        let features = rec.time_features(time, FREQUENCIES, 10_000.0, 1.0);
        let h = linear(rec, "sigma_map.mlp.0", features, c, true, Activation::Silu, Init::Normal { std: 0.02 });
        let cond = linear(rec, "sigma_map.mlp.2", h, c, true, Activation::Silu, Init::Normal { std: 0.02 });
        for n in 0..self.layers {
            rec.block();
            x = self.block(rec, n, x, cond, attend);
        }
        let m = linear(rec, "output_layer.adaLN_modulation", cond, 2 * d, true, Activation::None, Init::Zeros);
        let h = self.norm(rec, "output_layer.norm_final", x);
        let h = rec.modulate(h, m, chunk(0, 2), chunk(1, 2));
        let w = rec.table("output_layer.linear.weight", &[vocab, d], Init::Zeros);
        let b = rec.param("output_layer.linear.bias", &[vocab], Init::Zeros);
        (h, Head { w, b })
    }

    fn block(&self, rec: &mut Recorder, n: usize, x: Var, cond: Var, attend: &Attend) -> Var {
        let (d, heads) = (self.d_model, self.heads as u32);
        let name = |part: &str| format!("blocks.{n}.{part}");
        let m = linear(rec, &name("adaLN_modulation"), cond, 6 * d, true, Activation::None, Init::Zeros);
        let at = |index| chunk(index, 6);
        let h = self.norm(rec, &name("norm1"), x);
        let h = rec.modulate(h, m, at(0), at(1));
        let qkv = linear(rec, &name("attn_qkv"), h, 3 * d, false, Activation::None, fan_in(d));
        let qkv = attend.rotate(rec, qkv, (heads, heads), 10_000.0);
        let h = attend.mix(rec, qkv, (heads, heads), n, 0.0);
        let h = linear(rec, &name("attn_out"), h, d, false, Activation::None, fan_in(d));
        let h = rec.dropout(h, self.dropout);
        let x = rec.gate(x, h, m, at(2));
        let h = self.norm(rec, &name("norm2"), x);
        let h = rec.modulate(h, m, at(3), at(4));
        let h = linear(rec, &name("mlp.0"), h, 4 * d, true, Activation::Gelu, fan_in(d));
        let h = linear(rec, &name("mlp.2"), h, d, true, Activation::None, fan_in(4 * d));
        let h = rec.dropout(h, self.dropout);
        rec.gate(x, h, m, at(5))
    }

    fn norm(&self, rec: &mut Recorder, name: &str, x: Var) -> Var {
        let gain = rec.param(&format!("{name}.weight"), &[self.d_model], Init::Ones);
        rec.layer_norm(x, Some(gain), None, EPS)
    }
}

fn linear(rec: &mut Recorder, name: &str, x: Var, o: usize, bias: bool, activation: Activation, init: Init) -> Var {
    let i = rec.shape(x).cols();
    let w = rec.param(&format!("{name}.weight"), &[o, i], init);
    let b = bias.then(|| rec.param(&format!("{name}.bias"), &[o], Init::Zeros));
    rec.linear(x, w, b, activation)
}
