//! The price of parallelism: what each way to choose positions costs, with a network that makes no mistake.

use galatea_processes::{Categorical, Limit};
use galatea_samplers::{
    Ancestral, AncestralOptions, Filter, Fixed, Levels, Sampler, Score, Selection, TimeDependence, Unmasking,
    UnmaskingOptions,
};
use galatea_schedules::{Linear, grid};
use galatea_text::language::{Contradiction, ExactDenoiser, ExactModel};

/// A way to write a text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::commands) enum Rule {
    /// The posterior along this many even steps.
    Ancestral(usize),
    /// This many positions a pass, the surest first.
    Fixed(usize),
    /// Every position surer than this.
    Threshold(f64),
    /// As many positions as keep their joint entropy within this many nats.
    EntropyBound(f64),
}

/// The rows of the table.
pub(in crate::commands) const RULES: [Rule; 11] = [
    Rule::Ancestral(24),
    Rule::Ancestral(48),
    Rule::Ancestral(96),
    Rule::Ancestral(200),
    Rule::Fixed(1),
    Rule::Fixed(2),
    Rule::Threshold(0.9),
    Rule::EntropyBound(0.0),
    Rule::EntropyBound(0.1),
    Rule::EntropyBound(0.5),
    Rule::EntropyBound(2.0),
];

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

impl Rule {
    pub(in crate::commands) fn name(self) -> String {
        match self {
            Rule::Ancestral(steps) => format!("ancestral, {steps} steps"),
            Rule::Fixed(1) => "one word a pass, surest first".to_owned(),
            Rule::Fixed(n) => format!("{n} words a pass, surest first"),
            Rule::Threshold(least) => format!("every word surer than {least}"),
            Rule::EntropyBound(gamma) => format!("entropy bound {gamma} nats"),
        }
    }

    /// What chooses positions; nothing does in ancestral sampling, where each position has its own dice.
    fn selection(self, len: usize) -> Option<(Selection, Score)> {
        match self {
            Rule::Ancestral(_) => None,
            Rule::Fixed(n) => Some((Selection::Quota { passes: len.div_ceil(n) }, Score::Entropy)),
            Rule::Threshold(least) => Some((Selection::Threshold { least, slack: 0.0 }, Score::Confidence)),
            Rule::EntropyBound(gamma) => Some((Selection::EntropyBound { gamma }, Score::Entropy)),
        }
    }

    /// The steps of ancestral sampling.
    fn steps(self) -> usize {
        match self {
            Rule::Ancestral(steps) => steps,
            Rule::Fixed(_) | Rule::Threshold(_) | Rule::EntropyBound(_) => 1,
        }
    }

    /// One text, and how often the network was asked for it.
    fn write<M: ExactModel>(self, model: &M, seed: u64, number: u32) -> anyhow::Result<(Vec<u32>, usize)> {
        let (len, vocab) = (model.len(), model.vocab());
        let process = Categorical::new(vocab + 1, Limit::Mask(vocab as u32))?;
        let denoiser = ExactDenoiser::masked(model).on_contradiction(Contradiction::Prior);
        let fixed = Fixed::none(1, len);
        let canvas = if let Some((selection, score)) = self.selection(len) {
            let filter = Filter::default();
            let options = UnmaskingOptions {
                seed,
                first_sample: number,
                filter,
                selection,
                score,
                blocks: None,
                ..Default::default()
            };
            Unmasking::new(denoiser, process, fixed, options)?.finish()?
        } else {
            let levels = Levels::new(&Linear, &grid::uniform(self.steps()))?;
            let time = TimeDependence::Free;
            let options = AncestralOptions { seed, first_sample: number, time, ..AncestralOptions::default() };
            Ancestral::new(denoiser, process, levels, fixed, options)?.finish()?
        };
        Ok((canvas.ids.row(0).to_vec(), canvas.calls))
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
            bits -= log_p / std::f64::consts::LN_2;
        }
    }
    let n = f64::from(samples);
    let share = valid / n;
    let error = (share * (1.0 - share) / n).sqrt();
    Ok(Price { rule, passes: passes / n, valid: share, error, bits: if valid > 0.0 { bits / valid } else { f64::NAN } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use galatea_text::language::Sudoku4;

    #[test]
    fn one_at_a_time_is_exact_and_all_at_once_is_not() {
        let sudoku = Sudoku4::new();
        let one = price(&sudoku, Rule::Fixed(1), 30, 3).expect("a price");
        assert_eq!((one.valid, one.passes), (1.0, 16.0));
        assert!((one.bits - sudoku.entropy() / std::f64::consts::LN_2).abs() < 1e-9);
        // One pass draws sixteen independent digits: 288 of 4^16 grids are valid.
        let all = price(&sudoku, Rule::Fixed(16), 30, 3).expect("a price");
        assert_eq!((all.valid, all.passes), (0.0, 1.0));
    }

    #[test]
    fn a_tight_bound_on_entropy_keeps_every_text_valid_in_fewer_passes() {
        let sudoku = Sudoku4::new();
        let bound = price(&sudoku, Rule::EntropyBound(0.0), 30, 4).expect("a price");
        assert_eq!(bound.valid, 1.0);
        assert!(bound.passes < 16.0, "{bound:?}");
    }
}
