//! Sampling by inversion, one column at a time.

use crate::ops::cross_entropy::reference::log_softmax;

/// (id, log_p, entropy) of one row for the uniform number `u`.
pub(crate) fn row(logits: &[f64], temperature: f64, forbid: Option<usize>, u: f64) -> (usize, f64, f64) {
    let log_p = log_softmax(logits, forbid);
    let entropy = -log_p.iter().filter(|l| l.is_finite()).map(|l| l.exp() * l).sum::<f64>();
    let id = if temperature == 0.0 {
        (0..logits.len()).rev().max_by(|&i, &j| log_p[i].total_cmp(&log_p[j])).expect("a row has a column")
    } else {
        let scaled: Vec<f64> = logits.iter().map(|x| x / temperature).collect();
        let p: Vec<f64> = log_softmax(&scaled, forbid).iter().map(|l| l.exp()).collect();
        let mut cumulative = 0.0;
        let position = p.iter().position(|p| {
            cumulative += p;
            cumulative > u
        });
        position.unwrap_or_else(|| p.iter().rposition(|&p| p > 0.0).expect("some column has mass"))
    };
    (id, log_p[id], entropy)
}
