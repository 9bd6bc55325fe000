use crate::cpu::Cores;

/// Tokens of one task.
const GRAIN: usize = 16_384;

/// w `[b, l]` = weight `[b]` or `[b, blocks]` where x_t `[b, l]` is the mask, else 0.
pub fn forward(cores: &Cores, mask: u32, x_t: &[u32], weight: &[f32], w: &mut [f32]) {
    let len = x_t.len() / weight.len();
    cores.pool.rows(w, len, GRAIN.div_ceil(len), |b, w| {
        for (i, w) in w.chunks_mut(len).enumerate() {
            let weight = weight[b + i];
            for (w, &x_t) in w.iter_mut().zip(&x_t[(b + i) * len..]) {
                *w = if x_t == mask { weight } else { 0.0 };
            }
        }
    });
}
