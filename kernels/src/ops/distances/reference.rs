//! Distances as they read.

fn distance(x: &[f64], w: &[f64]) -> f64 {
    x.iter().zip(w).map(|(x, w)| (x - w).powi(2)).sum::<f64>().sqrt()
}

/// y.
pub(crate) fn forward(d: usize, x: &[f64], w: &[f64]) -> Vec<f64> {
    x.chunks(d).flat_map(|x| w.chunks(d).map(move |w| -distance(x, w))).collect()
}

/// (dx, dw).
pub(crate) fn backward(d: usize, x: &[f64], w: &[f64], dy: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let (mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; w.len()]);
    let v = w.len() / d;
    for (n, x) in x.chunks(d).enumerate() {
        for (k, w) in w.chunks(d).enumerate() {
            let length = distance(x, w);
            let c = if length == 0.0 { 0.0 } else { dy[n * v + k] / length };
            for i in 0..d {
                dx[n * d + i] += c * (w[i] - x[i]);
                dw[k * d + i] += c * (x[i] - w[i]);
            }
        }
    }
    (dx, dw)
}
