//! Which positions are written in a pass: small pure rules over one number per candidate.
//!
//! Every rule fills a buffer of the caller's with the indices of those chosen, the best first. Equal numbers go to the
//! earlier candidate. Nothing allocates once the buffer has room for all candidates.

/// How many positions a pass writes, and by which rule.
///
/// The first three spread the work over a given number of passes of each block, the others follow the model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Selection {
    /// The best scores first, as evenly as [`quota`] divides the block (LLaDA).
    Quota {
        /// The passes of each block.
        passes: usize,
    },
    /// The best scores first, as many as a schedule of times from 1 to `t_min` unmasks on average, rounded down, and all
    /// that are left in the last pass (Dream): see [`share`].
    Share {
        /// The passes of each block.
        passes: usize,
        /// The time that the last pass begins one step before: 1e-3 in Dream.
        t_min: f64,
    },
    /// Every position by its own coin with the chance of that schedule, whatever its score (Dream's "origin"): the
    /// ancestral sampler of a linear schedule.
    Bernoulli {
        /// The passes of each block.
        passes: usize,
        /// As in `Share`.
        t_min: f64,
    },
    /// Every position with at least this score, and always the best one, with those within a `slack` above 0 of it.
    Threshold {
        /// The least score.
        least: f64,
        /// How far from the best one a position may be to go with it: 0 in Fast-dLLM, 1e-5 in dInfer.
        slack: f64,
    },
    /// The n best with (n + 1)(1 - score of the n-th) <= factor, and always the best one; a last one does not wait alone.
    Factor {
        /// The factor: larger writes more.
        factor: f64,
    },
    /// The best of every run of neighbouring masks, and every position with a score above `high` (dInfer).
    Hierarchy {
        /// The score that needs no further reason.
        high: f64,
        /// The score that the best of a run needs as well; if no position has it, the best one alone is written.
        low: Option<f64>,
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
    /// The order of reading.
    LeftToRight,
}

/// Which distribution scores and entropies are those of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scored {
    /// The model's own, whatever the filter makes of it (LLaDA, Fast-dLLM).
    #[default]
    Model,
    /// The filtered one that tokens are drawn from (Dream); for a greedy filter the one at temperature 1.
    Filtered,
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
    (0..passes).map(|pass| quota_of(masked, passes, pass)).collect()
}

/// The quota of one pass.
pub(crate) fn quota_of(masked: usize, passes: usize, pass: usize) -> usize {
    masked / passes + usize::from(pass < masked % passes)
}

/// The chance that a mask goes in pass number `pass` of `passes`: 1 - s / t on the grid from 1 to `t_min`, and 1 in the
/// last pass and after it.
///
/// ```
/// assert_eq!(galatea_samplers::share(4, 0.0, 0), 0.25);
/// assert_eq!(galatea_samplers::share(4, 0.0, 2), 0.5);
/// assert_eq!(galatea_samplers::share(4, 1e-3, 3), 1.0);
/// ```
///
/// # Source
/// Ye et al. (2025), Dream, `generation_utils.py`, `_sample`.
pub fn share(passes: usize, t_min: f64, pass: usize) -> f64 {
    if pass + 1 >= passes {
        return 1.0;
    }
    let step = (1.0 - t_min) / passes as f64;
    step / (1.0 - step * pass as f64)
}

/// The `count` best scores.
pub fn best(scores: &[f64], count: usize, chosen: &mut Vec<usize>) {
    rank(scores, chosen);
    chosen.truncate(count);
}

/// Every score of at least `least`, and always the best one with those within a `slack` above 0 of it.
///
/// # Source
/// Wu et al. (2025), "Fast-dLLM", section 3.3 (confidence-aware parallel decoding); dInfer, `parallel_strategy.py`.
pub fn above(scores: &[f64], least: f64, slack: f64, chosen: &mut Vec<usize>) {
    rank(scores, chosen);
    let Some(&top) = chosen.first() else { return };
    // Without slack the best one goes alone where none is good enough, however many equal it.
    let least = if slack > 0.0 { least.min(scores[top] - slack) } else { least };
    let count = chosen.iter().take_while(|&&k| scores[k] >= least).count();
    chosen.truncate(count.max(1));
}

