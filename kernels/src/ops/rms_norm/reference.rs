//! RMS norm as it reads.

/// (y, stats) for rows of `d`.
pub(crate) fn forward(eps: f64, d: usize, x: &[f64], gain: Option<&[f64]>) -> (Vec<f64>, Vec<f64>) {
    let (mut y, mut stats) = (Vec::new(), Vec::new());
    for x in x.chunks(d) {
        let rstd = 1.0 / (x.iter().map(|x| x * x).sum::<f64>() / d as f64 + eps).sqrt();
        y.extend((0..d).map(|c| x[c] * rstd * gain.map_or(1.0, |g| g[c])));
        stats.push(rstd);
    }
    (y, stats)
}

/// (dx, dgain).
pub(crate) fn backward(d: usize, x: &[f64], stats: &[f64], dy: &[f64], gain: Option<&[f64]>) -> (Vec<f64>, Vec<f64>) {
    let (mut dx, mut dgain) = (Vec::new(), vec![0.0; d]);
    for ((x, dy), rstd) in x.chunks(d).zip(dy.chunks(d)).zip(stats) {
        let g: Vec<f64> = (0..d).map(|c| dy[c] * gain.map_or(1.0, |g| g[c])).collect();
        let mean_gx = g.iter().zip(x).map(|(g, x)| g * x).sum::<f64>() / d as f64;
        dx.extend((0..d).map(|c| rstd * (g[c] - x[c] * rstd.powi(2) * mean_gx)));
        (0..d).for_each(|c| dgain[c] += dy[c] * x[c] * rstd);
    }
    (dx, dgain)
}
