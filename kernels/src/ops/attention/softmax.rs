//! Scores of keys by queries, with the queries along the lanes of a vector: the maximum, the exponentials and the sum of a
//! softmax run over keys lane by lane, without a sum across a vector.

use super::dropped::{HALVES, Kept};
use super::layout::Twice;
use super::micro::LANES;
use super::rows::Rows;
use crate::isa::{Isa, multiversion};
use crate::math::{exp, ln, max, sum};
use crate::real::Real;

/// Most queries that share a block of scores.
pub(super) const MOST: usize = 128;

/// One number a query.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct PerQuery(pub(super) [f32; MOST]);

/// The softmax of a block of queries, as far as its keys have been seen.
pub(super) struct Softmax {
    /// The largest score.
    pub(super) largest: PerQuery,
    /// The sum of exp(score - largest).
    pub(super) total: PerQuery,
    /// What the last step multiplied earlier sums by.
    pub(super) keep: PerQuery,
}

impl Softmax {
    pub(super) fn new() -> Self {
        Self { largest: PerQuery([f32::NEG_INFINITY; MOST]), total: PerQuery([0.0; MOST]), keep: PerQuery([0.0; MOST]) }
    }
}

type Vector = [f32; LANES];

/// Lanes `at ..` of a row.
#[inline(always)]
fn lanes(row: &mut [f32], at: usize) -> &mut Vector {
    row[at..].first_chunk_mut().expect("whole vectors of queries")
}

/// The larger of each lane of b, or of a where b is NaN.
#[inline(always)]
fn larger(a: &Vector, b: &Vector) -> Vector {
    let mut out = *a;
    for l in 0..LANES {
        out[l] = if b[l] > a[l] { b[l] } else { a[l] };
    }
    out
}

/// e^x for x <= 88: relative error below 2e-7 above -87, and 0 below. In one rounding where the level has such an
/// instruction; elsewhere that would be a call.
#[inline(always)]
fn decay<const FUSED: bool>(x: f32) -> f32 {
    let fma = |a: f32, b: f32, c: f32| if FUSED { a.mul_add(b, c) } else { a * b + c };
    let clamped = if x < -87.0 { -87.0 } else { x };
    // Adding and removing 1.5 * 2^23 rounds to the nearest integer, whose bits stand at the low end.
    let shifted = fma(clamped, std::f32::consts::LOG2_E, 12_582_912.0);
    let n = shifted - 12_582_912.0;
    let r = fma(n, -0.693_359_4, clamped);
    let r = fma(n, 2.121_944_4e-4, r);
    // (e^r - 1 - r) / r^2 at five Chebyshev points of |r| <= ln 2 / 2: e^r to 1e-8.
    let p = fma(1.392_621_3e-3, r, 8.363_203e-3);
    let p = fma(p, r, 4.166_655_4e-2);
    let p = fma(p, r, 1.666_657_7e-1);
    let p = fma(p, r, 0.5);
    let y = fma(p, r * r, r) + 1.0;
    // The shift leaves n alone of the bits, in the place of the exponent; the sum stays a normal number above -87.
    let y = f32::from_bits(y.to_bits().wrapping_add(shifted.to_bits() << 23));
    if x < -87.0 { 0.0 } else { y }
}

multiversion! {
    /// s = -inf from lane `from` on where key `first` + row is not below the query's reach.
    pub(super) fn hide(
        s: &mut [f32],
        stride: usize,
        keys: usize,
        first: usize,
        from: usize,
        to: usize,
        reach: &[u32; MOST],
    ) {
        for (j, s) in s.chunks_mut(stride).enumerate().take(keys) {
            let key = (first + j) as u32;
            for (s, &reach) in s[from..to].iter_mut().zip(&reach[from..to]) {
                *s = if key < reach { *s } else { f32::NEG_INFINITY };
            }
        }
    }
}

multiversion! {
    /// [`hide`] where the canvas stands twice: of the keys of x_t a query sees its own block.
    pub(super) fn hide_twice(
        s: &mut [f32],
        stride: usize,
        keys: usize,
        first: usize,
        to: usize,
        reach: &[u32; MOST],
        twice: &Twice,
    ) {
        for (j, s) in s.chunks_mut(stride).enumerate().take(keys) {
            let key = (first + j) as u32;
            if key < twice.half {
                for (s, &own) in s[..to].iter_mut().zip(&twice.own[..to]) {
                    *s = if key.wrapping_sub(own) < twice.block { *s } else { f32::NEG_INFINITY };
                }
            } else {
                for (s, &reach) in s[..to].iter_mut().zip(&reach[..to]) {
                    *s = if key < reach { *s } else { f32::NEG_INFINITY };
                }
            }
        }
    }
}

