use super::classes::{Class, TERMS, Terms, Token};
use super::{exp, softmax};
use crate::cpu::Cores;
use crate::op::Link;
use crate::ops::cross_entropy::weighted_sum;
use crate::ops::token_weight::class;

/// Elements of one task.
const GRAIN: usize = 16_384;

/// The op's parameters, and the number of texts.
#[derive(Clone, Copy)]
pub struct Law {
    /// What the logits are.
    pub link: Link,
    /// The column of probability zero.
    pub forbid: Option<u32>,
    /// b.
    pub rows: usize,
}

impl Law {
    /// Token `n` of texts with these ids and terms; `None` if its ids are no columns of a row of `v`.
    fn token(self, n: usize, v: usize, x_0: &[u32], x_t: &[u32], terms: &[f32]) -> Option<Token> {
        let (len, terms) = (x_0.len() / self.rows, terms.as_chunks::<TERMS>().0);
        let groups = terms.len() / (3 * self.rows);
        let (clean, z) = (x_0[n], x_t[n]);
        if clean as usize >= v || z as usize >= v || self.forbid == Some(clean) {
            return None;
        }
        let number = class(self.forbid, clean, z);
        let group = n / len * groups + n % len * groups / len;
        Some(Token {
            class: [Class::Mask, Class::Hit, Class::Miss][number],
            x_0: clean as usize,
            z: z as usize,
            forbid: self.forbid.filter(|&f| (f as usize) < v).unwrap_or(z) as usize,
            terms: Terms::read(&terms[3 * group + number]),
        })
    }
}

/// loss `[1]`, d and lse `[b, l]` for logits `[b, l, v]`, x_0, x_t and w `[b, l]`, terms `[b, g, 3, 12]`.
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn forward(
    cores: &Cores,
    law: Law,
    logits: &[f32],
    x_0: &[u32],
    x_t: &[u32],
    terms: &[f32],
    w: &[f32],
    loss: &mut [f32],
    d: &mut [f32],
    lse: &mut [f32],
) {
    let v = logits.len() / x_0.len();
    cores.pool.rows2(d, 1, lse, 1, GRAIN.div_ceil(v), |first, d, lse| {
        for (i, (d, lse)) in d.iter_mut().zip(lse).enumerate() {
            let n = first + i;
            let row = &logits[n * v..][..v];
            (*d, *lse) = match (law.token(n, v, x_0, x_t, terms), law.link) {
                _ if w[n] == 0.0 => (0.0, 0.0),
                (None, _) => (f32::INFINITY, 0.0),
                (Some(token), Link::Softmax) => softmax::divergence(cores.isa, row, token),
                (Some(token), Link::Exp) => (exp::divergence(cores.isa, row, token), 0.0),
            };
        }
    });
    loss[0] = weighted_sum(w.iter().copied(), d) as f32;
}

/// dlogits `[b, l, v]` for dloss `[1]`.
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn backward(
    cores: &Cores,
    law: Law,
    logits: &[f32],
    x_0: &[u32],
    x_t: &[u32],
    terms: &[f32],
    w: &[f32],
    lse: &[f32],
    dloss: &[f32],
    dlogits: &mut [f32],
) {
    let v = logits.len() / x_0.len();
    cores.pool.rows(dlogits, v, GRAIN.div_ceil(v), |first, dlogits| {
        for (i, dlogits) in dlogits.chunks_exact_mut(v).enumerate() {
            let n = first + i;
            let (row, scale) = (&logits[n * v..][..v], dloss[0] * w[n]);
            match (law.token(n, v, x_0, x_t, terms), law.link) {
                _ if w[n] == 0.0 => dlogits.fill(0.0),
                (None, _) => dlogits.fill(0.0),
                (Some(token), Link::Softmax) => softmax::gradient(cores.isa, row, token, lse[n], scale, dlogits),
                (Some(token), Link::Exp) => exp::gradient(cores.isa, row, token, scale, dlogits),
            }
        }
    });
}
