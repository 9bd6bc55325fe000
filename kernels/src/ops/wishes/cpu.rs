use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::math::{exp, max};
use crate::op::Wish;
use crate::ops::cross_entropy::sum_of;

/// Elements of one task.
const GRAIN: usize = 16_384;
/// The least 1 - p of a complement.
const LEAST: f64 = 1e-7;

/// The extents of logits beside the batch.
#[derive(Clone, Copy)]
pub struct Dims {
    /// Positions of a text.
    pub len: usize,
    /// Tokens.
    pub vocab: usize,
}

/// A wish that fits the tensor.
#[derive(Clone, Copy)]
struct One {
    token: usize,
    place: Place,
    complement: bool,
    weight: f64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    At(usize),
    Any,
    All,
}

/// The wishes that can be fulfilled.
fn wishes<'a>(dims: Dims, words: &'a [u32], weight: &'a [f32]) -> impl Iterator<Item = One> + use<'a> {
    words.chunks_exact(Wish::LEN).zip(weight).filter_map(move |(wish, &weight)| {
        let place = match wish[1] {
            Wish::ANY => Place::Any,
            Wish::ALL => Place::All,
            at => Place::At(at as usize),
        };
        let fits = (wish[0] as usize) < dims.vocab
            && match place {
                Place::At(at) => at < dims.len,
                Place::Any | Place::All => true,
            };
        fits.then_some(One { token: wish[0] as usize, place, complement: wish[2] != 0, weight: f64::from(weight) })
    })
}

/// loss `[1]` and lse `[b, l]`.
pub fn forward(
    cores: &Cores,
    dims: Dims,
    logits: &[f32],
    words: &[u32],
    weight: &[f32],
    loss: &mut [f32],
    lse: &mut [f32],
) {
    let Dims { len, vocab } = dims;
    cores.pool.rows(lse, 1, GRAIN.div_ceil(vocab), |first, lse| {
        normalisers(cores.isa, vocab, &logits[first * vocab..], lse);
    });
    let texts = logits.chunks_exact(len * vocab).zip(lse.chunks_exact(len));
    let total: f64 = texts
        .map(|(logits, lse)| {
            let value = |one: One| one.weight * one.value(&|l| log_p(vocab, logits, lse, one.token, l), len);
            wishes(dims, words, weight).map(value).sum::<f64>()
        })
        .sum();
    loss[0] = total as f32;
}

multiversion! {
    fn normalisers(vocab: usize, logits: &[f32], lse: &mut [f32]) {
        for (row, lse) in logits.chunks_exact(vocab).zip(lse) {
            let top = max(row);
            *lse = top + sum_of(row, |x| exp(x - top)).ln();
        }
    }
}

/// dlogits `[b, l, v]`.
#[expect(clippy::too_many_arguments, reason = "the op's reads and writes")]
pub fn backward(
    cores: &Cores,
    dims: Dims,
    logits: &[f32],
    words: &[u32],
    weight: &[f32],
    lse: &[f32],
    dloss: &[f32],
    dlogits: &mut [f32],
) {
    let Dims { len, vocab } = dims;
    cores.pool.rows(dlogits, vocab, GRAIN.div_ceil(vocab), |first, dlogits| {
        for (row, dlogits) in (first..).zip(dlogits.chunks_exact_mut(vocab)) {
            let (text, l) = (row / len, row % len);
            let (texts, lses) = (&logits[text * len * vocab..][..len * vocab], &lse[text * len..][..len]);
            let slope = |one: One| {
                let log_p = |l: usize| log_p(vocab, texts, lses, one.token, l);
                (one.token, f64::from(dloss[0]) * one.weight * one.slope(&log_p, len, l))
            };
            let total: f64 = wishes(dims, words, weight).map(|one| slope(one).1).sum();
            spread(cores.isa, -total as f32, lse[row], &logits[row * vocab..][..vocab], dlogits);
            for (token, slope) in wishes(dims, words, weight).map(slope) {
                dlogits[token] += slope as f32;
            }
        }
    });
}

multiversion! {
    fn spread(factor: f32, lse: f32, logits: &[f32], dlogits: &mut [f32]) {
        crate::math::map(dlogits, logits, logits, logits, |x, _, _| factor * exp(x - lse));
    }
}

fn log_p(vocab: usize, logits: &[f32], lse: &[f32], token: usize, l: usize) -> f64 {
    f64::from(logits[l * vocab + token]) - f64::from(lse[l])
}

impl One {
    /// log p of one text.
    fn value(self, log_p: &dyn Fn(usize) -> f64, len: usize) -> f64 {
        match self.place {
            Place::At(at) => self.opposite(log_p(at)),
            Place::Any => self.opposite(log_sum(log_p, len) - len as f64),
            Place::All => (0..len).map(|l| self.opposite(log_p(l))).sum(),
        }
    }

    /// d log p / d lp_l.
    fn slope(self, log_p: &dyn Fn(usize) -> f64, len: usize, l: usize) -> f64 {
        match self.place {
            Place::At(at) => {
                if at == l {
                    self.turn(log_p(l))
                } else {
                    0.0
                }
            }
            Place::Any => {
                let total = log_sum(log_p, len);
                self.turn(total - len as f64) * (log_p(l) - total).exp()
            }
            Place::All => self.turn(log_p(l)),
        }
    }

    /// log(1 - p) for a complement, log p else.
    fn opposite(self, log_p: f64) -> f64 {
        if self.complement { (-log_p.exp_m1()).max(LEAST).ln() } else { log_p }
    }

    /// The derivative of `opposite`.
    fn turn(self, log_p: f64) -> f64 {
        if self.complement { -log_p.exp() / (-log_p.exp_m1()).max(LEAST) } else { 1.0 }
    }
}

/// log sum_l exp lp_l.
fn log_sum(log_p: &dyn Fn(usize) -> f64, len: usize) -> f64 {
    let top = (0..len).map(log_p).fold(f64::NEG_INFINITY, f64::max);
    top + (0..len).map(|l| (log_p(l) - top).exp()).sum::<f64>().ln()
}
