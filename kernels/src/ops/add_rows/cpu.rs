//! CPU kernels.

use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::op::Rows;

multiversion! {
    fn add(x: &[f32], r: &[f32], y: &mut [f32]) {
        for ((y, x), r) in y.iter_mut().zip(x).zip(r) {
            *y = x + r;
        }
    }
}

multiversion! {
    fn accumulate(x: &[f32], y: &mut [f32]) {
        for (y, x) in y.iter_mut().zip(x) {
            *y += x;
        }
    }
}

/// y[b,l,:] = x[b,l,:] + r[l,:] or r[b,:].
pub fn forward(cores: &Cores, over: Rows, len: usize, d: usize, x: &[f32], r: &[f32], y: &mut [f32]) {
    let grain = (16_384 / d).max(1);
    cores.pool.rows(y, d, grain, |first, y| {
        for (n, y) in (first..).zip(y.chunks_exact_mut(d)) {
            let row = match over {
                Rows::Positions => n % len,
                Rows::Batch => n / len,
            };
            add(cores.isa, &x[n * d..(n + 1) * d], &r[row * d..(row + 1) * d], y);
        }
    });
}

/// dr = sum of dy over the rows that share r, in row order.
pub fn backward(cores: &Cores, over: Rows, len: usize, d: usize, dy: &[f32], dr: &mut [f32]) {
    let rows = dy.len() / d;
    cores.pool.rows(dr, d, 4, |first, dr| {
        for (row, dr) in (first..).zip(dr.chunks_exact_mut(d)) {
            dr.fill(0.0);
            let (start, step, count) = match over {
                Rows::Positions => (row, len, rows / len),
                Rows::Batch => (row * len, 1, len),
            };
            for n in (0..count).map(|i| start + i * step) {
                accumulate(cores.isa, &dy[n * d..(n + 1) * d], dr);
            }
        }
    });
}
