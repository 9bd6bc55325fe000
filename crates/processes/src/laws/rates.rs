use super::{distribution, one_hot};
use crate::objectives::score_entropy::log_score_of;
use crate::rates::{FlowRates, rates_from, rates_into, reverse_rates, undo_step};
use crate::{Categorical, Hybrid, Interpolating, Limit, Scheduled, TokenProcess};
use galatea_schedules::{LogLinear, Power, Schedule};
use proptest::prelude::*;

const V: usize = 6;

fn marginal(process: &impl TokenProcess, t: f64, p: &[f64]) -> Vec<f64> {
    let mut q = vec![0.0; V];
    process.marginal(t, p, &mut q);
    q
}

/// p_t(y) / p_t(x_t) of data distributed as `p`.
fn score(process: &impl TokenProcess, t: f64, p: &[f64], x_t: u32) -> Vec<f64> {
    let q = marginal(process, t, p);
    q.iter().map(|y| y / q[x_t as usize]).collect()
}

fn check_undone<P: Interpolating + TokenProcess>(process: &P, p: &[f64], x_t: u32, t: f64, s: f64) {
    let mut found = score(process, t, p, x_t);
    undo_step(process, t, s, &mut found);
    process.weigh(t, s, x_t, &mut found);
    let mut expected = vec![0.0; V];
    process.posterior(t, s, x_t, p, &mut expected);
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() < 1e-11, "{found} {expected}");
    }
}

/// A short step of the reversed chain is the posterior.
fn check_rates<P: Interpolating + TokenProcess>(process: &P, p: &[f64], x_t: u32, t: f64) {
    let h = 1e-5;
    let log_score: Vec<f64> = score(process, t, p, x_t).iter().map(|s| s.ln()).collect();
    let (mut rates, mut posterior) = (vec![0.0; V], vec![0.0; V]);
    reverse_rates(process, t, x_t, &log_score, &mut rates);
    process.posterior(t, t - h, x_t, p, &mut posterior);
    assert!(rates.iter().sum::<f64>().abs() < 1e-12 * rates[x_t as usize].abs().max(1.0));
    for (k, (rate, q)) in rates.iter().zip(&posterior).enumerate() {
        let expected = (q - f64::from(u8::from(k == x_t as usize))) / h;
        assert!((rate - expected).abs() < 1e-3 * expected.abs().max(1.0), "{k}: {rate} {expected}");
    }
}

proptest! {
    /// The forward rates are the chain over a short step, by row and by column.
    #[test]
    fn forward_rates_are_those_of_a_short_step(x in 0..V as u32, t in 0.1..0.9f64) {
        let h = 1e-6;
        let hybrid = Hybrid::new(V, 2, 0.2, 1.0).unwrap();
        let (mut from, mut into, mut likelihood) = (vec![0.0; V], vec![0.0; V], vec![0.0; V]);
        rates_from(&hybrid, t, x, &mut from);
        rates_into(&hybrid, t, x, &mut into);
        for y in 0..V as u32 {
            let same = f64::from(u8::from(x == y));
            likelihood.fill(1.0);
            hybrid.weigh(t, t - h, y, &mut likelihood);
            let expected = (likelihood[x as usize] - same) / h;
            prop_assert!((from[y as usize] - expected).abs() < 1e-4 * expected.abs().max(1.0));
            likelihood.fill(1.0);
            hybrid.weigh(t, t - h, x, &mut likelihood);
            let expected = (likelihood[y as usize] - same) / h;
            prop_assert!((into[y as usize] - expected).abs() < 1e-4 * expected.abs().max(1.0));
        }
        prop_assert!(from.iter().sum::<f64>().abs() < 1e-12);
    }

    #[test]
    fn undone_step_times_the_likelihood_is_the_posterior(p in distribution(V), x_t in 0..V as u32, a in 0.05..0.9f64, b in 0.05..0.9f64) {
        let (s, t) = (a.min(b), a.max(b));
        check_undone(&Scheduled::new(Categorical::new(V, Limit::Uniform).unwrap(), LogLinear::default()), &p, x_t, t, s);
        check_undone(&Scheduled::new(Categorical::new(V, Limit::Mask(2)).unwrap(), LogLinear::default()), &p, x_t, t, s);
        check_undone(&Hybrid::new(V, 2, 0.2, 1.0).unwrap(), &p, x_t, t, s);
    }

    #[test]
    fn reverse_rates_are_the_posterior_of_a_short_step(p in distribution(V), x_t in 0..V as u32, t in 0.1..0.9f64) {
        check_rates(&Scheduled::new(Categorical::new(V, Limit::Uniform).unwrap(), LogLinear::default()), &p, x_t, t);
        check_rates(&Scheduled::new(Categorical::new(V, Limit::Mask(2)).unwrap(), LogLinear::default()), &p, x_t, t);
        check_rates(&Hybrid::new(V, 2, 0.2, 1.0).unwrap(), &p, x_t, t);
    }

    /// Kolmogorov's equation: the flow carries the path's marginals along, and its correction leaves them where they are.
    #[test]
    fn flow_rates_carry_the_marginals(x_0 in 0..V as u32, t in 0.05..0.95f64, n in 0.5..3.0f64, correction in 0.0..2.0f64, mask in any::<bool>()) {
        let limit = if mask { Limit::Mask((x_0 + 1) % V as u32) } else { Limit::Uniform };
        let process = Categorical::new(V, limit).unwrap();
        let path = Scheduled::new(process, Power::new(n).unwrap());
        let schedule = path.schedule();
        let rates = FlowRates::new(schedule.alpha_bar(t), -schedule.alpha_bar_derivative(t), correction);
        let q = marginal(&path, t, &one_hot(V, x_0));
        let pi = process.prior();
        for y in 0..V as u32 {
            let mut change = 0.0;
            for x in 0..V as u32 {
                change += q[x as usize] * rates.rate(x_0, x, y, pi[y as usize]);
                change -= q[y as usize] * rates.rate(x_0, y, x, pi[x as usize]);
            }
            // Time runs towards the data.
            let expected = -schedule.alpha_bar_derivative(t) * (f64::from(u8::from(y == x_0)) - pi[y as usize]);
            prop_assert!((change - expected).abs() < 1e-11 * (1.0 + expected.abs() + rates.to_noise), "{} {}", change, expected);
            let sum: f64 = (0..V as u32).map(|k| rates.rate(x_0, y, k, pi[k as usize])).sum();
            prop_assert!((sum - rates.intensity(x_0, y, pi[y as usize])).abs() < 1e-12 * (1.0 + sum));
        }
    }
}

#[test]
fn scores_of_a_clean_token_undo_to_it() {
    // log_score_of and undo_step agree on what a score is.
    let process = Scheduled::new(Categorical::new(V, Limit::Uniform).unwrap(), LogLinear::default());
    let mut score = vec![0.0; V];
    log_score_of(Limit::Uniform, &one_hot(V, 3), 1, process.schedule().alpha_bar(0.6), &mut score);
    score.iter_mut().for_each(|s| *s = s.exp());
    undo_step(&process, 0.6, 0.0, &mut score);
    for (k, s) in score.iter().enumerate() {
        assert_eq!(k == 3, *s > 1e-12, "{score:?}");
    }
}
