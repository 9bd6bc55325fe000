//! Loops over a row of the vocabulary, compiled for the widest vectors that the machine has.
//!
//! Every loop keeps its sums in a fixed number of lanes, so its result has the same bits whatever the width.

/// Runs `f` compiled for this machine; what it calls must be `#[inline(always)]` to be compiled with it.
#[inline]
pub(crate) fn wide<R>(f: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(f)
}

/// Numbers side by side in `f64` sums.
const LANES: usize = 16;

/// e^x for x in [-87, 0], to 1.2e-7 of itself and 1 at 0, without a branch.
///
/// x = k ln 2 + f with |f| <= ln 2 / 2, found by adding and subtracting a number whose last bit counts ones; e^f is its
/// Taylor polynomial of degree 7 (remainder 6e-9); and k goes into the exponent.
#[inline(always)]
pub(crate) fn exp_f32(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let k = shifted - ROUND;
    // ln 2 in two parts, the first of which has few enough bits for k times it to be exact.
    let f = (x - k * 0.693_359_4) + k * 2.121_944_4e-4;
    let tail = 1.0 / 120.0 + f * (1.0 / 720.0 + f * (1.0 / 5040.0));
    let e = 1.0 + f * (1.0 + f * (0.5 + f * (1.0 / 6.0 + f * (1.0 / 24.0 + f * tail))));
    f32::from_bits(e.to_bits().wrapping_add(shifted.to_bits() << 23))
}

/// e^x for x <= 0, to 4e-16 of itself and 1 at 0; 0 below -708, where it is no normal number any more.
///
/// As [`exp_f32`], with a polynomial of degree 13 (remainder 4e-18).
#[inline(always)]
pub(crate) fn exp_f64(x: f64) -> f64 {
    const ROUND: f64 = 6_755_399_441_055_744.0;
    let counts = x > -708.0;
    let x = if counts { x } else { 0.0 };
    let shifted = x * std::f64::consts::LOG2_E + ROUND;
    let k = shifted - ROUND;
    let f = (x - k * 6.931_471_803_691_238e-1) - k * 1.908_214_929_270_587_7e-10;
    const C: [f64; 14] = {
        let (mut c, mut n) = ([1.0; 14], 1);
        while n < 14 {
            c[n] = c[n - 1] / n as f64;
            n += 1;
        }
        c
    };
    let mut e = C[13];
    let mut n = 13;
    while n > 0 {
        n -= 1;
        e = C[n] + f * e;
    }
    let e = f64::from_bits(e.to_bits().wrapping_add(shifted.to_bits() << 52));
    if counts { e } else { 0.0 }
}

/// The sum of numbers.
#[inline(always)]
pub(crate) fn sum(x: &[f64]) -> f64 {
    let mut lanes = [0.0; LANES];
    let mut groups = x.chunks_exact(LANES);
    for group in &mut groups {
        lanes.iter_mut().zip(group).for_each(|(lane, x)| *lane += x);
    }
    lanes.iter().sum::<f64>() + groups.remainder().iter().sum::<f64>()
}

/// The sum of the numbers above 0.
pub(crate) fn positive(x: &[f64]) -> f64 {
    wide(
        #[inline(always)]
        || {
            let mut lanes = [0.0; LANES];
            for group in x.chunks(LANES) {
                lanes.iter_mut().zip(group).for_each(|(lane, &x)| *lane += if x > 0.0 { x } else { 0.0 });
            }
            lanes.iter().sum()
        },
    )
}

/// Writes e^((logit - max) / temperature) and returns the sum.
pub(crate) fn weights(logits: &[f32], max: f64, temperature: f64, p: &mut [f64]) -> f64 {
    wide(
        #[inline(always)]
        || {
            for (p, &logit) in p.iter_mut().zip(logits) {
                *p = exp_f64((f64::from(logit) - max) / temperature);
            }
            sum(p)
        },
    )
}

/// Divides every number.
pub(crate) fn divide(p: &mut [f64], by: f64) {
    wide(
        #[inline(always)]
        || p.iter_mut().for_each(|p| *p /= by),
    );
}

/// The first index whose weight and all before it sum to more than `u`; the last of positive weight if none do, and 0 if there is
/// none. Weights below 0 count as 0.
pub(crate) fn inverse(p: &[f64], u: f64) -> usize {
    /// Weights that are added up before they are looked at one by one.
    const TURN: usize = 8 * LANES;
    wide(
        #[inline(always)]
        || {
            let (mut cumulative, mut last) = (0.0, 0);
            for (turn, part) in p.chunks(TURN).enumerate() {
                let mut lanes = [0.0; LANES];
                for group in part.chunks(LANES) {
                    lanes.iter_mut().zip(group).for_each(|(lane, &p)| *lane += if p > 0.0 { p } else { 0.0 });
                }
                let all: f64 = lanes.iter().sum();
                // What rounding may make of another order of adding cannot reach twice this.
                if cumulative + all + 1e-12 * (cumulative + all) < u {
                    cumulative += all;
                    last =
                        if all > 0.0 { turn * TURN + part.iter().rposition(|&p| p > 0.0).unwrap_or(0) } else { last };
                    continue;
                }
                for (k, &p) in part.iter().enumerate().filter(|(_, p)| **p > 0.0) {
                    cumulative += p;
                    last = turn * TURN + k;
                    if u < cumulative {
                        return last;
                    }
                }
            }
            last
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn exponentials_are_right_to_their_last_digits(x in -708f64..0.0) {
            let (found, truth) = (exp_f64(x), x.exp());
            prop_assert!((found - truth).abs() <= 4e-16 * truth, "{x}: {found:e} {truth:e}");
            let y = (x / 9.0) as f32;
            let (found, truth) = (f64::from(exp_f32(y)), f64::from(y).exp());
            prop_assert!((found - truth).abs() <= 1.5e-7 * truth, "{y}: {found:e} {truth:e}");
        }

        #[test]
        fn the_inverse_is_where_the_sum_passes(weights in proptest::collection::vec(-0.2f64..1.0, 1..700), u in 0f64..1.0) {
            let total: f64 = weights.iter().filter(|w| **w > 0.0).sum();
            let u = u * total;
            let mut cumulative = 0.0;
            let first = weights.iter().position(|w| { cumulative += w.max(0.0); u < cumulative && *w > 0.0 });
            let found = inverse(&weights, u);
            if let Some(first) = first {
                // Another order of adding may decide otherwise only where u is the sum itself.
                let before: f64 = weights[..found].iter().filter(|w| **w > 0.0).sum();
                prop_assert!(found == first || (before - u).abs() < 1e-9, "{found} {first}");
                prop_assert!(weights[found] > 0.0);
            }
        }
    }

    #[test]
    fn the_ends_are_ends() {
        assert_eq!((exp_f64(0.0), exp_f64(-709.0), exp_f64(f64::NEG_INFINITY), exp_f32(0.0)), (1.0, 0.0, 0.0, 1.0));
        assert_eq!((inverse(&[0.5, 0.5, 0.0], 7.0), inverse(&[0.0, 0.0], 0.5), inverse(&[], 0.0)), (1, 0, 0));
        assert_eq!(inverse(&[0.0, 0.3, 0.7], 0.0), 1);
    }
}
