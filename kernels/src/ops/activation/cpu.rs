use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::math::sigmoid;
use crate::op::Activation;

/// Elements of one task.
const GRAIN: usize = 8192;
/// 2 sqrt(2 / pi): GELU's tanh form is u sigmoid(2 z), which keeps its accuracy where tanh is near -1.
const GELU_SCALE: f32 = 1.595_769;
/// The coefficient of u^3 in z.
const GELU_CUBE: f32 = 0.044_715;

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

multiversion! {
    pub(crate) fn apply(activation: Activation, u: &[f32], y: &mut [f32]) {
        let each = y.iter_mut().zip(u);
        match activation {
            Activation::None => y.copy_from_slice(u),
            // Written so that NaN is passed on.
            Activation::Relu => each.for_each(|(y, &u)| *y = if u < 0.0 { 0.0 } else { u }),
            Activation::Silu => each.for_each(|(y, &u)| *y = u * sigmoid(u)),
            Activation::Gelu => each.for_each(|(y, &u)| *y = u * sigmoid(GELU_SCALE * (u + GELU_CUBE * u * u * u))),
        }
    }
}

multiversion! {
    fn gradient(activation: Activation, u: &[f32], dy: &[f32], du: &mut [f32]) {
        let each = du.iter_mut().zip(u).zip(dy);
        match activation {
            Activation::None => du.copy_from_slice(dy),
            Activation::Relu => each.for_each(|((du, &u), &dy)| *du = if u <= 0.0 { 0.0 } else { dy }),
            Activation::Silu => each.for_each(|((du, &u), &dy)| {
                let s = sigmoid(u);
                *du = dy * (s + u * s * (1.0 - s));
            }),
            Activation::Gelu => each.for_each(|((du, &u), &dy)| {
                // Beyond ten the derivative is 0 or 1 in f32, and u^3 may overflow.
                let u = u.clamp(-10.0, 10.0);
                let s = sigmoid(GELU_SCALE * (u + GELU_CUBE * u * u * u));
                let slope = GELU_SCALE * (1.0 + 3.0 * GELU_CUBE * u * u);
                *du = dy * (s + u * s * (1.0 - s) * slope);
            }),
        }
    }
}
