use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::op::Hyper;

/// Elements of one task.
const GRAIN: usize = 16_384;

/// ema <- decay ema + (1 - decay) param, with decay = `hyper[EMA_DECAY]`.
pub fn step(cores: &Cores, param: &[f32], hyper: &[f32], ema: &mut [f32]) {
    let rest = 1.0 - hyper[Hyper::EMA_DECAY];
    cores.pool.rows(ema, 1, GRAIN, |first, ema| average(cores.isa, rest, &param[first..], ema));
}

multiversion! {
    fn average(rest: f32, param: &[f32], ema: &mut [f32]) {
        for (ema, &param) in ema.iter_mut().zip(param) {
            *ema += rest * (param - *ema);
        }
    }
}
