//! The ways to write a text that the tables compare.

use galatea_processes::{Categorical, Denoiser, Limit};
use galatea_samplers::{
    Ancestral, AncestralOptions, Blockwise, BlockwiseOptions, Draws, Filter, Fixed, Gibbs, Levels, Pick, Plateau,
    Refining, RefiningOptions, Revise, Sampler, Score, Selection, TimeDependence, Unmasking, UnmaskingOptions,
};
use galatea_schedules::{Linear, grid};
use galatea_text::language::Reading;

/// A way to write a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::commands) enum Rule {
    /// The posterior along this many even steps.
    Ancestral(usize),
    /// Positions by rank.
    Unmasking(Selection, Score),
    /// Position by position, at the times at which the exact chain would.
    FirstHitting,
    /// Masks along this many steps that may come back.
    Remasking(Back, usize),
    /// Uniform noise along this many steps.
    Uniform(Way, usize),
    /// Uniform noise, this many times: the surest draws stay, the others become noise again.
    Refining(usize),
}

/// How much of what has been written becomes a mask again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::commands) enum Back {
    /// As much as is allowed, up to this.
    Cap(f64),
    /// This share of what is allowed.
    Rescale(f64),
    /// This much on a plateau of nine tenths of signal that takes half of the steps.
    Loop(f64),
}

/// How a step is taken under uniform noise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::commands) enum Way {
    /// From the posterior.
    Posterior,
    /// From the posterior, then this many positions again given the others; two evaluations a step.
    Corrected(usize),
    /// By going back as far as the step has forgotten.
    Tweedie,
    /// Along the rates.
    Euler,
    /// Along the rates of the flow to clean tokens.
    Flow,
}

/// As many words a pass as `passes` asks for, the surest first.
pub(in crate::commands) const fn surest(passes: usize) -> Rule {
    Rule::Unmasking(Selection::Quota { passes }, Score::Entropy)
}

/// As many words as keep their joint entropy within `gamma` nats.
pub(in crate::commands) const fn bounded(gamma: f64) -> Rule {
    Rule::Unmasking(Selection::EntropyBound { gamma }, Score::Entropy)
}

/// A sampler of any kind.
pub(super) type Any<'a, E> =
    Box<dyn Sampler<Item = Result<galatea_samplers::Canvas, galatea_samplers::Failure<E>>, DenoiserError = E> + 'a>;

impl Rule {
    pub(in crate::commands) fn name(self) -> String {
        match self {
            Rule::Ancestral(steps) => format!("ancestral, {steps} steps"),
            Rule::Unmasking(Selection::Quota { passes }, score) => format!("{}, {passes} passes", order(score)),
            Rule::Unmasking(Selection::Threshold { least, .. }, score) => format!("{} above {least}", order(score)),
            Rule::Unmasking(Selection::Factor { factor }, _) => format!("factor {factor}"),
            Rule::Unmasking(Selection::EntropyBound { gamma }, _) => format!("entropy bound {gamma} nats"),
            Rule::Unmasking(Selection::Hierarchy { high, .. }, _) => format!("best of each gap, all above {high}"),
            Rule::Unmasking(Selection::Share { passes, .. }, score) => format!("{}, {passes} shares", order(score)),
            Rule::Unmasking(Selection::Bernoulli { passes, .. }, _) => format!("coins, {passes} passes"),
            Rule::FirstHitting => "first hitting".to_owned(),
            Rule::Remasking(back, steps) => format!("{}, {steps} steps", back.name()),
            Rule::Uniform(way, steps) => format!("{}, {steps} steps", way.name()),
            Rule::Refining(steps) => format!("refining, at most {steps} steps"),
        }
    }

    /// What noise is made of, for a source of `vocab` words.
    pub(super) fn limit(self, vocab: usize) -> Limit {
        match self {
            Rule::Ancestral(_) | Rule::Unmasking(..) | Rule::FirstHitting | Rule::Remasking(..) => {
                Limit::Mask(vocab as u32)
            }
            Rule::Uniform(..) | Rule::Refining(_) => Limit::Uniform,
        }
    }

    /// What the network has to say: a refined text keeps its tokens because of themselves.
    pub(super) fn reading(self) -> Reading {
        match self {
            Rule::Ancestral(_) | Rule::Unmasking(..) | Rule::FirstHitting | Rule::Remasking(..) => Reading::Posterior,
            Rule::Uniform(..) => Reading::LeaveOneOut,
            Rule::Refining(_) => Reading::Posterior,
        }
    }

    /// The process whose noise it removes.
    pub(super) fn process(self, vocab: usize) -> anyhow::Result<Categorical> {
        let limit = self.limit(vocab);
        Ok(Categorical::new(vocab + usize::from(limit != Limit::Uniform), limit)?)
    }

