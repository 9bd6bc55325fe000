use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::math::{exp, max};
use crate::ops::cross_entropy::{allowed, sum_of};
use galatea_random::{block, unit_f64};

/// Elements of one task.
const GRAIN: usize = 16_384;
/// Parts of a row whose masses are kept.
const PARTS: usize = 256;

/// ids, log_p and entropy `[..]` for logits with rows of `v`.
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn forward(
    cores: &Cores,
    stream: u32,
    temperature: f32,
    forbid: Option<u32>,
    logits: &[f32],
    rng: &[u32],
    ids: &mut [u32],
    log_p: &mut [f32],
    entropy: &mut [f32],
) {
    let v = logits.len() / ids.len();
    let seed = u64::from(rng[0]) | u64::from(rng[1]) << 32;
    cores.pool.rows3(ids, 1, log_p, 1, entropy, 1, GRAIN.div_ceil(v), |first, ids, log_p, entropy| {
        for (i, ((id, log_p), entropy)) in ids.iter_mut().zip(log_p).zip(entropy).enumerate() {
            let [a, b, ..] = block(seed, stream, rng[2], (first + i) as u32, 0);
            let row = &logits[(first + i) * v..][..v];
            (*id, *log_p, *entropy) = sample(cores.isa, row, temperature, forbid, unit_f64([a, b]));
        }
    });
}

multiversion! {
    fn sample(row: &[f32], temperature: f32, forbid: Option<u32>, u: f64) -> (u32, f32, f32) {
        let (left, right) = allowed(row, forbid);
        let top = max(left).max(max(right));
        let mass = |part: &[f32]| sum_of(part, |x| exp(x - top));
        let total = mass(left) + mass(right);
        // A column of no mass adds nothing, even at negative infinity.
        let moment = |part: &[f32]| {
            sum_of(part, |x| {
                let (e, below) = (exp(x - top), top - x);
                if e > 0.0 { e * below } else { e }
            })
        };
        let entropy = total.ln() + (moment(left) + moment(right)) / total;
        let column = if temperature == 0.0 {
            let first = |part: &[f32]| part.iter().position(|&x| x == top);
            first(left).or_else(|| first(right).map(|j| left.len() + j)).unwrap_or(0)
        } else {
            invert(left, right, top, 1.0 / temperature, u)
        };
        // Columns past the forbidden one stand one further in the row.
        let id = if column < left.len() { column } else { column + row.len() - left.len() - right.len() };
        let id = id.min(row.len() - 1);
        (id as u32, row[id] - top - total.ln(), entropy)
    }
}

/// The first of the columns left, right at which the cumulative sum of exp((logit - top) inverse) passes `u` of its
/// total.
#[inline(always)]
fn invert(left: &[f32], right: &[f32], top: f32, inverse: f32, u: f64) -> usize {
    // One part fewer, as both sides may end in a short one.
    let width = (left.len() + right.len()).div_ceil(PARTS - 1).max(64);
    let parts = || left.chunks(width).chain(right.chunks(width));
    let mut masses = [0.0f64; PARTS];
    let mut total = 0.0;
    for (mass, part) in masses.iter_mut().zip(parts()) {
        *mass = f64::from(sum_of(part, |x| exp((x - top) * inverse)));
        total += *mass;
    }
    let (mut target, mut start) = (u * total, 0);
    let mut last = (0, left, f64::INFINITY);
    for (&mass, part) in masses.iter().zip(parts()) {
        if mass > 0.0 {
            last = (start, part, target);
        }
        if target < mass {
            break;
        }
        target -= mass;
        start += part.len();
    }
    // Rounding may leave the target past the end of its part: the draw is then the part's last column that has mass.
    let (start, part, mut target) = last;
    let mut column = start;
    for (j, &logit) in part.iter().enumerate() {
        let weight = f64::from(exp((logit - top) * inverse));
        if weight > 0.0 {
            column = start + j;
            if target < weight {
                break;
            }
            target -= weight;
        }
    }
    column
}
