//! The generalised KL of discrete flow matching.

use super::row::Softmax;

/// One token of the generalised KL of a mixture path: x_t = x_1 with probability kappa, else x_t is from the source.
///
/// -kappa' / (1 - kappa) \[p(x_t) - δ(x_t, x_1) + (1 - δ(x_t, x_1)) log p(x_1)\], p = softmax(logits).
///
/// Flow matching's time runs from noise to data: its kappa is our alpha_bar, its kappa' our -alpha_bar'. With a mask
/// source and no mass on the mask it is the masked NELBO.
///
/// # Shapes
/// `logits` and `dlogits` \[vocab\].
///
/// # Panics
/// If an id is outside `logits`.
///
/// # Source
/// Shaul et al. (2024), "Flow matching with general discrete paths", the ELBO of mixture paths;
/// facebookresearch/flow_matching `generalized_loss.py`.
pub fn loss(logits: &[f64], x_1: u32, x_t: u32, kappa: f64, kappa_derivative: f64, dlogits: Option<&mut [f64]>) -> f64 {
    let row = Softmax::new(logits, None);
    let (z, target) = (x_t as usize, x_1 as usize);
    let jump = kappa_derivative / (1.0 - kappa);
    let hit = x_t == x_1;
    let log_p = row.log_p(target);
    if let Some(dlogits) = dlogits {
        dlogits.fill(0.0);
        dlogits[z] = -jump;
        row.backward(dlogits);
        if !hit {
            for (k, d) in dlogits.iter_mut().enumerate() {
                *d += jump * row.p(k);
            }
            dlogits[target] -= jump;
        }
    }
    let (delta, log_part) = if hit { (1.0, 0.0) } else { (0.0, log_p) };
    -jump * (row.p(z) - delta + log_part)
}
