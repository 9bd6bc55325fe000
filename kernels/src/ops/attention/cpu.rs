//! CPU kernels: one task a (batch element, head); four queries at a time against keys in register tiles of sixteen.

use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::math::{exp, max, sum};
use crate::op::AttentionMask;
use crate::pool::Pieces;
use std::cell::RefCell;

/// Queries a pass: each key loaded serves this many.
const Q: usize = 4;
/// Lanes of a tile.
const LANES: usize = 16;

/// Per-thread buffers, grown to the largest (len, d_head) the thread has met and kept.
#[derive(Default)]
struct Scratch {
    /// K^T and V^T [d_head, padded len].
    k_t: Vec<f32>,
    v_t: Vec<f32>,
    /// Rows of scores and of their gradients [Q, padded len].
    p: Vec<f32>,
    dp: Vec<f32>,
    /// Sums of dk and dv [len, d_head].
    dk: Vec<f32>,
    dv: Vec<f32>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

fn grow(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// The keys that query `i` may see: a prefix of the positions.
fn reach(mask: AttentionMask, i: usize, len: usize) -> usize {
    match mask {
        AttentionMask::Full => len,
        AttentionMask::Causal => i + 1,
        AttentionMask::BlockCausal(block) => ((i / block as usize + 1) * block as usize).min(len),
    }
}

/// Where part `part` (0 q, 1 k, 2 v) of head `h` of row `n` begins in qkv.
fn at(n: usize, part: usize, h: usize, d: usize, d_head: usize) -> usize {
    n * 3 * d + part * d + h * d_head
}

multiversion! {
    /// t [d_head, padded] = the transpose of one part of one head of rows `first..first + len`.
    fn transpose(qkv: &[f32], first: usize, len: usize, part: usize, h: usize, d: usize, d_head: usize, padded: usize, t: &mut [f32]) {
        for j in 0..len {
            let from = at(first + j, part, h, d, d_head);
            for (c, &x) in qkv[from..from + d_head].iter().enumerate() {
                t[c * padded + j] = x;
            }
        }
        for row in t.chunks_exact_mut(padded) {
            row[len..].fill(0.0);
        }
    }
}

multiversion! {
    /// out [Q, padded] = q [Q rows] times t [d_head, padded].
    fn scores(q: &[&[f32]; Q], t: &[f32], padded: usize, out: &mut [f32]) {
        for j in (0..padded).step_by(LANES) {
            let mut sums = [[0.0f32; LANES]; Q];
            for (c, row) in t.chunks_exact(padded).enumerate() {
                let keys: &[f32; LANES] = row[j..j + LANES].try_into().expect("LANES keys");
                for (sum, q) in sums.iter_mut().zip(q) {
                    let x = q[c];
                    for (s, k) in sum.iter_mut().zip(keys) {
                        *s += x * k;
                    }
                }
            }
            for (r, sum) in sums.iter().enumerate() {
                out[r * padded + j..r * padded + j + LANES].copy_from_slice(sum);
            }
        }
    }
}

multiversion! {
    /// p = softmax of the visible scores times `scale`, zero elsewhere; the log of the sum, or -inf if nothing is visible.
    fn softmax(p: &mut [f32], reach: usize, visible: Option<&[u32]>, scale: f32) -> f32 {
        p[reach..].fill(f32::NEG_INFINITY);
        if let Some(visible) = visible {
            for (p, &v) in p.iter_mut().zip(visible) {
                *p = if v == 0 { f32::NEG_INFINITY } else { *p };
            }
        }
        let largest = max(p);
        if largest == f32::NEG_INFINITY {
            p.fill(0.0);
            return f32::NEG_INFINITY;
        }
        for p in p.iter_mut() {
            *p = exp((*p - largest) * scale);
        }
        let total = sum(p.len(), |i| p[i]);
        let inverse = 1.0 / total;
        p.iter_mut().for_each(|p| *p *= inverse);
        largest * scale + total.ln()
    }
}

multiversion! {
    /// p = exp(score scale - lse) where visible, zero elsewhere: the softmax again, from its log-sum.
    fn softmax_again(p: &mut [f32], reach: usize, visible: Option<&[u32]>, scale: f32, lse: f32) {
        if lse == f32::NEG_INFINITY {
            p.fill(0.0);
            return;
        }
        for p in p.iter_mut() {
            *p = exp(*p * scale - lse);
        }
        p[reach..].fill(0.0);
        if let Some(visible) = visible {
            for (p, &v) in p.iter_mut().zip(visible) {
                *p = if v == 0 { 0.0 } else { *p };
            }
        }
    }
}

multiversion! {
    /// y [Q rows of d_head] = p [Q, padded] times the rows of one part of one head.
    fn mix(p: &[f32], padded: usize, qkv: &[f32], first: usize, len: usize, part: usize, h: usize, d: usize, d_head: usize, y: &mut [f32]) {
        let mut c = 0;
        while c < d_head {
            let width = (d_head - c).min(LANES);
            let mut sums = [[0.0f32; LANES]; Q];
            for j in 0..len {
                let from = at(first + j, part, h, d, d_head) + c;
                let mut row = [0.0f32; LANES];
                if width == LANES {
                    row.copy_from_slice(&qkv[from..from + LANES]);
                } else {
                    row[..width].copy_from_slice(&qkv[from..from + width]);
                }
                for (r, sum) in sums.iter_mut().enumerate() {
                    let x = p[r * padded + j];
                    for (s, v) in sum.iter_mut().zip(&row) {
                        *s += x * v;
                    }
                }
            }
            for (r, sum) in sums.iter().enumerate() {
                y[r * d_head + c..r * d_head + c + width].copy_from_slice(&sum[..width]);
            }
            c += width;
        }
    }
}

multiversion! {
    /// sums [len, d_head] += p^T [padded, Q] times x [Q rows].
    fn outer(p: &[f32], padded: usize, x: &[&[f32]; Q], rows: usize, len: usize, d_head: usize, sums: &mut [f32]) {
        for (j, sum) in sums.chunks_exact_mut(d_head).take(len).enumerate() {
            for (r, x) in x.iter().enumerate().take(rows) {
                let weight = p[r * padded + j];
                for (s, x) in sum.iter_mut().zip(*x) {
                    *s += weight * x;
                }
            }
        }
    }
}

multiversion! {
    /// dp = p (dp - delta) scale: the gradient of the scores.
    fn score_gradient(p: &[f32], delta: f32, scale: f32, dp: &mut [f32]) {
        for (dp, p) in dp.iter_mut().zip(p) {
            *dp = p * (*dp - delta) * scale;
        }
    }
}

/// The rows `i..i + Q` of part `part`, the last one repeated beyond `len`.
fn queries<'a>(x: &'a [f32], from: impl Fn(usize) -> usize, i: usize, len: usize, d_head: usize) -> [&'a [f32]; Q] {
    std::array::from_fn(|r| &x[from((i + r).min(len - 1))..][..d_head])
}

/// y = softmax(q k^T / sqrt(d_head) + mask) v, and the log-sum of every row.
#[expect(clippy::too_many_arguments, reason = "the op's own tensors")]
pub fn forward(
    cores: &Cores,
    heads: u32,
    mask: AttentionMask,
    len: usize,
    d: usize,
    qkv: &[f32],
    visible: Option<&[u32]>,
    y: &mut [f32],
    lse: &mut [f32],
) {
    let (heads, isa) = (heads as usize, cores.isa);
    let d_head = d / heads;
    let (padded, scale) = (len.next_multiple_of(LANES), 1.0 / (d_head as f32).sqrt());
    let batch = y.len() / (len * d);
    let (y, lse) = (Pieces::new(y), Pieces::new(lse));
    cores.pool.run(batch * heads, &|task| {
        let (b, h) = (task / heads, task % heads);
        let visible = visible.map(|v| &v[b * len..(b + 1) * len]);
        // SAFETY: [b, h, :] of lse belongs to this task alone.
        let lse = unsafe { lse.piece(task * len, (task + 1) * len) };
        SCRATCH.with_borrow_mut(|scratch| {
            let k_t = grow(&mut scratch.k_t, d_head * padded);
            let p = grow(&mut scratch.p, Q * padded);
            let mixed = grow(&mut scratch.dk, Q * d_head);
            transpose(isa, qkv, b * len, len, 1, h, d, d_head, padded, k_t);
            for i in (0..len).step_by(Q) {
                let rows = (len - i).min(Q);
                let q = queries(qkv, |i| at(b * len + i, 0, h, d, d_head), i, len, d_head);
                scores(isa, &q, k_t, padded, p);
                for (r, p) in p.chunks_exact_mut(padded).enumerate().take(rows) {
                    lse[i + r] = softmax(isa, p, reach(mask, i + r, len), visible, scale);
                }
                mix(isa, p, padded, qkv, b * len, len, 2, h, d, d_head, mixed);
                for r in 0..rows {
                    let from = (b * len + i + r) * d + h * d_head;
                    // SAFETY: this head's columns of this row belong to this task alone.
                    let y = unsafe { y.piece(from, from + d_head) };
                    y.copy_from_slice(&mixed[r * d_head..(r + 1) * d_head]);
                }
            }
        });
    });
}

/// dqkv; the probabilities are computed again from the log-sums.
#[expect(clippy::too_many_arguments, reason = "the op's own tensors")]
pub fn backward(
    cores: &Cores,
    heads: u32,
    mask: AttentionMask,
    len: usize,
    d: usize,
    qkv: &[f32],
    visible: Option<&[u32]>,
    y: &[f32],
    lse: &[f32],
    dy: &[f32],
    dqkv: &mut [f32],
) {
    let (heads, isa) = (heads as usize, cores.isa);
    let d_head = d / heads;
    let (padded, scale) = (len.next_multiple_of(LANES), 1.0 / (d_head as f32).sqrt());
    let batch = y.len() / (len * d);
    let dqkv = Pieces::new(dqkv);
    cores.pool.run(batch * heads, &|task| {
        let (b, h) = (task / heads, task % heads);
        let visible = visible.map(|v| &v[b * len..(b + 1) * len]);
        let write = |i: usize, part: usize, values: &[f32]| {
            let from = at(b * len + i, part, h, d, d_head);
            // SAFETY: this head's columns of this row and part belong to this task alone.
            unsafe { dqkv.piece(from, from + d_head) }.copy_from_slice(values);
        };
        SCRATCH.with_borrow_mut(|scratch| {
            let (k_t, v_t) = (grow(&mut scratch.k_t, d_head * padded), grow(&mut scratch.v_t, d_head * padded));
            // The rows of dq stand behind those of the scores.
            let (p, dp) = (grow(&mut scratch.p, Q * padded), grow(&mut scratch.dp, Q * (padded + d_head)));
            let (dp, dq) = dp.split_at_mut(Q * padded);
            let (dk, dv) = (grow(&mut scratch.dk, len.max(Q) * d_head), grow(&mut scratch.dv, len * d_head));
            (dk.fill(0.0), dv.fill(0.0));
            transpose(isa, qkv, b * len, len, 1, h, d, d_head, padded, k_t);
            transpose(isa, qkv, b * len, len, 2, h, d, d_head, padded, v_t);
            for i in (0..len).step_by(Q) {
                let rows = (len - i).min(Q);
                let q = queries(qkv, |i| at(b * len + i, 0, h, d, d_head), i, len, d_head);
                let out = |i: usize| (b * len + i) * d + h * d_head;
                let (dy, y) = (queries(dy, out, i, len, d_head), queries(y, out, i, len, d_head));
                scores(isa, &q, k_t, padded, p);
                scores(isa, &dy, v_t, padded, dp);
                for r in 0..rows {
                    let (p, dp) = (&mut p[r * padded..(r + 1) * padded], &mut dp[r * padded..(r + 1) * padded]);
                    softmax_again(isa, p, reach(mask, i + r, len), visible, scale, lse[task * len + i + r]);
                    let delta = dy[r].iter().zip(y[r]).map(|(dy, y)| dy * y).sum();
                    score_gradient(isa, p, delta, scale, dp);
                }
                mix(isa, dp, padded, qkv, b * len, len, 1, h, d, d_head, dq);
                (0..rows).for_each(|r| write(i + r, 0, &dq[r * d_head..(r + 1) * d_head]));
                outer(isa, dp, padded, &q, rows, len, d_head, dk);
                outer(isa, p, padded, &dy, rows, len, d_head, dv);
            }
            for j in 0..len {
                write(j, 1, &dk[j * d_head..(j + 1) * d_head]);
                write(j, 2, &dv[j * d_head..(j + 1) * d_head]);
            }
        });
    });
}
