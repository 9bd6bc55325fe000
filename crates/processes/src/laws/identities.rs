//! The systems of the literature that are one object, each pair as a law.

use super::one_hot;
use crate::objectives::{d3pm, flow, interpolating, masked, score_entropy, softmax, uniform};
use crate::{Categorical, Hybrid, Limit, Scheduled, TokenProcess};
use galatea_schedules::{Linear, LogLinear, Power, Schedule};
use proptest::prelude::*;

const V: usize = 6;
const MASK: u32 = 5;

fn logits() -> impl Strategy<Value = Vec<f64>> {
    proptest::collection::vec(-2.0..2.0f64, V)
}

/// softmax of the logits without the mask.
fn subs(logits: &[f64]) -> Vec<f64> {
    let mut p = logits.to_vec();
    masked::subs(&mut p, MASK, MASK);
    p.iter().map(|l| l.exp()).collect()
}

fn softmaxed(logits: &[f64]) -> Vec<f64> {
    let mut p = logits.to_vec();
    softmax(&mut p);
    p
}

/// UDLM's form of the uniform NELBO, a sum over the vocabulary: the oracle of the one-pass form.
fn udlm(p: &[f64], x_0: u32, x_t: u32, alpha_bar: f64, alpha_bar_derivative: f64) -> f64 {
    let (v, z) = (p.len() as f64, x_t as usize);
    let x_bar = |q: f64| v * alpha_bar * q + 1.0 - alpha_bar;
    let truth: Vec<f64> = one_hot(p.len(), x_0).into_iter().map(x_bar).collect();
    let model: Vec<f64> = p.iter().copied().map(x_bar).collect();
    let sum: f64 = (0..p.len())
        .map(|j| truth[j] / truth[z] * (model[z].ln() - model[j].ln() + truth[j].ln() - truth[z].ln()))
        .sum();
    alpha_bar_derivative / (v * alpha_bar) * (v / truth[z] - v / model[z] - sum)
}

/// lim T KL(q(x_s | x_t, x_0) || q(x_s | x_t, p)) at t, from two lengths of chain with the first order removed.
fn limit_of_the_chain(process: &impl TokenProcess, logits: &[f64], x_0: u32, x_t: u32, t: f64) -> f64 {
    let mut scratch = d3pm::Scratch::new(V);
    let mut kl =
        |steps: f64| steps * d3pm::loss(process, logits, x_0, x_t, t, t - 1.0 / steps, 0.0, &mut scratch, None);
    2.0 * kl(8000.0) - kl(4000.0)
}

