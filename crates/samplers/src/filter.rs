//! From logits to the distribution of clean tokens that is drawn from.

use crate::Error;
use crate::error::parameter;
use crate::stats::largest;
use crate::wide;

/// How logits become p(x_0): the temperature, then the nucleus, then top-k, then min-p; forbidden tokens never.
///
/// The order is part of the meaning: the nucleus is that of the tempered distribution, top-k counts what the nucleus
/// left, and min-p compares what is left with its largest. It is Dream's order with min-p behind it.
///
/// # Source
/// Ye et al. (2025), Dream, `generation_utils.py`; Holtzman et al. (2020), nucleus sampling; Nguyen et al. (2024), min-p.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    /// The logits are divided by it; 0 puts everything on the likeliest token. Only 1 draws from the model's own law.
    pub temperature: f64,
    /// Only the likeliest tokens whose probabilities first reach this sum are drawn (nucleus sampling); 1 keeps all.
    pub top_p: f64,
    /// Whether the token with which the sum reaches `top_p` belongs to the nucleus.
    pub nucleus: Nucleus,
    /// Only this many of the likeliest tokens are drawn, and those as likely as the last of them; `None` keeps all.
    pub top_k: Option<usize>,
    /// Only tokens at least this fraction as likely as the likeliest are drawn; 0 keeps all.
    pub min_p: f64,
    /// Ids that are never written into the text. The mask is always among them.
    pub forbidden: Vec<u32>,
}

/// Where a nucleus ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Nucleus {
    /// With the token that reaches the sum: the nucleus holds at least `top_p` (Dream, MD4).
    #[default]
    Reaching,
    /// Before it: the nucleus holds at most `top_p`, but for the likeliest token, which is always in (BD3-LM, ReMDM).
    Within,
}

impl Default for Filter {
    /// The model's own distribution.
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            nucleus: Nucleus::Reaching,
            top_k: None,
            min_p: 0.0,
            forbidden: Vec::new(),
        }
    }
}

impl Filter {
    /// The likeliest token always.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }

    /// Writes p(x_0) into `p` and returns whether the row could be read: false for NaN, +inf or only -inf.
    ///
    /// # Shapes
    /// `logits` and `p` \[vocab\]; `p` sums to 1. Forbidden tokens must be -inf in `logits` already.
    pub fn apply(&self, logits: &[f32], p: &mut [f64]) -> bool {
        self.apply_at(self.temperature, logits, p)
    }

    /// [`apply`](Self::apply) at another temperature than the filter's own.
    pub(crate) fn apply_at(&self, temperature: f64, logits: &[f32], p: &mut [f64]) -> bool {
        let Some((argmax, max)) = largest(logits) else { return false };
        if temperature == 0.0 {
            p.fill(0.0);
            p[argmax] = 1.0;
        } else {
            self.weigh(logits, max, temperature, p);
        }
        true
    }

    /// [`apply`](Self::apply) at temperature 1 where the filter is greedy: the distribution whose likeliest token is
    /// taken, for whoever ranks positions by it.
    pub(crate) fn apply_untempered(&self, logits: &[f32], p: &mut [f64]) -> bool {
        self.apply_at(if self.temperature == 0.0 { 1.0 } else { self.temperature }, logits, p)
    }

    fn weigh(&self, logits: &[f32], max: f64, temperature: f64, p: &mut [f64]) {
        let mut total = wide::weights(logits, max, temperature, p);
        if self.top_p < 1.0 {
            total = keep_nucleus(self.top_p * total, self.nucleus, p);
        }
        if let Some(k) = self.top_k.filter(|&k| k < p.len()) {
            let (least, _) = cutoff(p, k as f64, |_| 1.0);
            total = keep(p, |weight| weight >= least);
        }
        if self.min_p > 0.0 {
            let least = self.min_p * p.iter().fold(0.0, |max: f64, &weight| max.max(weight));
            total = keep(p, |weight| weight >= least);
        }
        wide::divide(p, total);
    }

