//! Everything that ranking a position needs, in one pass over its logits.

/// Statistics of one row of logits, those of p = softmax(logits).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowStats {
    /// log sum_k exp(logit_k).
    pub log_sum_exp: f64,
    /// The largest logit.
    pub max: f64,
    /// Where it stands; the first of equals.
    pub argmax: usize,
    /// The second largest logit, equal to `max` in a tie; -inf where there is no other.
    pub second: f64,
    /// -sum_k p_k log p_k in nats.
    pub entropy: f64,
}

impl RowStats {
    /// The probability of a logit of this row.
    pub fn probability(&self, logit: f64) -> f64 {
        (logit - self.log_sum_exp).exp()
    }

    /// The largest probability.
    pub fn confidence(&self) -> f64 {
        self.probability(self.max)
    }

    /// The largest probability less the second largest.
    pub fn margin(&self) -> f64 {
        self.confidence() - self.probability(self.second)
    }
}

/// One streaming pass over a row of logits, in `f64`; `None` if the row holds NaN or +inf or nothing above -inf.
///
/// With m the largest logit so far, it carries S = sum exp(logit - m) and W = sum (logit - m) exp(logit - m), so that
/// log sum exp = m + log S and entropy = log S - W / S. A logit of -inf has probability 0 and counts for nothing.
///
/// # Shapes
/// `logits` \[vocab\].
///
/// ```
/// let stats = galatea_samplers::row_stats(&[0.0, 0.0, f32::NEG_INFINITY, 0.0]).expect("finite logits");
/// assert_eq!(stats.argmax, 0);
/// assert!((stats.entropy - 3f64.ln()).abs() < 1e-15);
/// ```
pub fn row_stats(logits: &[f32]) -> Option<RowStats> {
    let (mut max, mut argmax, mut second) = (f64::NEG_INFINITY, 0, f64::NEG_INFINITY);
    let (mut sum, mut weighted) = (0.0, 0.0);
    for (index, &logit) in logits.iter().enumerate() {
        let logit = f64::from(logit);
        if logit <= max {
            second = second.max(logit);
            let below = logit - max;
            // Beyond this exp is 0 to the last digit, and -inf times 0 would be NaN.
            if below > -745.0 {
                let weight = below.exp();
                sum += weight;
                weighted += below * weight;
            }
        } else if logit > max && logit < f64::INFINITY {
            let shift = max - logit;
            if shift > -745.0 {
                let scale = shift.exp();
                weighted = (weighted + shift * sum) * scale;
                sum *= scale;
            } else {
                (sum, weighted) = (0.0, 0.0);
            }
            second = max;
            (max, argmax) = (logit, index);
            sum += 1.0;
        } else if logit != f64::NEG_INFINITY {
            return None;
        }
    }
    if max == f64::NEG_INFINITY {
        return None;
    }
    let log_sum: f64 = f64::ln(sum);
    let entropy = (log_sum - weighted / sum).max(0.0);
    Some(RowStats { log_sum_exp: max + log_sum, max, argmax, second, entropy })
}

/// The first index and the value of the largest logit; `None` under the conditions of [`row_stats`].
pub(crate) fn largest(logits: &[f32]) -> Option<(usize, f64)> {
    let (mut argmax, mut max) = (0, f32::NEG_INFINITY);
    for (index, &logit) in logits.iter().enumerate() {
        if logit > max {
            (argmax, max) = (index, logit);
        } else if logit.is_nan() {
            return None;
        }
    }
    max.is_finite().then(|| (argmax, f64::from(max)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn softmax(logits: &[f32]) -> Vec<f64> {
        let max = logits.iter().fold(f64::NEG_INFINITY, |m, &l| m.max(f64::from(l)));
        let e: Vec<f64> = logits.iter().map(|&l| (f64::from(l) - max).exp()).collect();
        let total: f64 = e.iter().sum();
        e.iter().map(|e| e / total).collect()
    }

    proptest! {
        #[test]
        fn one_pass_equals_the_definitions(mut logits in proptest::collection::vec(-40f32..40.0, 1..40), hole in 0..40usize) {
            if logits.len() > 1 {
                let hole = hole % logits.len();
                logits[hole] = f32::NEG_INFINITY;
            }
            let p = softmax(&logits);
            let stats = row_stats(&logits).expect("there is a finite logit");
            let entropy: f64 = p.iter().filter(|&&p| p > 0.0).map(|p| -p * p.ln()).sum();
            let mut sorted = p.clone();
            sorted.sort_by(|a, b| b.total_cmp(a));
            sorted.push(0.0);
            prop_assert!((stats.entropy - entropy).abs() < 1e-12, "{} {}", stats.entropy, entropy);
            prop_assert!((stats.confidence() - sorted[0]).abs() < 1e-13);
            prop_assert!((stats.margin() - (sorted[0] - sorted[1])).abs() < 1e-13);
            prop_assert_eq!(f64::from(logits[stats.argmax]), stats.max);
            prop_assert_eq!(largest(&logits), Some((stats.argmax, stats.max)));
            prop_assert!(logits[..stats.argmax].iter().all(|&l| f64::from(l) < stats.max));
        }

        #[test]
        fn a_shift_moves_only_the_log_sum(logits in proptest::collection::vec(-8i32..8, 2..20), shift in -1000i32..1000) {
            let plain: Vec<f32> = logits.iter().map(|&l| l as f32).collect();
            let moved: Vec<f32> = logits.iter().map(|&l| (l + shift) as f32).collect();
            let (a, b) = (row_stats(&plain).expect("finite"), row_stats(&moved).expect("finite"));
            prop_assert!((a.entropy - b.entropy).abs() < 1e-12);
            prop_assert!((a.log_sum_exp + f64::from(shift) - b.log_sum_exp).abs() < 1e-10);
            prop_assert_eq!(a.argmax, b.argmax);
        }
    }

    #[test]
    fn rows_without_a_finite_largest_logit_are_refused() {
        for bad in [
            vec![0.0, f32::NAN],
            vec![f32::NAN, 0.0],
            vec![f32::INFINITY, 0.0],
            vec![0.0, f32::INFINITY],
            vec![f32::NEG_INFINITY; 3],
            vec![],
        ] {
            assert_eq!((row_stats(&bad), largest(&bad)), (None, None), "{bad:?}");
        }
    }

    #[test]
    fn far_logits_do_not_spoil_the_entropy() {
        let stats = row_stats(&[-3e38, 0.0, 3e38, 1.0]).expect("finite");
        assert_eq!((stats.argmax, stats.entropy), (2, 0.0));
    }
}
