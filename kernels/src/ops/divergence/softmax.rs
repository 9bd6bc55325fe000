//! The divergence of p = softmax(logits).

use super::classes::{Class, Token, gap};
use crate::isa::multiversion;
use crate::math::exp;
use crate::ops::cross_entropy::sum_of;

/// What a row's probabilities come to where the terms need them.
#[derive(Clone, Copy)]
struct Row {
    /// p at z; 0 at a mask.
    p_z: f64,
    p_0: f64,
    /// 1 - p_0.
    rest: f64,
    /// N.
    norm: f64,
    /// u_y N = start + s p_y and (u_y - 1) N = shift + s p_y.
    start: f64,
    shift: f64,
    /// p_z, or p_0 - 1 where z is x_0: what e_z and the pull of N are multiples of.
    lean: f64,
}

impl Row {
    /// From the unnormalised masses at x_0, at z where that is another token, and of all other columns.
    #[inline(always)]
    fn new(token: Token, own: f64, at_z: f64, others: f64) -> Self {
        // The wrong ones together, so that 1 - p_0 keeps its digits when the model is nearly right.
        let (n, wrong) = (token.terms.n, others + at_z);
        let total = wrong + own;
        let (p_0, rest) = (own / total, wrong / total);
        match token.class {
            Class::Mask => Self { p_z: 0.0, p_0, rest, norm: 1.0, start: 1.0, shift: 0.0, lean: 0.0 },
            Class::Hit => {
                let norm = 1.0 + n * p_0;
                Self { p_z: p_0, p_0, rest, norm, start: 1.0 + n, shift: n * rest, lean: -rest }
            }
            Class::Miss => {
                let p_z = at_z / total;
                Self { p_z, p_0, rest, norm: 1.0 + n * p_z, start: 1.0, shift: -n * p_z, lean: p_z }
            }
        }
    }

    /// (u_0 - 1) N.
    #[inline(always)]
    fn excess_0(self, token: Token) -> f64 {
        -(token.terms.s_0 * self.rest + token.terms.n * self.p_z)
    }

    /// u_z N.
    #[inline(always)]
    fn at_z(self, token: Token) -> f64 {
        token.terms.start_z + (token.terms.n + token.terms.h) * self.p_z
    }

    /// The terms of x_0 and z, `log_p_0` being log p_0.
    #[inline(always)]
    fn named(self, token: Token, log_p_0: f64) -> f64 {
        let terms = token.terms;
        let mut d = if terms.ce == 0.0 { 0.0 } else { -terms.ce * log_p_0 };
        if token.class != Class::Hit && terms.rho_0 > 0.0 {
            let e = self.excess_0(token) / self.norm;
            d += terms.rho_0
                * if terms.start_0 > 0.0 {
                    gap((terms.start_0 + terms.s_0 * self.p_0) / self.norm, e)
                } else {
                    // Where u_0 can reach 0 its logarithm is that of p_0.
                    e - (terms.s_0.ln() + log_p_0 - self.norm.ln())
                };
        }
        if token.class != Class::Mask {
            let (u, e) = (self.at_z(token) / self.norm, terms.h * self.lean / self.norm);
            if terms.rho_z > 0.0 {
                d += terms.rho_z * gap(u, e);
            }
            if terms.back > 0.0 {
                d += terms.back * gap(1.0 / u, -e / u);
            }
        }
        d
    }

    /// p_0 dd/dp_0 where z is another id.
    #[inline(always)]
    fn pull_0(self, token: Token) -> f64 {
        let terms = token.terms;
        let at = terms.start_0 + terms.s_0 * self.p_0;
        let share = if at > 0.0 { terms.s_0 * self.p_0 / at } else { 1.0 };
        terms.rho_0 * self.excess_0(token) / self.norm * share
    }

    /// p_z dd/dp_z.
    #[inline(always)]
    fn pull_z(self, token: Token) -> f64 {
        let (terms, at) = (token.terms, self.at_z(token));
        let mut g = terms.n * terms.pull * self.lean / (self.norm * self.norm);
        if at > 0.0 {
            let e = terms.h * self.lean * (terms.n + terms.h);
            g += terms.rho_z * e / (self.norm * at) + terms.back * e / (at * at);
        }
        self.p_z * g
    }
}