    pub(crate) fn check(&self, vocab: usize) -> Result<(), Error> {
        let temperature = self.temperature;
        parameter("temperature", "finite and at least 0", temperature, temperature >= 0.0 && temperature.is_finite())?;
        parameter("top_p", "in (0, 1]", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0)?;
        if let Some(k) = self.top_k {
            parameter("top_k", "at least 1", k as f64, k > 0)?;
        }
        parameter("min_p", "in [0, 1]", self.min_p, (0.0..=1.0).contains(&self.min_p))?;
        check_forbidden(&self.forbidden, vocab)
    }
}

/// An error unless every forbidden id exists and some id is allowed.
pub(crate) fn check_forbidden(forbidden: &[u32], vocab: usize) -> Result<(), Error> {
    if let Some(&token) = forbidden.iter().find(|&&token| token as usize >= vocab) {
        return Err(Error::Forbidden { token, vocab });
    }
    if forbidden.iter().collect::<std::collections::HashSet<_>>().len() == vocab {
        return Err(Error::NothingAllowed { vocab });
    }
    Ok(())
}

/// Zeroes the weights that are not to be kept and returns the sum of the others.
fn keep(weights: &mut [f64], kept: impl Fn(f64) -> bool) -> f64 {
    let mut total = 0.0;
    for weight in weights {
        *weight = if kept(*weight) { *weight } else { 0.0 };
        total += *weight;
    }
    total
}

/// Keeps the largest weights until their sum reaches `mass`, zeroes the others, and returns the sum kept. Among equals
/// the first go first.
fn keep_nucleus(mass: f64, nucleus: Nucleus, weights: &mut [f64]) -> f64 {
    let (least, mut kept) = cutoff(weights, mass, |weight| weight);
    for weight in weights {
        let last = match nucleus {
            Nucleus::Reaching => kept < mass,
            Nucleus::Within => kept == 0.0 || kept + *weight <= mass,
        };
        if *weight < least || *weight == least && !last {
            *weight = 0.0;
        } else if *weight == least {
            kept += *weight;
        }
    }
    kept
}

/// The weight w at which the measure of all weights of at least w reaches `target` (the smallest weight above 0 if it
/// never does), and the measure of those larger than w.
///
/// Six passes and no memory: the bits of numbers of at least 0 are ordered as the numbers are, so that w is found digit
/// by digit from the measure of each digit's weights.
fn cutoff(weights: &[f64], target: f64, measure: impl Fn(f64) -> f64) -> (f64, f64) {
    let (mut prefix, mut above) = (0u64, 0.0);
    for (shift, width) in [(52, 11), (41, 11), (30, 11), (19, 11), (8, 11), (0, 8)] {
        let mut bins = [0.0f64; 1 << 11];
        let digits = (1u64 << width) - 1;
        for &weight in weights {
            let bits = weight.to_bits();
            if weight > 0.0 && bits >> (shift + width) == prefix {
                bins[(bits >> shift & digits) as usize] += measure(weight);
            }
        }
        let mut found = (0, above);
        let mut sum = above;
        for (digit, &bin) in bins.iter().enumerate().rev() {
            if bin > 0.0 {
                found = (digit, sum);
                sum += bin;
                if sum >= target {
                    break;
                }
            }
        }
        (prefix, above) = (prefix << width | found.0 as u64, found.1);
    }
    (f64::from_bits(prefix), above)
}

