//! The nonlinearities as their definitions read.

use crate::op::Activation;
use std::f64::consts::FRAC_2_PI;

/// The argument of GELU's tanh, and its derivative.
fn gelu_argument(u: f64) -> (f64, f64) {
    (FRAC_2_PI.sqrt() * (u + 0.044715 * u.powi(3)), FRAC_2_PI.sqrt() * (1.0 + 3.0 * 0.044715 * u.powi(2)))
}

/// act(u).
pub(crate) fn forward(activation: Activation, u: f64) -> f64 {
    match activation {
        Activation::None => u,
        Activation::Relu => u.max(0.0),
        Activation::Silu => u / (1.0 + (-u).exp()),
        Activation::Gelu => 0.5 * u * (1.0 + gelu_argument(u).0.tanh()),
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
    }
}
