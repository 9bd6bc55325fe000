//! What every objective on tokens is: a few numbers a row, and one recording.

use super::{Batch, Inputs, Objective, ObjectiveConfig, Purpose};
use galatea_autograd::{Link, Recorder, Var};
use galatea_models::{BlockModel, Model};
use galatea_processes::objectives::divergence::Classes;
use galatea_schedules::Schedule;

/// How a loss compares what the network says with x_0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Form {
    /// Weighted cross-entropy; fused with the head, whose logits are never in memory.
    CrossEntropy,
    /// A divergence of logits, which are in memory.
    Divergence(Link),
}

/// What follows from a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// The time, which in a chain is the end of a step.
    pub(super) t: f64,
    /// The probability that a token was never replaced.
    pub(super) alpha_bar: f64,
    /// The probability of a mask, where that is not all the rest or none.
    pub(super) masks: f64,
    /// What a mask, a token that is x_0, and another token weigh.
    pub(super) weight: [f64; 3],
    /// The numbers of the divergence.
    pub(super) classes: Classes,
}

impl Moment {
    /// A time of a process with masks or uniform tokens alone, whose loss is a cross-entropy.
    pub(super) fn new(objective: &Objective, t: f64, weight: [f64; 3]) -> Self {
        Self { t, alpha_bar: objective.schedule.alpha_bar(t), masks: 0.0, weight, classes: Classes::default() }
    }
}

/// A loss on tokens.
pub(super) trait OnTokens {
    /// How it is computed.
    fn form(&self, objective: &Objective) -> Form;

    /// Its numbers at time `t`, under which the mean of the loss over uniform times is the loss.
    fn moment(&self, objective: &Objective, t: f64, purpose: Purpose) -> Moment;

    /// What the bound adds to the mean, in nats a token.
    fn constant(&self, objective: &Objective) -> Result<f64, crate::Error>;
}

impl Objective {
    fn on_tokens(&self) -> Option<&dyn OnTokens> {
        match &self.loss {
            ObjectiveConfig::Masked(masked) => Some(masked),
            ObjectiveConfig::Uniform(uniform) => Some(uniform),
            ObjectiveConfig::D3pm(d3pm) => Some(d3pm),
            ObjectiveConfig::Sedd(sedd) => Some(sedd),
            ObjectiveConfig::Gidd(gidd) => Some(gidd),
            ObjectiveConfig::Flow(flow) => Some(flow),
            ObjectiveConfig::Block(block) => Some(block),
            ObjectiveConfig::DiffusionLm(_) | ObjectiveConfig::Plaid(_) | ObjectiveConfig::Cdcd(_) => None,
        }
    }

    fn loss_on_tokens(&self) -> &dyn OnTokens {
        self.on_tokens().expect("ObjectiveConfig::processes pairs a process on tokens with a loss on tokens")
    }

    pub(super) fn form(&self) -> Form {
        self.loss_on_tokens().form(self)
    }

    pub(super) fn moment(&self, t: f64, purpose: Purpose) -> Moment {
        self.loss_on_tokens().moment(self, t, purpose)
    }

    /// What the bound on tokens adds to the mean over times, in nats a token.
    ///
    /// # Errors
    /// If the vocabulary is too small for the process.
    pub(crate) fn constant(&self) -> Result<f64, crate::Error> {
        self.loss_on_tokens().constant(self)
    }

    /// Blocks that have a time of their own, in a row.
    pub(crate) fn blocks(&self) -> usize {
        match &self.loss {
            ObjectiveConfig::Block(block) => self.len / block.size,
            _ => 1,
        }
    }

    /// The network of block diffusion, where that is the loss.
    pub fn block_model(&self, model: &Model) -> Option<BlockModel> {
        let ObjectiveConfig::Block(block) = &self.loss else { return None };
        Some(BlockModel::new(model.clone(), block.size).expect("checked by `Objective::new`"))
    }

    /// Whether the network gives log-ratios and not log-probabilities of x_0.
    pub fn gives_scores(&self) -> bool {
        matches!(self.loss, ObjectiveConfig::Sedd(_))
    }
}

/// Corrupts, denoises and measures.
pub(super) fn record(objective: &Objective, rec: &mut Recorder, model: &Model, x_0: Var, inputs: Inputs) -> Batch {
    let Inputs { time, level, weight, terms } = inputs;
    let (vocab, mask) = (objective.network_vocab(), objective.masks());
    let x_t = rec.corrupt_tokens(x_0, level, objective.limit());
    let w = rec.token_weight(x_0, x_t, weight, mask);
    let (loss, value) = match (objective.form(), terms) {
        (Form::Divergence(link), Some(terms)) => {
            let logits = model.logits(rec, vocab, x_t, time, None);
            rec.divergence(logits, (x_0, x_t), terms, w, link, mask)
        }
        (Form::CrossEntropy | Form::Divergence(_), _) => {
            let (h, head) = match objective.block_model(model) {
                Some(blocks) => blocks.hidden(rec, vocab, x_t, time, None),
                None => model.hidden(rec, vocab, x_t, time, None),
            };
            rec.linear_cross_entropy(h, (head.w, Some(head.b)), x_0, w, mask)
        }
    };
    Batch { x_0, x_t: None, inputs, loss, value, token_weight: Some(w) }
}

/// Denoises what the host has corrupted and measures the posteriors of the step.
pub(super) fn record_chain(
    objective: &Objective,
    rec: &mut Recorder,
    model: &Model,
    (x_0, x_t): (Var, Var),
    inputs: Inputs,
    purpose: Purpose,
) -> Batch {
    let Inputs { time, level, weight, .. } = inputs;
    let w = rec.token_weight(x_0, x_t, weight, None);
    let logits = model.logits(rec, objective.vocab, x_t, time, None);
    let (loss, value) = rec.posterior_kl(logits, (x_0, x_t), level, w, objective.lambda(purpose));
    Batch { x_0, x_t: Some(x_t), inputs, loss, value, token_weight: Some(w) }
}