/// The longest run of best scores with (n + 1)(1 - score_n) <= `factor` at every rank n, and always the best one. Where
/// the run ends before the last candidate alone, that one goes along and saves a pass.
///
/// # Source
/// Wu et al. (2025), "Fast-dLLM", theorem 1 (the bound under which greedy parallel and sequential decoding agree), and
/// `get_transfer_index_dynamic`, which takes the last one along.
pub fn within_factor(scores: &[f64], factor: f64, chosen: &mut Vec<usize>) {
    rank(scores, chosen);
    let fits = |rank: usize, k: usize| rank == 0 || scores[k] >= 1.0 - factor / (rank + 2) as f64;
    let count = chosen.iter().enumerate().take_while(|&(rank, &k)| fits(rank, k)).count();
    if count + 1 < chosen.len() {
        chosen.truncate(count);
    }
}

/// The smallest entropies, as long as the sum of the chosen ones but the largest is at most `gamma`; always one.
///
/// The sum bounds the total correlation of what is written together, and so KL(joint || independent draws) of the pass.
///
/// # Source
/// Ben-Hamu et al. (2025), "Accelerated sampling from masked diffusion models via entropy bounded unmasking".
pub fn within_entropy(entropies: &[f64], gamma: f64, chosen: &mut Vec<usize>) {
    chosen.clear();
    chosen.extend(0..entropies.len());
    chosen.sort_unstable_by(|&a, &b| entropies[a].total_cmp(&entropies[b]).then(a.cmp(&b)));
    let (mut before, mut count) = (0.0, 0);
    for &k in chosen.iter() {
        // `before` is the sum without the entropy in question, which is the largest so far.
        if count > 0 && before > gamma {
            break;
        }
        before += entropies[k];
        count += 1;
    }
    chosen.truncate(count);
}

/// The best score of every run of neighbouring `positions`, if it is above `low`, and every score above `high`; the best
/// of all where nothing else is chosen, and alone (but for those above `high`) where it is below `low`.
///
/// What is written in one pass is thus far apart, where positions depend on each other less.
///
/// # Source
/// dInfer, `parallel_strategy.py`, `get_transfer_index_hierarchy_fast_v2`.
pub fn by_segments(positions: &[usize], scores: &[f64], high: f64, low: Option<f64>, chosen: &mut Vec<usize>) {
    chosen.clear();
    let better = |a: usize, b: usize| if scores[b] > scores[a] { b } else { a };
    let Some(top) = (0..scores.len()).reduce(better) else { return };
    let low = low.unwrap_or(f64::NEG_INFINITY);
    let mut start = 0;
    while start < positions.len() && scores[top] >= low {
        let mut end = start + 1;
        while end < positions.len() && positions[end] == positions[end - 1] + 1 {
            end += 1;
        }
        let best = (start..end).reduce(better).unwrap_or(start);
        if scores[best] > low {
            chosen.push(best);
        }
        start = end;
    }
    if chosen.is_empty() {
        chosen.push(top);
    }
    let segments = chosen.len();
    for (k, &score) in scores.iter().enumerate() {
        if score > high && !chosen[..segments].contains(&k) {
            chosen.push(k);
        }
    }
    chosen.sort_unstable_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
}

