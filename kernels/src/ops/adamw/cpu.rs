use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::op::{AdamW, Hyper};
use crate::ops::global_norm::clip;
use crate::pool::ByRow;
use crate::real::Real;
use galatea_tensor::bf16;

/// Elements of one task.
const GRAIN: usize = 16_384;

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
    let clip = clip(hyper[Hyper::MAX_NORM], norm[0]);
    let moments = (ByRow::new(m, 1), ByRow::new(v, 1));
    let outputs = (ByRow::new(param, 1), moments, ema.map(|x| ByRow::new(x, 1)), copy.map(|x| ByRow::new(x, 1)));
    cores.pool.cut(g.len(), GRAIN, outputs, |first, (param, (m, v), ema, copy)| {
        let g = &g[first..first + param.len()];
        match (ema, copy) {
            (None, None) => plain(cores.isa, adamw, clip, hyper, g, param, m, v),
            (Some(ema), None) => averaged(cores.isa, adamw, clip, hyper, g, param, m, v, ema),
            (None, Some(copy)) => copied(cores.isa, adamw, clip, hyper, g, param, m, v, copy),
            (Some(ema), Some(copy)) => averaged_and_copied(cores.isa, adamw, clip, hyper, g, param, m, v, ema, copy),
        }
    });
}

/// The rule for one element of param, m and v.
#[inline(always)]
fn rule(adamw: AdamW, clip: f32, hyper: &[f32]) -> impl Fn(&mut f32, &mut f32, &mut f32, f32) {
    let AdamW { beta_1, beta_2, eps, weight_decay } = adamw;
    let (lr, correct_1, correct_2) = (hyper[Hyper::LR], hyper[Hyper::CORRECTION_1], hyper[Hyper::CORRECTION_2]);
    move |param, m, v, g| {
        let g = g * clip;
        *m = beta_1 * *m + (1.0 - beta_1) * g;
        *v = beta_2 * *v + (1.0 - beta_2) * (g * g);
        let direction = *m * correct_1 / ((*v * correct_2).sqrt() + eps);
        *param -= lr * (weight_decay * *param + direction);
    }
}

// One loop a combination: all streams of memory run at once.
multiversion! {
    fn plain(adamw: AdamW, clip: f32, hyper: &[f32], g: &[f32], param: &mut [f32], m: &mut [f32], v: &mut [f32]) {
        let rule = rule(adamw, clip, hyper);
        for (((param, m), v), g) in param.iter_mut().zip(m).zip(v).zip(g) {
            rule(param, m, v, *g);
        }
    }
}

multiversion! {
    fn averaged(
        adamw: AdamW,
        clip: f32,
        hyper: &[f32],
        g: &[f32],
        param: &mut [f32],
        m: &mut [f32],
        v: &mut [f32],
        ema: &mut [f32],
    ) {
        let (rule, rest) = (rule(adamw, clip, hyper), 1.0 - hyper[Hyper::EMA_DECAY]);
        for ((((param, m), v), g), ema) in param.iter_mut().zip(m).zip(v).zip(g).zip(ema) {
            rule(param, m, v, *g);
            *ema += rest * (*param - *ema);
        }
    }
}

multiversion! {
    fn copied(
        adamw: AdamW,
        clip: f32,
        hyper: &[f32],
        g: &[f32],
        param: &mut [f32],
        m: &mut [f32],
        v: &mut [f32],
        copy: &mut [bf16],
    ) {
        let rule = rule(adamw, clip, hyper);
        for ((((param, m), v), g), copy) in param.iter_mut().zip(m).zip(v).zip(g).zip(copy) {
            rule(param, m, v, *g);
            *copy = bf16::store(*param);
        }
    }
}

multiversion! {
    fn averaged_and_copied(
        adamw: AdamW,
        clip: f32,
        hyper: &[f32],
        g: &[f32],
        param: &mut [f32],
        m: &mut [f32],
        v: &mut [f32],
        ema: &mut [f32],
        copy: &mut [bf16],
    ) {
        let (rule, rest) = (rule(adamw, clip, hyper), 1.0 - hyper[Hyper::EMA_DECAY]);
        for (((((param, m), v), g), ema), copy) in param.iter_mut().zip(m).zip(v).zip(g).zip(ema).zip(copy) {
            rule(param, m, v, *g);
            *ema += rest * (*param - *ema);
            *copy = bf16::store(*param);
        }
    }
}
