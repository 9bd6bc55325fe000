use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::op::{AdamW, Hyper};
use crate::ops::global_norm::clip;

/// Elements of one task.
const GRAIN: usize = 16_384;

/// One step on param, m and v for the gradient g.
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn step(
    cores: &Cores,
    adamw: AdamW,
    g: &[f32],
    norm: &[f32],
    hyper: &[f32],
    param: &mut [f32],
    m: &mut [f32],
    v: &mut [f32],
) {
    let clip = clip(hyper[Hyper::MAX_NORM], norm[0]);
    cores.pool.rows3(param, 1, m, 1, v, 1, GRAIN, |first, param, m, v| {
        update(cores.isa, adamw, clip, hyper, &g[first..], param, m, v);
    });
}

multiversion! {
    fn update(adamw: AdamW, clip: f32, hyper: &[f32], g: &[f32], param: &mut [f32], m: &mut [f32], v: &mut [f32]) {
        let AdamW { beta_1, beta_2, eps, weight_decay } = adamw;
        let (lr, correct_1, correct_2) = (hyper[Hyper::LR], hyper[Hyper::CORRECTION_1], hyper[Hyper::CORRECTION_2]);
        for (((param, m), v), &g) in param.iter_mut().zip(m).zip(v).zip(g) {
            let g = g * clip;
            *m = beta_1 * *m + (1.0 - beta_1) * g;
            *v = beta_2 * *v + (1.0 - beta_2) * (g * g);
            let direction = *m * correct_1 / ((*v * correct_2).sqrt() + eps);
            *param -= lr * (weight_decay * *param + direction);
        }
    }
}
