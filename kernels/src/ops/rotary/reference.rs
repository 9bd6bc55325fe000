//! The rotation as it reads.

use super::Dims;

/// y of qkv [b, len, heads d_head] at positions from `past` on.
pub(crate) fn forward(dims: Dims, inverse: bool, past: usize, qkv: &[f64], table: &[f64]) -> Vec<f64> {
    let Dims { turned, heads, d_head, len } = dims;
    let half = d_head / 2;
    let mut y = qkv.to_vec();
    for (n, row) in y.chunks_mut(heads * d_head).enumerate() {
        let (cos, sin) = table[(past + n % len) * d_head..][..d_head].split_at(half);
        for head in row[..turned * d_head].chunks_mut(d_head) {
            for i in 0..half {
                let (a, b, sin) = (head[i], head[i + half], if inverse { -sin[i] } else { sin[i] });
                head[i] = a * cos[i] - b * sin;
                head[i + half] = a * sin + b * cos[i];
            }
        }
    }
    y
}
