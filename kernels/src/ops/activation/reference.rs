//! The nonlinearities as their definitions read.

use crate::op::Activation;
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI, PI};

/// The argument of GELU's tanh, and its derivative.
fn gelu_argument(u: f64) -> (f64, f64) {
    (FRAC_2_PI.sqrt() * (u + 0.044715 * u.powi(3)), FRAC_2_PI.sqrt() * (1.0 + 3.0 * 0.044715 * u.powi(2)))
}

/// Phi(u): the series of erf near zero, its continued fraction beyond.
pub(crate) fn normal_cdf(u: f64) -> f64 {
    let x = u.abs() * FRAC_1_SQRT_2;
    let upper = if x < 2.5 {
        let (mut term, mut sum) = (x, x);
        for n in 1..80 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        0.5 - sum / PI.sqrt()
    } else {
        let tail = (1..120).rev().fold(x, |tail, n| x + f64::from(n) / 2.0 / tail);
        0.5 * (-x * x).exp() / (tail * PI.sqrt())
    };
    if u < 0.0 { upper } else { 1.0 - upper }
}

/// act(u).
pub(crate) fn forward(activation: Activation, u: f64) -> f64 {
    match activation {
        Activation::None => u,
        Activation::Relu => u.max(0.0),
        Activation::Silu => u / (1.0 + (-u).exp()),
        Activation::Gelu => 0.5 * u * (1.0 + gelu_argument(u).0.tanh()),
        Activation::GeluErf => u * normal_cdf(u),
        Activation::Tanh => u.tanh(),
        Activation::SwiGlu => unreachable!("two columns make one: `swiglu::reference`"),
    }
}

/// act'(u).
pub(crate) fn derivative(activation: Activation, u: f64) -> f64 {
    match activation {
        Activation::None => 1.0,
        Activation::Relu => f64::from(u > 0.0),
        Activation::Silu => {
            let s = 1.0 / (1.0 + (-u).exp());
            s + u * s * (1.0 - s)
        }
        Activation::Gelu => {
            let (z, dz) = gelu_argument(u);
            0.5 * (1.0 + z.tanh()) + 0.5 * u * (1.0 - z.tanh().powi(2)) * dz
        }
        Activation::GeluErf => normal_cdf(u) + u * (-u * u / 2.0).exp() / (2.0 * PI).sqrt(),
        Activation::Tanh => 1.0 - u.tanh().powi(2),
        Activation::SwiGlu => unreachable!("as above"),
    }
}
