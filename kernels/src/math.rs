//! Elementary functions and loops over rows, written so that they vectorise: no branches, no calls, no index that must be
//! checked, plain multiply and add.

use crate::real::Real;

/// Sums that run side by side in [`sums`]: two vectors of the widest level, four of the next.
const LANES: usize = 32;

/// e^x with a relative error below 2e-7 on [-87, 88]; 0 below, infinity above (NaN stays NaN).
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    // ln 2 in two parts, so that the reduction is exact to the last bit that matters.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let clamped = if x < -87.3 { -87.3 } else { x };
    let clamped = if clamped > 88.0 { 88.0 } else { clamped };
    // Adding and removing 1.5 * 2^23 rounds to the nearest integer, whose bits stand at the low end.
    let shifted = clamped * LOG2_E + 12_582_912.0;
    let n = shifted - 12_582_912.0;
    let r = clamped - n * LN_2_HIGH - n * LN_2_LOW;
    let p = 1.987_569_1e-4f32;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let y = p * (r * r) + r + 1.0;
    let scale = f32::from_bits(((shifted.to_bits() as i32 - 0x4B40_0000 + 127) << 23) as u32);
    let y = y * scale;
    let y = if x < -87.3 { 0.0 } else { y };
    if x > 88.0 { f32::INFINITY } else { y }
}

/// The natural logarithm of a positive normal number, to 1e-7 of the larger of it and one; -infinity of 0, NaN of NaN.
#[inline(always)]
pub fn ln(x: f32) -> f32 {
    // x = 2^e (1 + r) with 1 + r between the root of a half and that of two.
    let e = (x.to_bits() as i32 - 0x3f35_04f3) >> 23;
    let r = f32::from_bits((x.to_bits() as i32 - (e << 23)) as u32) - 1.0;
    let p = 7.037_683_6e-2f32;
    let p = p * r - 1.151_461e-1;
    let p = p * r + 1.167_699_9e-1;
    let p = p * r - 1.242_014_1e-1;
    let p = p * r + 1.424_932_3e-1;
    let p = p * r - 1.666_805_8e-1;
    let p = p * r + 2.000_071_5e-1;
    let p = p * r - 2.499_999_4e-1;
    let p = p * r + 3.333_333e-1;
    let e = e as f32;
    let y = r * (r * r) * p + e * -2.121_944_4e-4 - 0.5 * (r * r) + r + e * 0.693_359_4;
    if x > 0.0 { y } else { -1.0 / x }
}

/// The logistic function 1 / (1 + e^-x).
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// tanh by the exponential: relative error below 1e-6 away from zero, absolute below 1e-7 at it.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let e = exp(2.0 * x.abs());
    (1.0 - 2.0 / (e + 1.0)).copysign(x)
}

/// (Phi(u), its density) of the standard normal law, both to 1.5e-7: Phi by the fifth-order form of erf.
///
/// # Source
/// Abramowitz & Stegun (1964), "Handbook of mathematical functions", 7.1.26.
#[inline(always)]
pub fn normal_cdf(u: f32) -> (f32, f32) {
    const INV_SQRT_TAU: f32 = 0.398_942_3;
    let x = u.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let e = exp(-x * x);
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let p = 1.061_405_4f32;
    let p = p * t - 1.453_152;
    let p = p * t + 1.421_413_7;
    let p = p * t - 0.284_496_74;
    let p = p * t + 0.254_829_6;
    let upper = 0.5 * p * t * e;
    (if u < 0.0 { upper } else { 1.0 - upper }, INV_SQRT_TAU * e)
}

