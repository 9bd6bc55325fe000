use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::math::{exp, max};
use crate::ops::cross_entropy::{sum_of, weighted_sum};

/// Elements of one task.
const GRAIN: usize = 16_384;

/// loss `[1]`, nelbo and lse `[b, l]` for logits `[b, l, v]`, x_0 and x_t `[b, l]`, alpha_bar and w `[b]`.
#[expect(clippy::too_many_arguments, reason = "the op's reads and writes")]
pub fn forward(
    cores: &Cores,
    logits: &[f32],
    x_0: &[u32],
    x_t: &[u32],
    alpha_bar: &[f32],
    w: &[f32],
    loss: &mut [f32],
    nelbo: &mut [f32],
    lse: &mut [f32],
) {
    let (v, len) = (logits.len() / x_0.len(), x_0.len() / w.len());
    cores.pool.rows2(nelbo, 1, lse, 1, GRAIN.div_ceil(v), |first, nelbo, lse| {
        for (i, (nelbo, lse)) in nelbo.iter_mut().zip(lse).enumerate() {
            let n = first + i;
            let level = Level::new(v, alpha_bar[n / len]);
            (*nelbo, *lse) = bound(cores.isa, &logits[n * v..][..v], x_0[n] as usize, x_t[n] as usize, level);
        }
    });
    loss[0] = weighted_sum((0..x_0.len()).map(|n| w[n / len]), nelbo) as f32;
}

/// dlogits `[b, l, v]` for dloss `[1]`.
#[expect(clippy::too_many_arguments, reason = "the op's reads and writes")]
pub fn backward(
    cores: &Cores,
    logits: &[f32],
    x_0: &[u32],
    x_t: &[u32],
    alpha_bar: &[f32],
    w: &[f32],
    lse: &[f32],
    dloss: &[f32],
    dlogits: &mut [f32],
) {
    let (v, len) = (logits.len() / x_0.len(), x_0.len() / w.len());
    cores.pool.rows(dlogits, v, GRAIN.div_ceil(v), |first, dlogits| {
        for (i, dlogits) in dlogits.chunks_exact_mut(v).enumerate() {
            let n = first + i;
            if w[n / len] == 0.0 {
                dlogits.fill(0.0);
                continue;
            }
            let (level, scale) = (Level::new(v, alpha_bar[n / len]), dloss[0] * w[n / len]);
            let row = &logits[n * v..][..v];
            gradient(cores.isa, row, x_0[n] as usize, x_t[n] as usize, level, lse[n], scale, dlogits);
        }
    });
}

/// What a row knows of its time: V a, and bar at x_0 (high) and elsewhere (low).
#[derive(Clone, Copy)]
struct Level {
    v_alpha: f64,
    low: f64,
    high: f64,
}

impl Level {
    fn new(v: usize, alpha_bar: f32) -> Self {
        let alpha = f64::from(alpha_bar).clamp(2f64.powi(-60), 1.0 - 2f64.powi(-24));
        let (v_alpha, low) = (v as f64 * alpha, 1.0 - alpha);
        Self { v_alpha, low, high: low + v_alpha }
    }

    /// (bar_hat_z, r, c) of the columns that are neither z nor x_0; `rest` is 1 - p_x0.
    #[inline(always)]
    fn others(self, same: bool, p_z: f64, rest: f64) -> (f64, f64, f64) {
        let r = if same { self.low / self.high } else { 1.0 };
        (self.low + self.v_alpha * p_z, r, if same { -r * rest } else { p_z })
    }

    /// e_x0 bar_hat_z high / (V a), where z is not x_0: never positive, as the model can only put too little on x_0.
    #[inline(always)]
    fn missing(self, p_z: f64, rest: f64) -> f64 {
        -(self.low * rest + self.high * p_z)
    }
}

multiversion! {
    fn bound(row: &[f32], x_0: usize, z: usize, level: Level) -> (f32, f32) {
        let top = max(row);
        let mass = |part: &[f32]| sum_of(part, |x| exp(x - top));
        // Everything but x_0 first, so that 1 - p_x0 keeps its digits when the model is nearly right.
        let wrong = f64::from(mass(&row[..x_0]) + mass(&row[x_0 + 1..]));
        let total = wrong + f64::from(exp(row[x_0] - top));
        let p = |j: usize| f64::from(exp(row[j] - top)) / total;
        let (same, p_z, rest) = (x_0 == z, p(z), wrong / total);
        let (bar_z, r, c) = level.others(same, p_z, rest);

        let slope = (level.v_alpha / (bar_z * r)) as f32;
        let start = (level.low / (bar_z * r)) as f32;
        let (c, scale) = (c as f32, (1.0 / total) as f32);
        let excess = |part: &[f32]| {
            sum_of(part, |x| {
                let p = exp(x - top) * scale;
                log_excess(start + slope * p, slope * (p - c))
            })
        };
        let parts = others(row, x_0, z);
        let mut nelbo = r * f64::from(excess(parts[0]) + excess(parts[1]) + excess(parts[2]));
        if !same {
            let r_0 = level.high / level.low;
            let u = (level.low + level.v_alpha * p(x_0)) / (bar_z * r_0);
            let e = level.missing(p_z, rest) * level.v_alpha / (bar_z * level.high);
            nelbo += r_0 * f64::from(log_excess(u as f32, e as f32));
        }
        ((nelbo / level.v_alpha) as f32, (f64::from(top) + total.ln()) as f32)
    }
}