multiversion! {
    /// s [keys, lanes from .. to] = exp(s - largest), the new largest; the sums and what they are worth follow. `level` is
    /// the `isa` again.
    pub(super) fn soften(
        level: Isa,
        s: &mut [f32],
        stride: usize,
        keys: usize,
        from: usize,
        to: usize,
        softmax: &mut Softmax,
    ) {
        if level == Isa::Portable {
            soften_by::<false>(s, stride, keys, from, to, softmax);
        } else {
            soften_by::<true>(s, stride, keys, from, to, softmax);
        }
    }
}

#[inline(always)]
fn soften_by<const FUSED: bool>(
    s: &mut [f32],
    stride: usize,
    keys: usize,
    from: usize,
    to: usize,
    softmax: &mut Softmax,
) {
    let s = &mut s[..(keys - 1) * stride + to.next_multiple_of(LANES)];
    for at in (from..to).step_by(LANES) {
        let old = *lanes(&mut softmax.largest.0, at);
        // Two chains: a maximum waits for the one before.
        let (mut even, mut odd) = (old, old);
        for pair in s.chunks_mut(2 * stride) {
            even = larger(&even, lanes(pair, at));
            if pair.len() > stride {
                odd = larger(&odd, lanes(&mut pair[stride..], at));
            }
        }
        let largest = larger(&even, &odd);
        let mut base = [0.0; LANES];
        let (keep, total) = (lanes(&mut softmax.keep.0, at), lanes(&mut softmax.total.0, at));
        for l in 0..LANES {
            // Where nothing is visible yet: exp(-inf - 0) = 0.
            base[l] = if largest[l] == f32::NEG_INFINITY { 0.0 } else { largest[l] };
            keep[l] = decay::<FUSED>(old[l] - base[l]);
        }
        let mut sums = [0.0; LANES];
        for s in s.chunks_mut(stride) {
            let s = lanes(s, at);
            for l in 0..LANES {
                s[l] = decay::<FUSED>(s[l] - base[l]);
                sums[l] += s[l];
            }
        }
        for l in 0..LANES {
            total[l] = total[l] * keep[l] + sums[l];
        }
        *lanes(&mut softmax.largest.0, at) = largest;
    }
}

multiversion! {
    /// p [keys first .., lanes from .. to] = 0 where a weight does not stay; those that do are scaled with the mixture.
    pub(super) fn drop_weights(
        p: &mut [f32],
        stride: usize,
        first: usize,
        keys: usize,
        from: usize,
        to: usize,
        kept: &Kept,
    ) {
        for at in (from..to).step_by(LANES) {
            for (key, p) in (first..first + keys).step_by(HALVES).zip(p.chunks_mut(HALVES * stride)) {
                for (word, p) in kept.draws(at, key).iter().zip(p.chunks_exact_mut(2 * stride)) {
                    let (one, two) = p.split_at_mut(stride);
                    let (one, two) = (lanes(one, at), lanes(two, at));
                    // Values, not places that might overlap.
                    *one = kept.keep::<false>(word, *one);
                    *two = kept.keep::<true>(word, *two);
                }
            }
        }
    }
}

multiversion! {
    /// The log-sums in the place of the largest scores, and what a mixture is to be multiplied by in that of the totals.
    pub(super) fn settle(softmax: &mut Softmax) {
        for (largest, total) in softmax.largest.0.iter_mut().zip(&mut softmax.total.0) {
            *largest += ln(*total);
            *total = if *total == 0.0 { 1.0 } else { 1.0 / *total };
        }
    }
}

multiversion! {
    /// Rows of y [count, width] times what each is worth.
    pub(super) fn scale_rows(y: &mut [f32], stride: usize, width: usize, worth: &[f32]) {
        for (y, &worth) in y.chunks_mut(stride).zip(worth) {
            if worth != 1.0 {
                y[..width].iter_mut().for_each(|y| *y *= worth);
            }
        }
    }
}

