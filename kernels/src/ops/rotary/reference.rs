//! The rotation as it reads.

/// y of qkv [b, len, 3 d].
pub(crate) fn forward(heads: usize, inverse: bool, len: usize, d: usize, qkv: &[f64], table: &[f64]) -> Vec<f64> {
    let d_head = d / heads;
    let half = d_head / 2;
    let mut y = qkv.to_vec();
    for (n, row) in y.chunks_mut(3 * d).enumerate() {
        let (cos, sin) = table[n % len * d_head..][..d_head].split_at(half);
        for head in row[..2 * d].chunks_mut(d_head) {
            for i in 0..half {
                let (a, b, sin) = (head[i], head[i + half], if inverse { -sin[i] } else { sin[i] });
                head[i] = a * cos[i] - b * sin;
                head[i + half] = a * sin + b * cos[i];
            }
        }
    }
    y
}
