//! The objectives as programs: corrupt, denoise, measure. One file an objective: its settings, and how it is recorded.

pub mod e2e;
mod gaussian;
mod masked;
pub mod relaxed;
mod uniform;
pub mod vlb;

pub use gaussian::DiffusionLm;
pub use masked::Masked;
pub use uniform::Uniform;

use crate::Error;
use crate::config::{Config, ObjectiveConfig, ProcessKind};
use galatea_autograd::{DType, Recorder, Var};
use galatea_models::Model;
use galatea_schedules::{AnySchedule, Schedule};

/// What turns clean rows into a loss: process, schedule, model and vocabulary.
#[derive(Clone, Debug)]
pub struct Objective {
    /// Which noise.
    pub kind: ProcessKind,
    /// Which loss.
    pub loss: ObjectiveConfig,
    /// How much noise at t.
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
    /// If the schedule has no such name, or the loss is not one of the process.
    pub fn new(config: &Config, vocab: usize) -> Result<Self, Error> {
        let (schedule, loss) = (config.process.schedule()?, config.objective()?);
        Ok(Self { kind: config.process.kind, loss, schedule, model: config.model.clone(), vocab })
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
        match &self.loss {
            ObjectiveConfig::Masked(Masked {}) => masked::record(self, rec, &model, inputs),
            ObjectiveConfig::Uniform(Uniform {}) => uniform::record(self, rec, &model, inputs),
            ObjectiveConfig::DiffusionLm(DiffusionLm {}) => gaussian::record(self, rec, &model, inputs, purpose),
        }
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
            match self.loss {
                ObjectiveConfig::Masked(_) => {
                    out.level.push(alpha_bar as f32);
                    out.weight.push((slope / (1.0 - alpha_bar) / tokens) as f32);
                }
                ObjectiveConfig::Uniform(_) => {
                    out.level.push(alpha_bar as f32);
                    out.weight.push((slope / tokens) as f32);
                }
                ObjectiveConfig::DiffusionLm(_) => {
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