multiversion! {
    /// Over scores and dp [keys, lanes from .. to]: p = exp(s - lse) and ds = p (dp - delta). `level` is the `isa`
    /// again.
    pub(super) fn differentiate(
        level: Isa,
        s: &mut [f32],
        dp: &mut [f32],
        stride: usize,
        keys: usize,
        from: usize,
        to: usize,
        lse: &PerQuery,
        delta: &PerQuery,
    ) {
        if level == Isa::Portable {
            differentiate_by::<false>(s, dp, stride, keys, from, to, lse, delta);
        } else {
            differentiate_by::<true>(s, dp, stride, keys, from, to, lse, delta);
        }
    }
}

#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "the parameters of `differentiate`")]
fn differentiate_by<const FUSED: bool>(
    s: &mut [f32],
    dp: &mut [f32],
    stride: usize,
    keys: usize,
    from: usize,
    to: usize,
    lse: &PerQuery,
    delta: &PerQuery,
) {
    for (s, dp) in s.chunks_mut(stride).zip(dp.chunks_mut(stride)).take(keys) {
        for at in (from..to).step_by(LANES) {
            let (s, dp) = (lanes(s, at), lanes(dp, at));
            let (lse, delta) = (&lse.0[at..at + LANES], &delta.0[at..at + LANES]);
            for l in 0..LANES {
                s[l] = decay::<FUSED>(s[l] - lse[l]);
                dp[l] = s[l] * (dp[l] - delta[l]);
            }
        }
    }
}

multiversion! {
    /// [`differentiate`] under dropout, over the keys first ..: p is dropped and scaled after ds = p (dropped dp - delta).
    pub(super) fn differentiate_dropped(
        level: Isa,
        s: &mut [f32],
        dp: &mut [f32],
        stride: usize,
        first: usize,
        keys: usize,
        from: usize,
        to: usize,
        lse: &PerQuery,
        delta: &PerQuery,
        kept: &Kept,
    ) {
        if level == Isa::Portable {
            differentiate_dropped_by::<false>(s, dp, stride, first, keys, from, to, lse, delta, kept);
        } else {
            differentiate_dropped_by::<true>(s, dp, stride, first, keys, from, to, lse, delta, kept);
        }
    }
}

#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "the parameters of `differentiate_dropped`")]
fn differentiate_dropped_by<const FUSED: bool>(
    s: &mut [f32],
    dp: &mut [f32],
    stride: usize,
    first: usize,
    keys: usize,
    from: usize,
    to: usize,
    lse: &PerQuery,
    delta: &PerQuery,
    kept: &Kept,
) {
    for at in (from..to).step_by(LANES) {
        let [lse, delta] = [&lse.0, &delta.0].map(|x| x[at..].first_chunk().expect("whole vectors of queries"));
        let blocks = s.chunks_mut(HALVES * stride).zip(dp.chunks_mut(HALVES * stride));
        for (key, (s, dp)) in (first..first + keys).step_by(HALVES).zip(blocks) {
            let pairs = s.chunks_exact_mut(2 * stride).zip(dp.chunks_exact_mut(2 * stride));
            for (word, (s, dp)) in kept.draws(at, key).iter().zip(pairs) {
                let ((one, two), (d_one, d_two)) = (s.split_at_mut(stride), dp.split_at_mut(stride));
                let (one, d_one, two, d_two) = (lanes(one, at), lanes(d_one, at), lanes(two, at), lanes(d_two, at));
                (*one, *d_one) = gradient_of_dropped::<FUSED, false>(*one, *d_one, lse, delta, word, kept);
                (*two, *d_two) = gradient_of_dropped::<FUSED, true>(*two, *d_two, lse, delta, word, kept);
            }
        }
    }
}

/// The dropped weights of a key, and ds.
#[inline(always)]
fn gradient_of_dropped<const FUSED: bool, const SECOND: bool>(
    s: Vector,
    dp: Vector,
    lse: &Vector,
    delta: &Vector,
    word: &[u32; LANES],
    kept: &Kept,
) -> (Vector, Vector) {
    let scale = kept.scale();
    let (mut p, mut dropped, mut ds) = ([0.0; LANES], [0.0; LANES], [0.0; LANES]);
    for l in 0..LANES {
        p[l] = decay::<FUSED>(s[l] - lse[l]);
        dropped[l] = p[l] * scale;
        ds[l] = dp[l] * scale;
    }
    ds = kept.keep::<SECOND>(word, ds);
    for l in 0..LANES {
        ds[l] = p[l] * (ds[l] - delta[l]);
    }
    (kept.keep::<SECOND>(word, dropped), ds)
}

