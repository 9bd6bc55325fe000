//! One form for the bounds on tokens: how far what a model says of a token is from what x_0 says.
//!
//! A noisy token z = x_t can turn into any y, or can have come from it. The truth, which knows x_0, gives that a rate or a
//! probability ρ_y; the model, which knows p = softmax(logits), gives it u_y ρ_y. With G(u) = u - 1 - log u >= 0 the sum
//! Σ_y ρ_y G(u_y) is the divergence of two jump processes (continuous bounds), of two posteriors (chains) or of two marginals
//! (GIDD). ρ has one value at x_0, one at z and one at all other ids, and every u is affine in p_y over one N = 1 + n p_z: a
//! dozen numbers, [`Terms`], say all of it, and one kernel computes any of the bounds from them.
//!
//! | bound | constructor | weight of a token |
//! |---|---|---|
//! | uniform NELBO (UDLM, Duo) | [`uniform`] | -alpha_bar' / (V alpha_bar) |
//! | KL of posteriors + lambda CE (D3PM, uniform) | [`d3pm`] | the number of steps |
//! | KL + IS of marginals (GIDD) | [`hybrid`] | that of its class |
//! | generalised KL of a mixture path | [`flow`] | -alpha_bar' / (1 - alpha_bar) |
//! | masked NELBO | [`flow`], for masks alone | -alpha_bar' / (1 - alpha_bar) |
//! | score entropy (SEDD), p = exp(logits) | [`score`] | the rate, for uniform noise over V |
//!
//! `docs/derivations/divergence.md` has the algebra.

use crate::{Limit, Shares};

/// How many numbers [`Terms`] has.
pub const TERMS: usize = 12;

/// The numbers of one class of tokens at one level of noise.
///
/// u_y = (1 + s p_y) / N at ids y other than x_0 and z (where z = x_0: (1 + n + s p_y) / N), with a = ρ s;
/// u_0 = (start_0 + s_0 p_0) / N with start_0 + s_0 = 1; u_z = (start_z + (n + h) p_z) / N with start_z = 1 (where z = x_0:
/// 1 - h). The divergence is ρ Σ_y G(u_y) + ρ_0 G(u_0) + ρ_z G(u_z) + back G(1 / u_z) - ce log p_0, the first sum being
/// a Σ_y p_y / N where ρ = 0. A mask has neither p_z nor the terms of z.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Terms {
    /// N = 1 + n p_z.
    pub n: f64,
    /// ρ of the other ids.
    pub rho: f64,
    /// ρ s of the other ids.
    pub a: f64,
    /// ρ of x_0.
    pub rho_0: f64,
    /// The slope of u_0.
    pub s_0: f64,
    /// u_0 N where p_0 = 0.
    pub start_0: f64,
    /// ρ of z.
    pub rho_z: f64,
    /// The slope of u_z beyond n.
    pub h: f64,
    /// u_z N where p_z = 0.
    pub start_z: f64,
    /// The weight of the reverse divergence at z, where n = 0.
    pub back: f64,
    /// What N adds to the gradient at p_z: n `pull` p_z / N² (where z = x_0: n `pull` (p_0 - 1) / N²).
    pub pull: f64,
    /// The weight of the cross-entropy.
    pub ce: f64,
}

impl Terms {
    /// The numbers in the order in which the op `Divergence` reads them.
    pub fn to_array(self) -> [f64; TERMS] {
        let Self { n, rho, a, rho_0, s_0, start_0, rho_z, h, start_z, back, pull, ce } = self;
        [n, rho, a, rho_0, s_0, start_0, rho_z, h, start_z, back, pull, ce]
    }
}

/// The numbers at one level of noise, for each thing that can have become of a token.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Classes {
    /// Where x_t is the mask.
    pub mask: Terms,
    /// Where x_t = x_0.
    pub hit: Terms,
    /// Where x_t is another token.
    pub miss: Terms,
}

impl Classes {
    /// The numbers of a token.
    pub fn of(&self, x_0: u32, x_t: u32, mask: Option<u32>) -> &Terms {
        if mask == Some(x_t) {
            &self.mask
        } else if x_t == x_0 {
            &self.hit
        } else {
            &self.miss
        }
    }

    /// The numbers of the mask, the hit and the miss, as the op `Divergence` reads them.
    pub fn to_array(self) -> [[f64; TERMS]; 3] {
        [self.mask, self.hit, self.miss].map(Terms::to_array)
    }
}

/// What p of a [`divergence`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// softmax(logits).
    Softmax,
    /// exp(logits): the model gives log-ratios. N and the starts play no part, and neither does z.
    Exp,
}

/// The interval in which alpha_bar is held, so that every number is finite in f32.
fn held(alpha_bar: f64) -> f64 {
    alpha_bar.clamp(2f64.powi(-60), 1.0 - 2f64.powi(-20))
}