multiversion! {
    fn gradient(
        row: &[f32],
        x_0: usize,
        z: usize,
        level: Level,
        lse: f32,
        scale: f32,
        dlogits: &mut [f32],
    ) {
        for (p, &logit) in dlogits.iter_mut().zip(row) {
            *p = exp(logit - lse);
        }
        // The stored log-sum is rounded at the size of the logits: dividing by the sum takes that error out again.
        let mass = |part: &[f32]| sum_of(part, |p| p);
        let wrong = f64::from(mass(&dlogits[..x_0]) + mass(&dlogits[x_0 + 1..]));
        let total = wrong + f64::from(dlogits[x_0]);
        let (same, rest) = (x_0 == z, wrong / total);
        let (p_z, p_x0) = (f64::from(dlogits[z]) / total, f64::from(dlogits[x_0]) / total);
        let (bar_z, _, c) = level.others(same, p_z, rest);
        let bar_x0 = level.low + level.v_alpha * p_x0;
        let away = if same { -rest / level.high } else { p_z / level.low };
        let g_z = row.len() as f64 * level.v_alpha * away / (bar_z * bar_z);
        let g_x0 =
            if same { g_z } else { level.v_alpha * level.missing(p_z, rest) / (level.low * bar_x0 * bar_z) };

        let (low, v_alpha, c) = (level.low as f32, level.v_alpha as f32, c as f32);
        let (front, normalise) = ((level.v_alpha / bar_z) as f32, (1.0 / total) as f32);
        let g = |p: f32| front * ((p - c) / (low + v_alpha * p));
        let weighed = |part: &[f32]| {
            sum_of(part, |p| {
                let p = p * normalise;
                p * g(p)
            })
        };
        let parts = others(dlogits, x_0, z);
        let mut mean = f64::from(weighed(parts[0]) + weighed(parts[1]) + weighed(parts[2])) + p_z * g_z;
        if !same {
            mean += p_x0 * g_x0;
        }
        let mean_f32 = mean as f32;
        for p in dlogits.iter_mut() {
            *p *= normalise;
            *p *= scale * (g(*p) - mean_f32);
        }
        dlogits[z] = (f64::from(scale) * p_z * (g_z - mean)) as f32;
        dlogits[x_0] = (f64::from(scale) * p_x0 * (g_x0 - mean)) as f32;
    }
}

/// The columns that are neither of two (which may be one and the same).
#[inline(always)]
fn others(row: &[f32], i: usize, j: usize) -> [&[f32]; 3] {
    let (i, j) = (i.min(j), i.max(j));
    [&row[..i], if i < j { &row[i + 1..j] } else { &[] }, &row[j + 1..]]
}

/// e - log u for u = 1 + e > 0, with a small relative error at every e: both are given, as each loses the digits that
/// the other keeps. log u = k log 2 + log(1 + f), and log(1 + f) = f - f^2 / 2 + s (f^2 / 2 + R) with s = f / (2 + f)
/// and R the series of 2 atanh(s) - 2 s; where k = 0, f is e itself and the leading terms cancel exactly.
#[inline(always)]
pub(super) fn log_excess(u: f32, e: f32) -> f32 {
    let bits = u.to_bits() as i32;
    // Mantissas from the root of 1/2 to that of 2.
    let k = (bits - 0x3F35_04F3) >> 23;
    let mantissa = f32::from_bits((bits - (k << 23)) as u32);
    let f = if k == 0 { e } else { mantissa - 1.0 };
    let s = f / (2.0 + f);
    let z = s * s;
    let series = z * (2.0 / 3.0 + z * (2.0 / 5.0 + z * (2.0 / 7.0 + z * (2.0 / 9.0))));
    let half = 0.5 * f * f;
    (e - f - k as f32 * std::f32::consts::LN_2) + (half - s * (half + series))
}