multiversion! {
    /// p = exp(p - largest) over the scores of one query; the largest and the sum. `level` is the `isa` again.
    pub(super) fn normalise(level: Isa, p: &mut [f32]) -> [f32; 2] {
        let largest = max(p);
        let base = if largest == f32::NEG_INFINITY { 0.0 } else { largest };
        if level == Isa::Portable {
            p.iter_mut().for_each(|p| *p = decay::<false>(*p - base));
        } else {
            p.iter_mut().for_each(|p| *p = decay::<true>(*p - base));
        }
        [largest, sum(p.len(), |j| p[j])]
    }
}

multiversion! {
    /// y += sum of p_j v_j, for rows `first ..` of v. `level` is the `isa` again.
    pub(super) fn mix<X: Real>(level: Isa, p: &[f32], v: Rows<'_, X>, first: usize, y: &mut [f32]) {
        if level == Isa::Portable {
            mix_by::<false, X>(p, v, first, y);
        } else {
            mix_by::<true, X>(p, v, first, y);
        }
    }
}

#[inline(always)]
fn mix_by<const FUSED: bool, X: Real>(p: &[f32], v: Rows<'_, X>, first: usize, y: &mut [f32]) {
    let (quads, rest) = p.as_chunks::<4>();
    let (whole, tail) = (y.len() / LANES, y.len() / LANES * LANES);
    for (j, p) in (first..).step_by(4).zip(quads) {
        let rows = [v.row(j), v.row(j + 1), v.row(j + 2), v.row(j + 3)];
        let vectors = rows.map(|row| row.as_chunks::<LANES>().0);
        for c in 0..whole {
            let to = lanes(y, c * LANES);
            let mut sums = *to;
            for (&p, vectors) in p.iter().zip(vectors) {
                let x = vectors[c];
                for l in 0..LANES {
                    sums[l] = if FUSED { p.mul_add(x[l].load(), sums[l]) } else { p * x[l].load() + sums[l] };
                }
            }
            *to = sums;
        }
        for (p, row) in p.iter().zip(rows) {
            y[tail..].iter_mut().zip(&row[tail..]).for_each(|(y, v)| *y += p * v.load());
        }
    }
    for (j, p) in (first + p.len() - rest.len()..).zip(rest) {
        y.iter_mut().zip(v.row(j)).for_each(|(y, v)| *y += p * v.load());
    }
}

multiversion! {
    /// The mixture of spans of keys: each partial is a mixture of `y.len()` values, its largest score and its sum.
    pub(super) fn combine<X: Real>(partials: &[f32], stride: usize, y: &mut [X]) {
        let d = y.len();
        let largest = partials.chunks(stride).fold(f32::NEG_INFINITY, |top, part| if part[d] > top { part[d] } else { top });
        let worth = |part: &[f32]| if part[d] == f32::NEG_INFINITY { 0.0 } else { exp(part[d] - largest) };
        let total = sum(partials.len().div_ceil(stride), |s| {
            let part = &partials[s * stride..];
            worth(part) * part[d + 1]
        });
        for (c, y) in (0..d).step_by(LANES).zip(y.chunks_mut(LANES)) {
            let mut sums = [0.0; LANES];
            for part in partials.chunks(stride) {
                let worth = worth(part);
                sums.iter_mut().zip(&part[c..d]).for_each(|(sum, x)| *sum += worth * x);
            }
            y.iter_mut().zip(sums).for_each(|(y, sum)| *y = X::store(sum / total));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decay_matches_f64() {
        for i in 0..87_000 {
            let x = -i as f32 / 1000.0;
            let truth = f64::from(x).exp();
            for found in [decay::<false>(x), decay::<true>(x)] {
                assert!((f64::from(found) - truth).abs() <= 2e-7 * truth, "exp({x}) = {found}");
            }
        }
        assert_eq!((decay::<true>(f32::NEG_INFINITY), decay::<false>(-88.0), decay::<true>(0.0)), (0.0, 0.0, 1.0));
        assert!(decay::<true>(f32::NAN).is_nan());
    }
}
