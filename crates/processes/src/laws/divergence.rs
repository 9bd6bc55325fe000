//! Every bound has its one form.

use super::two_alpha_bars;
use crate::objectives::divergence::{Classes, Link, d3pm, divergence, flow, hybrid, score, uniform, uniform_weight};
use crate::objectives::{d3pm as chain, flow as path, interpolating, masked, score_entropy, uniform as nelbo};
use crate::{Categorical, Hybrid, Interpolating, Limit, Scheduled};
use galatea_schedules::Linear;
use proptest::prelude::*;

const V: usize = 6;
const MASK: u32 = 5;

fn logits() -> impl Strategy<Value = Vec<f64>> {
    proptest::collection::vec(-3.0..3.0f64, V)
}

/// A token of the divergence, weighted, against a loss: their values, and their gradients unless the loss fills none.
fn check(
    link: Link,
    classes: &Classes,
    weight: f64,
    (logits, x_0, x_t, mask): (&[f64], u32, u32, Option<u32>),
    loss: impl Fn(&[f64], Option<&mut [f64]>) -> f64,
) -> Result<(), TestCaseError> {
    let (mut found, mut expected) = (vec![0.0; V], vec![f64::NAN; V]);
    let terms = classes.of(x_0, x_t, mask);
    let one = weight * divergence(link, terms, logits, x_0, x_t, mask, Some(&mut found));
    let other = loss(logits, Some(&mut expected));
    prop_assert!((one - other).abs() <= 1e-11 * (1.0 + other.abs()), "{one} {other}");
    let scale = expected.iter().fold(1.0f64, |m, g| m.max(g.abs()));
    for (k, (found, expected)) in found.iter().zip(&expected).enumerate() {
        prop_assert!((weight * found - expected).abs() <= 1e-11 * scale, "{k}: {} {expected}", weight * found);
    }
    Ok(())
}

proptest! {
    #[test]
    fn uniform_nelbo_is_a_divergence(logits in logits(), x_0 in 0..V as u32, x_t in 0..V as u32, a in 1e-3..0.999f64, slope in -2.0..-0.1f64) {
        let w = uniform_weight(V, a, slope);
        let token = (&logits[..], x_0, x_t, None);
        check(Link::Softmax, &uniform(V, a), w, token, |l, d| nelbo::nelbo(l, x_0, x_t, a, slope, d))?;
    }

    #[test]
    fn d3pm_loss_is_a_divergence(logits in logits(), x_0 in 0..V as u32, x_t in 0..V as u32, (t, s) in two_alpha_bars(), lambda in 0.0..0.5f64) {
        let process = Scheduled::new(Categorical::new(V, Limit::Uniform).unwrap(), Linear);
        let token = (&logits[..], x_0, x_t, None);
        check(Link::Softmax, &d3pm(V, t, s, lambda), 1.0, token, |l, d| {
            chain::loss(&process, l, x_0, x_t, 1.0 - t, 1.0 - s, lambda, &mut chain::Scratch::new(V), d)
        })?;
        // The step into clean data is the cross-entropy.
        check(Link::Softmax, &d3pm(V, t, 1.0, lambda), 1.0 / (1.0 + lambda), token, |l, d| chain::cross_entropy(l, x_0, d))?;
    }

    #[test]
    fn flow_loss_is_a_divergence(logits in logits(), x_0 in 0..V as u32, x_t in 0..V as u32, kappa in 0.02..0.98f64, slope in 0.1..2.0f64) {
        let token = (&logits[..], x_0, x_t, None);
        check(Link::Softmax, &flow(), slope / (1.0 - kappa), token, |l, d| path::loss(l, x_0, x_t, kappa, slope, d))?;
    }

    #[test]
    fn masked_nelbo_is_a_divergence(logits in logits(), x_0 in 0..MASK, w in 0.1..5.0f64) {
        let token = (&logits[..], x_0, MASK, Some(MASK));
        check(Link::Softmax, &flow(), w, token, |l, d| masked::nelbo(l, x_0, MASK, MASK, w, d))?;
    }

    #[test]
    fn score_entropy_is_a_divergence(logits in logits(), x_0 in 0..MASK, x_t in 0..V as u32, a in 0.02..0.98f64, rate in 0.1..3.0f64) {
        for (limit, factor, weight, x_t) in
            [(Limit::Mask(MASK), a / (1.0 - a) / (V - 1) as f64, rate, MASK), (Limit::Uniform, 0.7, rate / V as f64, x_t)]
        {
            let mask = if limit == Limit::Uniform { None } else { Some(MASK) };
            let scores: Vec<f64> = logits.iter().map(|l| l + f64::ln(factor)).collect();
            let token = (&logits[..], x_0, x_t, mask);
            // The model's numbers and the log-ratios differ by a constant: their gradients are the same.
            check(Link::Exp, &score(limit, V, a, factor), weight, token, |_, d| {
                score_entropy::loss(limit, &scores, x_0, x_t, a, rate, d)
            })?;
        }
    }

    #[test]
    fn gidd_loss_is_a_divergence(logits in logits(), x_0 in 0..MASK, x_t in 0..V as u32, t in 0.02..0.98f64, p_uniform in 0.01..0.6f64) {
        let process = Hybrid::new(V, MASK, p_uniform, 1.0).unwrap();
        let weight = interpolating::weight(&process, x_0, x_t, t);
        let token = (&logits[..], x_0, x_t, Some(MASK));
        check(Link::Softmax, &hybrid(process.alpha_bar(t), process.noise(t)), weight, token, |l, d| {
            interpolating::nelbo(&process, l, x_0, x_t, t, weight, d)
        })?;
    }

    /// GIDD without uniform tokens has the masked NELBO's divergence, alpha_bar times over.
    #[test]
    fn hybrid_without_uniform_tokens_is_masked(logits in logits(), x_0 in 0..MASK, t in 0.02..0.98f64) {
        let process = Hybrid::new(V, MASK, 0.0, 1.0).unwrap();
        let alpha_bar = process.alpha_bar(t);
        let token = (&logits[..], x_0, MASK, Some(MASK));
        check(Link::Softmax, &hybrid(alpha_bar, process.noise(t)), 1.0 / alpha_bar, token, |l, d| {
            masked::nelbo(l, x_0, MASK, MASK, 1.0, d)
        })?;
    }

    /// A model that knows x_0 loses nothing, and none loses less.
    #[test]
    fn divergences_are_not_negative(logits in logits(), x_0 in 0..V as u32, x_t in 0..V as u32, (t, s) in two_alpha_bars()) {
        let known: Vec<f64> = (0..V as u32).map(|k| if k == x_0 { 300.0 } else { 0.0 }).collect();
        for classes in [uniform(V, t), d3pm(V, t, s, 0.0), d3pm(V, t, 1.0, 0.3), flow()] {
            let terms = classes.of(x_0, x_t, None);
            prop_assert!(divergence(Link::Softmax, terms, &logits, x_0, x_t, None, None) >= -1e-12);
            prop_assert!(divergence(Link::Softmax, terms, &known, x_0, x_t, None, None).abs() < 1e-12);
        }
    }
}
