//! The divergence of p = exp(logits): the model gives the rates themselves, as logarithms.

use super::classes::{Class, Token};
use crate::isa::multiversion;
use crate::math::exp;
use crate::ops::cross_entropy::sum_of;

multiversion! {
    /// d.
    pub(super) fn divergence(row: &[f32], token: Token) -> f32 {
        let terms = token.terms;
        let parts = if terms.rho > 0.0 {
            let log_s = terms.s().ln() as f32;
            token.others(row).map(|part| terms.rho * f64::from(sum_of(part, |x| exp_excess(x + log_s))))
        } else {
            token.others(row).map(|part| terms.a * f64::from(sum_of(part, exp)))
        };
        let mut d = parts[0] + parts[1] + parts[2] + parts[3];
        if token.class != Class::Hit && terms.rho_0 > 0.0 {
            let delta = f64::from(row[token.x_0]) + terms.s_0.ln();
            d += terms.rho_0 * (delta.exp_m1() - delta);
        }
        d as f32
    }
}

multiversion! {
    /// dlogits = scale (rho u - rho).
    pub(super) fn gradient(row: &[f32], token: Token, scale: f32, dlogits: &mut [f32]) {
        let terms = token.terms;
        let (a, rho) = (terms.a as f32, terms.rho as f32);
        for (d, &logit) in dlogits.iter_mut().zip(row) {
            *d = scale * (a * exp(logit) - rho);
        }
        dlogits[token.forbid] = 0.0;
        dlogits[token.z] = 0.0;
        if token.class != Class::Hit && terms.rho_0 > 0.0 {
            let delta = f64::from(row[token.x_0]) + terms.s_0.ln();
            dlogits[token.x_0] = (f64::from(scale) * terms.rho_0 * delta.exp_m1()) as f32;
        } else {
            dlogits[token.x_0] = 0.0;
        }
    }
}

/// G(e^x) = e^x - 1 - x, with a small relative error at every x.
#[inline(always)]
pub(super) fn exp_excess(x: f32) -> f32 {
    // x^2 / 2 (1 + x / 3 (1 + x / 4 (1 + ..))), for the small x whose exponential loses the digits.
    let series = 0.5 * x * x * (1.0 + x / 3.0 * (1.0 + x / 4.0 * (1.0 + x / 5.0 * (1.0 + x / 6.0 * (1.0 + x / 7.0)))));
    let direct = exp(x) - 1.0 - x;
    if x.abs() < 0.5 { series } else { direct }
}
