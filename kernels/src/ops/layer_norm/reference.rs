//! Layer norm as it reads.

/// (y, stats) for rows of `d`.
pub(crate) fn forward(
    eps: f64,
    d: usize,
    x: &[f64],
    gain: Option<&[f64]>,
    shift: Option<&[f64]>,
) -> (Vec<f64>, Vec<f64>) {
    let (mut y, mut stats) = (Vec::new(), Vec::new());
    for x in x.chunks(d) {
        let mean = x.iter().sum::<f64>() / d as f64;
        let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / d as f64;
        let rstd = 1.0 / (variance + eps).sqrt();
        y.extend((0..d).map(|c| (x[c] - mean) * rstd * gain.map_or(1.0, |g| g[c]) + shift.map_or(0.0, |b| b[c])));
        stats.extend([mean, rstd]);
    }
    (y, stats)
}

/// (dx, dgain, dshift).
pub(crate) fn backward(
    d: usize,
    x: &[f64],
    stats: &[f64],
    dy: &[f64],
    gain: Option<&[f64]>,
) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let (mut dx, mut dgain, mut dshift) = (Vec::new(), vec![0.0; d], vec![0.0; d]);
    for ((x, dy), stats) in x.chunks(d).zip(dy.chunks(d)).zip(stats.chunks(2)) {
        let h: Vec<f64> = x.iter().map(|x| (x - stats[0]) * stats[1]).collect();
        let g: Vec<f64> = (0..d).map(|c| dy[c] * gain.map_or(1.0, |g| g[c])).collect();
        let mean_g = g.iter().sum::<f64>() / d as f64;
        let mean_gh = g.iter().zip(&h).map(|(g, h)| g * h).sum::<f64>() / d as f64;
        dx.extend((0..d).map(|c| stats[1] * (g[c] - mean_g - h[c] * mean_gh)));
        for c in 0..d {
            dgain[c] += dy[c] * h[c];
            dshift[c] += dy[c];
        }
    }
    (dx, dgain, dshift)
}
