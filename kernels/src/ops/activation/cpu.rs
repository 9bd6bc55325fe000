use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::math::{map, normal_cdf, sigmoid, tanh};
use crate::op::Activation;
use crate::real::Real;

/// Elements of one task.
const GRAIN: usize = 8192;
/// 2 sqrt(2 / pi): GELU's tanh form is u sigmoid(2 z), which keeps its accuracy where tanh is near -1.
const GELU_SCALE: f32 = 1.595_769;
/// The coefficient of u^3 in z.
const GELU_CUBE: f32 = 0.044_715;

/// y = act(u).
pub fn forward<X: Real>(cores: &Cores, activation: Activation, u: &[X], y: &mut [X]) {
    cores.pool.rows(y, 1, GRAIN, |i, y| apply(cores.isa, activation, &u[i..i + y.len()], y));
}

/// du = act'(u) dy.
pub fn backward<X: Real>(cores: &Cores, activation: Activation, u: &[X], dy: &[X], du: &mut [X]) {
    cores.pool.rows(du, 1, GRAIN, |i, du| {
        gradient(cores.isa, activation, &u[i..i + du.len()], &dy[i..i + du.len()], du);
    });
}

multiversion! {
    pub(crate) fn apply<X: Real>(activation: Activation, u: &[X], y: &mut [X]) {
        match activation {
            Activation::None => y.copy_from_slice(u),
            // Written so that NaN is passed on.
            Activation::Relu => map(y, u, u, u, |u, _, _| if u < 0.0 { 0.0 } else { u }),
            Activation::Silu => map(y, u, u, u, |u, _, _| u * sigmoid(u)),
            Activation::Gelu => map(y, u, u, u, |u, _, _| u * sigmoid(GELU_SCALE * (u + GELU_CUBE * u * u * u))),
            Activation::GeluErf => map(y, u, u, u, |u, _, _| u * normal_cdf(u).0),
            Activation::Tanh => map(y, u, u, u, |u, _, _| tanh(u)),
            Activation::SwiGlu => unreachable!("it takes columns in pairs (`gemm::Sink::pair`); no op of one tensor has it (`slots`)"),
        }
    }
}

multiversion! {
    fn gradient<X: Real>(activation: Activation, u: &[X], dy: &[X], du: &mut [X]) {
        match activation {
            Activation::None => du.copy_from_slice(dy),
            Activation::Relu => map(du, u, dy, dy, |u, dy, _| if u <= 0.0 { 0.0 } else { dy }),
            Activation::Silu => map(du, u, dy, dy, |u, dy, _| {
                let s = sigmoid(u);
                dy * (s + u * s * (1.0 - s))
            }),
            Activation::Gelu => map(du, u, dy, dy, |u, dy, _| {
                // Beyond ten the derivative is 0 or 1 in f32, and u^3 may overflow.
                let u = u.clamp(-10.0, 10.0);
                let s = sigmoid(GELU_SCALE * (u + GELU_CUBE * u * u * u));
                let slope = GELU_SCALE * (1.0 + 3.0 * GELU_CUBE * u * u);
                dy * (s + u * s * (1.0 - s) * slope)
            }),
            Activation::GeluErf => map(du, u, dy, dy, |u, dy, _| {
                let (phi, density) = normal_cdf(u);
                dy * (phi + u * density)
            }),
            Activation::Tanh => map(du, u, dy, dy, |u, dy, _| {
                let y = tanh(u);
                dy * (1.0 - y) * (1.0 + y)
            }),
            Activation::SwiGlu => unreachable!("as above"),
        }
    }
}