/// The uniform-state NELBO over `vocab` ids, less its weight -alpha_bar' / (vocab alpha_bar).
///
/// # Source
/// [`uniform::nelbo`](super::uniform::nelbo); as a divergence Lou, Meng, Ermon (2024), SEDD, theorem 3.6.
pub fn uniform(vocab: usize, alpha_bar: f64) -> Classes {
    let alpha_bar = held(alpha_bar);
    let (v, low) = (vocab as f64, 1.0 - alpha_bar);
    let signal = v * alpha_bar;
    let (high, n) = (signal + low, signal / low);
    Classes {
        mask: Terms::default(),
        hit: Terms { n, rho: low / high, a: n, pull: v * n / high, ..Terms::default() },
        miss: Terms {
            n,
            rho: 1.0,
            a: n,
            rho_0: high / low,
            s_0: signal / high,
            start_0: low / high,
            start_z: 1.0,
            pull: v * n / low,
            ..Terms::default()
        },
    }
}

/// The weight of [`uniform`], -alpha_bar' / (vocab alpha_bar).
pub fn uniform_weight(vocab: usize, alpha_bar: f64, alpha_bar_derivative: f64) -> f64 {
    -alpha_bar_derivative / (vocab as f64 * held(alpha_bar))
}

/// The KL between posteriors of a uniform chain over `vocab` ids, plus `lambda` CE. The step into clean data (alpha_bar_s = 1)
/// is the cross-entropy alone, weighted 1 + `lambda`, as D3PM has it.
///
/// # Source
/// Austin et al. (2021), D3PM, equation 5; [`d3pm::loss`](super::d3pm::loss).
pub fn d3pm(vocab: usize, alpha_bar_t: f64, alpha_bar_s: f64, lambda: f64) -> Classes {
    let none = Terms { start_z: 1.0, ce: lambda, ..Terms::default() };
    if alpha_bar_s >= 1.0 {
        let clean = Terms { ce: 1.0 + lambda, ..none };
        return Classes { mask: Terms::default(), hit: clean, miss: clean };
    }
    let (v, r) = (vocab as f64, crate::categorical::ratio(alpha_bar_t, alpha_bar_s));
    // Noise at one id: at s, at t, and what the step adds.
    let (n_s, n_t, away) = ((1.0 - alpha_bar_s) / v, (1.0 - alpha_bar_t) / v, (1.0 - r) / v);
    let (at_s, at_t, n) = (alpha_bar_s + n_s, alpha_bar_t + n_t, alpha_bar_t / n_t);
    let gain = (alpha_bar_s - alpha_bar_t) / v;
    Classes {
        mask: Terms::default(),
        hit: Terms {
            n,
            rho: away * n_s / at_t,
            a: away * alpha_bar_s / n_t,
            rho_z: (r + away) * at_s / at_t,
            h: gain / (n_t * at_s),
            start_z: (1.0 + n) * n_s / at_s,
            ..none
        },
        miss: Terms {
            n,
            rho: away * n_s / n_t,
            a: away * alpha_bar_s / n_t,
            rho_0: away * at_s / n_t,
            s_0: alpha_bar_s / at_s,
            start_0: n_s / at_s,
            rho_z: (r + away) * n_s / n_t,
            h: gain / (n_s * n_t),
            ..none
        },
    }
}

/// KL(q_t || p_t) + IS(q_t(z) || p_t(z)) of the marginals of a process with masks and uniform tokens: GIDD's loss, less the
/// weight of the class.
///
/// # Source
/// von Rütte et al. (2025), GIDD, theorem 3.1.
pub fn hybrid(alpha_bar: f64, noise: Shares) -> Classes {
    let own = noise.other;
    let at_x_0 = alpha_bar + own;
    let (s_0, start_0) = (alpha_bar / at_x_0, own / at_x_0);
    let mask = Terms { rho: own, a: alpha_bar, rho_0: at_x_0, s_0, start_0, ..Terms::default() };
    // Without uniform tokens there is no miss, and its slope has nothing to be relative to.
    let h = if own > 0.0 { alpha_bar / own } else { 0.0 };
    Classes {
        mask,
        hit: Terms { rho: own, a: alpha_bar, rho_z: at_x_0, h: s_0, start_z: start_0, back: 1.0, ..Terms::default() },
        miss: Terms { rho_z: own, h, start_z: 1.0, back: 1.0, ..mask },
    }
}

/// The generalised KL of a mixture path, less its weight -alpha_bar' / (1 - alpha_bar): the truth goes to x_0, and nowhere
/// where it is there. At a mask it is -log p_0, the masked NELBO.
///
/// # Source
/// Shaul et al. (2024), the ELBO of mixture paths; [`flow::loss`](super::flow::loss).
pub fn flow() -> Classes {
    let hit = Terms { a: 1.0, start_z: 1.0, ..Terms::default() };
    let miss = Terms { rho_0: 1.0, s_0: 1.0, ..hit };
    Classes { mask: miss, hit, miss }
}

