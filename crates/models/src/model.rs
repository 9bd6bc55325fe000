//! One name for the denoisers that can be trained and sampled.

use crate::attend::Attend;
use crate::encoder::{Encoder, TimeInput, config, fan_in};
use crate::{DiffusionLm, Dit, Error, Llama, Plaid, Told};
use galatea_autograd::{Activation, DType, Init, Recorder, Var};
use serde::{Deserialize, Serialize};

/// A denoiser's architecture: what `[model]` says in a configuration and `config.json` in a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Model {
    /// Transformer encoder.
    Encoder(Encoder),
    /// Diffusion transformer with adaLN.
    Dit(Dit),
    /// Llama body in both directions.
    Llama(Llama),
    /// Diffusion-LM's network, on embeddings.
    DiffusionLm(DiffusionLm),
    /// Plaid's and CDCD's network, on embeddings of unit length.
    Plaid(Plaid),
}

/// A network that maps noisy embeddings and a time to clean ones.
#[derive(Clone, Copy, Debug)]
pub enum EmbeddingNetwork<'a> {
    /// The encoder between projections.
    Encoder(&'a Encoder),
    /// Diffusion-LM's.
    DiffusionLm(&'a DiffusionLm),
}

impl EmbeddingNetwork<'_> {
    /// Width of the embeddings that noise is added to.
    pub fn embedding_width(self) -> usize {
        match self {
            Self::Encoder(encoder) => encoder.embedding_width(),
            Self::DiffusionLm(network) => network.d_embed,
        }
    }

    /// The embedding table and the head that rounds to its rows.
    pub fn rounding(self, rec: &mut Recorder, vocab: usize) -> Rounding {
        match self {
            Self::Encoder(encoder) => encoder.rounding(rec, vocab),
            Self::DiffusionLm(network) => network.rounding(rec, vocab),
        }
    }

    /// x_0_hat [batch, len, d_embed] of z_t of that shape at time values `t` [batch].
    pub fn x_0_hat(self, rec: &mut Recorder, z_t: Var, t: Var, visible: Option<Var>) -> Var {
        match self {
            Self::Encoder(encoder) => encoder.x_0_hat(rec, z_t, t, visible),
            Self::DiffusionLm(network) => network.x_0_hat(rec, z_t, t, visible),
        }
    }

    /// The name of the embedding table among the parameters.
    pub fn table(self) -> &'static str {
        match self {
            Self::Encoder(_) => "embed.weight",
            Self::DiffusionLm(_) => "word_embedding.weight",
        }
    }
}

/// The last layer, from hidden states to logits: what a fused loss or sampler reads instead of logits.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    /// W [vocab, d_model].
    pub w: Var,
    /// b [vocab]; zeros where the model has none.
    pub b: Var,
}

impl Head {
    /// Logits f32 [batch, len, vocab] of what it reads.
    pub fn logits(self, rec: &mut Recorder, h: Var) -> Var {
        let logits = rec.linear(h, self.w, Some(self.b), Activation::None);
        rec.cast(logits, DType::F32)
    }
}

/// The tensors of a Gaussian model that rounding needs: the embedding table and the head.
#[derive(Clone, Copy, Debug)]
pub struct Rounding {
    /// E [vocab, d_embed].
    pub table: Var,
    /// The head's rows [vocab, d_embed]: E itself where they are tied.
    pub weight: Var,
    /// b [vocab], or nothing where distances are the logits.
    pub bias: Option<Var>,
}

impl Rounding {
    /// Rounding logits [batch, len, vocab] of embeddings z [batch, len, d_embed]: z W^T + b, or without a bias -|z - w| for every
    /// row w.
    pub fn logits(&self, rec: &mut Recorder, z: Var) -> Var {
        match self.bias {
            Some(bias) => rec.linear(z, self.weight, Some(bias), Activation::None),
            None => rec.distances(z, self.weight),
        }
    }
}

