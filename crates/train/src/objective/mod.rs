//! The objectives as programs: corrupt, denoise, measure. One file an objective: its settings, its numbers at a time, and how it
//! is recorded.
//!
//! The objectives on tokens are all one recording, `tokens`: a row is corrupted at the level of its time, and a loss that is a
//! weighted cross-entropy or a [`divergence`](galatea_processes::objectives::divergence) compares what the network says with x_0.
//! They differ in a few numbers a row, which the host computes in f64 from the time.

mod block;
mod choice;
mod d3pm;
mod dense;
pub mod e2e;
mod flow;
mod gaussian;
mod gidd;
#[cfg(test)]
mod laws;
mod masked;
mod plaid;
pub mod relaxed;
mod sedd;
mod tokens;
mod uniform;
pub mod vlb;

pub use block::Block;
pub use choice::ObjectiveConfig;
pub use d3pm::D3pm;
pub use flow::Flow;
pub use gaussian::DiffusionLm;
pub use gidd::{Gidd, Weighting};
pub use masked::{Draw, Masked};
pub use plaid::{Cdcd, PlaidBound};
pub use sedd::Sedd;
pub use uniform::Uniform;

use crate::Error;
use crate::config::{Config, ProcessKind};
use galatea_autograd::{DType, Limit, Recorder, Var};
use galatea_models::{BlockModel, EmbeddingNetwork, Model};
use galatea_processes::objectives::answer::share;
use galatea_processes::objectives::divergence::TERMS;
use galatea_processes::{Bounds, Dense};
use galatea_schedules::{AnySchedule, Schedule};
use std::sync::Arc;
use tokens::{Form, Moment};

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
    /// Tokens of a row.
    pub len: usize,
    /// Whether rows begin with a prompt, which is not noised and costs nothing.
    pub prompts: bool,
    /// The chain of a process given by its matrices.
    pub chain: Option<Arc<Dense>>,
}

/// One micro-batch of a recording: its inputs and what it measures.
#[derive(Clone, Debug)]
pub struct Batch {
    /// What [`Objective::rows`] makes of clean rows, u32 [batch, width].
    pub x_0: Var,
    /// Noisy tokens u32 [batch, len], where the host draws them: of a chain given by its matrices.
    pub x_t: Option<Var>,
    /// What [`Levels`] are written to.
    pub inputs: Inputs,
    /// The scalar to minimise.
    pub loss: Var,
    /// What to sum over a row for its bound, [batch, width].
    pub value: Var,
    /// What each value weighs, [batch, width]; `None` where the bound has weights of its own.
    pub token_weight: Option<Var>,
}

/// The inputs that follow from the times of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Inputs {
    /// The time values the model is told [batch].
    pub time: Var,
    /// Tokens: alpha_bar [batch, groups], with the share of masks for hybrid noise [batch, groups, 2]; Gaussian: (signal, sigma)
    /// [batch, 2]; of a chain given by its matrices those of the step, [batch, 2, vocab, vocab]. There is one group, or one for each position where rows have prompts, or one for each block, noisy and then
    /// clean.
    pub level: Var,
    /// Tokens: the weights of a mask, a hit and a miss [batch, groups, 3]; Gaussian: of the row [batch, 1].
    pub weight: Var,
    /// The numbers of a divergence [batch, groups, 3, 12], where there is one.
    pub terms: Option<Var>,
}

impl Inputs {
    /// Each input with the numbers that belong there.
    pub fn zip(self, levels: Levels) -> impl Iterator<Item = (Var, Vec<f32>)> {
        let terms = self.terms.map(|terms| (terms, levels.terms));
        [(self.time, levels.time), (self.level, levels.level), (self.weight, levels.weight)].into_iter().chain(terms)
    }
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

/// The row inputs of a batch at times `t`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Levels {
    /// For [`Inputs::time`].
    pub time: Vec<f32>,
    /// For [`Inputs::level`].
    pub level: Vec<f32>,
    /// For [`Inputs::weight`].
    pub weight: Vec<f32>,
    /// For [`Inputs::terms`].
    pub terms: Vec<f32>,
}

/// Training and measuring never look below this time: the weight of masked tokens grows like 1 / t.
pub(crate) const T_MIN: f64 = 1e-3;

