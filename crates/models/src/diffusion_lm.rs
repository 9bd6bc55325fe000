//! Diffusion-LM's network: a BERT encoder between two small networks that widen and narrow the embeddings, told the time by a row
//! added everywhere.
//!
//! # Source
//! Li et al. (2022), "Diffusion-LM improves controllable text generation", section 5 and appendix; `transformer_model2.py` of its
//! code; Devlin et al. (2019), "BERT".

use crate::encoder::{config, fan_in};
use crate::{Error, Rounding};
use galatea_autograd::{Activation, AttentionMask, Init, Recorder, Rows, Var};
use serde::{Deserialize, Serialize};

/// What scores the tokens of an embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoundingLogits {
    /// Products with the head's rows, and a bias.
    Product,
    /// Distances to them, negated.
    Distance,
}

/// The network's shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DiffusionLm {
    /// Width of the embeddings that noise is added to.
    pub d_embed: usize,
    /// Width.
    pub d_model: usize,
    /// Blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of a block's hidden layer.
    pub d_ff: usize,
    /// Sines and cosines of the time; its network is four times as wide.
    pub time_features: usize,
    /// Whether the head's rows are the embeddings.
    pub tied: bool,
    /// What rounds: products with the head's rows, or distances to them.
    pub logits: RoundingLogits,
    /// Dropout in training, of what BERT drops: the input, attention weights, attention and feed-forward outputs.
    pub dropout: f32,
}

impl Default for DiffusionLm {
    fn default() -> Self {
        Self {
            d_embed: 16,
            d_model: 128,
            layers: 4,
            heads: 4,
            d_ff: 512,
            time_features: 128,
            tied: true,
            logits: RoundingLogits::Product,
            dropout: 0.0,
        }
    }
}

const EPS: f32 = 1e-12;

impl DiffusionLm {
    /// Checks the numbers against each other.
    ///
    /// # Errors
    /// The first field that fits no model.
    pub fn validate(&self) -> Result<(), Error> {
        let sizes = [
            ("d_embed", self.d_embed),
            ("d_model", self.d_model),
            ("layers", self.layers),
            ("heads", self.heads),
            ("d_ff", self.d_ff),
            ("time_features", self.time_features),
        ];
        for (field, found) in sizes {
            if found == 0 || found > 1 << 20 {
                return Err(config(field, "a number from 1 to 1048576", found));
            }
        }
        if !self.d_model.is_multiple_of(self.heads) {
            return Err(config("heads", format!("a divisor of d_model = {}", self.d_model), self.heads));
        }
        if !self.time_features.is_multiple_of(2) {
            return Err(config("time_features", "an even number", self.time_features));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(config("dropout", "a number from 0 up to but not 1", self.dropout));
        }
        Ok(())
    }

    /// E [vocab, d_embed] and the head that rounds to its rows.
    pub fn rounding(&self, rec: &mut Recorder, vocab: usize) -> Rounding {
        let dims = [vocab, self.d_embed];
        let table = rec.table("word_embedding.weight", &dims, Init::UnitRows);
        let weight = if self.tied { table } else { rec.table("lm_head.weight", &dims, Init::UnitRows) };
        let bias = match self.logits {
            RoundingLogits::Product => Some(rec.param("lm_head.bias", &[vocab], Init::Zeros)),
            RoundingLogits::Distance => None,
        };
        Rounding { table, weight, bias }
    }

    /// x_0_hat [batch, len, d_embed] of z_t of that shape at times `t` [batch], in units of a thousandth of the chain.
    pub fn x_0_hat(&self, rec: &mut Recorder, z_t: Var, t: Var, visible: Option<Var>) -> Var {
        let (d, len) = (self.d_model, rec.shape(z_t).dim(1));
        let features = rec.time_features(t, self.time_features as u32, 10_000.0, 1.0);
        let time = linear(rec, "time_embed.0", features, 4 * self.time_features, Activation::Silu);
        let time = linear(rec, "time_embed.2", time, d, Activation::None);
        let x = linear(rec, "input_up_proj.0", z_t, d, Activation::Tanh);
        let x = linear(rec, "input_up_proj.2", x, d, Activation::None);
        let positions = rec.table("position_embeddings.weight", &[len, d], Init::Normal { std: 0.02 });
        let x = rec.add_rows(x, positions, Rows::Positions);
        let x = rec.add_rows(x, time, Rows::Batch);
        let (gain, shift) = norm(rec, "LayerNorm", d);
        let x = rec.layer_norm(x, Some(gain), Some(shift), EPS);
        let mut x = rec.dropout(x, self.dropout);
        for layer in 0..self.layers {
            rec.block();
            x = self.block(rec, layer, x, visible);
        }
        let x = linear(rec, "output_down_proj.0", x, d, Activation::Tanh);
        linear(rec, "output_down_proj.2", x, self.d_embed, Activation::None)
    }

    fn block(&self, rec: &mut Recorder, layer: usize, x: Var, visible: Option<Var>) -> Var {
        let (d, heads) = (self.d_model, self.heads as u32);
        let name = |part: &str| format!("input_transformers.layer.{layer}.{part}");
        let qkv = linear(rec, &name("attention.self.qkv"), x, 3 * d, Activation::None);
        let y = rec.attention_dropout(qkv, (heads, heads), AttentionMask::Full, visible, self.dropout);
        let y = linear(rec, &name("attention.output.dense"), y, d, Activation::None);
        let (gain, shift) = norm(rec, &name("attention.output.LayerNorm"), d);
        let (_, x) = rec.add_layer_norm(x, y, self.dropout, Some(gain), Some(shift), EPS);
        let u = linear(rec, &name("intermediate.dense"), x, self.d_ff, Activation::GeluErf);
        let y = linear(rec, &name("output.dense"), u, d, Activation::None);
        let (gain, shift) = norm(rec, &name("output.LayerNorm"), d);
        rec.add_layer_norm(x, y, self.dropout, Some(gain), Some(shift), EPS).1
    }

    /// The tensors of a published checkpoint whose rows, one after another, begin with those of the parameter `path`: its name,
    /// but for attention, whose three projections are one product here. (The positions of a checkpoint go on beyond a text's.)
    pub fn published(path: &str) -> Vec<String> {
        match path.split_once(".self.qkv.") {
            Some((layer, part)) => {
                ["query", "key", "value"].iter().map(|which| format!("{layer}.self.{which}.{part}")).collect()
            }
            None => vec![path.to_owned()],
        }
    }
}

fn linear(rec: &mut Recorder, name: &str, x: Var, o: usize, activation: Activation) -> Var {
    let i = rec.shape(x).cols();
    let w = rec.param(&format!("{name}.weight"), &[o, i], fan_in(i));
    let b = rec.param(&format!("{name}.bias"), &[o], Init::Zeros);
    rec.linear(x, w, Some(b), activation)
}

fn norm(rec: &mut Recorder, name: &str, d: usize) -> (Var, Var) {
    let gain = rec.param(&format!("{name}.weight"), &[d], Init::Ones);
    (gain, rec.param(&format!("{name}.bias"), &[d], Init::Zeros))
}
