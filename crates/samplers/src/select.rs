//! Which positions are written in a pass: small pure rules over scores and entropies.
//!
//! Every rule takes one number per candidate and returns the indices of those chosen, the best first. Equal numbers go
//! to the earlier candidate.

/// How many positions a pass writes, and by which rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Selection {
    /// The block is written in this many passes, the best scores first, as evenly as [`quota`] divides it.
    Quota {
        /// The passes of each block.
        passes: usize,
    },
    /// Every position with at least this score, and always the best one.
    Threshold {
        /// The least score.
        least: f64,
    },
    /// The n best with (n + 1)(1 - score of the n-th) <= factor, and always the best one.
    Factor {
        /// The factor: larger writes more.
        factor: f64,
    },
    /// The surest positions, as many as keep the sum of all chosen entropies but the largest within gamma.
    EntropyBound {
        /// The bound in nats: 0 writes one position (and those without any doubt).
        gamma: f64,
    },
}

/// What makes a position a good one to write next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Score {
    /// The probability of the token that was drawn. Drawing at a temperature above 0 and then preferring what came out
    /// likely distorts the law of the text; the other scores look at the distribution only.
    #[default]
    Confidence,
    /// The largest probability less the second largest.
    Margin,
    /// Less entropy is better.
    Entropy,
    /// A random order.
    Random,
}

/// How many of `masked` positions each of `passes` passes writes: floor(masked / passes), one more in the first
/// masked mod passes.
///
/// ```
/// assert_eq!(galatea_samplers::quota(7, 3), [3, 2, 2]);
/// ```
///
/// # Source
/// Nie et al. (2025), LLaDA, `get_num_transfer_tokens`.
pub fn quota(masked: usize, passes: usize) -> Vec<usize> {
    (0..passes).map(|i| masked / passes + usize::from(i < masked % passes)).collect()
}

/// The `count` best scores.
pub fn best(scores: &[f64], count: usize) -> Vec<usize> {
    let mut order = ranked(scores);
    order.truncate(count);
    order
}

/// Every score of at least `least`, and always the best one.
///
/// # Source
/// Wu et al. (2025), "Fast-dLLM", section 3.3 (confidence-aware parallel decoding).
pub fn above(scores: &[f64], least: f64) -> Vec<usize> {
    let mut order = ranked(scores);
    let count = order.iter().take_while(|&&k| scores[k] >= least).count();
    order.truncate(count.max(1));
    order
}

/// The longest run of best scores with (n + 1)(1 - score_n) <= `factor` at every rank n, and always the best one.
///
/// # Source
/// Wu et al. (2025), "Fast-dLLM", theorem 1 (the bound under which greedy parallel and sequential decoding agree).
pub fn within_factor(scores: &[f64], factor: f64) -> Vec<usize> {
    let mut order = ranked(scores);
    let fits = |rank: usize, k: usize| rank == 0 || scores[k] >= 1.0 - factor / (rank + 2) as f64;
    let count = order.iter().enumerate().take_while(|&(rank, &k)| fits(rank, k)).count();
    order.truncate(count);
    order
}

/// The smallest entropies, as long as the sum of the chosen ones but the largest is at most `gamma`; always one.
///
/// Given independent draws, the sum bounds how far they are from a joint draw.
///
/// # Source
/// Ben-Hamu et al. (2025), "Accelerated sampling from masked diffusion models via entropy bounded unmasking".
pub fn within_entropy(entropies: &[f64], gamma: f64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..entropies.len()).collect();
    order.sort_by(|&a, &b| entropies[a].total_cmp(&entropies[b]).then(a.cmp(&b)));
    let (mut before, mut count) = (0.0, 0);
    for &k in &order {
        // `before` is the sum without the entropy in question, which is the largest so far.
        if count > 0 && before > gamma {
            break;
        }
        before += entropies[k];
        count += 1;
    }
    order.truncate(count);
    order
}

