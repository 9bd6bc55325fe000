use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::op::Chunk;

/// Elements of one task.
const GRAIN: usize = 8192;

/// y = x + gate h.
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn forward(cores: &Cores, gate: Chunk, len: usize, d: usize, x: &[f32], h: &[f32], m: &[f32], y: &mut [f32]) {
    cores.pool.rows(y, d, GRAIN.div_ceil(d), |first, y| {
        for (n, y) in (first..).zip(y.chunks_exact_mut(d)) {
            let of = n * d..(n + 1) * d;
            row(cores.isa, &x[of.clone()], &h[of], chunk(m, n / len, d, gate), y);
        }
    });
}

/// dh = dy gate, dgate = sum of dy h over positions; the other chunks of dm are zero.
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn backward(
    cores: &Cores,
    gate: Chunk,
    len: usize,
    d: usize,
    h: &[f32],
    m: &[f32],
    dy: &[f32],
    dh: &mut [f32],
    dm: &mut [f32],
) {
    cores.pool.rows2(dh, len * d, dm, gate.of as usize * d, 1, |b, dh, dm| {
        dm.fill(0.0);
        let dgate = &mut dm[gate.index as usize * d..][..d];
        for (i, dh) in dh.chunks_exact_mut(d).enumerate() {
            let of = (b * len + i) * d..(b * len + i + 1) * d;
            row_gradient(cores.isa, &h[of.clone()], &dy[of], chunk(m, b, d, gate), dh, dgate);
        }
    });
}

multiversion! {
    fn row(x: &[f32], h: &[f32], gate: &[f32], y: &mut [f32]) {
        for (((y, x), h), gate) in y.iter_mut().zip(x).zip(h).zip(gate) {
            *y = x + gate * h;
        }
    }
}

multiversion! {
    fn row_gradient(h: &[f32], dy: &[f32], gate: &[f32], dh: &mut [f32], dgate: &mut [f32]) {
        for ((((dh, dy), h), gate), dgate) in dh.iter_mut().zip(dy).zip(h).zip(gate).zip(dgate) {
            *dh = dy * gate;
            *dgate += dy * h;
        }
    }
}

fn chunk(m: &[f32], b: usize, d: usize, gate: Chunk) -> &[f32] {
    &m[(b * gate.of as usize + gate.index as usize) * d..][..d]
}
