//! Everything that ranking a position needs, in one pass over its logits.

use crate::wide::{exp_f32, wide};

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

/// Numbers side by side: enough independent chains for the compiler to fill vector registers of any width.
const LANES: usize = 16;
/// Logits per turn, between looks at whether there is a new largest one.
const TURN: usize = 4 * LANES;

/// One streaming pass over a row of logits; `None` if the row holds NaN or +inf or nothing above -inf.
///
/// With m the largest logit so far, it carries the number n of logits equal to it and, over the others,
/// S = sum exp(logit - m) and W = sum (m - logit) exp(logit - m), so that log sum exp = m + log(n + S) and
/// entropy = log n + log(1 + S / n) + W / (n + S), sums of numbers of one sign: the entropy of a row without much doubt is
/// as exact as that of any other. A logit of -inf has probability 0 and counts for nothing.
///
/// Exponentials are taken in `f32` and added up in `f64`: log(n + S) - log n and the entropy are
/// right to about 5e-7 of themselves, which is what the rounding of an `f32` logit of 8 does to its own probability.
/// Largest, second and their places are exact. Nothing but orders and confidences is made of these; tokens are drawn, and
/// likelihoods taken, in `f64`.
///
/// # Shapes
/// `logits` \[vocab\].
///
/// ```
/// let stats = galatea_samplers::row_stats(&[0.0, 0.0, f32::NEG_INFINITY, 0.0]).expect("finite logits");
/// assert_eq!(stats.argmax, 0);
/// assert!((stats.entropy - 3f64.ln()).abs() < 1e-6);
/// ```
pub fn row_stats(logits: &[f32]) -> Option<RowStats> {
    wide(
        #[inline(always)]
        || one_pass(logits),
    )
}

#[inline(always)]
fn one_pass(logits: &[f32]) -> Option<RowStats> {
    let (mut lanes, mut sums) = (Lanes::new(), Sums::new());
    let (mut max, mut argmax) = (f32::NEG_INFINITY, 0);
    let mut tail = [f32::NEG_INFINITY; TURN];
    let whole = logits.len() / TURN * TURN;
    tail[..logits.len() - whole].copy_from_slice(&logits[whole..]);
    let turns = logits[..whole].chunks_exact(TURN).chain(std::iter::once(&tail[..]));
    for (turn, chunk) in turns.enumerate() {
        let Ok(chunk) = <&[f32; TURN]>::try_from(chunk) else { continue };
        lanes.read(chunk);
        let here = lanes.largest();
        if here == f32::INFINITY {
            return None;
        }
        if here > max {
            argmax = turn * TURN + chunk.iter().position(|&logit| logit == here)?;
            sums.move_to(f64::from(here) - f64::from(max));
            max = here;
        }
        if max > f32::NEG_INFINITY {
            sums.add(chunk, max);
        }
    }
    if lanes.nan.iter().any(|&nan| nan != 0) || max == f32::NEG_INFINITY {
        return None;
    }
    let total = |lanes: &[f64; LANES]| lanes.iter().sum::<f64>();
    let (equal, sum, weighted) = (total(&sums.equal), total(&sums.weight), total(&sums.weighted));
    let (max, log_sum) = (f64::from(max), equal.ln() + (sum / equal).ln_1p());
    let entropy = log_sum + weighted / (equal + sum);
    Some(RowStats { log_sum_exp: max + log_sum, max, argmax, second: lanes.second(), entropy })
}

/// n, S and W of every lane.
struct Sums {
    equal: [f64; LANES],
    weight: [f64; LANES],
    weighted: [f64; LANES],
}

impl Sums {
    #[inline(always)]
    fn new() -> Self {
        let zeros = [0.0; LANES];
        Self { equal: zeros, weight: zeros, weighted: zeros }
    }