fn ranked(scores: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use galatea_fixtures::Fixture;
    use proptest::prelude::*;

    fn scores() -> impl Strategy<Value = Vec<f64>> {
        proptest::collection::vec(0.0f64..1.0, 1..30)
    }

    proptest! {
        #[test]
        fn quota_sums_to_the_masked_count(masked in 0usize..300, passes in 1usize..50) {
            let quota = quota(masked, passes);
            prop_assert_eq!(quota.len(), passes);
            prop_assert_eq!(quota.iter().sum::<usize>(), masked);
            prop_assert!(quota.windows(2).all(|w| w[0] >= w[1] && w[0] - w[1] <= 1));
        }

        #[test]
        fn a_lower_threshold_chooses_no_less(scores in scores(), a in 0.0f64..1.0, b in 0.0f64..1.0) {
            let (strict, lax) = (above(&scores, a.max(b)), above(&scores, a.min(b)));
            prop_assert!(strict.iter().all(|k| lax.contains(k)));
        }

        #[test]
        fn a_larger_factor_or_bound_chooses_no_less(scores in scores(), a in 0.0f64..3.0, b in 0.0f64..3.0) {
            let (few, many) = (within_factor(&scores, a.min(b)), within_factor(&scores, a.max(b)));
            prop_assert!(few.iter().all(|k| many.contains(k)));
            let (few, many) = (within_entropy(&scores, a.min(b)), within_entropy(&scores, a.max(b)));
            prop_assert!(few.iter().all(|k| many.contains(k)));
        }

        #[test]
        fn every_rule_chooses_at_least_one_and_the_best(scores in scores(), x in -1.0f64..2.0) {
            let top = best(&scores, 1);
            prop_assert_eq!(&above(&scores, x)[..1], &top[..]);
            prop_assert_eq!(&within_factor(&scores, x)[..1], &top[..]);
            let negated: Vec<f64> = scores.iter().map(|s| -s).collect();
            prop_assert_eq!(&within_entropy(&scores, x)[..1], &best(&negated, 1)[..]);
        }

        /// The rule as it is written: cumsum(H) - H_k <= gamma for every accepted k.
        #[test]
        fn entropy_bound_is_the_cumulative_rule(entropies in scores(), gamma in 0.0f64..4.0) {
            let mut sorted = entropies.clone();
            sorted.sort_by(f64::total_cmp);
            let mut sum = 0.0;
            let accepted = sorted.iter().filter(|&&h| { sum += h; sum - h <= gamma }).count();
            prop_assert_eq!(within_entropy(&entropies, gamma).len(), accepted);
        }
    }

    #[test]
    fn an_empty_list_gives_an_empty_choice() {
        assert!(best(&[], 3).is_empty() && above(&[], 0.5).is_empty());
        assert!(within_factor(&[], 1.0).is_empty() && within_entropy(&[], 1.0).is_empty());
    }

    #[test]
    fn quotas_equal_llada() {
        let golden =
            Fixture::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/num_transfer_tokens.safetensors"));
        let masked: Vec<usize> =
            golden.get("mask_index").outer_iter().map(|row| row.iter().sum::<f64>() as usize).collect();
        for passes in [1usize, 3, 5, 7, 12] {
            let expected = golden.ids(&format!("steps{passes}"));
            for (row, &masked) in masked.iter().enumerate() {
                let ours: Vec<u32> = quota(masked, passes).iter().map(|&n| n as u32).collect();
                assert_eq!(ours, expected[row * passes..(row + 1) * passes], "{masked} in {passes}");
            }
        }
    }

    #[test]
    fn rules_equal_fast_dllm_and_dinfer() {
        let golden = Fixture::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/selection_rules.safetensors"));
        let (logits, masked) = (golden.vec_f32("logits"), golden.ids("mask_index"));
        let (len, vocab) = (12, 41);
        let mut checked = 0;
        for row in 0..6 {
            let positions: Vec<usize> = (0..len).filter(|l| masked[row * len + l] == 1).collect();
            let scores: Vec<f64> = positions
                .iter()
                .map(|l| {
                    let start = (row * len + l) * vocab;
                    crate::row_stats(&logits[start..start + vocab]).expect("finite logits").confidence()
                })
                .collect();
            let mut compare = |name: &str, chosen: Vec<usize>| {
                let mut mask = vec![0u32; len];
                chosen.iter().for_each(|&k| mask[positions[k]] = 1);
                assert_eq!(mask, golden.ids(name)[row * len..(row + 1) * len], "{name}, row {row}");
                checked += 1;
            };
            for least in ["0.5", "0.9"] {
                let chosen = above(&scores, least.parse().expect("a number"));
                compare(&format!("fastdllm_threshold{least}.transfer"), chosen.clone());
                compare(&format!("threshold{least}.transfer"), chosen);
            }
            compare("quota2.transfer", best(&scores, 2));
            for factor in ["0.5", "1.0", "2.0"] {
                let mut chosen = within_factor(&scores, factor.parse().expect("a number"));
                // The original accepts the last candidate even where its loop stops at it.
                if chosen.len() + 1 == scores.len() {
                    chosen = best(&scores, scores.len());
                }
                compare(&format!("factor{factor}.transfer"), chosen);
            }
        }
        assert_eq!(checked, 48);
    }
}
