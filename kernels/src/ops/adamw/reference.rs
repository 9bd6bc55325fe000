//! AdamW as its algorithm reads.

use crate::op::{AdamW, Hyper};
use crate::ops::global_norm::reference::clip;

pub(crate) fn step(adamw: AdamW, g: &[f64], norm: f64, hyper: &[f64], param: &mut [f64], m: &mut [f64], v: &mut [f64]) {
    let [beta_1, beta_2, eps, decay] = [adamw.beta_1, adamw.beta_2, adamw.eps, adamw.weight_decay].map(f64::from);
    for i in 0..g.len() {
        let g = g[i] * clip(hyper[Hyper::MAX_NORM], norm);
        m[i] = beta_1 * m[i] + (1.0 - beta_1) * g;
        v[i] = beta_2 * v[i] + (1.0 - beta_2) * g * g;
        let (m_hat, v_hat) = (m[i] * hyper[Hyper::CORRECTION_1], v[i] * hyper[Hyper::CORRECTION_2]);
        param[i] -= hyper[Hyper::LR] * (decay * param[i] + m_hat / (v_hat.sqrt() + eps));
    }
}
