use crate::cpu::Cores;

/// Tokens of one task.
const GRAIN: usize = 16_384;

/// w `[b, l]` for x_0 and x_t `[b, l]` and weight `[b, g, 3]` of `b` rows.
pub fn forward(cores: &Cores, mask: Option<u32>, b: usize, x_0: &[u32], x_t: &[u32], weight: &[f32], w: &mut [f32]) {
    let (len, groups) = (x_0.len() / b, weight.len() / (3 * b));
    cores.pool.rows(w, len, GRAIN.div_ceil(len), |first, w| {
        for (i, w) in w.iter_mut().enumerate() {
            let n = first * len + i;
            let group = n / len * groups + n % len * groups / len;
            *w = weight[3 * group + class(mask, x_0[n], x_t[n])];
        }
    });
}

/// 0 where x_t is the mask, 1 where it is x_0, 2 elsewhere.
#[inline(always)]
pub(crate) fn class(mask: Option<u32>, x_0: u32, x_t: u32) -> usize {
    if mask == Some(x_t) {
        0
    } else if x_t == x_0 {
        1
    } else {
        2
    }
}