/// The index whose cumulative probability first exceeds `u` in (0, 1), never one of probability 0.
pub(crate) fn draw(p: &[f64], u: f64) -> usize {
    wide::inverse(p, u)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn p_of(filter: &Filter, logits: &[f32]) -> Vec<f64> {
        let mut p = vec![f64::NAN; logits.len()];
        assert!(filter.apply(logits, &mut p));
        p
    }

    proptest! {
        #[test]
        fn every_filter_gives_a_distribution(
            logits in proptest::collection::vec(-20f32..20.0, 1..20), temperature in 0.05f64..3.0, top_p in 0.01f64..1.0,
        ) {
            let p = p_of(&Filter { temperature, top_p, ..Filter::default() }, &logits);
            prop_assert!((p.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            prop_assert!(p.iter().all(|&p| (0.0..=1.0 + 1e-15).contains(&p)));
        }

        /// The cutoff without a sort is what a sort finds, ties and all.
        #[test]
        fn the_cutoff_is_that_of_the_sorted_weights(
            weights in proptest::collection::vec(prop_oneof![0.0f64..1.0, Just(0.25), Just(0.0), Just(1e-300)], 1..30), share in 0.01f64..1.0,
        ) {
            let mut sorted: Vec<f64> = weights.iter().copied().filter(|&w| w > 0.0).collect();
            prop_assume!(!sorted.is_empty());
            sorted.sort_by(|a, b| b.total_cmp(a));
            let target = (share * sorted.len() as f64).ceil();
            let expected = sorted[target as usize - 1];
            let larger = sorted.iter().filter(|&&w| w > expected).count() as f64;
            prop_assert_eq!(cutoff(&weights, target, |_| 1.0), (expected, larger));
        }

        /// Within and Reaching differ by the one token that crosses the line.
        #[test]
        fn the_two_nuclei_differ_by_one_token(logits in proptest::collection::vec(-4f32..4.0, 2..20), top_p in 0.05f64..0.999) {
            let count = |nucleus| {
                let p = p_of(&Filter { top_p, nucleus, ..Filter::default() }, &logits);
                p.iter().filter(|&&p| p > 0.0).count()
            };
            let (within, reaching) = (count(Nucleus::Within), count(Nucleus::Reaching));
            prop_assert!(within >= 1 && (within == reaching.max(2) - 1 || within == reaching), "{within} {reaching}");
            let full = p_of(&Filter::default(), &logits);
            let cut = p_of(&Filter { top_p, nucleus: Nucleus::Within, ..Filter::default() }, &logits);
            let mass: f64 = full.iter().zip(&cut).filter(|(_, c)| **c > 0.0).map(|(f, _)| *f).sum();
            prop_assert!(within == 1 || mass <= top_p + 1e-12);
        }

        #[test]
        fn top_k_keeps_the_k_likeliest(mut logits in proptest::collection::vec(-4f32..4.0, 1..20), k in 1usize..25) {
            let p = p_of(&Filter { top_k: Some(k), ..Filter::default() }, &logits);
            let full = p_of(&Filter::default(), &logits);
            let kept: f64 = full.iter().zip(&p).filter(|(_, p)| **p > 0.0).map(|(f, _)| *f).sum();
            logits.sort_by(|a, b| b.total_cmp(a));
            let least = logits[k.min(logits.len()) - 1];
            prop_assert_eq!(p.iter().filter(|&&p| p > 0.0).count(), logits.iter().filter(|&&l| l >= least).count());
            prop_assert!(full.iter().zip(&p).all(|(f, p)| *p == 0.0 || (f / kept - p).abs() < 1e-12));
        }

        #[test]
        fn min_p_keeps_what_is_likely_enough(logits in proptest::collection::vec(-4f32..4.0, 1..20), min_p in 0.0f64..1.0) {
            let (full, p) = (p_of(&Filter::default(), &logits), p_of(&Filter { min_p, ..Filter::default() }, &logits));
            let most = full.iter().copied().fold(0.0, f64::max);
            let near = |f: f64| (f - min_p * most).abs() < 1e-12;
            prop_assert!(full.iter().zip(&p).all(|(&f, &p)| near(f) || (p > 0.0) == (f > min_p * most)));
        }

        /// The documented order: each filter works on what the one before it left.
        #[test]
        fn filters_apply_in_their_order(
            logits in proptest::collection::vec(-4f32..4.0, 2..20), temperature in 0.3f64..2.0, top_p in 0.1f64..0.99, k in 1usize..6, min_p in 0.0f64..0.5,
        ) {
            let all = Filter { temperature, top_p, top_k: Some(k), min_p, ..Filter::default() };
            let log = |p: &[f64]| p.iter().map(|p| p.ln() as f32).collect::<Vec<_>>();
            let tempered = p_of(&Filter { temperature, ..Filter::default() }, &logits);
            let nucleus = p_of(&Filter { top_p, ..Filter::default() }, &log(&tempered));
            let few = p_of(&Filter { top_k: Some(k), ..Filter::default() }, &log(&nucleus));
            let last = p_of(&Filter { min_p, ..Filter::default() }, &log(&few));
            for (a, b) in p_of(&all, &logits).iter().zip(&last) {
                prop_assert!((a - b).abs() < 1e-5, "{a} {b}");
            }
        }

        /// The nucleus is the smallest set of likeliest tokens that reaches top_p.
        #[test]
        fn the_nucleus_is_minimal(logits in proptest::collection::vec(-4f32..4.0, 2..20), top_p in 0.05f64..0.999) {
            let full = p_of(&Filter::default(), &logits);
            let cut = p_of(&Filter { top_p, ..Filter::default() }, &logits);
            let kept: Vec<f64> = full.iter().zip(&cut).filter(|(_, c)| **c > 0.0).map(|(f, _)| *f).collect();
            let mass: f64 = kept.iter().sum();
            let least = kept.iter().copied().fold(f64::INFINITY, f64::min);
            prop_assert!(mass >= top_p - 1e-12 && mass - least < top_p + 1e-12);
            prop_assert!(full.iter().zip(&cut).all(|(f, c)| *c > 0.0 || *f <= least));
        }

        #[test]
        fn a_draw_inverts_the_cumulative_sum(weights in proptest::collection::vec(0u8..5, 1..12), u in 0.0f64..1.0) {
            let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
            prop_assume!(total > 0.0);
            let p: Vec<f64> = weights.iter().map(|&w| f64::from(w) / total).collect();
            let k = draw(&p, u);
            let below: f64 = p[..k].iter().sum();
            prop_assert!(p[k] > 0.0);
            prop_assert!(below <= u + 1e-12 && u <= below + p[k] + 1e-12);
        }
    }

    #[test]
    fn temperature_is_a_power_of_the_probabilities() {
        let logits = [0.3f32, -1.0, 2.0];
        let (one, half) =
            (p_of(&Filter::default(), &logits), p_of(&Filter { temperature: 0.5, ..Filter::default() }, &logits));
        let total: f64 = one.iter().map(|p| p * p).sum();
        for (one, half) in one.iter().zip(&half) {
            assert!((one * one / total - half).abs() < 1e-14);
        }
        assert_eq!(p_of(&Filter::greedy(), &logits), [0.0, 0.0, 1.0]);
    }

    #[test]
    fn bad_filters_are_refused() {
        for filter in [
            Filter { temperature: -1.0, ..Filter::default() },
            Filter { temperature: f64::NAN, ..Filter::default() },
            Filter { top_p: 0.0, ..Filter::default() },
            Filter { top_p: 1.5, ..Filter::default() },
            Filter { top_k: Some(0), ..Filter::default() },
            Filter { min_p: -0.1, ..Filter::default() },
            Filter { min_p: f64::NAN, ..Filter::default() },
        ] {
            assert!(matches!(filter.check(4), Err(Error::Parameter { .. })), "{filter:?}");
        }
        let forbid = |forbidden: &[u32]| Filter { forbidden: forbidden.to_vec(), ..Filter::default() }.check(3);
        assert_eq!(forbid(&[3]), Err(Error::Forbidden { token: 3, vocab: 3 }));
        assert_eq!(forbid(&[2, 0, 1]), Err(Error::NothingAllowed { vocab: 3 }));
        assert_eq!(forbid(&[2, 0]), Ok(()));
    }
}
