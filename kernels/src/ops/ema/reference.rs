//! The moving average as its definition reads.

pub(crate) fn step(decay: f64, param: &[f64], ema: &mut [f64]) {
    for i in 0..ema.len() {
        ema[i] = decay * ema[i] + (1.0 - decay) * param[i];
    }
}
