//! The textbook's encoder done right: tokens, positions and time go in; norms before or after; one head out.
//!
//! With `norm_place = "post"`, ReLU, biases, and neither positions nor time it is PyTorch's `nn.TransformerEncoder`, under
//! the same parameter names.

use crate::Error;
use crate::attend::Attend;
use galatea_autograd::{Activation, Init, Recorder, Rows, Var};
use serde::{Deserialize, Serialize};

/// Where a block normalises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NormPlace {
    /// x + f(norm(x)), and a norm at the end.
    Pre,
    /// norm(x + f(x)).
    Post,
}

/// Which norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Norm {
    /// Layer norm with gain, and shift where the model has biases.
    Layer,
    /// RMS norm with gain.
    Rms,
}

/// How a position is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Positions {
    /// It is not: the model is permutation-equivariant, as the textbook's.
    None,
    /// A learned row per position, added to the input.
    Learned,
    /// Rotation of q and k: how far apart two positions are, not where they stand. A canvas of masks alone then looks the same
    /// everywhere.
    Rotary,
    /// Both: the row says where, the rotation how far.
    LearnedRotary,
}

impl Positions {
    pub(crate) fn learned(self) -> bool {
        match self {
            Positions::Learned | Positions::LearnedRotary => true,
            Positions::None | Positions::Rotary => false,
        }
    }

    pub(crate) fn rotary(self) -> bool {
        match self {
            Positions::Rotary | Positions::LearnedRotary => true,
            Positions::None | Positions::Learned => false,
        }
    }
}

/// Whether the model is told the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TimeInput {
    /// No: enough for mask diffusion, whose canvas shows its own noise level.
    None,
    /// Yes: needed for uniform and Gaussian noise.
    Given,
}

/// The encoder's shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Encoder {
    /// Width.
    pub d_model: usize,
    /// Blocks.
    pub layers: usize,
    /// Attention heads; d_head = d_model / heads.
    pub heads: usize,
    /// Width of the hidden layer of a block.
    pub d_ff: usize,
    /// Where a block normalises.
    pub norm_place: NormPlace,
    /// Which norm.
    pub norm: Norm,
    /// "relu", "silu" or "gelu".
    pub activation: Nonlinearity,
    /// Whether linear layers and layer norms have biases.
    pub bias: bool,
    /// How a position is known.
    pub positions: Positions,
    /// Whether the time is given (added to every position).
    pub time: TimeInput,
    /// RMS norm of every head of q and k.
    pub qk_norm: bool,
    /// What the normalised q and k are multiplied by: gain^2 sqrt(d_head) bounds the scores, and so how sharply attention can
    /// point.
    pub qk_gain: f32,
    /// Dropout in training, of what PyTorch's `nn.TransformerEncoderLayer` drops: attention weights, attention and
    /// feed-forward outputs, hidden units.
    pub dropout: f32,
    /// Width of the token embeddings that Gaussian noise is added to (Gaussian process only; 0 = d_model without
    /// projections).
    pub d_embed: usize,
}

/// The feed-forward nonlinearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Nonlinearity {
    /// max(u, 0).
    Relu,
    /// u sigmoid(u).
    Silu,
    /// The tanh form of u Phi(u).
    Gelu,
}

impl From<Nonlinearity> for Activation {
    fn from(n: Nonlinearity) -> Self {
        match n {
            Nonlinearity::Relu => Activation::Relu,
            Nonlinearity::Silu => Activation::Silu,
            Nonlinearity::Gelu => Activation::Gelu,
        }
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self {
            d_model: 128,
            layers: 4,
            heads: 4,
            d_ff: 512,
            norm_place: NormPlace::Pre,
            norm: Norm::Rms,
            activation: Nonlinearity::Gelu,
            bias: false,
            positions: Positions::LearnedRotary,
            time: TimeInput::None,
            qk_norm: true,
            qk_gain: 1.0,
            dropout: 0.0,
            d_embed: 16,
        }
    }
}

const EPS: f32 = 1e-5;
const TIME_FEATURES: u32 = 128;

impl Encoder {
    /// Checks the numbers against each other.
    ///
    /// # Errors
    /// The first field that fits no model.
    pub fn validate(&self) -> Result<(), Error> {
        let positive = [("d_model", self.d_model), ("layers", self.layers), ("heads", self.heads), ("d_ff", self.d_ff)];
        for (field, found) in positive {
            if found == 0 || found > 1 << 20 {
                return Err(config(field, "a number from 1 to 1048576", found));
            }
        }
        if !self.d_model.is_multiple_of(2 * self.heads) {
            let expected = format!("a divisor of d_model / 2 = {}", self.d_model / 2);
            return Err(config("heads", expected, self.heads));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(config("dropout", "a number from 0 up to but not 1", self.dropout));
        }
        if !(self.qk_gain > 0.0 && self.qk_gain <= 16.0) {
            return Err(config("qk_gain", "a number above 0, at most 16", self.qk_gain));
        }
        Ok(())
    }

    /// Hidden states [batch, len, d_model] from inputs of that shape. `t` [batch] in [0, 1] where time is given; `visible`
    /// u32 [batch, len] hides padding.
    pub fn body(&self, rec: &mut Recorder, x: Var, t: Option<Var>, visible: Option<Var>) -> Var {
        self.body_with(rec, x, t, &Attend::All(visible))
    }