    /// The sums with respect to a largest logit that is greater by `shift`.
    #[inline(always)]
    fn move_to(&mut self, shift: f64) {
        let scale = (-shift).exp();
        for ((n, s), w) in self.equal.iter_mut().zip(&mut self.weight).zip(&mut self.weighted) {
            let all = *n + *s;
            // Where the scale is 0 the shift may be infinite, and the old sums count for nothing.
            (*s, *w) = if scale > 0.0 { (all * scale, (*w + shift * all) * scale) } else { (0.0, 0.0) };
            *n = 0.0;
        }
    }

    /// Adds a turn whose numbers are at most `max`, each lane's four in `f32`: all are below 1 or count ones.
    #[inline(always)]
    fn add(&mut self, chunk: &[f32; TURN], max: f32) {
        let (mut n, mut s, mut w) = ([0.0f32; LANES], [0.0f32; LANES], [0.0f32; LANES]);
        for numbers in chunk.chunks_exact(LANES) {
            for (lane, &x) in numbers.iter().enumerate() {
                let below = x - max;
                // exp(-87) is the least normal float; what is below is 0, so that 0 times -inf never happens.
                let counts = (below > -87.0) & (below < 0.0);
                n[lane] += if below == 0.0 { 1.0 } else { 0.0 };
                let below = if counts { below } else { 0.0 };
                let weight = if counts { exp_f32(below) } else { 0.0 };
                s[lane] += weight;
                w[lane] -= below * weight;
            }
        }
        let sums = [(&mut self.equal, n), (&mut self.weight, s), (&mut self.weighted, w)];
        for (lanes, turn) in sums {
            lanes.iter_mut().zip(turn).for_each(|(lane, x)| *lane += f64::from(x));
        }
    }
}

/// The two largest numbers of every lane, and whether it met NaN.
struct Lanes {
    max: [f32; LANES],
    second: [f32; LANES],
    nan: [u32; LANES],
}

impl Lanes {
    #[inline(always)]
    fn new() -> Self {
        Self { max: [f32::NEG_INFINITY; LANES], second: [f32::NEG_INFINITY; LANES], nan: [0; LANES] }
    }

    #[inline(always)]
    fn read(&mut self, chunk: &[f32; TURN]) {
        for numbers in chunk.chunks_exact(LANES) {
            for (lane, &x) in numbers.iter().enumerate() {
                let max = self.max[lane];
                let less = if x < max { x } else { max };
                self.second[lane] = if less > self.second[lane] { less } else { self.second[lane] };
                self.max[lane] = if x > max { x } else { max };
                self.nan[lane] |= u32::from(x.is_nan());
            }
        }
    }

    #[inline(always)]
    fn largest(&self) -> f32 {
        let mut max = self.max;
        let mut width = LANES / 2;
        while width > 0 {
            for lane in 0..width {
                max[lane] = if max[lane + width] > max[lane] { max[lane + width] } else { max[lane] };
            }
            width /= 2;
        }
        max[0]
    }

    #[inline(always)]
    fn second(&self) -> f64 {
        let (mut max, mut second) = (f32::NEG_INFINITY, f32::NEG_INFINITY);
        for &x in self.max.iter().chain(&self.second) {
            second = second.max(max.min(x));
            max = max.max(x);
        }
        f64::from(second)
    }
}

/// The statistics of a distribution in place of logits, these being its logarithms.
pub(crate) fn of_probabilities(p: &[f64]) -> RowStats {
    let (mut max, mut argmax, mut second, mut entropy) = (0.0, 0, 0.0, 0.0);
    for (index, &p) in p.iter().enumerate() {
        if p > max {
            (second, max, argmax) = (max, p, index);
        } else if p > second {
            second = p;
        }
        if p > 0.0 {
            entropy -= p * f64::ln(p);
        }
    }
    RowStats { log_sum_exp: 0.0, max: max.ln(), argmax, second: second.ln(), entropy: entropy.max(0.0) }
}

