//! The three objectives as programs: corrupt, denoise, measure.

use crate::Error;
use crate::config::{Config, ProcessKind};
use galatea_autograd::{DType, Limit, Recorder, Rows, Var};
use galatea_models::Model;
use galatea_schedules::{AnySchedule, Schedule};

/// What turns clean rows into a loss: process, schedule, model and vocabulary.
#[derive(Clone, Debug)]
pub struct Objective {
    /// Which noise.
    pub kind: ProcessKind,
    /// How much of it at t.
    pub schedule: AnySchedule,
    /// The denoiser.
    pub model: Model,
    /// Ids that data can hold.
    pub vocab: usize,
}

/// One micro-batch of a recording: its inputs and what it measures.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Clean ids u32 [batch, len].
    pub x_0: Var,
    /// The time values the model is told [batch].
    pub time: Var,
    /// Tokens: alpha_bar [batch]; Gaussian: (signal, sigma) [batch, 2].
    pub level: Var,
    /// The weight of each row's loss [batch].
    pub weight: Var,
    /// The scalar to minimise.
    pub loss: Var,
    /// What to sum over a row for its bound: (value [batch, len], token weights [batch, len] if they vary).
    pub value: Var,
    /// Weights of `value` per token, `None` for the row's own weight.
    pub token_weight: Option<Var>,
}

/// What a recording is for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Purpose {
    /// Gradients: the loss carries every term of the objective; a micro-batch is this share of a step.
    Train {
        /// 1 / accumulation.
        share: f64,
    },
    /// A bound: only the term under the integral over t.
    Measure,
}

/// The inputs of a micro-batch.
#[derive(Clone, Copy)]
struct Inputs {
    x_0: Var,
    time: Var,
    weight: Var,
    level: Var,
    batch: usize,
    len: usize,
}

/// The row inputs of a batch at times `t`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Levels {
    /// For [`Batch::time`].
    pub time: Vec<f32>,
    /// For [`Batch::level`].
    pub level: Vec<f32>,
    /// For [`Batch::weight`].
    pub weight: Vec<f32>,
}

/// Training and measuring never look below this time: the weight of masked tokens grows like 1 / t.
pub(crate) const T_MIN: f64 = 1e-3;

impl Objective {
    /// The objective of a configuration on `vocab` ids.
    ///
    /// # Errors
    /// If the schedule has no such name.
    pub fn new(config: &Config, vocab: usize) -> Result<Self, Error> {
        let schedule = config.process.schedule()?;
        Ok(Self { kind: config.process.kind, schedule, model: config.model.clone(), vocab })
    }

    /// Ids that the network reads and scores: the mask is one more, and the last.
    pub fn network_vocab(&self) -> usize {
        self.vocab + usize::from(self.kind == ProcessKind::Mask)
    }

    /// The mask id.
    pub fn mask(&self) -> u32 {
        self.vocab as u32
    }

    /// Records one micro-batch; `name` tells its inputs from another's.
    pub fn record(&self, rec: &mut Recorder, name: &str, batch: usize, len: usize, purpose: Purpose) -> Batch {
        let x_0 = rec.input(&format!("x_0{name}"), &[batch, len], DType::U32);
        let time = rec.input(&format!("time{name}"), &[batch], DType::F32);
        let (weight, level): (&[usize], &[usize]) = match self.kind {
            ProcessKind::Mask | ProcessKind::Uniform => (&[batch], &[batch]),
            ProcessKind::Gaussian => (&[batch, 1], &[batch, 2]),
        };
        let weight = rec.input(&format!("weight{name}"), weight, DType::F32);
        let level = rec.input(&format!("level{name}"), level, DType::F32);
        let inputs = Inputs { x_0, time, weight, level, batch, len };
        let model = match purpose {
            Purpose::Train { .. } => self.model.clone(),
            Purpose::Measure => self.model.without_dropout(),
        };
        match self.kind {
            ProcessKind::Mask => self.masked(rec, &model, inputs),
            ProcessKind::Uniform => self.uniform(rec, &model, inputs),
            ProcessKind::Gaussian => self.gaussian(rec, &model, inputs, purpose),
        }
    }

