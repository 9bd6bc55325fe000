//! The Llama body read in both directions or in blocks: the network of LLaDA, Dream and SDAR, under their checkpoints' names.
//!
//! Pre-norm blocks of grouped-query attention and SwiGLU, RMS norms, rotary positions, no time: a masked canvas shows its own
//! noise level.
//!
//! # Source
//! Touvron et al. 2023 (Llama); Ainslie et al. 2023 (grouped queries); Nie et al. 2025 (LLaDA); Ye et al. 2025 (Dream); Cheng et
//! al. 2025 (SDAR).

use crate::attend::Attend;
use crate::encoder::{config, fan_in};
use crate::weights::stacked;
use crate::{Error, Head};
use galatea_autograd::{Activation, Init, Recorder, Var};
use serde::{Deserialize, Serialize};

/// Whose names the parameters have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Naming {
    /// LLaDA's: `model.transformer.blocks.0.q_proj.weight`.
    #[default]
    Llada,
    /// Those of Qwen, which Dream and SDAR keep: `model.layers.0.self_attn.q_proj.weight`.
    Qwen,
}

/// The shape of a Llama body.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Llama {
    /// Width.
    pub d_model: usize,
    /// Blocks.
    pub layers: usize,
    /// Heads of the queries.
    pub heads: usize,
    /// Heads of the keys and values, each shared by heads / kv_heads queries.
    pub kv_heads: usize,
    /// Width of a head; 0 for d_model / heads.
    pub d_head: usize,
    /// Width of the gated hidden layer.
    pub d_ff: usize,
    /// Base of the rotary angles.
    pub rope_theta: f64,
    /// Added to the mean square of a norm.
    pub norm_eps: f32,
    /// Whether q, k and v have biases.
    pub qkv_bias: bool,
    /// RMS norm of every head of q and k, with learned gains.
    pub qk_norm: bool,
    /// Whose names the parameters have.
    pub naming: Naming,
    /// Dropout of attention and feed-forward outputs, in training.
    pub dropout: f32,
}

impl Default for Llama {
    fn default() -> Self {
        Self {
            d_model: 128,
            layers: 4,
            heads: 4,
            kv_heads: 4,
            d_head: 0,
            d_ff: 384,
            rope_theta: 500_000.0,
            norm_eps: 1e-5,
            qkv_bias: false,
            qk_norm: false,
            naming: Naming::Llada,
            dropout: 0.0,
        }
    }
}

