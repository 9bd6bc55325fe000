//! Score entropy: matching ratios of probabilities.

use crate::Limit;

/// One token of the (denoising, diffusion-weighted) score entropy in nats: its integrand over t.
///
/// The model gives log s_y, the logarithm of the ratio p_t(y) / p_t(x_t); the truth for a known x_0 is
/// r_y = q(y | x_0) / q(x_t | x_0). The loss is `rate` Σ_y Q(y → x_t) \[s_y - r_y log s_y + r_y (log r_y - 1)\] over the
/// y ≠ x_t from which x_t can be reached: every y at a mask (each with rate 1), all others with rate 1/V under the
/// uniform limit. With s the ratio that a clean-token distribution implies it equals [`masked::nelbo`] and
/// [`uniform::nelbo`].
///
/// The entry of x_t itself is not used; its gradient is 0.
///
/// # Shapes
/// `log_score` and `dlog_score` \[vocab\], the mask included.
///
/// # Panics
/// If an id is outside `log_score`.
///
/// # Source
/// Lou, Meng, Ermon (2024), SEDD, the denoising score entropy and its diffusion weighting.
///
/// [`masked::nelbo`]: super::masked::nelbo
/// [`uniform::nelbo`]: super::uniform::nelbo
pub fn loss(
    limit: Limit,
    log_score: &[f64],
    x_0: u32,
    x_t: u32,
    alpha_bar: f64,
    rate: f64,
    mut dlog_score: Option<&mut [f64]>,
) -> f64 {
    assert!(
        (x_t as usize) < log_score.len() && (x_0 as usize) < log_score.len(),
        "score_entropy: id outside the scores"
    );
    if let Some(dlog_score) = dlog_score.as_deref_mut() {
        dlog_score.fill(0.0);
    }
    let v = log_score.len() as f64;
    let flow = match limit {
        Limit::Mask(mask) if x_t != mask => return 0.0,
        Limit::Mask(_) => rate,
        Limit::Uniform => rate / v,
    };
    let noise = 1.0 - alpha_bar;
    let truth = |y: u32| match limit {
        Limit::Mask(_) => {
            if y == x_0 {
                alpha_bar / noise
            } else {
                0.0
            }
        }
        Limit::Uniform => {
            let q = |k: u32| noise / v + if k == x_0 { alpha_bar } else { 0.0 };
            q(y) / q(x_t)
        }
    };
    let mut loss = 0.0;
    for (k, &log_s) in log_score.iter().enumerate() {
        if k == x_t as usize {
            continue;
        }
        let (s, r) = (log_s.exp(), truth(k as u32));
        loss += if r > 0.0 { s - r * log_s + r * (r.ln() - 1.0) } else { s };
        if let Some(dlog_score) = dlog_score.as_deref_mut() {
            dlog_score[k] = flow * (s - r);
        }
    }
    flow * loss
}

/// Reads a SEDD network's output in place: log s_y = output_y, less log(e^sigma - 1) + log(vocab - 1) where the network
/// is scaled by the total noise sigma (`scaled_by`, as under the mask limit); the entry of x_t itself becomes 0.
///
/// The scale is that of the truth: at a mask, the ratios sum to 1 / (e^sigma - 1) over vocab - 1 tokens. It is a constant, so
/// the gradient of the output is that of log s, 0 at x_t.
///
/// # Shapes
/// `output` \[vocab\], the mask included.
///
/// # Panics
/// If `x_t` is outside `output`.
///
/// # Source
/// Lou, Meng, Ermon (2024), SEDD, section 5.1 and `model/transformer.py`.
pub fn read_output(output: &mut [f64], x_t: u32, scaled_by: Option<f64>) {
    assert!((x_t as usize) < output.len(), "score_entropy: id outside the output");
    if let Some(sigma) = scaled_by {
        let scale = sigma.exp_m1().ln() + ((output.len() - 1) as f64).ln();
        output.iter_mut().for_each(|log_s| *log_s -= scale);
    }
    output[x_t as usize] = 0.0;
}

/// Writes the log ratios log p_t(y) / p_t(x_t) that a clean-token distribution `p_x_0` implies: the score of a model
/// that predicts x_0.
///
/// # Panics
/// If the slices differ in length or an id is outside.
pub fn log_score_of(limit: Limit, p_x_0: &[f64], x_t: u32, alpha_bar: f64, log_score: &mut [f64]) {
    assert_eq!(p_x_0.len(), log_score.len(), "log_score_of: one score per probability");
    let (v, noise) = (p_x_0.len() as f64, 1.0 - alpha_bar);
    let marginal = |k: usize| {
        let pi = match limit {
            Limit::Uniform => 1.0 / v,
            Limit::Mask(mask) => f64::from(u8::from(k == mask as usize)),
        };
        alpha_bar * p_x_0[k] + noise * pi
    };
    let own = marginal(x_t as usize).ln();
    for (k, log_s) in log_score.iter_mut().enumerate() {
        *log_s = marginal(k).ln() - own;
    }
}

/// Writes the clean-token distribution that the log ratios imply, the inverse of [`log_score_of`]: q_t is the ratios over their
/// sum, and p = (q_t - (1 - alpha_bar) pi) / alpha_bar. Where a score is no distribution's, what is negative becomes 0.
///
/// Under the mask limit it answers for a masked x_t; of a token that is shown p is known anyway.
///
/// # Panics
/// If the slices differ in length or `x_t` is outside.
pub fn x_0_of_log_score(limit: Limit, log_score: &[f64], x_t: u32, alpha_bar: f64, p_x_0: &mut [f64]) {
    assert_eq!(p_x_0.len(), log_score.len(), "x_0_of_log_score: one probability per score");
    let noise = match limit {
        Limit::Uniform => (1.0 - alpha_bar) / log_score.len() as f64,
        Limit::Mask(_) => 0.0,
    };
    let ratio = |k: usize| if k == x_t as usize { 1.0 } else { log_score[k].exp() };
    let total: f64 = (0..log_score.len()).map(ratio).sum();
    for (k, p) in p_x_0.iter_mut().enumerate() {
        *p = match limit {
            Limit::Mask(mask) if k == mask as usize => 0.0,
            Limit::Mask(_) | Limit::Uniform => (ratio(k) / total - noise).max(0.0),
        };
    }
    let total: f64 = p_x_0.iter().sum();
    if total > 0.0 {
        p_x_0.iter_mut().for_each(|p| *p /= total);
    } else {
        p_x_0.fill(0.0);
        p_x_0[x_t as usize] = 1.0;
    }
}