/// The first index and the value of the largest logit; `None` under the conditions of [`row_stats`].
pub(crate) fn largest(logits: &[f32]) -> Option<(usize, f64)> {
    let max = wide(
        #[inline(always)]
        || {
            let mut lanes = Lanes::new();
            let mut turns = logits.chunks_exact(TURN);
            for turn in &mut turns {
                lanes.read(turn.try_into().expect("a turn is whole"));
            }
            let rest = turns.remainder();
            let mut tail = [f32::NEG_INFINITY; TURN];
            tail[..rest.len()].copy_from_slice(rest);
            lanes.read(&tail);
            if lanes.nan.iter().any(|&nan| nan != 0) { f32::NAN } else { lanes.largest() }
        },
    );
    max.is_finite().then(|| (logits.iter().position(|&logit| logit == max).unwrap_or(0), f64::from(max)))
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
        fn one_pass_equals_the_definitions(mut logits in proptest::collection::vec(-40f32..40.0, 1..300), hole in 0..300usize) {
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
            // The definition itself loses what is below the rounding of 1.
            prop_assert!((stats.entropy - entropy).abs() <= 1e-6 * entropy + 1e-15, "{} {}", stats.entropy, entropy);
            prop_assert!((stats.confidence() - sorted[0]).abs() < 1e-6 * sorted[0]);
            prop_assert!((stats.margin() - (sorted[0] - sorted[1])).abs() < 1e-6);
            let ours = of_probabilities(&p);
            prop_assert!((ours.entropy - entropy).abs() < 1e-12 && ours.argmax == stats.argmax);
            prop_assert!((ours.margin() - (sorted[0] - sorted[1])).abs() < 1e-13);
            prop_assert_eq!(f64::from(logits[stats.argmax]), stats.max);
            prop_assert_eq!(largest(&logits), Some((stats.argmax, stats.max)));
            prop_assert!(logits[..stats.argmax].iter().all(|&l| f64::from(l) < stats.max));
        }

        #[test]
        fn a_shift_moves_only_the_log_sum(logits in proptest::collection::vec(-8i32..8, 2..20), shift in -1000i32..1000) {
            let plain: Vec<f32> = logits.iter().map(|&l| l as f32).collect();
            let moved: Vec<f32> = logits.iter().map(|&l| (l + shift) as f32).collect();
            let (a, b) = (row_stats(&plain).expect("finite"), row_stats(&moved).expect("finite"));
            prop_assert!((a.entropy - b.entropy).abs() < 1e-12 && a.second + f64::from(shift) == b.second);
            prop_assert!((a.log_sum_exp + f64::from(shift) - b.log_sum_exp).abs() < 1e-10);
            prop_assert_eq!(a.argmax, b.argmax);
        }
    }

    /// A large vocabulary: the error does not grow with it.
    #[test]
    fn a_long_row_is_as_exact_as_a_short_one() {
        let mut rng = galatea_random::Philox::new(1, 0, 0, 0);
        let logits: Vec<f32> = (0..50_258).map(|_| 3.0 * rng.normal() as f32).collect();
        let (p, stats) = (softmax(&logits), row_stats(&logits).expect("finite"));
        let entropy: f64 = p.iter().map(|p| -p * p.ln()).sum();
        assert!((stats.entropy / entropy - 1.0).abs() < 2e-7, "{} {entropy}", stats.entropy);
        assert!((stats.confidence() / p[stats.argmax] - 1.0).abs() < 2e-7);
    }

    #[test]
    fn rows_without_a_finite_largest_logit_are_refused() {
        for bad in [
            vec![0.0, f32::NAN],
            vec![f32::NAN, 0.0],
            vec![f32::INFINITY, 0.0],
            vec![0.0, f32::INFINITY],
            vec![f32::NEG_INFINITY; 3],
            [vec![0.0; 100], vec![f32::NAN], vec![1.0; 100]].concat(),
            [vec![0.0; 100], vec![f32::INFINITY], vec![1.0; 100]].concat(),
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
