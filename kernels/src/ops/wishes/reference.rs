//! Wishes as they read: probabilities first, logarithms after.

use crate::op::Wish;

/// (loss, lse) of logits [b, l, v].
pub(crate) fn forward(
    len: usize,
    vocab: usize,
    logits: &[f64],
    wishes: &[[u32; 3]],
    weight: &[f64],
) -> (f64, Vec<f64>) {
    let lse: Vec<f64> = logits.chunks(vocab).map(|row| row.iter().map(|x| x.exp()).sum::<f64>().ln()).collect();
    let batch = logits.len() / len / vocab;
    let mut loss = 0.0;
    for b in 0..batch {
        for (&[token, place, complement], weight) in wishes.iter().zip(weight) {
            let p = |l: usize| (logits[(b * len + l) * vocab + token as usize] - lse[b * len + l]).exp();
            let log = |p: f64| if complement == 0 { p.ln() } else { (1.0 - p).ln() };
            loss += weight
                * match place {
                    Wish::ANY => log((0..len).map(p).sum::<f64>() / (len as f64).exp()),
                    Wish::ALL => (0..len).map(|l| log(p(l))).sum(),
                    at => log(p(at as usize)),
                };
        }
    }
    (loss, lse)
}