impl Default for Model {
    fn default() -> Self {
        Model::Encoder(Encoder::default())
    }
}

impl Model {
    /// Checks the numbers against each other.
    ///
    /// # Errors
    /// The first field that fits no model.
    pub fn validate(&self) -> Result<(), Error> {
        match self {
            Model::Encoder(encoder) => encoder.validate(),
            Model::Dit(dit) => dit.validate(),
            Model::Llama(llama) => llama.validate(),
            Model::DiffusionLm(network) => network.validate(),
            Model::Plaid(network) => network.validate(),
        }
    }

    /// The same network as it is sampled and measured: nothing is dropped.
    pub fn without_dropout(&self) -> Self {
        match self {
            Model::Encoder(encoder) => Model::Encoder(Encoder { dropout: 0.0, ..encoder.clone() }),
            Model::Dit(dit) => Model::Dit(Dit { dropout: 0.0, ..dit.clone() }),
            Model::Llama(llama) => Model::Llama(Llama { dropout: 0.0, ..llama.clone() }),
            Model::DiffusionLm(network) => Model::DiffusionLm(DiffusionLm { dropout: 0.0, ..network.clone() }),
            Model::Plaid(network) => Model::Plaid(network.clone()),
        }
    }

    /// Whether the output depends on the time that the model is told.
    pub fn uses_time(&self) -> bool {
        match self {
            Model::Encoder(encoder) => encoder.time == TimeInput::Given,
            Model::Dit(dit) => dit.time_conditioning,
            Model::Llama(_) => false,
            Model::DiffusionLm(_) | Model::Plaid(_) => true,
        }
    }

    /// The number that the model is told at time `t` with signal `alpha_bar`: t for the encoder, -ln alpha_bar or t for the DiT,
    /// 1000 t for Diffusion-LM's network, 0 where the model takes no time.
    pub fn time_value(&self, t: f64, alpha_bar: f64) -> f32 {
        match self {
            Model::Encoder(_) | Model::Plaid(_) => t as f32,
            Model::DiffusionLm(_) => (1000.0 * t) as f32,
            Model::Dit(dit) if !dit.time_conditioning => 0.0,
            Model::Dit(dit) => match dit.told {
                // Beyond exp(-30) no schedule has signal left, and infinity has no sine.
                Told::TotalNoise => -(alpha_bar.max(1e-13).ln()) as f32,
                Told::Time => t as f32,
            },
            Model::Llama(_) => 0.0,
        }
    }

    /// Blocks one after another.
    pub fn layers(&self) -> usize {
        match self {
            Model::Encoder(encoder) => encoder.layers,
            Model::Dit(dit) => dit.layers,
            Model::Llama(llama) => llama.layers,
            Model::DiffusionLm(network) => network.layers,
            Model::Plaid(network) => network.layers,
        }
    }

    /// Width of the keys of a position, and of its values.
    pub(crate) fn key_width(&self) -> usize {
        match self {
            Model::Encoder(encoder) => encoder.d_model,
            Model::Dit(dit) => dit.d_model,
            Model::Llama(llama) => llama.key_width(),
            Model::DiffusionLm(network) => network.d_model,
            Model::Plaid(network) => network.d_model,
        }
    }

    /// That this network reads tokens.
    ///
    /// # Errors
    /// If it reads embeddings.
    pub fn on_tokens(&self) -> Result<(), Error> {
        let found = match self {
            Model::Encoder(_) | Model::Dit(_) | Model::Llama(_) => return Ok(()),
            Model::DiffusionLm(_) => "\"diffusion-lm\"",
            Model::Plaid(_) => "\"plaid\"",
        };
        Err(config("kind", "\"encoder\" or \"dit\": noise on tokens needs a network that reads them", found))
    }

    /// What the head reads, [batch, len, d_model], for ids u32 [batch, len] at the time values `time` [batch]; and the head.
    ///
    /// # Panics
    /// If the network reads no tokens ([`Model::on_tokens`]).
    pub fn hidden(&self, rec: &mut Recorder, vocab: usize, ids: Var, time: Var, visible: Option<Var>) -> (Var, Head) {
        self.hidden_with(rec, vocab, ids, time, &Attend::All(visible))
    }