/// All candidates, the best first.
fn rank(scores: &[f64], chosen: &mut Vec<usize>) {
    chosen.clear();
    chosen.extend(0..scores.len());
    chosen.sort_unstable_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scores() -> impl Strategy<Value = Vec<f64>> {
        proptest::collection::vec(0.0f64..1.0, 1..30)
    }

    fn chosen(rule: impl Fn(&mut Vec<usize>)) -> Vec<usize> {
        let mut chosen = vec![77];
        rule(&mut chosen);
        chosen
    }

    proptest! {
        #[test]
        fn quota_sums_to_the_masked_count(masked in 0usize..300, passes in 1usize..50) {
            let quota = quota(masked, passes);
            prop_assert_eq!(quota.len(), passes);
            prop_assert_eq!(quota.iter().sum::<usize>(), masked);
            prop_assert!(quota.windows(2).all(|w| w[0] >= w[1] && w[0] - w[1] <= 1));
        }

        /// Shares of what is left add up to an even division of the whole.
        #[test]
        fn shares_leave_the_time_of_the_grid(passes in 1usize..50, t_min in 0.0f64..0.1) {
            let mut left = 1.0;
            for pass in 0..passes {
                let t = 1.0 - (1.0 - t_min) * pass as f64 / passes as f64;
                prop_assert!((left - t).abs() < 1e-12);
                left *= 1.0 - share(passes, t_min, pass);
            }
            prop_assert_eq!(left, 0.0);
        }

        #[test]
        fn a_lower_threshold_chooses_no_less(scores in scores(), a in 0.0f64..1.0, b in 0.0f64..1.0, slack in 0.0f64..0.2) {
            let (strict, lax) = (chosen(|c| above(&scores, a.max(b), 0.0, c)), chosen(|c| above(&scores, a.min(b), slack, c)));
            prop_assert!(strict.iter().all(|k| lax.contains(k)));
            let top = scores[strict[0]];
            prop_assert!(lax.iter().all(|&k| scores[k] >= a.min(b).min(top - slack)));
        }

        #[test]
        fn a_larger_factor_or_bound_chooses_no_less(scores in scores(), a in 0.0f64..3.0, b in 0.0f64..3.0) {
            let by = |x: f64| (chosen(|c| within_factor(&scores, x, c)), chosen(|c| within_entropy(&scores, x, c)));
            let (few, many) = (by(a.min(b)), by(a.max(b)));
            prop_assert!(few.0.iter().all(|k| many.0.contains(k)) && few.1.iter().all(|k| many.1.contains(k)));
        }

        #[test]
        fn every_rule_chooses_at_least_one_and_the_best(scores in scores(), x in -1.0f64..2.0, low in proptest::option::of(0.0f64..1.0)) {
            let top = chosen(|c| best(&scores, 1, c))[0];
            let positions: Vec<usize> = (0..scores.len()).collect();
            prop_assert_eq!(chosen(|c| above(&scores, x, 0.0, c))[0], top);
            prop_assert_eq!(chosen(|c| within_factor(&scores, x, c))[0], top);
            prop_assert_eq!(chosen(|c| by_segments(&positions, &scores, x, low, c))[0], top);
            let negated: Vec<f64> = scores.iter().map(|s| -s).collect();
            prop_assert_eq!(chosen(|c| within_entropy(&scores, x, c))[0], chosen(|c| best(&negated, 1, c))[0]);
        }

        /// The rule as it is written: cumsum(H) - H_k <= gamma for every accepted k.
        #[test]
        fn entropy_bound_is_the_cumulative_rule(entropies in scores(), gamma in 0.0f64..4.0) {
            let mut sorted = entropies.clone();
            sorted.sort_by(f64::total_cmp);
            let mut sum = 0.0;
            let accepted = sorted.iter().filter(|&&h| { sum += h; sum - h <= gamma }).count();
            prop_assert_eq!(chosen(|c| within_entropy(&entropies, gamma, c)).len(), accepted);
        }

        /// The definition, position by position: a choice is above `high`, or the best of its run and above `low`.
        #[test]
        fn segments_are_runs_of_neighbours(scores in scores(), gaps in proptest::collection::vec(1usize..3, 30), high in 0.3f64..1.0, low in 0.0f64..0.9) {
            let positions: Vec<usize> = gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) }).take(scores.len()).collect();
            let chosen = chosen(|c| by_segments(&positions, &scores, high, Some(low), c));
            let neighbours = |a: usize, b: usize| (a.min(b)..a.max(b)).all(|k| positions[k] + 1 == positions[k + 1]);
            let top = scores.iter().copied().fold(0.0, f64::max);
            for k in 0..scores.len() {
                let leads = (0..scores.len()).all(|j| !neighbours(j, k) || scores[j] <= scores[k]);
                let expected = scores[k] > high || if top < low { scores[k] == top } else { leads && scores[k] > low };
                prop_assert_eq!(chosen.contains(&k), expected || scores[k] == top);
            }
        }
    }

    #[test]
    fn an_empty_list_gives_an_empty_choice() {
        assert!(chosen(|c| best(&[], 3, c)).is_empty() && chosen(|c| above(&[], 0.5, 0.0, c)).is_empty());
        assert!(
            chosen(|c| within_factor(&[], 1.0, c)).is_empty() && chosen(|c| within_entropy(&[], 1.0, c)).is_empty()
        );
        assert!(chosen(|c| by_segments(&[], &[], 0.9, None, c)).is_empty());
    }

    #[test]
    fn the_last_candidate_does_not_wait_alone() {
        assert_eq!(chosen(|c| within_factor(&[0.9, 0.1, 0.2], 0.1, c)), [0]);
        assert_eq!(chosen(|c| within_factor(&[0.9, 0.1], 0.1, c)), [0, 1]);
    }
}
