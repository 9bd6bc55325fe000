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
use crate::attend::Attend;
use crate::encoder::{Positions, config, fan_in};
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
    /// How a position is known: by rotation alone in the published models. Where every text puts the same words at the same places a
    /// learned row tells them apart at once, and much sooner than noisy neighbours do.
    pub positions: Positions,
    /// RMS norm of every head of q and k, which the published models have not.
    pub qk_norm: bool,
    /// The largest frequency of the level's features, as a power of e; that of the published models if not given: 5 of gamma, 6 of
    /// CDCD's t. A feature that turns many times between the ends of the schedule is noise to a network until it has seen very
    /// many levels.
    pub fastest: Option<f64>,
}

impl Default for Plaid {
    fn default() -> Self {
        Self {
            d_model: 128,
            layers: 4,
            heads: 4,
            d_embed: 16,
            condition: Condition::Gamma,
            width_mult: 1.0,
            positions: Positions::Rotary,
            qk_norm: false,
            fastest: None,
        }
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
        if let Some(fastest) = self.fastest.filter(|fastest| !(-5.0..=6.0).contains(fastest)) {
            return Err(config("fastest", "a power of e from -5 to 6", fastest));
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
        if self.positions.learned() {
            x = Attend::All(None).place(rec, x, "model.positions.weight");
        }
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
        let mut qkv = linear(rec, &name("attn_qkv"), h, 3 * d, Activation::None, fan_in(d));
        if self.qk_norm {
            qkv = rec.qk_norm(qkv, heads, EPS, 1.0);
        }
        if self.positions.rotary() {
            qkv = rec.rotary(qkv, heads, 10_000.0);
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use galatea_autograd::Session;
    use galatea_kernels::Cpu;

    /// Logits [len, vocab] of a network with random parameters where every position holds the same noisy embedding.
    fn logits(plaid: &Plaid, (len, vocab): (usize, usize)) -> Vec<f32> {
        let mut rec = Recorder::new();
        let z = rec.input("z", &[1, len, plaid.d_embed], DType::F32);
        let scales = rec.input("scales", &[1, 2], DType::F32);
        let features = rec.input("features", &[1, plaid.features()], DType::F32);
        let table = plaid.table(&mut rec, vocab);
        let e = plaid.embeddings(&mut rec, table);
        let denoised = plaid.denoise(&mut rec, Noisy { z, scales, features }, e, None);
        let mut session = Session::new(Cpu::new(), rec.finish(&[denoised.logits])).expect("a small program");
        session.init(7).expect("its parameters");
        // A head that is not zero shows what it is given.
        let head = session.plan().params().iter().position(|p| p.path == "model.output_linear.weight");
        let values: Vec<f32> = (0..vocab * plaid.d_model).map(|i| ((i * 37) % 19) as f32 / 19.0 - 0.5).collect();
        session.set_param(head.expect("a head"), galatea_autograd::Part::Value, &values).expect("its shape");
        let mut told = Conditions::default();
        plaid.tell(0.5, 1.0, &mut told);
        let same: Vec<f32> = (0..plaid.d_embed).map(|k| (k as f32 - 2.0) / 4.0).collect();
        for (var, x) in [(z, same.repeat(len)), (scales, told.scales), (features, told.features)] {
            session.write(var, &x).expect("its shape");
        }
        session.run().expect("a pass");
        session.read(denoised.logits).expect("logits")
    }

    /// Rotation knows distances: what is the same everywhere is answered the same everywhere, so a network that has nothing else must
    /// read from noise where it stands.
    #[test]
    fn only_a_learned_row_tells_where_a_position_stands() {
        let (len, vocab) = (6, 5);
        for condition in [Condition::Gamma, Condition::Shift] {
            for positions in [Positions::None, Positions::Learned, Positions::Rotary, Positions::LearnedRotary] {
                for qk_norm in [false, true] {
                    let plaid = Plaid { d_model: 16, layers: 2, heads: 2, d_embed: 4, condition, ..Plaid::default() };
                    let logits = logits(&Plaid { positions, qk_norm, ..plaid }, (len, vocab));
                    let differs = logits.chunks(vocab).any(|row| {
                        row.iter().zip(&logits).any(|(here, first)| (here - first).abs() > 1e-4 * first.abs().max(1.0))
                    });
                    assert_eq!(differs, positions.learned(), "{condition:?} {positions:?} {qk_norm}");
                }
            }
        }
    }

    #[test]
    fn frequencies_that_no_schedule_has_are_refused() {
        for fastest in [-7.0, 40.0, f64::NAN] {
            assert!(Plaid { fastest: Some(fastest), ..Plaid::default() }.validate().is_err(), "{fastest}");
        }
        assert!(Plaid { fastest: Some(-1.0), ..Plaid::default() }.validate().is_ok());
    }
}