    /// [`Model::hidden`] in which a position attends to those that `attend` says.
    pub(crate) fn hidden_with(
        &self,
        rec: &mut Recorder,
        vocab: usize,
        ids: Var,
        time: Var,
        attend: &Attend,
    ) -> (Var, Head) {
        match self {
            Model::Encoder(encoder) => {
                let d = encoder.d_model;
                let table = rec.table("embed.weight", &[vocab, d], Init::Normal { std: 0.5 });
                let x = rec.embedding(ids, table);
                let h = encoder.body_with(rec, x, Some(time), attend);
                let w = rec.table("lm_head.weight", &[vocab, d], Init::Zeros);
                (h, Head { w, b: rec.param("lm_head.bias", &[vocab], Init::Zeros) })
            }
            Model::Dit(dit) => dit.hidden_with(rec, vocab, ids, time, attend),
            Model::Llama(llama) => llama.hidden_with(rec, vocab, ids, attend),
            Model::DiffusionLm(_) | Model::Plaid(_) => panic!("a network on embeddings was asked to read tokens"),
        }
    }

    /// Logits f32 [batch, len, vocab] of ids u32 [batch, len] at the time values `time` [batch].
    pub fn logits(&self, rec: &mut Recorder, vocab: usize, ids: Var, time: Var, visible: Option<Var>) -> Var {
        let (h, head) = self.hidden(rec, vocab, ids, time, visible);
        head.logits(rec, h)
    }

    /// The network, if it maps embeddings to embeddings and is told the time.
    ///
    /// # Errors
    /// If it does not.
    pub fn embedding_network(&self) -> Result<EmbeddingNetwork<'_>, Error> {
        let other = |found| Err(config("kind", "\"encoder\" or \"diffusion-lm\" for this Gaussian process", found));
        match self {
            Model::Encoder(encoder) if encoder.time == TimeInput::Given => Ok(EmbeddingNetwork::Encoder(encoder)),
            Model::Encoder(_) => Err(config("time", "\"given\": Gaussian noise hides its level", "\"none\"")),
            Model::DiffusionLm(network) => Ok(EmbeddingNetwork::DiffusionLm(network)),
            Model::Dit(_) => other("\"dit\""),
            Model::Llama(_) => other("\"llama\""),
            Model::Plaid(_) => other("\"plaid\""),
        }
    }
}

impl Encoder {
    /// Width of the embeddings that noise is added to.
    pub fn embedding_width(&self) -> usize {
        if self.d_embed == 0 { self.d_model } else { self.d_embed }
    }

    /// The embedding table and the head's bias of a Gaussian model: rows of unit length at the start.
    pub fn rounding(&self, rec: &mut Recorder, vocab: usize) -> Rounding {
        let table = rec.table("embed.weight", &[vocab, self.embedding_width()], Init::UnitRows);
        let bias = rec.param("lm_head.bias", &[vocab], Init::Zeros);
        Rounding { table, weight: table, bias: Some(bias) }
    }

    /// x_0_hat [batch, len, d_embed] of z_t [batch, len, d_embed] at times `t` [batch].
    pub fn x_0_hat(&self, rec: &mut Recorder, z_t: Var, t: Var, visible: Option<Var>) -> Var {
        let (d, e) = (self.d_model, self.d_embed);
        if e == 0 {
            return self.body(rec, z_t, Some(t), visible);
        }
        let up = rec.param("input_up_proj.weight", &[d, e], fan_in(e));
        let x = rec.linear(z_t, up, None, Activation::None);
        let h = self.body(rec, x, Some(t), visible);
        let down = rec.param("output_down_proj.weight", &[e, d], fan_in(d));
        rec.linear(h, down, None, Activation::None)
    }
}