impl Objective {
    /// The objective of a configuration on rows of `len` tokens of `vocab` ids.
    ///
    /// # Errors
    /// If the schedule has no such name, or the loss is not one of the process, the model or the rows.
    pub fn new(config: &Config, vocab: usize, len: usize) -> Result<Self, Error> {
        let (schedule, loss) = (config.process.schedule()?, config.objective()?);
        if let ObjectiveConfig::Masked(masked) = &loss {
            masked.even(&schedule)?;
        }
        if let ObjectiveConfig::Block(block) = &loss {
            BlockModel::new(config.model.clone(), block.size)?;
            if !len.is_multiple_of(block.size) {
                let expected = format!("a divisor of the {len} tokens of a row");
                return Err(Error::Config { field: "objective.size", expected, found: block.size.to_string() });
            }
        }
        let chain = match (config.process.kind, &loss) {
            (ProcessKind::Dense, ObjectiveConfig::D3pm(d3pm)) => {
                Some(Arc::new(dense::chain(config.process.matrices(), &schedule, d3pm.steps, vocab)?))
            }
            _ => None,
        };
        let (kind, model, prompts) = (config.process.kind, config.model.clone(), config.data.prompts());
        Ok(Self { kind, loss, schedule, model, vocab, len, prompts, chain })
    }

    /// Rows as the recording reads them, `width` ids each: as they are, or twice for block diffusion, to be noised and clean.
    pub fn rows(&self, rows: &[u32]) -> Vec<u32> {
        rows.chunks(self.len).flat_map(|row| row.repeat(self.width() / self.len)).collect()
    }

    /// Ids that the recording reads for a row.
    pub fn width(&self) -> usize {
        if matches!(self.loss, ObjectiveConfig::Block(_)) { 2 * self.len } else { self.len }
    }

    /// Times that a row has.
    pub fn times(&self) -> usize {
        self.blocks()
    }

    /// Groups of positions with numbers of their own, clean ones among them.
    fn groups(&self) -> usize {
        if self.prompts { self.len } else { self.blocks() * (self.width() / self.len) }
    }

    /// Ids that the network reads and scores: the mask is one more, and the last.
    pub fn network_vocab(&self) -> usize {
        self.vocab + usize::from(self.masks().is_some())
    }

    /// The mask id.
    pub fn mask(&self) -> u32 {
        self.vocab as u32
    }

    /// The mask id, where the process has a mask.
    pub(crate) fn masks(&self) -> Option<u32> {
        match self.kind {
            ProcessKind::Mask | ProcessKind::Hybrid => Some(self.mask()),
            ProcessKind::Uniform | ProcessKind::Dense | ProcessKind::Gaussian => None,
        }
    }

    /// The times that blocks are trained at, where they are searched for.
    pub(crate) fn searched(&self) -> Option<Bounds> {
        let ObjectiveConfig::Block(block) = &self.loss else { return None };
        (block.search > 0).then(|| block.bounds())
    }

    /// Sets the times that blocks are trained at; another loss has none.
    pub(crate) fn set_bounds(&mut self, bounds: Bounds) {
        if let ObjectiveConfig::Block(block) = &mut self.loss {
            (block.low, block.high) = (bounds.low(), bounds.high());
        }
    }

    /// What noise draws tokens from.
    fn limit(&self) -> Limit {
        match self.kind {
            ProcessKind::Mask => Limit::Mask(self.mask()),
            ProcessKind::Hybrid => Limit::Hybrid { ids: self.vocab as u32, mask: self.mask() },
            ProcessKind::Uniform | ProcessKind::Dense | ProcessKind::Gaussian => Limit::Uniform(self.vocab as u32),
        }
    }

    /// Records one micro-batch; `name` tells its inputs from another's.
    pub fn record(&self, rec: &mut Recorder, name: &str, batch: usize, purpose: Purpose) -> Batch {
        let x_0 = rec.input(&format!("x_0{name}"), &[batch, self.width()], DType::U32);
        let inputs = self.inputs(rec, name, batch);
        let model = match purpose {
            Purpose::Train { .. } => self.model.clone(),
            Purpose::Measure => self.model.without_dropout(),
        };
        match self.kind {
            ProcessKind::Gaussian => gaussian::record(self, rec, &model, (x_0, inputs), [batch, self.len], purpose),
            ProcessKind::Mask | ProcessKind::Uniform | ProcessKind::Hybrid => {
                tokens::record(self, rec, &model, x_0, inputs)
            }
            ProcessKind::Dense => {
                let x_t = rec.input(&format!("x_t{name}"), &[batch, self.len], DType::U32);
                tokens::record_chain(self, rec, &model, (x_0, x_t), inputs, purpose)
            }
        }
    }

