//! A token of every live row.

use super::parts::{NUMBERS, Row, measure, tempered_mass};
use super::rows::gather;
use super::{Head, parts};
use crate::cpu::Cores;
use crate::gemm::Elements;
use crate::isa::multiversion;
use crate::math::{exp, sum};
use crate::real::Real;
use galatea_random::{block, unit_f64};

/// Columns of the widest part.
const WIDEST: usize = 48;

/// What sampling works in.
pub struct Scratch<'a, X> {
    /// `[n]`.
    pub numbers: &'a mut [u32],
    /// `[n, d]`.
    pub x: &'a mut [X],
    /// `[n, 3]`.
    pub drawn: &'a mut [f32],
    /// `[n, parts, 4]`.
    pub parts: &'a mut [f32],
}

/// ids, log_p and entropy `[..]` of the rows of x `[.., d]` whose flag is not zero; 0 for the others. `few` asks
/// for dot products.
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn sample<X: Real>(
    cores: &Cores,
    head: Head<'_, X>,
    (stream, temperature): (u32, f32),
    few: bool,
    x: &[X],
    live: &[u32],
    rng: &[u32],
    ids: &mut [u32],
    log_p: &mut [f32],
    entropy: &mut [f32],
    scratch: Scratch<'_, X>,
) where
    for<'a> Elements<'a>: From<&'a [X]>,
{
    ids.fill(0);
    log_p.fill(0.0);
    entropy.fill(0.0);
    let Scratch { numbers, x: gathered, drawn, parts: numbers_of_parts } = scratch;
    let (rows, x) = gather(cores, head.d, x, live.iter().map(|&live| live != 0), numbers, gathered);
    if rows.is_empty() {
        return;
    }
    let stride = parts(head.v()) * NUMBERS;
    let used = &mut numbers_of_parts[..rows.len() * stride];
    let inverse = if temperature == 0.0 { 1.0 } else { 1.0 / temperature };
    let width = measure(cores, head, few, x, inverse, None, used);
    let count = head.v().div_ceil(width) * NUMBERS;
    let seed = u64::from(rng[0]) | u64::from(rng[1]) << 32;
    let drawn = &mut drawn[..rows.len() * 3];
    cores.pool.rows(drawn, 3, 1, |first, drawn| {
        for (i, drawn) in (first..).zip(drawn.chunks_exact_mut(3)) {
            let parts = &used[i * stride..][..count];
            let joined = Row::join(parts, inverse);
            let [a, b, ..] = block(seed, stream, rng[2], rows[i], 0);
            let u = (temperature != 0.0).then(|| unit_f64([a, b]) * joined.tempered);
            let (part, target) = find(parts, joined.top, inverse, u);
            let x = &x[i * head.d..][..head.d];
            let mut logits = [0.0; WIDEST];
            let from = part * width;
            let logits = &mut logits[..width.min(head.v() - from)];
            columns(cores.isa, &head.w[from * head.d..][..logits.len() * head.d], x, logits);
            head.b.iter().for_each(|b| logits.iter_mut().zip(&b[from..]).for_each(|(u, b)| *u += b));
            if let Some(at) = head.forbid.and_then(|f| (f as usize).checked_sub(from)).filter(|&at| at < logits.len()) {
                logits[at] = f32::NEG_INFINITY;
            }
            let at = choose(logits, joined.top, inverse, target);
            // Ids below 2^24 would fit a float; their bits do always.
            drawn[0] = f32::from_bits((from + at) as u32);
            drawn[1] = (f64::from(logits[at]) - joined.lse) as f32;
            drawn[2] = joined.entropy as f32;
        }
    });
    for (drawn, &n) in drawn.chunks_exact(3).zip(rows) {
        let n = n as usize;
        (ids[n], log_p[n], entropy[n]) = (drawn[0].to_bits(), drawn[1], drawn[2]);
    }
}

/// The part that holds the draw `u` of the tempered mass, and what is left of `u` in it; without a draw the first part with
/// the largest logit.
fn find(parts: &[f32], top: f32, inverse: f32, u: Option<f64>) -> (usize, Option<f64>) {
    let parts = parts.as_chunks::<NUMBERS>().0;
    let Some(mut target) = u else {
        return (parts.iter().position(|part| part[0] == top).unwrap_or(0), None);
    };
    let mut last = (0, f64::INFINITY);
    for (i, part) in parts.iter().enumerate() {
        let mass = tempered_mass(part, top, inverse);
        if mass > 0.0 {
            last = (i, target);
        }
        if target < mass {
            break;
        }
        target -= mass;
    }
    (last.0, Some(last.1))
}

/// The column of a part at which its cumulative mass passes `target`, the last that has mass if rounding leaves it beyond;
/// without a target the largest.
fn choose(logits: &[f32], top: f32, inverse: f32, target: Option<f64>) -> usize {
    let Some(mut target) = target else {
        return (0..logits.len()).rev().max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap_or(0);
    };
    let mut column = 0;
    for (j, &logit) in logits.iter().enumerate() {
        let mass = f64::from(exp((logit - top) * inverse));
        if mass > 0.0 {
            column = j;
            if target < mass {
                break;
            }
            target -= mass;
        }
    }
    column
}

multiversion! {
    /// logits = w x.
    fn columns<X: Real>(w: &[X], x: &[X], logits: &mut [f32]) {
        for (logit, w) in logits.iter_mut().zip(w.chunks_exact(x.len())) {
            *logit = sum(x.len(), |i| x[i].load() * w[i].load());
        }
    }
}
