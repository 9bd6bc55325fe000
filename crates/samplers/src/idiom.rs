//! Drawing a token from a row of weights: exactly, or as one of the published programmes does it.

use crate::draws::{At, Draws};
use crate::{filter, wide};

/// How uniforms become a token. All of them draw from the same law but for what is said; they differ in which token a
/// given list of uniforms leads to, so a recorded trace can be repeated with its own idiom only.
///
/// With independent exponentials E_k the smallest E_k / p_k belongs to token k with probability p_k (the exponential
/// race, or Gumbel's trick): that is what all but the first and the last are.
///
/// # Source
/// MDLM, UDLM, ReMDM, Duo and SEDD (`guarded`); LLaDA, Fast-dLLM and `torch.multinomial` (`race`); GIDD (`open`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Idiom {
    /// The inverse of the cumulative sum in `f64`, one uniform per token: exact, and the cheapest.
    #[default]
    Exact,
    /// argmax p_k / (1e-10 - ln(u_k + 1e-10)) in `f32`, one uniform per id. The exponentials of small floats are
    /// truncated, so rare tokens are drawn too rarely, as at a lower temperature: published numbers are of this kind.
    Guarded32,
    /// argmax p_k / (1e-10 - ln(u_k + 1e-10)) in `f64`, one uniform per id.
    Guarded64,
    /// argmax p_k / E_k with E_k exponential, one per id: `torch.multinomial`; and LLaDA's exp(l_k) / (-ln u_k)^T, since
    /// the T-th root of all candidates has the same maximum, with p the softmax of l / T.
    Race,
    /// The first id whose cumulative sum exceeds u, the last sum being raised to 1 + 1e-4: the last id takes what
    /// rounding leaves over.
    Open,
}

impl Idiom {
    /// A token with probability proportional to its weight; a weight below 0 counts as 0.
    ///
    /// `scratch` holds as many numbers as there are weights, and what is in it does not matter. Where no weight is
    /// positive the answer is the first id.
    ///
    /// # Panics
    /// If `scratch` is shorter than `weights`.
    pub fn draw(
        self,
        draws: &mut (impl Draws + ?Sized),
        stream: u32,
        at: At,
        weights: &[f64],
        scratch: &mut [f64],
    ) -> usize {
        assert!(scratch.len() >= weights.len(), "Idiom::draw: scratch must be as long as the weights");
        let u = &mut scratch[..weights.len()];
        match self {
            Self::Exact => {
                let mut pair = [0.0; 2];
                draws.uniforms(stream, at, &mut pair);
                let total = wide::positive(weights);
                filter::draw(weights, pair[1] * total)
            }
            Self::Guarded32 => {
                draws.uniforms(stream, at, u);
                argmax(weights.iter().zip(u).map(|(&w, &mut u)| {
                    let race = 1e-10f32 - (u as f32 + 1e-10f32).ln();
                    f64::from(w as f32 / race)
                }))
            }
            Self::Guarded64 => {
                draws.uniforms(stream, at, u);
                argmax(weights.iter().zip(u).map(|(&w, &mut u)| w / (1e-10 - (u + 1e-10).ln())))
            }
            Self::Race => {
                draws.exponentials(stream, at, u);
                argmax(weights.iter().zip(u).map(|(&w, &mut race)| w / race))
            }
            Self::Open => {
                let mut u = [0.0];
                draws.uniforms(stream, at, &mut u);
                let mut cumulative = 0.0;
                let first = weights.iter().position(|w| {
                    cumulative += w.max(0.0);
                    u[0] < cumulative
                });
                first.unwrap_or(weights.len().saturating_sub(1))
            }
        }
    }
}

/// The index of the largest number, the first of equals; never one that is not a number.
fn argmax(numbers: impl Iterator<Item = f64>) -> usize {
    let mut best = (0, f64::NEG_INFINITY);
    for (index, x) in numbers.enumerate() {
        if x > best.1 {
            best = (index, x);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draws::Keyed;
    use crate::source::chi_square;

    #[test]
    fn every_idiom_draws_the_same_law() {
        let weights = [0.05, 0.2, 0.0, 0.45, 0.3, -0.1];
        let law = [0.05, 0.2, 0.0, 0.45, 0.3, 0.0];
        for idiom in [Idiom::Exact, Idiom::Guarded32, Idiom::Guarded64, Idiom::Race, Idiom::Open] {
            let mut keyed = Keyed::new(3, 0, (1, 1)).expect("one row");
            let mut counts = [0; 6];
            for step in 0..6000 {
                counts[idiom.draw(&mut keyed, 0, At { step, row: 0 }, &weights, &mut [f64::NAN; 6])] += 1;
            }
            let (statistic, quantile) = chi_square(&counts, &law);
            assert!(statistic < quantile, "{idiom:?}: {statistic}");
        }
    }

    /// The guard against ln 0 is felt in `f32`: uniforms end at 1 - 2^-24 or so, the race ends at 1e-10.
    #[test]
    fn single_precision_truncates_the_race() {
        struct High;
        impl Draws for High {
            fn uniforms(&mut self, _: u32, _: At, out: &mut [f64]) {
                out.copy_from_slice(&[1.0 - 1e-9, 0.5]);
            }
        }
        let draw = |idiom: Idiom| idiom.draw(&mut High, 0, At { step: 0, row: 0 }, &[1e-9, 1.0], &mut [0.0; 2]);
        assert_eq!((draw(Idiom::Guarded64), draw(Idiom::Race)), (1, 1));
        assert_eq!(draw(Idiom::Guarded32), 0);
    }

    #[test]
    fn uniforms_suffice() {
        struct Halves;
        impl Draws for Halves {
            fn uniforms(&mut self, _: u32, _: At, out: &mut [f64]) {
                out.fill(0.5);
            }
        }
        let at = At { step: 0, row: 0 };
        let mut out = [0.0; 3];
        Halves.exponentials(0, at, &mut out);
        assert!(out.iter().all(|e| (e - std::f64::consts::LN_2).abs() < 1e-15));
        Halves.normals(0, at, Some(2.0), &mut out);
        assert!(out.iter().all(|z| (z + (2.0 * std::f64::consts::LN_2).sqrt()).abs() < 1e-12));
        assert_eq!(Halves.below(0, at, 7), 3);
    }
}
