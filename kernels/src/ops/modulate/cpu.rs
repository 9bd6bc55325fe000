use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::op::Chunk;

/// Elements of one task.
const GRAIN: usize = 8192;

/// y = x (1 + scale) + shift.
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn forward(cores: &Cores, shift: Chunk, scale: Chunk, len: usize, d: usize, x: &[f32], m: &[f32], y: &mut [f32]) {
    cores.pool.rows(y, d, GRAIN.div_ceil(d), |first, y| {
        for (n, y) in (first..).zip(y.chunks_exact_mut(d)) {
            let b = n / len;
            row(cores.isa, &x[n * d..(n + 1) * d], chunk(m, b, d, shift), chunk(m, b, d, scale), y);
        }
    });
}

/// dx = dy (1 + scale), dshift = sum of dy, dscale = sum of dy x over positions; the other chunks of dm are zero.
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn backward(
    cores: &Cores,
    shift: Chunk,
    scale: Chunk,
    len: usize,
    d: usize,
    x: &[f32],
    m: &[f32],
    dy: &[f32],
    dx: &mut [f32],
    dm: &mut [f32],
) {
    let (block, width) = (len * d, shift.of as usize * d);
    // A task owns a batch element: its dm is summed over positions in order.
    cores.pool.rows2(dx, block, dm, width, 1, |b, dx, dm| {
        dm.fill(0.0);
        let (low, high) = (shift.index.min(scale.index) as usize, shift.index.max(scale.index) as usize);
        let (head, tail) = dm.split_at_mut(high * d);
        let (low, high) = (&mut head[low * d..][..d], &mut tail[..d]);
        let (dshift, dscale) = if shift.index < scale.index { (low, high) } else { (high, low) };
        for (i, dx) in dx.chunks_exact_mut(d).enumerate() {
            let n = b * len + i;
            let (x, dy) = (&x[n * d..(n + 1) * d], &dy[n * d..(n + 1) * d]);
            row_gradient(cores.isa, x, dy, chunk(m, b, d, scale), dx, dshift, dscale);
        }
    });
}

multiversion! {
    fn row(x: &[f32], shift: &[f32], scale: &[f32], y: &mut [f32]) {
        for (((y, x), shift), scale) in y.iter_mut().zip(x).zip(shift).zip(scale) {
            *y = x * (1.0 + scale) + shift;
        }
    }
}

multiversion! {
    fn row_gradient(x: &[f32], dy: &[f32], scale: &[f32], dx: &mut [f32], dshift: &mut [f32], dscale: &mut [f32]) {
        let sums = dshift.iter_mut().zip(dscale);
        for ((((dx, dy), x), scale), (dshift, dscale)) in dx.iter_mut().zip(dy).zip(x).zip(scale).zip(sums) {
            *dx = dy * (1.0 + scale);
            *dshift += dy;
            *dscale += dy * x;
        }
    }
}

fn chunk(m: &[f32], b: usize, d: usize, chunk: Chunk) -> &[f32] {
    &m[(b * chunk.of as usize + chunk.index as usize) * d..][..d]
}
