use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::op::{AdamW, Hyper};
use crate::ops::ema::average;
use crate::ops::global_norm::clip;
use crate::pool::ByRow;
use crate::real::Real;
use galatea_tensor::bf16;

/// Elements of one task.
const GRAIN: usize = 16_384;
/// Elements that stay in the nearest cache from the step to the average and the copy.
const PIECE: usize = 1024;

/// One step on param, m and v for the gradient g; then the moving average and the bf16 copy of the new param, in the same
/// pass over memory.
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
    ema: Option<&mut [f32]>,
    copy: Option<&mut [bf16]>,
) {
    let (clip, rest) = (clip(hyper[Hyper::MAX_NORM], norm[0]), 1.0 - hyper[Hyper::EMA_DECAY]);
    let moments = (ByRow::new(m, 1), ByRow::new(v, 1));
    let outputs = (ByRow::new(param, 1), moments, ema.map(|x| ByRow::new(x, 1)), copy.map(|x| ByRow::new(x, 1)));
    cores.pool.cut(g.len(), GRAIN, outputs, |first, (param, (m, v), mut ema, mut copy)| {
        for (i, param) in param.chunks_mut(PIECE).enumerate() {
            let of = i * PIECE..i * PIECE + param.len();
            let g = &g[first + of.start..first + of.end];
            update(cores.isa, adamw, clip, hyper, g, param, &mut m[of.clone()], &mut v[of.clone()]);
            if let Some(ema) = &mut ema {
                average(cores.isa, rest, param, &mut ema[of.clone()]);
            }
            if let Some(copy) = &mut copy {
                round(cores.isa, param, &mut copy[of]);
            }
        }
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

multiversion! {
    fn round(param: &[f32], copy: &mut [bf16]) {
        copy.iter_mut().zip(param).for_each(|(copy, param)| *copy = bf16::store(*param));
    }
}