    /// SUBS: cross-entropy where the canvas shows the mask, weighted -alpha_bar' / (1 - alpha_bar).
    fn masked(&self, rec: &mut Recorder, model: &Model, Inputs { x_0, time, weight, level, .. }: Inputs) -> Batch {
        let x_t = rec.corrupt_tokens(x_0, level, Limit::Mask(self.mask()));
        let w = rec.masked_weight(x_t, weight, self.mask());
        let (h, head) = model.hidden(rec, self.network_vocab(), x_t, time, None);
        let (loss, nll) = rec.linear_cross_entropy(h, (head.w, Some(head.b)), x_0, w, Some(self.mask()));
        Batch { x_0, time, level, weight, loss, value: nll, token_weight: Some(w) }
    }

    /// The uniform-state NELBO, weighted -alpha_bar'.
    fn uniform(&self, rec: &mut Recorder, model: &Model, Inputs { x_0, time, weight, level, .. }: Inputs) -> Batch {
        let x_t = rec.corrupt_tokens(x_0, level, Limit::Uniform(self.vocab as u32));
        let logits = model.logits(rec, self.network_vocab(), x_t, time, None);
        let (loss, nelbo) = rec.uniform_nelbo(logits, x_0, x_t, level, weight);
        Batch { x_0, time, level, weight, loss, value: nelbo, token_weight: None }
    }

    /// Diffusion-LM: squared error of x_0_hat, cross-entropy of rounding the start of the chain, and the signal left at the
    /// end; the embeddings learn through all three. A bound needs the first alone.
    fn gaussian(&self, rec: &mut Recorder, model: &Model, inputs: Inputs, purpose: Purpose) -> Batch {
        let Inputs { x_0, time, weight, level, batch, len } = inputs;
        let encoder = model.embedding_encoder().expect("Config::validate admits only encoders that take time");
        let (d, rows) = (encoder.embedding_width(), batch * len);
        let rounding = encoder.rounding(rec, self.vocab);
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
                let (signal, sigma) = self.signal_noise(0.0);
                let start = rec.constant(&[batch, 2], [signal as f32, sigma as f32].repeat(batch));
                let (x_start, _) = rec.corrupt_gaussian(e, start);
                let logits = encoder.round(rec, rounding, x_start);
                let mean = share / rows as f64;
                let w = rec.constant(&[batch, len], vec![mean as f32; rows]);
                let (nll_loss, _) = rec.cross_entropy(logits, x_0, w, None);
                let end = mean * self.schedule.alpha_bar(1.0) / d as f64;
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

    /// (sqrt(alpha_bar), sqrt(1 - alpha_bar)) at t.
    pub fn signal_noise(&self, t: f64) -> (f64, f64) {
        let alpha_bar = self.schedule.alpha_bar(t);
        (alpha_bar.sqrt(), (1.0 - alpha_bar).max(0.0).sqrt())
    }

    /// The row inputs at times `t`, for a step whose loss is a mean over `tokens` tokens: nats per token for the categorical
    /// processes, the mean squared error per element for the Gaussian one.
    pub fn levels(&self, t: &[f64], tokens: f64) -> Levels {
        let mut out = Levels::default();
        for &t in t {
            let alpha_bar = self.schedule.alpha_bar(t);
            out.time.push(self.model.time_value(t, alpha_bar));
            let slope = -self.schedule.alpha_bar_derivative(t);
            match self.kind {
                ProcessKind::Mask => {
                    out.level.push(alpha_bar as f32);
                    out.weight.push((slope / (1.0 - alpha_bar) / tokens) as f32);
                }
                ProcessKind::Uniform => {
                    out.level.push(alpha_bar as f32);
                    out.weight.push((slope / tokens) as f32);
                }
                ProcessKind::Gaussian => {
                    let (signal, sigma) = self.signal_noise(t);
                    out.level.extend([signal as f32, sigma as f32]);
                    let d = self.model.embedding_encoder().map_or(1, galatea_models::Encoder::embedding_width);
                    out.weight.push((1.0 / (tokens * d as f64)) as f32);
                }
            }
        }
        out
    }
}
