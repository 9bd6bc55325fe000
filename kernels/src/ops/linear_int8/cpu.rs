use crate::cpu::Cores;
use crate::gemm::ElementsMut;
use crate::gemm::int8::{Quantised, linear};
use crate::isa::multiversion;
use crate::op::Activation;
use crate::pool::ByRow;
use crate::real::Real;

/// Elements of one task.
const GRAIN: usize = 8192;

/// y = act(x w^T + b) for the quantised rows x and weights q [o, i] with their scales [o].
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn forward(
    cores: &Cores,
    activation: Activation,
    i: usize,
    x: Quantised<'_>,
    q: &[i8],
    scales: &[f32],
    bias: Option<&[f32]>,
    y: ElementsMut<'_>,
) {
    let shape = (x.values.len() / i, q.len() / i / activation.halves(), i);
    linear(cores, shape, x, q, scales, bias, activation, y);
}

/// The rows of x [n, i] as int8, each with its scale and the sum of its values in `rows` [n, 2].
pub fn quantise<X: Real>(cores: &Cores, i: usize, x: &[X], a: &mut [i8], rows: &mut [f32]) {
    let n = x.len() / i;
    let outputs = (ByRow::new(a, i), ByRow::new(rows, 2));
    cores.pool.cut(n, GRAIN.div_ceil(i), outputs, |first, (a, rows)| {
        let x = x[first * i..][..a.len()].chunks_exact(i);
        for ((x, a), row) in x.zip(a.chunks_exact_mut(i)).zip(rows.as_chunks_mut().0) {
            *row = quantise_row(cores.isa, x, a);
        }
    });
}

multiversion! {
    /// (scale, sum of a).
    fn quantise_row<X: Real>(x: &[X], a: &mut [i8]) -> [f32; 2] {
        /// Added to a number below 2^22, leaves it rounded to an integer, ties to even, in the lowest bits.
        const ROUND: f32 = 12_582_912.0;
        // Magnitudes are ordered like their bits, NaN above them all.
        let magnitude = |x: X| x.load().to_bits() & 0x7fff_ffff;
        let largest = f32::from_bits(x.iter().fold(0, |largest, &x| largest.max(magnitude(x))));
        let scale = largest / 127.0;
        if !largest.is_finite() || scale < f32::MIN_POSITIVE {
            a.fill(0);
            return [if largest.is_finite() { 0.0 } else { f32::NAN }, 0.0];
        }
        let inverse = 127.0 / largest;
        let mut sum = 0;
        for (a, x) in a.iter_mut().zip(x) {
            *a = (x.load() * inverse + ROUND).to_bits() as i8;
            sum += i32::from(*a);
        }
        [scale, sum as f32]
    }
}
