//! The price of parallelism: what each way to choose positions costs, with a network that makes no mistake.

use super::law::log_likelihood;
pub(in crate::commands) use super::rule::{Rule, bounded, surest};
use galatea_random::Philox;
use galatea_samplers::{Fixed, Keyed};
use galatea_schedules::Linear;
use galatea_text::language::{Contradiction, ExactDenoiser, ExactModel};
use std::f64::consts::LN_2;

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

/// One text of `rule`, and how often the network was asked for it.
fn write<M: ExactModel>(rule: Rule, model: &M, seed: u64, number: u32) -> anyhow::Result<(Vec<u32>, usize)> {
    let (len, vocab) = (model.len(), model.vocab());
    let denoiser = ExactDenoiser::new(model, rule.limit(vocab), Linear).reading(rule.reading());
    let denoiser = denoiser.on_contradiction(Contradiction::Prior);
    let draws = Box::new(Keyed::new(seed, number, (1, len))?);
    let mut sampler = rule.sampler(denoiser, rule.process(vocab)?, Fixed::none(1, len), (seed, number), draws)?;
    while let Some(step) = sampler.advance() {
        step?;
    }
    let canvas = sampler.canvas();
    Ok((canvas.ids.row(0).to_vec(), canvas.calls))
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
        let (x, calls) = write(rule, model, seed, number)?;
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
    use super::super::rule::{Back, Way};
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

    /// First hitting is exact; enough steps of uniform noise come close to it, and of few steps correctors make more.
    #[test]
    fn other_families_write_what_they_should() {
        let sudoku = Sudoku4::new();
        let first = price(&sudoku, Rule::FirstHitting, 30, 5).expect("a price");
        assert_eq!((first.valid, first.passes), (1.0, 16.0));
        let kl = divergence(&sudoku, Rule::FirstHitting, 10, (1, 5)).expect("a divergence");
        assert!(kl.mean.abs() < 1e-4, "{kl:?}");
        for way in [Way::Posterior, Way::Tweedie, Way::Euler, Way::Flow] {
            let [few, many] = [3, 48].map(|steps| price(&sudoku, Rule::Uniform(way, steps), 60, 5).expect("a price"));
            assert_eq!(many.passes, 48.0, "{way:?}");
            assert!(many.valid > 0.7 && few.valid < many.valid, "{way:?}: {few:?} {many:?}");
        }
        let corrected = price(&sudoku, Rule::Uniform(Way::Corrected(2), 24), 60, 5).expect("a price");
        assert_eq!(corrected.passes, 48.0);
        for back in [Back::Cap(0.02), Back::Rescale(0.02), Back::Loop(0.02)] {
            let price = price(&sudoku, Rule::Remasking(back, 48), 60, 5).expect("a price");
            assert!(price.valid > 0.3 && price.passes <= 48.0, "{back:?}: {price:?}");
        }
        let refined = price(&sudoku, Rule::Refining(48), 30, 5).expect("a price");
        assert!(refined.passes <= 48.0 && refined.valid > 0.5, "{refined:?}");
    }

    #[test]
    fn a_tight_bound_on_entropy_keeps_every_text_valid_in_fewer_passes() {
        let sudoku = Sudoku4::new();
        let bound = price(&sudoku, bounded(0.0), 30, 4).expect("a price");
        assert_eq!(bound.valid, 1.0);
        assert!(bound.passes < 16.0, "{bound:?}");
    }
}