    /// [`Encoder::body`] in which a position attends to those that `attend` says.
    pub(crate) fn body_with(&self, rec: &mut Recorder, x: Var, t: Option<Var>, attend: &Attend) -> Var {
        let mut x = rec.cast(x, rec.precision());
        if self.positions.learned() {
            x = attend.place(rec, x, "positions.weight");
        }
        if let (TimeInput::Given, Some(t)) = (self.time, t) {
            let features = rec.time_features(t, TIME_FEATURES, 10_000.0, 1000.0);
            let c =
                self.linear(rec, "time.0", features, self.d_model, Activation::Silu, fan_in(TIME_FEATURES as usize));
            let c = self.linear(rec, "time.2", c, self.d_model, Activation::None, fan_in(self.d_model));
            x = rec.add_rows(x, c, Rows::Batch);
        }
        for layer in 0..self.layers {
            rec.block();
            x = self.block(rec, layer, x, attend);
        }
        match self.norm_place {
            NormPlace::Pre => self.normalise(rec, "backbone.norm", x),
            NormPlace::Post => x,
        }
    }

    fn block(&self, rec: &mut Recorder, layer: usize, x: Var, attend: &Attend) -> Var {
        let name = |part: &str| format!("backbone.layers.{layer}.{part}");
        match self.norm_place {
            NormPlace::Pre => {
                let h = self.normalise(rec, &name("norm1"), x);
                let h = self.attention(rec, layer, h, attend);
                let (x, h) = self.add_norm(rec, &name("norm2"), x, h);
                let h = self.feed_forward(rec, layer, h);
                let h = rec.dropout(h, self.dropout);
                rec.add(x, h)
            }
            NormPlace::Post => {
                let h = self.attention(rec, layer, x, attend);
                let (_, x) = self.add_norm(rec, &name("norm1"), x, h);
                let h = self.feed_forward(rec, layer, x);
                let (_, x) = self.add_norm(rec, &name("norm2"), x, h);
                x
            }
        }
    }

    /// s = x + dropout(h), and its norm.
    fn add_norm(&self, rec: &mut Recorder, name: &str, x: Var, h: Var) -> (Var, Var) {
        let (gain, shift) = self.norm_params(rec, name);
        match self.norm {
            Norm::Rms => rec.add_rms_norm(x, h, self.dropout, Some(gain), EPS),
            Norm::Layer => rec.add_layer_norm(x, h, self.dropout, Some(gain), shift, EPS),
        }
    }

    fn attention(&self, rec: &mut Recorder, layer: usize, x: Var, attend: &Attend) -> Var {
        let (d, heads) = (self.d_model, self.heads as u32);
        let name = format!("backbone.layers.{layer}.self_attn");
        let w = rec.param(&format!("{name}.in_proj_weight"), &[3 * d, d], fan_in(d));
        let b = self.bias.then(|| rec.param(&format!("{name}.in_proj_bias"), &[3 * d], Init::Zeros));
        let mut qkv = rec.linear(x, w, b, Activation::None);
        if self.qk_norm {
            qkv = rec.qk_norm(qkv, heads, EPS, self.qk_gain);
        }
        if self.positions.rotary() {
            qkv = attend.rotate(rec, qkv, (heads, heads), 10_000.0);
        }
        let y = attend.mix(rec, qkv, (heads, heads), layer, self.dropout);
        self.linear(rec, &format!("{name}.out_proj"), y, d, Activation::None, self.residual_init(d))
    }

    fn feed_forward(&self, rec: &mut Recorder, layer: usize, x: Var) -> Var {
        let name = |part: &str| format!("backbone.layers.{layer}.{part}");
        let h = self.linear(rec, &name("linear1"), x, self.d_ff, self.activation.into(), fan_in(self.d_model));
        let h = rec.dropout(h, self.dropout);
        let init = self.residual_init(self.d_ff);
        self.linear(rec, &name("linear2"), h, self.d_model, Activation::None, init)
    }

    /// Branches of a pre-norm block begin at zero: the block begins as the identity.
    fn residual_init(&self, fan: usize) -> Init {
        match self.norm_place {
            NormPlace::Pre => Init::Zeros,
            NormPlace::Post => fan_in(fan),
        }
    }

    fn linear(&self, rec: &mut Recorder, name: &str, x: Var, o: usize, activation: Activation, init: Init) -> Var {
        let i = rec.shape(x).cols();
        let w = rec.param(&format!("{name}.weight"), &[o, i], init);
        let b = self.bias.then(|| rec.param(&format!("{name}.bias"), &[o], Init::Zeros));
        rec.linear(x, w, b, activation)
    }

    fn normalise(&self, rec: &mut Recorder, name: &str, x: Var) -> Var {
        let (gain, shift) = self.norm_params(rec, name);
        match self.norm {
            Norm::Rms => rec.rms_norm(x, Some(gain), EPS),
            Norm::Layer => rec.layer_norm(x, Some(gain), shift, EPS),
        }
    }

    /// The gain of a norm, and its shift where it has one.
    fn norm_params(&self, rec: &mut Recorder, name: &str) -> (Var, Option<Var>) {
        let gain = rec.param(&format!("{name}.weight"), &[self.d_model], Init::Ones);
        let shifted = self.norm == Norm::Layer && self.bias;
        (gain, shifted.then(|| rec.param(&format!("{name}.bias"), &[self.d_model], Init::Zeros)))
    }
}

/// PyTorch's law for a linear layer: uniform within 1 / sqrt(fan in).
pub(crate) fn fan_in(fan: usize) -> Init {
    Init::Uniform { bound: 1.0 / (fan as f32).sqrt() }
}

pub(crate) fn config(field: &'static str, expected: impl Into<String>, found: impl ToString) -> Error {
    Error::Config { field, expected: expected.into(), found: found.to_string() }
}