/// (sin, cos) of 2 pi turns for turns in [0, 1]: absolute error below 2e-7.
#[inline(always)]
pub fn sin_cos_of_turns(turns: f32) -> (f32, f32) {
    // The nearest quarter turn, as in `exp`; what is left is exact and at most an eighth.
    let shifted = 4.0 * turns + 12_582_912.0;
    let x = (turns - 0.25 * (shifted - 12_582_912.0)) * std::f32::consts::TAU;
    let quarters = shifted.to_bits();
    let z = x * x;
    let sin = x + x * z * ((-1.951_529_6e-4 * z + 8.332_161e-3) * z - 1.666_665_5e-1);
    let cos = 1.0 - 0.5 * z + z * z * ((2.443_315_7e-5 * z - 1.388_731_6e-3) * z + 4.166_664_6e-2);
    let (sin, cos) = if quarters & 1 == 0 { (sin, cos) } else { (cos, sin) };
    let negative = |x: f32, bit: u32| f32::from_bits(x.to_bits() ^ (bit & 1) << 31);
    (negative(sin, quarters >> 1), negative(cos, (quarters >> 1) ^ quarters))
}

/// The sum of f(i) for i below `len`, in sixteen lanes and then pairwise: vectorises, and the order never depends on the
/// machine or the number of threads.
#[inline(always)]
pub fn sum(len: usize, f: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0f32; 16];
    let body = len / 16 * 16;
    let mut i = 0;
    while i < body {
        for (j, lane) in lanes.iter_mut().enumerate() {
            *lane += f(i + j);
        }
        i += 16;
    }
    for (j, lane) in lanes.iter_mut().enumerate().take(len - body) {
        *lane += f(body + j);
    }
    let mut width = 8;
    while width > 0 {
        for j in 0..width {
            lanes[j] += lanes[j + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// K sums over the elements of three slices of one length, in `LANES` lanes and then pairwise: the order depends on the
/// length alone.
#[inline(always)]
pub fn sums<const K: usize, X: Real, Y: Real, Z: Real>(
    x: &[X],
    y: &[Y],
    z: &[Z],
    f: impl Fn(f32, f32, f32) -> [f32; K],
) -> [f32; K] {
    let mut lanes = [[0.0f32; LANES]; K];
    let ((xs, x), (ys, y), (zs, z)) = (x.as_chunks::<LANES>(), y.as_chunks::<LANES>(), z.as_chunks::<LANES>());
    for ((x, y), z) in xs.iter().zip(ys).zip(zs) {
        for j in 0..LANES {
            let terms = f(x[j].load(), y[j].load(), z[j].load());
            for k in 0..K {
                lanes[k][j] += terms[k];
            }
        }
    }
    if !x.is_empty() {
        // Whole vectors, so that the lanes stay in registers; what is beyond the end adds nothing.
        let rest = x.len();
        let (x, y, z) = (padded::<X>(x), padded::<Y>(y), padded::<Z>(z));
        for j in 0..LANES {
            let terms = f(x[j], y[j], z[j]);
            for k in 0..K {
                lanes[k][j] += if j < rest { terms[k] } else { 0.0 };
            }
        }
    }
    lanes.map(pairwise)
}

#[inline(always)]
fn padded<X: Real>(x: &[X]) -> [f32; LANES] {
    lanes::<LANES, false, X>(x)
}

#[inline(always)]
fn pairwise(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for j in 0..width {
            lanes[j] += lanes[j + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// N elements of a row in registers: all of them if `WHOLE`, else as many as there are, and zeros.
#[inline(always)]
pub fn lanes<const N: usize, const WHOLE: bool, X: Real>(x: &[X]) -> [f32; N] {
    let mut lanes = [0.0; N];
    if WHOLE {
        let x = x.first_chunk::<N>().expect("a whole piece of a row");
        lanes.iter_mut().zip(x).for_each(|(lane, x)| *lane = x.load());
    } else {
        lanes.iter_mut().zip(x).for_each(|(lane, x)| *lane = x.load());
    }
    lanes
}

/// The way back: x = the lanes, all of them if `WHOLE`, else as many as x has.
#[inline(always)]
pub fn store<const N: usize, const WHOLE: bool, X: Real>(lanes: &[f32; N], x: &mut [X]) {
    if WHOLE {
        let x = x.first_chunk_mut::<N>().expect("a whole piece of a row");
        x.iter_mut().zip(lanes).for_each(|(x, lane)| *x = X::store(*lane));
    } else {
        x.iter_mut().zip(lanes).for_each(|(x, lane)| *x = X::store(*lane));
    }
}

/// out = f(x, y, z), element by element.
#[inline(always)]
pub fn map<O: Real, X: Real, Y: Real, Z: Real>(
    out: &mut [O],
    x: &[X],
    y: &[Y],
    z: &[Z],
    f: impl Fn(f32, f32, f32) -> f32,
) {
    for (((out, x), y), z) in out.iter_mut().zip(x).zip(y).zip(z) {
        *out = O::store(f(x.load(), y.load(), z.load()));
    }
}

/// The largest element of a slice (negative infinity if empty; NaN is passed over).
#[inline(always)]
pub fn max(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let (body, tail) = x.as_chunks::<16>();
    for chunk in body {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = if x > *lane { x } else { *lane };
        }
    }
    let best = |best: f32, &x: &f32| if x > best { x } else { best };
    tail.iter().fold(lanes.iter().fold(f32::NEG_INFINITY, best), best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_ln_and_tanh_match_f64() {
        for i in -87_000..88_000 {
            let x = i as f32 / 1000.0;
            let truth = f64::from(x).exp();
            assert!((f64::from(exp(x)) - truth).abs() <= 2e-7 * truth, "exp({x}) = {}", exp(x));
            let truth = f64::from(x).tanh();
            assert!((f64::from(tanh(x)) - truth).abs() <= 1e-6 * truth.abs() + 1e-7, "tanh({x})");
        }
        for i in 1..200_000 {
            let x = f32::from_bits(0x0080_0000 + i * 10_000);
            let truth = f64::from(x).ln();
            assert!((f64::from(ln(x)) - truth).abs() <= 1e-7 * truth.abs().max(1.0), "ln({x}) = {}", ln(x));
        }
        assert!(ln(0.0) == f32::NEG_INFINITY && ln(f32::NAN).is_nan());
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
        assert_eq!((tanh(100.0), tanh(-100.0), tanh(0.0)), (1.0, -1.0, 0.0));
    }

    #[test]
    fn ln_and_turns_match_f64() {
        for i in 0..1 << 20 {
            let x = (i as f32 + 0.5) / (1 << 20) as f32;
            let truth = f64::from(x).ln();
            assert!((f64::from(ln(x)) - truth).abs() <= 2e-7 * truth.abs() + 1e-7, "ln({x}) = {}", ln(x));
            let (sin, cos) = sin_cos_of_turns(x);
            let angle = std::f64::consts::TAU * f64::from(x);
            assert!((f64::from(sin) - angle.sin()).abs() < 2e-7, "sin of {x} turns: {sin}");
            assert!((f64::from(cos) - angle.cos()).abs() < 2e-7, "cos of {x} turns: {cos}");
        }
        for x in [f32::MIN_POSITIVE, 1.0, 3.5, 1e30] {
            let truth = f64::from(x).ln();
            assert!((f64::from(ln(x)) - truth).abs() <= 2e-7 * truth.abs() + 1e-7, "ln({x}) = {}", ln(x));
        }
    }

    #[test]
    fn sum_and_max_equal_the_serial_ones() {
        for len in [0, 1, 15, 16, 17, 100] {
            let x: Vec<f32> = (0..len).map(|i| ((i * 37) % 101) as f32 - 50.0).collect();
            assert_eq!(sum(len, |i| x[i]), x.iter().sum::<f32>());
            let [plain, square, triple] = sums(&x, &x, &x, |x, y, z| [x, x * y, x + y + z]);
            assert_eq!(plain, x.iter().sum::<f32>());
            assert_eq!(square, x.iter().map(|x| x * x).sum::<f32>());
            assert_eq!(triple, 3.0 * plain);
            assert_eq!(max(&x), x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }
    }
}
