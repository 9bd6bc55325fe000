//! The bound as UDLM writes it, a sum over the vocabulary; Duo's closed form of it; the gradient by the chain rule.

/// The interval alpha_bar is held in.
pub(crate) fn held(alpha_bar: f64) -> f64 {
    alpha_bar.clamp(2f64.powi(-60), 1.0 - 2f64.powi(-24))
}

/// softmax of one row.
pub(crate) fn softmax(logits: &[f64]) -> Vec<f64> {
    let top = logits.iter().fold(f64::NEG_INFINITY, |m, &x| m.max(x));
    let total: f64 = logits.iter().map(|x| (x - top).exp()).sum();
    logits.iter().map(|x| (x - top).exp() / total).collect()
}

/// V a p_j + 1 - a.
fn bar(a: f64, p: &[f64]) -> Vec<f64> {
    p.iter().map(|p_j| p.len() as f64 * a * p_j + 1.0 - a).collect()
}

fn onehot(v: usize, x_0: usize) -> Vec<f64> {
    (0..v).map(|j| if j == x_0 { 1.0 } else { 0.0 }).collect()
}

/// The rate of one token over -alpha_bar', as Schiff et al. (2024) sum it.
pub(crate) fn udlm(a: f64, p: &[f64], x_0: usize, z: usize) -> f64 {
    let v = p.len() as f64;
    let (bar, bar_hat) = (bar(a, &onehot(p.len(), x_0)), bar(a, p));
    let mut braces = v / bar[z] - v / bar_hat[z];
    for j in 0..p.len() {
        braces -= bar[j] / bar[z] * (bar_hat[z].ln() - bar_hat[j].ln() + bar[j].ln() - bar[z].ln());
    }
    -braces / (v * a)
}

/// The same in Duo's form: the vocabulary enters by the sum of log bar_hat alone.
pub(crate) fn duo(a: f64, p: &[f64], x_0: usize, z: usize) -> f64 {
    let v = p.len() as f64;
    let (bar, bar_hat) = (bar(a, &onehot(p.len(), x_0)), bar(a, p));
    let kappa = (1.0 - a) / (v * a + 1.0 - a);
    let (same, other) = if x_0 == z { (1.0, 0.0) } else { (0.0, 1.0) };
    let logs: f64 = bar_hat.iter().map(|x| x.ln()).sum();
    let braces = v * (1.0 / bar[z] - 1.0 / bar_hat[z])
        + (same * kappa + other) * (logs - v * bar_hat[z].ln())
        + other * v * a / (1.0 - a) * (bar_hat[x_0].ln() - bar_hat[z].ln())
        - ((v - 1.0) * kappa * same - other / kappa) * kappa.ln();
    -braces / (v * a)
}

/// (loss, nelbo, lse).
pub(crate) fn forward(
    logits: &[f64],
    x_0: &[u32],
    x_t: &[u32],
    alpha_bar: &[f64],
    w: &[f64],
) -> (f64, Vec<f64>, Vec<f64>) {
    let (v, len) = (logits.len() / x_0.len(), x_0.len() / w.len());
    let (mut loss, mut nelbo, mut lse) = (0.0, vec![], vec![]);
    for n in 0..x_0.len() {
        let row = &logits[n * v..(n + 1) * v];
        let top = row.iter().fold(f64::NEG_INFINITY, |m, &x| m.max(x));
        lse.push(top + row.iter().map(|x| (x - top).exp()).sum::<f64>().ln());
        nelbo.push(udlm(held(alpha_bar[n / len]), &softmax(row), x_0[n] as usize, x_t[n] as usize));
        loss += w[n / len] * nelbo[n];
    }
    (loss, nelbo, lse)
}

/// dlogits.
pub(crate) fn backward(logits: &[f64], x_0: &[u32], x_t: &[u32], alpha_bar: &[f64], w: &[f64], dloss: f64) -> Vec<f64> {
    let (v, len) = (logits.len() / x_0.len(), x_0.len() / w.len());
    let mut dlogits = Vec::with_capacity(logits.len());
    for n in 0..x_0.len() {
        let (a, x_0, z) = (held(alpha_bar[n / len]), x_0[n] as usize, x_t[n] as usize);
        let p = softmax(&logits[n * v..(n + 1) * v]);
        let (bar, bar_hat) = (bar(a, &onehot(v, x_0)), bar(a, &p));
        let g: Vec<f64> = (0..v)
            .map(|j| match j == z {
                true => v as f64 / bar_hat[z] * (1.0 / bar[z] - 1.0 / bar_hat[z]),
                false => 1.0 / bar_hat[z] - bar[j] / bar[z] / bar_hat[j],
            })
            .collect();
        let mean: f64 = (0..v).map(|j| p[j] * g[j]).sum();
        dlogits.extend((0..v).map(|j| dloss * w[n / len] * p[j] * (g[j] - mean)));
    }
    dlogits
}