multiversion! {
    /// (d, log sum exp).
    pub(super) fn divergence(row: &[f32], token: Token) -> (f32, f32) {
        let terms = token.terms;
        let top = token.top(row);
        let mass = token.others(row).map(|part| f64::from(sum_of(part, |x| exp(x - top))));
        let others = mass[0] + mass[1] + mass[2] + mass[3];
        let at = |j: usize| f64::from(exp(row[j] - top));
        let at_z = if token.class == Class::Miss { at(token.z) } else { 0.0 };
        let own = at(token.x_0);
        let (found, total) = (Row::new(token, own, at_z, others), others + at_z + own);
        let log_p_0 =
            if found.rest < 0.5 { (-found.rest).ln_1p() } else { f64::from(row[token.x_0] - top) - total.ln() };
        let mut d = found.named(token, log_p_0);
        if terms.rho > 0.0 {
            let s = terms.s() / found.norm;
            let (slope, start) = (s as f32, (found.start / found.norm) as f32);
            let (shift, scale) = ((found.shift / found.norm) as f32, (1.0 / total) as f32);
            let excess = token.others(row).map(|part| {
                f64::from(sum_of(part, |x| {
                    let p = exp(x - top) * scale;
                    log_excess(start + slope * p, shift + slope * p)
                }))
            });
            d += terms.rho * (excess[0] + excess[1] + excess[2] + excess[3]);
        } else {
            d += terms.a * others / total / found.norm;
        }
        (d as f32, (f64::from(top) + total.ln()) as f32)
    }
}

multiversion! {
    /// dlogits for the gradient `scale` of d.
    pub(super) fn gradient(row: &[f32], token: Token, lse: f32, scale: f32, dlogits: &mut [f32]) {
        for (p, &logit) in dlogits.iter_mut().zip(row) {
            *p = exp(logit - lse);
        }
        // The stored log-sum is rounded at the size of the logits: dividing by the sum takes that error out again.
        let mass = token.others(dlogits).map(|part| f64::from(sum_of(part, |p| p)));
        let others = mass[0] + mass[1] + mass[2] + mass[3];
        let at_z = if token.class == Class::Miss { f64::from(dlogits[token.z]) } else { 0.0 };
        let own = f64::from(dlogits[token.x_0]);
        let (found, total) = (Row::new(token, own, at_z, others), others + at_z + own);

        // dd/dp_y = a (u_y - 1) N / (u_y N) / N; where rho is 0 it is a / N.
        let terms = token.terms;
        let (s, start, shift) = if terms.rho > 0.0 {
            (terms.s() as f32, found.start as f32, found.shift as f32)
        } else {
            (0.0, 1.0, 1.0)
        };
        let (front, normalise) = ((terms.a / found.norm) as f32, (1.0 / total) as f32);
        let g = |p: f32| front * ((shift + s * p) / (start + s * p));
        let weighed = token.others(dlogits).map(|part| {
            f64::from(sum_of(part, |p| {
                let p = p * normalise;
                p * g(p)
            }))
        });
        let pull_z = if token.class == Class::Mask { 0.0 } else { found.pull_z(token) };
        let pull_0 = if token.class == Class::Hit { 0.0 } else { found.pull_0(token) };
        let mean = weighed[0] + weighed[1] + weighed[2] + weighed[3] + pull_z + pull_0;
        let (scale_64, ce) = (f64::from(scale), f64::from(scale) * terms.ce);
        let (mean_f32, ce_f32) = (mean as f32, ce as f32);
        for p in dlogits.iter_mut() {
            *p *= normalise;
            *p *= scale * (g(*p) - mean_f32) + ce_f32;
        }
        // The forbidden column first: it stands for z if there is none.
        dlogits[token.forbid] = 0.0;
        match token.class {
            Class::Mask => {}
            Class::Hit => {
                dlogits[token.x_0] = (scale_64 * (pull_z - found.p_0 * mean) - ce * found.rest) as f32;
                return;
            }
            Class::Miss => {
                dlogits[token.z] = (scale_64 * (pull_z - found.p_z * mean) + ce * found.p_z) as f32;
            }
        }
        dlogits[token.x_0] = (scale_64 * (pull_0 - found.p_0 * mean) - ce * found.rest) as f32;
    }
}

/// G(u) = e - log u for u = 1 + e > 0, with a small relative error at every e: both are given, as each loses the digits that
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
