//! Attention as it reads.

use super::Dims;
use crate::op::AttentionMask;

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

/// (y, lse).
pub(crate) fn forward(dims: Dims, qkv: &[f64], visible: Option<&[u32]>) -> (Vec<f64>, Vec<f64>) {
    let (Dims { heads, len, .. }, d) = (dims, dims.d());
    let batch = qkv.len() / (dims.width() * len);
    let (mut y, mut lse) = (vec![0.0; batch * len * d], Vec::new());
    for b in 0..batch {
        for h in 0..heads {
            for i in 0..len {
                let (p, log_sum) = dims.row(qkv, visible, b, h, i);
                lse.push(log_sum);
                for c in 0..dims.d_head {
                    y[(b * len + i) * d + h * dims.d_head + c] =
                        (0..len).map(|j| p[j] * qkv[dims.at(2, h, b * len + j, c)]).sum();
                }
            }
        }
    }
    (y, lse)
}

/// dqkv.
pub(crate) fn backward(dims: Dims, qkv: &[f64], visible: Option<&[u32]>, dy: &[f64]) -> Vec<f64> {
    let (Dims { heads, len, d_head, .. }, d) = (dims, dims.d());
    let mut dqkv = vec![0.0; qkv.len()];
    for b in 0..qkv.len() / (dims.width() * len) {
        for h in 0..heads {
            for i in 0..len {
                let (n, p) = (b * len + i, dims.row(qkv, visible, b, h, i).0);
                let dy = &dy[n * d + h * d_head..][..d_head];
                let row = |j: usize| b * len + j;
                let dp = |j: usize| (0..d_head).map(|c| dy[c] * qkv[dims.at(2, h, row(j), c)]).sum::<f64>();
                let mean: f64 = (0..len).map(|j| p[j] * dp(j)).sum();
                for j in 0..len {
                    let ds = p[j] * (dp(j) - mean) / (d_head as f64).sqrt();
                    for c in 0..d_head {
                        dqkv[dims.at(0, h, n, c)] += ds * qkv[dims.at(1, h, row(j), c)];
                        dqkv[dims.at(1, h, row(j), c)] += ds * qkv[dims.at(0, h, n, c)];
                        dqkv[dims.at(2, h, row(j), c)] += p[j] * dy[c];
                    }
                }
            }
        }
    }
    dqkv
}