proptest! {
    /// SEDD with the absorbing graph = MDLM = cross-entropy over t = the limit of D3PM.
    #[test]
    fn absorbing_sedd_is_mdlm_is_cross_entropy_over_t_is_the_limit_of_d3pm(logits in logits(), x_0 in 0..MASK, t in 0.05..0.95f64, eps in 0.0..0.1f64) {
        let schedule = LogLinear::new(eps).unwrap();
        let (limit, a) = (Limit::Mask(MASK), schedule.alpha_bar(t));
        let mdlm = masked::nelbo(&logits, x_0, MASK, MASK, masked::weight(&schedule, t), None);
        let p = subs(&logits);
        prop_assert!((mdlm + p[x_0 as usize].ln() / t).abs() < 1e-12 * mdlm, "cross-entropy over t");
        let mut log_score = vec![0.0; V];
        score_entropy::log_score_of(limit, &p, MASK, a, &mut log_score);
        let sedd = score_entropy::loss(limit, &log_score, x_0, MASK, a, schedule.rate(t), None);
        prop_assert!((sedd - mdlm).abs() < 1e-10 * (1.0 + mdlm), "{} {}", sedd, mdlm);
        // D3PM's network may give the mask probability; SUBS forbids it.
        let mut forbidden = logits.clone();
        forbidden[MASK as usize] = f64::NEG_INFINITY;
        let process = Scheduled::new(Categorical::new(V, limit).unwrap(), schedule);
        let d3pm = limit_of_the_chain(&process, &forbidden, x_0, MASK, t);
        prop_assert!((d3pm - mdlm).abs() < 1e-4 * mdlm.max(1.0), "{} {}", d3pm, mdlm);
    }

    /// UDLM = Duo.
    #[test]
    fn udlm_is_duo_in_one_pass(logits in logits(), x_0 in 0..V as u32, x_t in 0..V as u32, a in 0.001..0.999f64) {
        let p = softmaxed(&logits);
        for x_t in [x_t, x_0] {
            let found = uniform::nelbo(&logits, x_0, x_t, a, -1.3, None);
            let expected = udlm(&p, x_0, x_t, a, -1.3);
            prop_assert!((found - expected).abs() <= 1e-9 * expected.abs().max(1.0), "{found} {expected}");
            prop_assert!(found >= -1e-9);
        }
        prop_assert_eq!(uniform::nelbo(&logits, x_0, x_t, 0.0, -1.0, None), 0.0);
    }

    /// Duo = SEDD with the uniform graph = lim T KL.
    #[test]
    fn duo_is_uniform_sedd_is_the_limit_of_d3pm(logits in logits(), x_0 in 0..V as u32, x_t in 0..V as u32, t in 0.1..0.9f64) {
        let schedule = LogLinear::default();
        let (a, slope) = (schedule.alpha_bar(t), schedule.alpha_bar_derivative(t));
        let process = Scheduled::new(Categorical::new(V, Limit::Uniform).unwrap(), schedule);
        let mut log_score = vec![0.0; V];
        for x_t in [x_t, x_0] {
            let duo = uniform::nelbo(&logits, x_0, x_t, a, slope, None);
            score_entropy::log_score_of(Limit::Uniform, &softmaxed(&logits), x_t, a, &mut log_score);
            let sedd = score_entropy::loss(Limit::Uniform, &log_score, x_0, x_t, a, schedule.rate(t), None);
            prop_assert!((sedd - duo).abs() < 1e-10 * (1.0 + duo), "{} {}", sedd, duo);
            let limit = limit_of_the_chain(&process, &logits, x_0, x_t, t);
            prop_assert!((limit - duo).abs() < 1e-4 * duo.max(1e-2), "{} {}", limit, duo);
        }
    }

    /// GIDD's bound is the limit of the posterior KL for every hybrid, and of the closed forms it contains.
    #[test]
    fn gidd_is_the_limit_of_d3pm(logits in logits(), x_0 in 0..MASK, x_t in 0..V as u32, t in 0.1..0.9f64, p in 0.05..0.5f64, gamma in 0.5..2.0f64) {
        let process = Hybrid::new(V, MASK, p, gamma).unwrap();
        let mut forbidden = logits.clone();
        forbidden[MASK as usize] = f64::NEG_INFINITY;
        for x_t in [x_t, x_0, MASK] {
            let weight = interpolating::weight(&process, x_0, x_t, t);
            let gidd = interpolating::nelbo(&process, &logits, x_0, x_t, t, weight, None);
            let limit = limit_of_the_chain(&process, &forbidden, x_0, x_t, t);
            prop_assert!((limit - gidd).abs() < 1e-4 * gidd.max(1e-1), "{} {} at {}", limit, gidd, x_t);
        }
    }

    #[test]
    fn gidd_without_uniform_noise_is_mdlm(logits in logits(), x_0 in 0..MASK, t in 0.01..0.99f64, gamma in 0.5..2.0f64) {
        let hybrid = Hybrid::new(V, MASK, 0.0, gamma).unwrap();
        let masked_process = Scheduled::new(Categorical::new(V, Limit::Mask(MASK)).unwrap(), Linear);
        let (mut d_gidd, mut d_mdlm) = (vec![f64::NAN; V], vec![f64::NAN; V]);
        let mdlm = masked::nelbo(&logits, x_0, MASK, MASK, masked::weight(&Linear, t), Some(&mut d_mdlm));
        let weight = interpolating::weight(&hybrid, x_0, MASK, t);
        let gidd = interpolating::nelbo(&hybrid, &logits, x_0, MASK, t, weight, Some(&mut d_gidd));
        prop_assert!((gidd - mdlm).abs() < 1e-12 * mdlm);
        prop_assert!(d_gidd.iter().zip(&d_mdlm).all(|(a, b)| (a - b).abs() < 1e-12 * weight));
        let weight = interpolating::weight(&masked_process, x_0, MASK, t);
        prop_assert!((interpolating::nelbo(&masked_process, &logits, x_0, MASK, t, weight, None) - mdlm).abs() < 1e-11 * mdlm);
        // A token that is shown costs nothing in either.
        prop_assert_eq!(interpolating::weight(&hybrid, x_0, x_0, t), 0.0);
    }

    #[test]
    fn gidd_without_a_mask_is_duo(logits in logits(), x_0 in 0..V as u32, x_t in 0..V as u32, t in 0.01..0.99f64) {
        let process = Scheduled::new(Categorical::new(V, Limit::Uniform).unwrap(), Linear);
        for x_t in [x_t, x_0] {
            let (mut d_gidd, mut d_duo) = (vec![f64::NAN; V], vec![f64::NAN; V]);
            let duo = uniform::nelbo(&logits, x_0, x_t, 1.0 - t, -1.0, Some(&mut d_duo));
            let weight = interpolating::weight(&process, x_0, x_t, t);
            let gidd = interpolating::nelbo(&process, &logits, x_0, x_t, t, weight, Some(&mut d_gidd));
            prop_assert!((gidd - duo).abs() < 1e-9 * (1.0 + duo), "{} {}", gidd, duo);
            prop_assert!(d_gidd.iter().zip(&d_duo).all(|(a, b)| (a - b).abs() < 1e-9 * (1.0 + weight)));
        }
    }

    /// The generalised KL of flow matching with a mask source = MDLM, for every kappa.
    #[test]
    fn flow_matching_from_masks_is_mdlm(logits in logits(), x_0 in 0..MASK, t in 0.05..0.95f64, n in 0.5..3.0f64) {
        let schedule = Power::new(n).unwrap();
        let mut log_p = logits.clone();
        masked::subs(&mut log_p, MASK, MASK);
        let (kappa, slope) = (schedule.alpha_bar(t), -schedule.alpha_bar_derivative(t));
        let found = flow::loss(&log_p, x_0, MASK, kappa, slope, None);
        let mdlm = masked::nelbo(&logits, x_0, MASK, MASK, masked::weight(&schedule, t), None);
        prop_assert!((found - mdlm).abs() < 1e-12 * (1.0 + mdlm));
    }

    /// The SEDD parameterisation and the clean-token one are the same information.
    #[test]
    fn log_scores_and_clean_distributions_are_one_to_one(logits in logits(), x_t in 0..V as u32, a in 0.05..0.95f64) {
        let (mut log_score, mut back) = (vec![0.0; V], vec![0.0; V]);
        for (limit, p, x_t) in [(Limit::Uniform, softmaxed(&logits), x_t), (Limit::Mask(MASK), subs(&logits), MASK)] {
            score_entropy::log_score_of(limit, &p, x_t, a, &mut log_score);
            prop_assert_eq!(log_score[x_t as usize], 0.0);
            score_entropy::x_0_of_log_score(limit, &log_score, x_t, a, &mut back);
            prop_assert!(back.iter().zip(&p).all(|(b, p)| (b - p).abs() < 1e-12), "{:?} {:?}", back, p);
        }
    }
}

/// A network that says nothing (zeros) means an even guess after SEDD's scaling.
#[test]
fn scaled_zeros_are_the_score_of_an_even_guess() {
    for a in [0.1, 0.5, 0.99] {
        let mut scaled = vec![0.0; V];
        score_entropy::read_output(&mut scaled, MASK, Some(-f64::ln(a)));
        let mut even = vec![1.0 / (V - 1) as f64; V];
        even[MASK as usize] = 0.0;
        let mut expected = vec![0.0; V];
        score_entropy::log_score_of(Limit::Mask(MASK), &even, MASK, a, &mut expected);
        assert!(scaled.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-14), "{scaled:?} {expected:?}");
    }
    let mut nothing = [0.0; V];
    score_entropy::x_0_of_log_score(Limit::Mask(MASK), &[f64::NEG_INFINITY; V], MASK, 0.5, &mut nothing);
    assert_eq!(nothing.to_vec(), one_hot(V, MASK));
}