/// The names of a naming.
struct Names {
    table: &'static str,
    block: &'static str,
    norms: [&'static str; 2],
    attention: &'static str,
    out: &'static str,
    feed_forward: &'static str,
    gate_up: [&'static str; 2],
    down: &'static str,
    norm: &'static str,
    head: &'static str,
}

impl Naming {
    fn names(self) -> Names {
        match self {
            Naming::Llada => Names {
                table: "model.transformer.wte.weight",
                block: "model.transformer.blocks",
                norms: ["attn_norm", "ff_norm"],
                attention: "",
                out: "attn_out",
                feed_forward: "",
                gate_up: ["ff_proj", "up_proj"],
                down: "ff_out",
                norm: "model.transformer.ln_f.weight",
                head: "model.transformer.ff_out.weight",
            },
            Naming::Qwen => Names {
                table: "model.embed_tokens.weight",
                block: "model.layers",
                norms: ["input_layernorm", "post_attention_layernorm"],
                attention: "self_attn.",
                out: "self_attn.o_proj",
                feed_forward: "mlp.",
                gate_up: ["gate_proj", "up_proj"],
                down: "mlp.down_proj",
                norm: "model.norm.weight",
                head: "lm_head.weight",
            },
        }
    }
}

impl Llama {
    /// Checks the numbers against each other.
    ///
    /// # Errors
    /// The first field that fits no model.
    pub fn validate(&self) -> Result<(), Error> {
        let sizes = [
            ("d_model", self.d_model),
            ("layers", self.layers),
            ("heads", self.heads),
            ("kv_heads", self.kv_heads),
            ("d_ff", self.d_ff),
        ];
        for (field, found) in sizes {
            if found == 0 || found > 1 << 20 {
                return Err(config(field, "a number from 1 to 1048576", found));
            }
        }
        if self.d_head > 1 << 20 || !self.d_head.is_multiple_of(2) {
            return Err(config("d_head", "an even number up to 1048576, or 0 for d_model / heads", self.d_head));
        }
        if self.d_head == 0 && !self.d_model.is_multiple_of(2 * self.heads) {
            return Err(config("heads", format!("a divisor of d_model / 2 = {}", self.d_model / 2), self.heads));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(config("kv_heads", format!("a divisor of the {} heads", self.heads), self.kv_heads));
        }
        if !(self.rope_theta.is_finite() && self.rope_theta >= 1.0) {
            return Err(config("rope_theta", "a number from 1 on", self.rope_theta));
        }
        if !(self.norm_eps > 0.0 && self.norm_eps < 1.0) {
            return Err(config("norm_eps", "a number above 0, below 1", self.norm_eps));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(config("dropout", "a number from 0 up to but not 1", self.dropout));
        }
        Ok(())
    }

    /// Width of the keys of a position, and of its values.
    pub(crate) fn key_width(&self) -> usize {
        self.kv_heads * self.head_width()
    }

    fn head_width(&self) -> usize {
        if self.d_head == 0 { self.d_model / self.heads } else { self.d_head }
    }

    /// What the head reads for ids u32 [batch, len], and the head.
    pub(crate) fn hidden_with(&self, rec: &mut Recorder, vocab: usize, ids: Var, attend: &Attend) -> (Var, Head) {
        let (d, names) = (self.d_model, self.naming.names());
        let table = rec.table(names.table, &[vocab, d], Init::Normal { std: 0.02 });
        let mut x = rec.embedding(ids, table);
        for layer in 0..self.layers {
            rec.block();
            x = self.block(rec, layer, x, attend);
        }
        let gain = rec.param(names.norm, &[d], Init::Ones);
        let h = rec.rms_norm(x, Some(gain), self.norm_eps);
        let w = rec.table(names.head, &[vocab, d], Init::Zeros);
        // The originals' heads have no bias.
        (h, Head { w, b: rec.constant(&[vocab], vec![0.0; vocab]) })
    }

    fn block(&self, rec: &mut Recorder, layer: usize, x: Var, attend: &Attend) -> Var {
        let (d, names) = (self.d_model, self.naming.names());
        let prefix = format!("{}.{layer}.", names.block);
        let heads = (self.heads as u32, self.kv_heads as u32);
        let norms = names.norms.map(|name| rec.param(&format!("{prefix}{name}.weight"), &[d], Init::Ones));
        let h = rec.rms_norm(x, Some(norms[0]), self.norm_eps);
        let d_head = self.head_width();
        let qkv = [("q_proj", self.heads * d_head), ("k_proj", self.key_width()), ("v_proj", self.key_width())];
        let attention = format!("{prefix}{}", names.attention);
        let mut h = linear(rec, &attention, &qkv, h, self.qkv_bias, (Activation::None, fan_in(d)));
        if self.qk_norm {
            let path = stacked(&attention, &[("q_norm", d_head), ("k_norm", d_head)], ".weight");
            let gains = rec.param(&path, &[2 * d_head], Init::Ones);
            h = rec.learned_qk_norm(h, heads, self.norm_eps, gains);
        }
        let h = attend.rotate(rec, h, heads, self.rope_theta);
        let h = attend.mix(rec, h, heads, layer, 0.0);
        let h = linear(rec, &prefix, &[(names.out, d)], h, false, (Activation::None, Init::Zeros));
        let (x, h) = rec.add_rms_norm(x, h, self.dropout, Some(norms[1]), self.norm_eps);
        let gate_up = names.gate_up.map(|name| (name, self.d_ff));
        let feed_forward = format!("{prefix}{}", names.feed_forward);
        let h = linear(rec, &feed_forward, &gate_up, h, false, (Activation::SwiGlu, fan_in(d)));
        let h = linear(rec, &prefix, &[(names.down, d)], h, false, (Activation::None, Init::Zeros));
        let h = rec.dropout(h, self.dropout);
        rec.add(x, h)
    }
}

/// One product with the weights of all `parts`, (name, rows) each, one after another.
fn linear(
    rec: &mut Recorder,
    prefix: &str,
    parts: &[(&str, usize)],
    x: Var,
    bias: bool,
    (activation, init): (Activation, Init),
) -> Var {
    let (rows, i) = (parts.iter().map(|(_, rows)| rows).sum(), rec.shape(x).cols());
    let w = rec.param(&stacked(prefix, parts, ".weight"), &[rows, i], init);
    let b = bias.then(|| rec.param(&stacked(prefix, parts, ".bias"), &[rows], Init::Zeros));
    rec.linear(x, w, b, activation)
}
