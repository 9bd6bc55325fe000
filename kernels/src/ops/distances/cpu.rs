use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::math::sums;

/// Squares of one task.
const GRAIN: usize = 65_536;

/// y `[n, v]` = -|x_n - w_v| for rows of `d`.
pub fn forward(cores: &Cores, d: usize, x: &[f32], w: &[f32], y: &mut [f32]) {
    let v = w.len() / d;
    cores.pool.rows(y, v, GRAIN.div_ceil(v * d), |first, y| rows(cores.isa, d, &x[first * d..], w, y));
}

multiversion! {
    fn rows(d: usize, x: &[f32], w: &[f32], y: &mut [f32]) {
        for (x, y) in x.chunks_exact(d).zip(y.chunks_exact_mut(w.len() / d)) {
            for (w, y) in w.chunks_exact(d).zip(y) {
                let [square] = sums(x, w, w, |x, w, _| [(x - w) * (x - w)]);
                *y = -square.sqrt();
            }
        }
    }
}

/// dx `[n, d]` and dw `[v, d]`.
#[expect(clippy::too_many_arguments, reason = "the op's reads and writes")]
pub fn backward(cores: &Cores, d: usize, x: &[f32], w: &[f32], y: &[f32], dy: &[f32], dx: &mut [f32], dw: &mut [f32]) {
    let (n, v) = (x.len() / d, w.len() / d);
    cores.pool.rows(dx, d, GRAIN.div_ceil(v * d), |first, dx| {
        // Row n of y is what x_n met: v numbers in a run.
        pulls(cores.isa, d, (&x[first * d..], w), (&y[first * v..], &dy[first * v..]), (v, 1), dx);
    });
    cores.pool.rows(dw, d, GRAIN.div_ceil(n * d), |first, dw| {
        // Column v of y is what w_v met: n numbers, a row apart.
        pulls(cores.isa, d, (&w[first * d..], x), (&y[first..], &dy[first..]), (1, v), dw);
    });
}

multiversion! {
    /// For every row of `out`: the sum over the `others` of c (other - mine), c at strides (of mine, of the others).
    fn pulls(
        d: usize,
        points: (&[f32], &[f32]),
        scores: (&[f32], &[f32]),
        strides: (usize, usize),
        out: &mut [f32],
    ) {
        let ((mine, others), (y, dy)) = (points, scores);
        for (i, (mine, out)) in mine.chunks_exact(d).zip(out.chunks_exact_mut(d)).enumerate() {
            out.fill(0.0);
            for (j, other) in others.chunks_exact(d).enumerate() {
                let at = i * strides.0 + j * strides.1;
                let c = if y[at] == 0.0 { 0.0 } else { -dy[at] / y[at] };
                for ((out, &mine), &other) in out.iter_mut().zip(mine).zip(other) {
                    *out += c * (other - mine);
                }
            }
        }
    }
}
