//! Attention as it reads.

use super::Dims;
use crate::op::{AttentionMask, Dropout};

/// A dropout and the rng that it reads.
pub(crate) type Dropped = Option<(Dropout, [u32; 4])>;

impl Dims {
    fn d(self) -> usize {
        self.heads * self.d_head
    }

    /// Element c of part `part` (0 q, 1 k, 2 v) of query head h of row n.
    fn at(self, part: usize, h: usize, n: usize, c: usize) -> usize {
        let kv = h * self.kv_heads / self.heads;
        let head = [h, self.heads + kv, self.heads + self.kv_heads + kv][part];
        n * self.width() + head * self.d_head + c
    }

    fn sees(self, i: usize, j: usize) -> bool {
        match self.mask {
            AttentionMask::Full => true,
            AttentionMask::Causal => j <= i,
            AttentionMask::BlockCausal(block) => j / block as usize <= i / block as usize,
            AttentionMask::BlockDiffusion(block) => {
                let half = self.len / 2;
                let (block_i, block_j) = (i % half / block as usize, j % half / block as usize);
                match (i < half, j < half) {
                    (true, true) => block_i == block_j,
                    (true, false) => block_i > block_j,
                    (false, true) => false,
                    (false, false) => block_i >= block_j,
                }
            }
        }
    }

    /// The probabilities of query i of batch element b over all keys, and the log of their normaliser.
    fn row(self, qkv: &[f64], visible: Option<&[u32]>, b: usize, h: usize, i: usize) -> (Vec<f64>, f64) {
        let first = b * self.len;
        let score = |j: usize| {
            let each = (0..self.d_head).map(|c| qkv[self.at(0, h, first + i, c)] * qkv[self.at(1, h, first + j, c)]);
            each.sum::<f64>() / (self.d_head as f64).sqrt()
        };
        let allowed = |j: usize| self.sees(i, j) && visible.is_none_or(|v| v[first + j] != 0);
        let scores: Vec<f64> = (0..self.len).map(|j| if allowed(j) { score(j) } else { f64::NEG_INFINITY }).collect();
        let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if top == f64::NEG_INFINITY {
            return (vec![0.0; self.len], f64::NEG_INFINITY);
        }
        let total: f64 = scores.iter().map(|s| (s - top).exp()).sum();
        (scores.iter().map(|s| (s - top).exp() / total).collect(), top + total.ln())
    }
}

/// What the weight of query i and key j in head h of batch element b is multiplied by.
pub(crate) fn factor(dropout: Dropped, heads: usize, b: usize, h: usize, i: usize, j: usize) -> f64 {
    let Some((Dropout { p, stream }, rng)) = dropout else { return 1.0 };
    let seed = u64::from(rng[0]) | u64::from(rng[1]) << 32;
    let words = galatea_random::block(seed, stream, rng[2], (b * heads + h) as u32, (i * 65_536 + j / 8) as u32);
    let half = words[j % 8 / 2] >> (16 * (j % 2)) & 0xffff;
    let dropped = (f64::from(p) * 65_536.0).round().min(65_535.0);
    if f64::from(half) < dropped { 0.0 } else { 65_536.0 / (65_536.0 - dropped) }
}

/// (y, lse).
pub(crate) fn forward(dims: Dims, qkv: &[f64], visible: Option<&[u32]>, dropout: Dropped) -> (Vec<f64>, Vec<f64>) {
    let (Dims { heads, len, .. }, d) = (dims, dims.d());
    let batch = qkv.len() / (dims.width() * len);
    let (mut y, mut lse) = (vec![0.0; batch * len * d], Vec::new());
    for b in 0..batch {
        for h in 0..heads {
            for i in 0..len {
                let (p, log_sum) = dims.row(qkv, visible, b, h, i);
                lse.push(log_sum);
                let weights: Vec<f64> = (0..len).map(|j| factor(dropout, heads, b, h, i, j) * p[j]).collect();
                for c in 0..dims.d_head {
                    y[(b * len + i) * d + h * dims.d_head + c] =
                        (0..len).map(|j| weights[j] * qkv[dims.at(2, h, b * len + j, c)]).sum();
                }
            }
        }
    }
    (y, lse)
}

/// dqkv.
pub(crate) fn backward(dims: Dims, qkv: &[f64], visible: Option<&[u32]>, dropout: Dropped, dy: &[f64]) -> Vec<f64> {
    let (Dims { heads, len, d_head, .. }, d) = (dims, dims.d());
    let mut dqkv = vec![0.0; qkv.len()];
    for b in 0..qkv.len() / (dims.width() * len) {
        for h in 0..heads {
            for i in 0..len {
                let (n, p) = (b * len + i, dims.row(qkv, visible, b, h, i).0);
                let dy = &dy[n * d + h * d_head..][..d_head];
                let row = |j: usize| b * len + j;
                let factor = |j: usize| factor(dropout, heads, b, h, i, j);
                let along = |j: usize| (0..d_head).map(|c| dy[c] * qkv[dims.at(2, h, row(j), c)]).sum::<f64>();
                let dp: Vec<f64> = (0..len).map(|j| factor(j) * along(j)).collect();
                let mean: f64 = (0..len).map(|j| p[j] * dp[j]).sum();
                for j in 0..len {
                    let ds = p[j] * (dp[j] - mean) / (d_head as f64).sqrt();
                    for c in 0..d_head {
                        dqkv[dims.at(0, h, n, c)] += ds * qkv[dims.at(1, h, row(j), c)];
                        dqkv[dims.at(1, h, row(j), c)] += ds * qkv[dims.at(0, h, n, c)];
                        dqkv[dims.at(2, h, row(j), c)] += factor(j) * p[j] * dy[c];
                    }
                }
            }
        }
    }
    dqkv
}
