//! CPU kernels.

use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::math::{sigmoid, tanh};
use crate::op::Activation;

/// sqrt(2 / pi) and the cubic coefficient of GELU's tanh form.
const GELU_SCALE: f32 = 0.797_884_6;
const GELU_CUBE: f32 = 0.044_715;
const GRAIN: usize = 8192;

multiversion! {
    fn apply(activation: Activation, u: &[f32], y: &mut [f32]) {
        match activation {
            Activation::None => y.copy_from_slice(u),
            Activation::Relu => y.iter_mut().zip(u).for_each(|(y, &u)| *y = if u > 0.0 { u } else { 0.0 }),
            Activation::Silu => y.iter_mut().zip(u).for_each(|(y, &u)| *y = u * sigmoid(u)),
            Activation::Gelu => y.iter_mut().zip(u).for_each(|(y, &u)| {
                *y = 0.5 * u * (1.0 + tanh(GELU_SCALE * (u + GELU_CUBE * u * u * u)));
            }),
        }
    }
}

multiversion! {
    fn gradient(activation: Activation, u: &[f32], dy: &[f32], du: &mut [f32]) {
        let each = du.iter_mut().zip(u).zip(dy);
        match activation {
            Activation::None => each.for_each(|((du, _), &dy)| *du = dy),
            Activation::Relu => each.for_each(|((du, &u), &dy)| *du = if u > 0.0 { dy } else { 0.0 }),
            Activation::Silu => each.for_each(|((du, &u), &dy)| {
                let s = sigmoid(u);
                *du = dy * (s + u * s * (1.0 - s));
            }),
            Activation::Gelu => each.for_each(|((du, &u), &dy)| {
                let t = tanh(GELU_SCALE * (u + GELU_CUBE * u * u * u));
                let inner = GELU_SCALE * (1.0 + 3.0 * GELU_CUBE * u * u);
                *du = dy * (0.5 * (1.0 + t) + 0.5 * u * (1.0 - t * t) * inner);
            }),
        }
    }
}

/// y = act(u).
pub fn forward(cores: &Cores, activation: Activation, u: &[f32], y: &mut [f32]) {
    cores.pool.rows(y, 1, GRAIN, |i, y| apply(cores.isa, activation, &u[i..i + y.len()], y));
}

/// du = act'(u) dy.
pub fn backward(cores: &Cores, activation: Activation, u: &[f32], dy: &[f32], du: &mut [f32]) {
    cores.pool.rows(du, 1, GRAIN, |i, du| {
        gradient(cores.isa, activation, &u[i..i + du.len()], &dy[i..i + du.len()], du);
    });
}