    fn inputs(&self, rec: &mut Recorder, name: &str, batch: usize) -> Inputs {
        let mut input = |what: &str, dims: &[usize]| rec.input(&format!("{what}{name}"), dims, DType::F32);
        let time = input("time", &[batch]);
        if self.kind == ProcessKind::Gaussian {
            let (level, weight) = (input("level", &[batch, 2]), input("weight", &[batch, 1]));
            return Inputs { time, level, weight, terms: None };
        }
        let (groups, vocab) = (self.groups(), self.vocab);
        if self.kind == ProcessKind::Dense {
            let (level, weight) = (input("level", &[batch, 2, vocab, vocab]), input("weight", &[batch, groups, 3]));
            return Inputs { time, level, weight, terms: None };
        }
        let level = match self.limit().levels() {
            1 => input("level", &[batch, groups]),
            numbers => input("level", &[batch, groups, numbers]),
        };
        let weight = input("weight", &[batch, groups, 3]);
        let terms = matches!(self.form(), Form::Divergence(_)).then(|| input("terms", &[batch, groups, 3, TERMS]));
        Inputs { time, level, weight, terms }
    }

    /// (sqrt(alpha_bar), sqrt(1 - alpha_bar)) at t.
    pub fn signal_noise(&self, t: f64) -> (f64, f64) {
        let alpha_bar = self.schedule.alpha_bar(t);
        (alpha_bar.sqrt(), (1.0 - alpha_bar).max(0.0).sqrt())
    }

    /// The row inputs at times `t`, as many for each row as it has, for a step whose loss is a mean over `tokens` tokens: nats per
    /// token for the categorical processes, the mean squared error per element for the Gaussian one.
    ///
    /// Where rows have prompts, `prompts` holds their lengths: every position has its own level and weight, clean and none in the
    /// prompt, and in training each row's answer has the say of a whole row, however short it is
    /// ([`answer::share`](galatea_processes::objectives::answer::share)).
    ///
    /// # Panics
    /// If rows have prompts and there is not one length for each.
    pub fn levels(&self, t: &[f64], prompts: &[usize], tokens: f64, purpose: Purpose) -> Levels {
        let mut out = Levels::default();
        for (index, row) in t.chunks(self.times()).enumerate() {
            if self.kind == ProcessKind::Gaussian {
                let t = row[0];
                let (signal, sigma) = self.signal_noise(t);
                out.time.push(self.model.time_value(t, self.schedule.alpha_bar(t)));
                out.level.extend([signal as f32, sigma as f32]);
                let d = self.model.embedding_network().map_or(1, EmbeddingNetwork::embedding_width);
                out.weight.push((1.0 / (tokens * d as f64)) as f32);
                continue;
            }
            let moments: Vec<Moment> = row.iter().map(|&t| self.moment(t, purpose)).collect();
            out.time.push(self.model.time_value(moments[0].t, moments[0].alpha_bar));
            if let Some(chain) = &self.chain {
                dense::matrices(chain, moments[0].t, &mut out.level);
            }
            // A chain's rows are noised on the host, and need no level.
            let level = |out: &mut Levels, level: &[f32; 2]| match &self.chain {
                Some(_) => {}
                None => out.level.extend(&level[..self.limit().levels()]),
            };
            let clean = |out: &mut Levels| {
                level(out, &[1.0, 0.0]);
                out.weight.extend([0.0; 3]);
            };
            let noisy = |out: &mut Levels, moment: &Moment, tokens: f64| {
                level(out, &[moment.alpha_bar as f32, moment.masks as f32]);
                out.weight.extend(moment.weight.map(|w| (w / tokens) as f32));
            };
            let terms = |out: &mut Levels, moment: &Moment| {
                out.terms.extend(moment.classes.to_array().as_flattened().iter().map(|&x| x as f32));
            };
            if self.prompts {
                let (moment, prompt) = (&moments[0], prompts[index]);
                let tokens = match purpose {
                    Purpose::Train { .. } => tokens / (self.len as f64 * share(1, self.len, prompt)),
                    Purpose::Measure => tokens,
                };
                (0..prompt).for_each(|_| clean(&mut out));
                (prompt..self.len).for_each(|_| noisy(&mut out, moment, tokens));
                (0..self.len).for_each(|_| terms(&mut out, moment));
                continue;
            }
            for moment in &moments {
                noisy(&mut out, moment, tokens);
                terms(&mut out, moment);
            }
            // The clean half, which nothing corrupts and nothing asks.
            (moments.len()..self.groups()).for_each(|_| clean(&mut out));
        }
        out
    }
}