    /// The sampler of text number `number`.
    pub(super) fn sampler<'a, D: Denoiser + 'a>(
        self,
        denoiser: D,
        process: Categorical,
        fixed: Fixed,
        (seed, first_sample): (u64, u32),
        draws: Box<dyn Draws>,
    ) -> anyhow::Result<Any<'a, D::Error>> {
        let stepwise = AncestralOptions { seed, first_sample, ..AncestralOptions::default() };
        let masks = AncestralOptions { time: TimeDependence::Free, ..stepwise.clone() };
        Ok(match self {
            Rule::Unmasking(selection, score) => {
                let filter = Filter::default();
                let options = UnmaskingOptions { seed, first_sample, filter, selection, score, ..Default::default() };
                Box::new(Unmasking::with_draws(denoiser, process, fixed, options, draws)?)
            }
            Rule::FirstHitting => {
                let options = BlockwiseOptions { seed, first_sample, ..BlockwiseOptions::new(fixed.dim().1) };
                Box::new(Blockwise::with_draws(denoiser, process, fixed, options, draws)?)
            }
            Rule::Ancestral(steps) => {
                let levels = Levels::new(&Linear, &grid::uniform(steps))?;
                Box::new(Ancestral::with_draws(denoiser, process, levels, fixed, masks, draws)?)
            }
            Rule::Remasking(back, steps) => {
                let (levels, revise) = back.levels(steps)?;
                let options = AncestralOptions { revise, ..masks };
                Box::new(Ancestral::with_draws(denoiser, process, levels, fixed, options, draws)?)
            }
            Rule::Uniform(way, steps) => {
                let options = way.options(stepwise);
                Box::new(Ancestral::with_draws(denoiser, process, way.levels(steps)?, fixed, options, draws)?)
            }
            Rule::Refining(steps) => {
                let options = RefiningOptions { seed, first_sample, steps, ..RefiningOptions::default() };
                Box::new(Refining::with_draws(denoiser, process, fixed, options, draws)?)
            }
        })
    }
}

impl Back {
    pub(super) fn name(self) -> &'static str {
        match self {
            Back::Cap(_) => "masked again, capped",
            Back::Rescale(_) => "masked again, a share",
            Back::Loop(_) => "masked again, in a loop",
        }
    }

    fn levels(self, steps: usize) -> anyhow::Result<(Levels, Revise)> {
        const PLATEAU: Plateau = Plateau { t_on: 0.55, t_off: 0.05, alpha_bar: 0.9 };
        let grid = grid::uniform(steps);
        Ok(match self {
            Back::Cap(cap) => (Levels::new(&Linear, &grid)?, Revise::cap(cap)),
            Back::Rescale(scale) => (Levels::new(&Linear, &grid)?, Revise::rescale(scale)),
            Back::Loop(sigma) => {
                let Plateau { t_on, t_off, .. } = PLATEAU;
                (Levels::plateau(&grid, PLATEAU)?, Revise::Loop { sigma, t_on, t_off })
            }
        })
    }
}

impl Way {
    pub(super) fn name(self) -> &'static str {
        match self {
            Way::Posterior => "uniform noise",
            Way::Corrected(_) => "uniform noise, corrected",
            Way::Tweedie => "uniform noise, Tweedie",
            Way::Euler => "uniform noise, Euler",
            Way::Flow => "uniform noise, flow",
        }
    }

    /// Even steps; those of Euler begin with a little signal, as rates need it, and end with a step that cleans up.
    fn levels(self, steps: usize) -> anyhow::Result<Levels> {
        const ENDS: [f64; 2] = [0.999, 1e-3];
        let times = match self {
            Way::Posterior | Way::Corrected(_) | Way::Tweedie | Way::Flow => grid::uniform(steps),
            Way::Euler => {
                let even = grid::uniform(steps.max(2) - 1);
                even.iter().map(|u| ENDS[1] + u * (ENDS[0] - ENDS[1])).collect()
            }
        };
        Ok(Levels::new(&Linear, &times)?)
    }

    fn options(self, plain: AncestralOptions) -> AncestralOptions {
        use galatea_samplers::Rule as Step;
        let by = |rule| AncestralOptions { rule, ..plain.clone() };
        match self {
            Way::Posterior => plain,
            Way::Corrected(positions) => {
                let corrector = Some(Gibbs { sweeps: 1, positions, pick: Pick::Random });
                AncestralOptions { corrector, ..plain }
            }
            Way::Tweedie => by(Step::Tweedie),
            Way::Euler => by(Step::Euler),
            Way::Flow => by(Step::Flow { divergence_free: 0.0 }),
        }
    }
}

/// The words of the table for an order.
pub(super) fn order(score: Score) -> &'static str {
    match score {
        Score::Confidence => "likeliest draw first",
        Score::Margin => "largest margin first",
        Score::Entropy => "least entropy first",
        Score::Random => "at random",
        Score::LeftToRight => "left to right",
    }
}