/// Score entropy for a model whose log-ratios are logits + log `factor`, less the weight: the rate at a mask, rate / vocab under
/// the uniform limit. With [`Link::Exp`].
///
/// SEDD's absorbing models give logits whose factor is 1 / ((exp(sigma) - 1) (V - 1)), V counting the mask.
///
/// # Source
/// Lou, Meng, Ermon (2024), SEDD; [`score_entropy::loss`](super::score_entropy::loss).
pub fn score(limit: Limit, vocab: usize, alpha_bar: f64, factor: f64) -> Classes {
    let noise = 1.0 - alpha_bar;
    let to = |rho_0: f64| Terms { a: factor, rho_0, s_0: factor / rho_0, ..Terms::default() };
    match limit {
        Limit::Mask(_) => Classes { mask: to(alpha_bar / noise), ..Classes::default() },
        Limit::Uniform => {
            // The ratio of the probabilities of x_0 and of another id.
            let ratio = (vocab as f64 * alpha_bar + noise) / noise;
            Classes {
                mask: Terms::default(),
                hit: Terms { rho: 1.0 / ratio, a: factor, ..Terms::default() },
                miss: Terms { rho: 1.0, ..to(ratio) },
            }
        }
    }
}

/// The divergence of one token in the units of its terms, and its gradient with respect to the logits.
///
/// # Shapes
/// `logits` and `dlogits` \[vocab\]; the column `mask`, if there is one, has probability 0.
///
/// # Panics
/// If an id is outside `logits`.
pub fn divergence(
    link: Link,
    terms: &Terms,
    logits: &[f64],
    x_0: u32,
    x_t: u32,
    mask: Option<u32>,
    dlogits: Option<&mut [f64]>,
) -> f64 {
    let (x_0, z) = (x_0 as usize, x_t as usize);
    let total = super::log_sum_exp(logits, mask);
    let masked = |k: usize| mask == Some(k as u32);
    let p = |k: usize| match link {
        _ if masked(k) => 0.0,
        Link::Softmax => (logits[k] - total).exp(),
        Link::Exp => logits[k].exp(),
    };
    let norm = 1.0 + terms.n * p(z);
    let other = 1.0 + if x_0 == z { terms.n } else { 0.0 };
    // (rho, a, start): the term rho G((start + a / rho p) / N), or a p / N.
    let column = |k: usize| match link {
        _ if masked(k) => (0.0, 0.0, 0.0),
        Link::Exp if k == z => (0.0, 0.0, 0.0),
        Link::Exp if k == x_0 => (terms.rho_0, terms.rho_0 * terms.s_0, 0.0),
        Link::Exp => (terms.rho, terms.a, 0.0),
        Link::Softmax if k == z => (terms.rho_z, terms.rho_z * (terms.n + terms.h), terms.start_z),
        Link::Softmax if k == x_0 => (terms.rho_0, terms.rho_0 * terms.s_0, terms.start_0),
        Link::Softmax => (terms.rho, terms.a, other),
    };
    let ratio = |k: usize, (rho, a, start): (f64, f64, f64)| (start + a / rho * p(k)) / norm;
    let gap = |u: f64| u - 1.0 - u.ln();
    let back = if masked(z) { 0.0 } else { terms.back };
    let at_z = terms.start_z + (terms.n + terms.h) * p(z);
    let mut d = if back > 0.0 { back * gap(norm / at_z) } else { 0.0 };
    if terms.ce > 0.0 {
        d += terms.ce * (total - logits[x_0]);
    }
    for k in 0..logits.len() {
        let (rho, a, start) = column(k);
        d += if rho > 0.0 { rho * gap(ratio(k, (rho, a, start))) } else { a * p(k) / norm };
    }
    if let Some(dlogits) = dlogits {
        for (k, dp) in dlogits.iter_mut().enumerate() {
            let (rho, a, start) = column(k);
            *dp = if rho > 0.0 { a / norm * (1.0 - 1.0 / ratio(k, (rho, a, start))) } else { a / norm };
        }
        if !masked(z) {
            let lean = if x_0 == z { p(z) - 1.0 } else { p(z) };
            dlogits[z] += terms.n * terms.pull * lean / (norm * norm);
            if back > 0.0 {
                let u = at_z / norm;
                dlogits[z] += back * (terms.n + terms.h) / norm * (u - 1.0) / (u * u);
            }
        }
        let mean: f64 = match link {
            Link::Exp => 0.0,
            Link::Softmax => dlogits.iter().enumerate().map(|(k, d)| p(k) * d).sum(),
        };
        dlogits.iter_mut().enumerate().for_each(|(k, d)| *d = p(k) * (*d - mean));
        for (k, d) in dlogits.iter_mut().enumerate().filter(|_| terms.ce > 0.0) {
            *d += terms.ce * (p(k) - f64::from(u8::from(k == x_0)));
        }
    }
    d
}
