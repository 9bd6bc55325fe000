//! Modulation as it reads.

/// Where element e of x [b, l, d] finds chunk `index` of `of` in m.
fn at((index, of): (usize, usize), len: usize, d: usize, e: usize) -> usize {
    (e / d / len * of + index) * d + e % d
}

/// y.
pub(crate) fn forward(shift: usize, scale: usize, of: usize, len: usize, d: usize, x: &[f64], m: &[f64]) -> Vec<f64> {
    (0..x.len()).map(|e| x[e] * (1.0 + m[at((scale, of), len, d, e)]) + m[at((shift, of), len, d, e)]).collect()
}

/// (dx, dm).
#[expect(clippy::too_many_arguments, reason = "the op's parameters and reads")]
pub(crate) fn backward(
    shift: usize,
    scale: usize,
    of: usize,
    len: usize,
    d: usize,
    x: &[f64],
    m: &[f64],
    dy: &[f64],
) -> (Vec<f64>, Vec<f64>) {
    let (mut dx, mut dm) = (vec![0.0; x.len()], vec![0.0; m.len()]);
    for e in 0..x.len() {
        dx[e] = dy[e] * (1.0 + m[at((scale, of), len, d, e)]);
        dm[at((shift, of), len, d, e)] += dy[e];
        dm[at((scale, of), len, d, e)] += dy[e] * x[e];
    }
    (dx, dm)
}
