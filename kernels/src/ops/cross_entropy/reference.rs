//! Softmax cross-entropy as its definition reads.

/// log softmax of one row, the forbidden column at negative infinity.
pub(crate) fn log_softmax(row: &[f64], forbid: Option<usize>) -> Vec<f64> {
    let allowed = |j: usize| Some(j) != forbid;
    let top = (0..row.len()).filter(|&j| allowed(j)).fold(f64::NEG_INFINITY, |m, j| m.max(row[j]));
    let total: f64 = (0..row.len()).filter(|&j| allowed(j)).map(|j| (row[j] - top).exp()).sum();
    (0..row.len()).map(|j| if allowed(j) { row[j] - top - total.ln() } else { f64::NEG_INFINITY }).collect()
}

/// (loss, nll).
pub(crate) fn forward(forbid: Option<usize>, logits: &[f64], target: &[u32], w: &[f64]) -> (f64, Vec<f64>) {
    let v = logits.len() / target.len();
    let row = |n: usize| log_softmax(&logits[n * v..(n + 1) * v], forbid);
    let nll: Vec<f64> = (0..target.len()).map(|n| -row(n)[target[n] as usize]).collect();
    ((0..w.len()).filter(|&n| w[n] != 0.0).map(|n| w[n] * nll[n]).sum(), nll)
}

/// dlogits.
pub(crate) fn backward(forbid: Option<usize>, logits: &[f64], target: &[u32], w: &[f64], dloss: f64) -> Vec<f64> {
    let v = logits.len() / target.len();
    let mut dlogits = Vec::with_capacity(logits.len());
    for n in 0..target.len() {
        let log_p = log_softmax(&logits[n * v..(n + 1) * v], forbid);
        for (j, log_p) in log_p.iter().enumerate() {
            dlogits.push(dloss * w[n] * (log_p.exp() - if j == target[n] as usize { 1.0 } else { 0.0 }));
        }
    }
    dlogits
}
