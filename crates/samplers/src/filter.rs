//! From logits to the distribution of clean tokens that is drawn from.

use crate::Error;
use crate::error::parameter;
use crate::stats::largest;

/// How logits become p(x_0): temperature first, then the nucleus; forbidden tokens never.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    /// The logits are divided by it; 0 puts everything on the likeliest token. Only 1 draws from the model's own law.
    pub temperature: f64,
    /// Only the likeliest tokens whose probabilities first reach this sum are drawn (nucleus sampling); 1 keeps all.
    pub top_p: f64,
    /// Ids that are never written into the text. The mask is always among them.
    pub forbidden: Vec<u32>,
}

impl Default for Filter {
    /// The model's own distribution.
    fn default() -> Self {
        Self { temperature: 1.0, top_p: 1.0, forbidden: Vec::new() }
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
    pub(crate) fn apply(&self, logits: &[f32], p: &mut [f64]) -> bool {
        let Some((argmax, max)) = largest(logits) else { return false };
        if self.temperature == 0.0 {
            p.fill(0.0);
            p[argmax] = 1.0;
            return true;
        }
        let mut total = 0.0;
        for (p, &logit) in p.iter_mut().zip(logits) {
            *p = ((f64::from(logit) - max) / self.temperature).exp();
            total += *p;
        }
        if self.top_p < 1.0 {
            total = keep_nucleus(self.top_p * total, p);
        }
        p.iter_mut().for_each(|p| *p /= total);
        true
    }

    pub(crate) fn check(&self, vocab: usize) -> Result<(), Error> {
        let temperature = self.temperature;
        parameter("temperature", "finite and at least 0", temperature, temperature >= 0.0 && temperature.is_finite())?;
        parameter("top_p", "in (0, 1]", self.top_p, self.top_p > 0.0 && self.top_p <= 1.0)?;
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

/// Keeps the largest weights until their sum reaches `mass`, zeroes the others, and returns the sum kept.
fn keep_nucleus(mass: f64, weights: &mut [f64]) -> f64 {
    let mut order: Vec<u32> = (0..weights.len() as u32).filter(|&k| weights[k as usize] > 0.0).collect();
    order.sort_by(|&a, &b| weights[b as usize].total_cmp(&weights[a as usize]).then(a.cmp(&b)));
    let mut kept = 0.0;
    for &k in &order {
        if kept >= mass {
            weights[k as usize] = 0.0;
        } else {
            kept += weights[k as usize];
        }
    }
    kept
}

/// The index whose cumulative probability first exceeds `u` in (0, 1), never one of probability 0.
pub(crate) fn draw(p: &[f64], u: f64) -> usize {
    let (mut cumulative, mut last) = (0.0, 0);
    for (index, &p) in p.iter().enumerate() {
        if p > 0.0 {
            cumulative += p;
            last = index;
            if u < cumulative {
                break;
            }
        }
    }
    last
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
        ] {
            assert!(matches!(filter.check(4), Err(Error::Parameter { .. })), "{filter:?}");
        }
        let forbid = |forbidden: &[u32]| Filter { forbidden: forbidden.to_vec(), ..Filter::default() }.check(3);
        assert_eq!(forbid(&[3]), Err(Error::Forbidden { token: 3, vocab: 3 }));
        assert_eq!(forbid(&[2, 0, 1]), Err(Error::NothingAllowed { vocab: 3 }));
        assert_eq!(forbid(&[2, 0]), Ok(()));
    }
}
