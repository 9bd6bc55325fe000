use crate::cpu::Cores;
use crate::isa::multiversion;
use crate::math::{exp, max, sum};
use crate::ops::cross_entropy::weighted_sum;

/// Products of one task.
const GRAIN: usize = 262_144;

/// What both passes know of their tokens.
#[derive(Clone, Copy)]
pub struct Tokens<'a> {
    /// The clean ids `[b, l]`.
    pub x_0: &'a [u32],
    /// The noisy ids `[b, l]`.
    pub x_t: &'a [u32],
    /// Q_bar and Q of every row `[b, 2, v, v]`.
    pub chain: &'a [f32],
    /// The weights `[b, l]`.
    pub w: &'a [f32],
    /// Positions of a row.
    pub len: usize,
    /// Ids.
    pub vocab: usize,
    /// The factor of the cross-entropy.
    pub lambda: f32,
}

/// The matrices of a token: all of Q_bar, and its rows that the truth needs.
struct Step<'a> {
    q_bar: &'a [f32],
    /// Q_bar from x_0.
    from: &'a [f32],
    /// The likelihood of x_t.
    likelihood: &'a [f32],
    x_0: usize,
}

impl Tokens<'_> {
    /// The matrices of token `n`; `None` if its ids are none.
    fn step(&self, n: usize) -> Option<Step<'_>> {
        let v = self.vocab;
        let (x_0, x_t) = (self.x_0[n] as usize, self.x_t[n] as usize);
        if x_0 >= v || x_t >= v {
            return None;
        }
        let (q_bar, q) = self.chain[n / self.len * 2 * v * v..][..2 * v * v].split_at(v * v);
        Some(Step { q_bar, from: &q_bar[x_0 * v..][..v], likelihood: &q[x_t * v..][..v], x_0 })
    }
}

/// loss `[1]`, d `[b, l]`, p and m `[b, l, v]`.
pub fn forward(
    cores: &Cores,
    tokens: Tokens<'_>,
    logits: &[f32],
    loss: &mut [f32],
    d: &mut [f32],
    p: &mut [f32],
    m: &mut [f32],
) {
    let v = tokens.vocab;
    cores.pool.rows3(d, 1, p, v, m, v, GRAIN.div_ceil(v * v), |first, d, p, m| {
        let rows = d.iter_mut().zip(p.chunks_exact_mut(v).zip(m.chunks_exact_mut(v)));
        for (i, (d, (p, m))) in rows.enumerate() {
            let n = first + i;
            *d = match tokens.step(n) {
                _ if tokens.w[n] == 0.0 => {
                    p.fill(0.0);
                    m.fill(0.0);
                    0.0
                }
                None => f32::INFINITY,
                Some(step) => token(cores.isa, &logits[n * v..][..v], step, tokens.lambda, p, m),
            };
        }
    });
    loss[0] = weighted_sum(tokens.w.iter().copied(), d) as f32;
}

multiversion! {
    fn token(logits: &[f32], step: Step<'_>, lambda: f32, p: &mut [f32], m: &mut [f32]) -> f32 {
        let top = max(logits);
        p.iter_mut().zip(logits).for_each(|(p, &logit)| *p = exp(logit - top));
        let total = sum(p.len(), |k| p[k]);
        p.iter_mut().for_each(|p| *p /= total);
        m.fill(0.0);
        for (&p, row) in p.iter().zip(step.q_bar.chunks_exact(m.len())) {
            m.iter_mut().zip(row).for_each(|(m, &q)| *m += p * q);
        }
        let mass = |of: &[f32]| -> f64 { of.iter().zip(step.likelihood).map(|(&x, &l)| f64::from(x) * f64::from(l)).sum() };
        let (truth, model) = (mass(step.from), mass(m));
        let mut d = 0.0;
        if truth > 0.0 {
            for ((&from, &m), &l) in step.from.iter().zip(m.iter()).zip(step.likelihood).filter(|(_, l)| **l > 0.0) {
                let (from, own) = (f64::from(from) / truth, f64::from(m) / model);
                d += f64::from(l) * if from > 0.0 { from * gap(own / from) } else { own };
            }
        }
        let ce = f64::from(total.ln()) + f64::from(top - logits[step.x_0]);
        (d + if lambda > 0.0 { f64::from(lambda) * ce } else { 0.0 }) as f32
    }
}

/// u - 1 - log u.
#[inline(always)]
fn gap(u: f64) -> f64 {
    let e = u - 1.0;
    if e.abs() < 0.5 { e - e.ln_1p() } else { e - u.ln() }
}

/// dlogits `[b, l, v]` from p and m, with `dm` of the same shape to work in.
pub fn backward(
    cores: &Cores,
    tokens: Tokens<'_>,
    p: &[f32],
    m: &[f32],
    dloss: &[f32],
    dlogits: &mut [f32],
    dm: &mut [f32],
) {
    let v = tokens.vocab;
    cores.pool.rows2(dlogits, v, dm, v, GRAIN.div_ceil(v * v), |first, dlogits, dm| {
        for (i, (dlogits, dm)) in dlogits.chunks_exact_mut(v).zip(dm.chunks_exact_mut(v)).enumerate() {
            let n = first + i;
            let scale = tokens.w[n] * dloss[0];
            match tokens.step(n) {
                Some(step) if tokens.w[n] != 0.0 => {
                    let row = (&p[n * v..][..v], &m[n * v..][..v]);
                    gradient(cores.isa, row, step, (scale, tokens.lambda), dlogits, dm);
                }
                _ => {
                    dlogits.fill(0.0);
                    dm.fill(0.0);
                }
            }
        }
    });
}

multiversion! {
    fn gradient(row: (&[f32], &[f32]), step: Step<'_>, factors: (f32, f32), dlogits: &mut [f32], dm: &mut [f32]) {
        let ((p, m), (scale, lambda)) = (row, factors);
        let mass = |of: &[f32]| -> f64 { of.iter().zip(step.likelihood).map(|(&x, &l)| f64::from(x) * f64::from(l)).sum() };
        let (truth, model) = (mass(step.from), mass(m));
        for (((dm, &from), &m), &l) in dm.iter_mut().zip(step.from).zip(m).zip(step.likelihood) {
            // l / P - truth / m, over one denominator: near the truth the two cancel.
            let (from, own) = (f64::from(from) / truth, f64::from(m) / model);
            *dm = match truth > 0.0 && l > 0.0 {
                true if from > 0.0 => (f64::from(l) * (own - from) / f64::from(m)) as f32,
                true => (f64::from(l) / model) as f32,
                false => 0.0,
            };
        }
        for (dp, q_bar) in dlogits.iter_mut().zip(step.q_bar.chunks_exact(dm.len())) {
            *dp = sum(dm.len(), |k| q_bar[k] * dm[k]);
        }
        let mean = sum(p.len(), |k| p[k] * dlogits[k]);
        for (d, &p) in dlogits.iter_mut().zip(p) {
            *d = scale * p * (*d - mean + lambda);
        }
        dlogits[step.x_0] -= scale * lambda;
    }
}
