//! The price of parallelism: what each way to choose positions costs, with a network that makes no mistake.

use super::law::log_likelihood;
use galatea_processes::{Categorical, Denoiser, Limit};
use galatea_random::Philox;
use galatea_samplers::{
    Ancestral, AncestralOptions, Draws, Filter, Fixed, Keyed, Levels, Sampler, Score, Selection, TimeDependence,
    Unmasking, UnmaskingOptions,
};
use galatea_schedules::{Linear, grid};
use galatea_text::language::{Contradiction, ExactDenoiser, ExactModel};
use std::f64::consts::LN_2;

/// A way to write a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::commands) enum Rule {
    /// The posterior along this many even steps.
    Ancestral(usize),
    /// Positions by rank.
    Unmasking(Selection, Score),
}

/// As many words a pass as `passes` asks for, the surest first.
pub(in crate::commands) const fn surest(passes: usize) -> Rule {
    Rule::Unmasking(Selection::Quota { passes }, Score::Entropy)
}

/// As many words as keep their joint entropy within `gamma` nats.
pub(in crate::commands) const fn bounded(gamma: f64) -> Rule {
    Rule::Unmasking(Selection::EntropyBound { gamma }, Score::Entropy)
}

/// What a rule costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::commands) struct Price {
    pub(in crate::commands) rule: Rule,
    /// The mean number of times that the network was asked.
    pub(in crate::commands) passes: f64,
    /// The share of texts that belong to the source.
    pub(in crate::commands) valid: f64,
    /// The standard error of `valid`.
    pub(in crate::commands) error: f64,
    /// The mean -log2 p of those that do; their law is right where it equals the entropy.
    pub(in crate::commands) bits: f64,
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
        }
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
        Ok(match self {
            Rule::Unmasking(selection, score) => {
                let filter = Filter::default();
                let options = UnmaskingOptions { seed, first_sample, filter, selection, score, ..Default::default() };
                Box::new(Unmasking::with_draws(denoiser, process, fixed, options, draws)?)
            }
            Rule::Ancestral(steps) => {
                let levels = Levels::new(&Linear, &grid::uniform(steps))?;
                let time = TimeDependence::Free;
                let options = AncestralOptions { seed, first_sample, time, ..AncestralOptions::default() };
                Box::new(Ancestral::with_draws(denoiser, process, levels, fixed, options, draws)?)
            }
        })
    }

    /// One text, and how often the network was asked for it.
    fn write<M: ExactModel>(self, model: &M, seed: u64, number: u32) -> anyhow::Result<(Vec<u32>, usize)> {
        let (len, vocab) = (model.len(), model.vocab());
        let process = Categorical::new(vocab + 1, Limit::Mask(vocab as u32))?;
        let denoiser = ExactDenoiser::masked(model).on_contradiction(Contradiction::Prior);
        let draws = Box::new(Keyed::new(seed, number, (1, len))?);
        let mut sampler = self.sampler(denoiser, process, Fixed::none(1, len), (seed, number), draws)?;
        for canvas in &mut sampler {
            canvas?;
        }
        let canvas = sampler.canvas();
        Ok((canvas.ids.row(0).to_vec(), canvas.calls))
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

/// The price of `rule`, from `samples` texts.
pub(in crate::commands) fn price<M: ExactModel>(
    model: &M,
    rule: Rule,
    samples: u32,
    seed: u64,
) -> anyhow::Result<Price> {
    let (mut passes, mut valid, mut bits) = (0.0, 0.0, 0.0);
    for number in 0..samples {
        let (x, calls) = rule.write(model, seed, number)?;
        passes += calls as f64;
        let log_p = model.log_prob(&x);
        if log_p.is_finite() {
            valid += 1.0;
            bits -= log_p / LN_2;
        }
    }
    let n = f64::from(samples);
    let share = valid / n;
    let error = (share * (1.0 - share) / n).sqrt();
    Ok(Price { rule, passes: passes / n, valid: share, error, bits: if valid > 0.0 { bits / valid } else { f64::NAN } })
}

/// KL(source || sampler) in bits, the mean over texts of the source of log2 p(x) / q(x), and its standard error.
pub(super) fn divergence<M: ExactModel>(
    model: &M,
    rule: Rule,
    texts: u32,
    (paths, seed): (u32, u64),
) -> anyhow::Result<super::exact::Estimate> {
    let one = |number| {
        let x = model.sample(&mut Philox::new(seed, super::exact::stream::STORY, 1, number));
        let log_q = log_likelihood(model, rule, &x, (seed, number), paths)?;
        Ok((model.log_prob(&x) - log_q) / LN_2)
    };
    Ok(super::exact::Estimate::of(&(0..texts).map(one).collect::<anyhow::Result<Vec<f64>>>()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use galatea_text::language::Sudoku4;

    #[test]
    fn one_at_a_time_is_exact_and_all_at_once_is_not() {
        let sudoku = Sudoku4::new();
        let one = price(&sudoku, surest(16), 30, 3).expect("a price");
        assert_eq!((one.valid, one.passes), (1.0, 16.0));
        assert!((one.bits - sudoku.entropy() / LN_2).abs() < 1e-9);
        let kl = divergence(&sudoku, surest(16), 10, (1, 3)).expect("a divergence");
        assert!(kl.mean.abs() < 1e-4, "{kl:?}");
        // One pass draws sixteen independent digits: 288 of 4^16 grids are valid.
        let all = price(&sudoku, surest(1), 30, 3).expect("a price");
        assert_eq!((all.valid, all.passes), (0.0, 1.0));
        let kl = divergence(&sudoku, surest(1), 10, (1, 3)).expect("a divergence");
        assert!((kl.mean - (32.0 - 288f64.log2())).abs() < 1e-4, "{kl:?}");
    }

    #[test]
    fn a_tight_bound_on_entropy_keeps_every_text_valid_in_fewer_passes() {
        let sudoku = Sudoku4::new();
        let bound = price(&sudoku, bounded(0.0), 30, 4).expect("a price");
        assert_eq!(bound.valid, 1.0);
        assert!(bound.passes < 16.0, "{bound:?}");
    }
}
