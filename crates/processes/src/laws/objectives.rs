use super::{check_gradient, distribution, one_hot, two_alpha_bars};
use crate::dense::nearest_neighbour_rates;
use crate::objectives::rounding::Rounding;
use crate::objectives::{
    Batch, batch, d3pm, embedding, flow, log_sum_exp, masked, rounding, score_entropy, softmax, uniform,
};
use crate::{Categorical, Dense, Error, Hybrid, Limit, Scheduled, TokenProcess};
use galatea_fixtures::derivative;
use galatea_schedules::{Linear, LogLinear, Schedule, Sine, Squeeze};
use ndarray::{Array1, Array2, Array3, array};
use proptest::prelude::*;

const V: usize = 6;
const MASK: u32 = 5;

fn logits() -> impl Strategy<Value = Vec<f64>> {
    proptest::collection::vec(-2.0..2.0f64, V)
}

fn probabilities(logits: &[f64]) -> Vec<f64> {
    let mut p = logits.to_vec();
    softmax(&mut p);
    p
}

proptest! {
    #[test]
    fn masked_nelbo_is_the_limit_of_the_chain(logits in logits(), x_0 in 0..MASK, t in 0.05..0.95f64, eps in 1e-4..0.1f64) {
        let process = Categorical::new(V, Limit::Mask(MASK)).unwrap();
        let mut log_p = logits.clone();
        masked::subs(&mut log_p, MASK, MASK);
        let p: Vec<f64> = log_p.iter().map(|l| l.exp()).collect();
        let schedule = Squeeze::md4(Sine, eps).unwrap();
        let continuous = masked::nelbo(&logits, x_0, MASK, MASK, masked::weight(&schedule, t), None);
        // The finite-T weight is T KL exactly, and T KL approaches the continuous bound with an error of order 1/T.
        let kl = |steps: usize| {
            let (a_t, a_s) = (schedule.alpha_bar(t), schedule.alpha_bar(t - 1.0 / steps as f64));
            let exact = steps as f64 * process.posterior_kl(a_t, a_s, MASK, x_0, &p);
            let weight = masked::weight_of_steps(a_t, a_s, steps);
            assert!((masked::nelbo(&logits, x_0, MASK, MASK, weight, None) / exact - 1.0).abs() < 1e-8);
            exact
        };
        // Extrapolating two lengths removes the first order.
        let limit = 2.0 * kl(20_000) - kl(10_000);
        prop_assert!((limit / continuous - 1.0).abs() < 1e-5, "{limit} {continuous}");
    }

    #[test]
    fn masked_gradient(logits in logits(), x_0 in 0..MASK, weight in 0.1..5.0f64) {
        let mut gradient = vec![f64::NAN; V];
        masked::nelbo(&logits, x_0, MASK, MASK, weight, Some(&mut gradient));
        check_gradient(&logits, &gradient, |l| masked::nelbo(l, x_0, MASK, MASK, weight, None));
        prop_assert_eq!(gradient[MASK as usize], 0.0);
        prop_assert_eq!(masked::nelbo(&logits, x_0, x_0, MASK, weight, Some(&mut gradient)), 0.0);
        prop_assert_eq!(gradient, vec![0.0; V]);
    }

    #[test]
    fn masked_weight_of_linear_and_log_linear_is_one_over_t(t in 0.001..1.0f64, eps in 0.0..0.5f64) {
        prop_assert!((masked::weight(&Linear, t) * t - 1.0).abs() < 1e-12);
        prop_assert!((masked::weight(&LogLinear::new(eps).unwrap(), t) * t - 1.0).abs() < 1e-12);
        // LLaDA: p = (1 - eps) t + eps and a plain 1 / p; the bound's weight has the factor 1 - eps as well.
        let llada = Squeeze::new(Linear, 0.0, 1.0 - eps).unwrap();
        let p = (1.0 - eps) * t + eps;
        prop_assert!((masked::weight(&llada, t) * p - (1.0 - eps)).abs() < 1e-12);
    }

    #[test]
    fn subs_is_a_distribution_without_the_mask(logits in logits(), x_t in 0..V as u32) {
        let mut log_p = logits.clone();
        masked::subs(&mut log_p, x_t, MASK);
        let total: f64 = log_p.iter().map(|l| l.exp()).sum();
        prop_assert!((total - 1.0).abs() < 1e-14);
        if x_t != MASK {
            prop_assert_eq!(log_p[x_t as usize], 0.0);
        } else {
            prop_assert_eq!(log_p[MASK as usize], f64::NEG_INFINITY);
        }
    }

    #[test]
    fn uniform_gradient(logits in logits(), x_0 in 0..V as u32, x_t in 0..V as u32, a in 0.05..0.95f64) {
        for x_t in [x_t, x_0] {
            let mut gradient = vec![f64::NAN; V];
            uniform::nelbo(&logits, x_0, x_t, a, -0.7, Some(&mut gradient));
            check_gradient(&logits, &gradient, |l| uniform::nelbo(l, x_0, x_t, a, -0.7, None));
        }
    }

    #[test]
    fn a_score_network_that_says_nothing_is_scaled_to_the_truth(sigma in 0.01..8.0f64, x_t in 0..V as u32) {
        // Equal outputs: the ratios of a mask sum to that of its own alternatives, alpha_bar / (1 - alpha_bar).
        let mut log_score = vec![0.0; V];
        score_entropy::read_output(&mut log_score, x_t, Some(sigma));
        let ratios: f64 = (0..V).filter(|&k| k != x_t as usize).map(|k| log_score[k].exp()).sum();
        let alpha_bar = (-sigma).exp();
        prop_assert!((ratios / (alpha_bar / (1.0 - alpha_bar)) - 1.0).abs() < 1e-12);
        prop_assert_eq!(log_score[x_t as usize], 0.0);
        // Without a scale the output is the log score itself.
        let mut plain: Vec<f64> = (0..V).map(|k| k as f64).collect();
        score_entropy::read_output(&mut plain, 2, None);
        prop_assert_eq!(plain[2], 0.0);
        prop_assert!((0..V).filter(|&k| k != 2).all(|k| plain[k] == k as f64));
    }

    #[test]
    fn score_entropy_gradient(log_score in logits(), x_0 in 0..MASK, x_t in 0..V as u32, a in 0.05..0.95f64) {
        for (limit, x_t) in [(Limit::Uniform, x_t), (Limit::Uniform, x_0), (Limit::Mask(MASK), MASK), (Limit::Mask(MASK), x_0)] {
            let mut gradient = vec![f64::NAN; V];
            score_entropy::loss(limit, &log_score, x_0, x_t, a, 1.7, Some(&mut gradient));
            check_gradient(&log_score, &gradient, |s| score_entropy::loss(limit, s, x_0, x_t, a, 1.7, None));
        }
    }

    #[test]
    fn score_entropy_is_least_at_the_truth(log_score in logits(), x_0 in 0..MASK, x_t in 0..V as u32, a in 0.05..0.95f64) {
        let mut truth = vec![0.0; V];
        score_entropy::log_score_of(Limit::Uniform, &one_hot(V, x_0), x_t, a, &mut truth);
        let least = score_entropy::loss(Limit::Uniform, &truth, x_0, x_t, a, 1.0, None);
        prop_assert!(least.abs() < 1e-12);
        prop_assert!(score_entropy::loss(Limit::Uniform, &log_score, x_0, x_t, a, 1.0, None) >= least - 1e-12);
    }

    #[test]
    fn flow_gradient(logits in logits(), x_1 in 0..V as u32, x_t in 0..V as u32, kappa in 0.05..0.95f64) {
        for x_t in [x_t, x_1] {
            let mut gradient = vec![f64::NAN; V];
            flow::loss(&logits, x_1, x_t, kappa, 1.2, Some(&mut gradient));
            check_gradient(&logits, &gradient, |l| flow::loss(l, x_1, x_t, kappa, 1.2, None));
        }
    }

    #[test]
    fn d3pm_gradient_and_value(logits in logits(), x_0 in 0..MASK, x_t in 0..V as u32, (a_t, a_s) in two_alpha_bars(), lambda in 0.0..1.0f64) {
        let (t, s) = (1.0 - a_t, 1.0 - a_s);
        let mut scratch = d3pm::Scratch::new(V);
        for (limit, x_t) in [(Limit::Uniform, x_t), (Limit::Uniform, x_0), (Limit::Mask(MASK), MASK), (Limit::Mask(MASK), x_0)] {
            let process = Categorical::new(V, limit).unwrap();
            let timed = Scheduled::new(process, Linear);
            let mut gradient = vec![f64::NAN; V];
            let loss = d3pm::loss(&timed, &logits, x_0, x_t, t, s, lambda, &mut scratch, Some(&mut gradient));
            let again = |l: &[f64]| d3pm::loss(&timed, l, x_0, x_t, t, s, lambda, &mut d3pm::Scratch::new(V), None);
            check_gradient(&logits, &gradient, again);
            let p = probabilities(&logits);
            let expected = process.posterior_kl(a_t, a_s, x_t, x_0, &p) - lambda * p[x_0 as usize].ln();
            prop_assert!((loss - expected).abs() < 1e-11, "{} {}", loss, expected);
            d3pm::cross_entropy(&logits, x_0, Some(&mut gradient));
            check_gradient(&logits, &gradient, |l| d3pm::cross_entropy(l, x_0, None));
        }
    }

    #[test]
    fn d3pm_gradient_for_matrices_and_hybrids(logits in logits(), x_0 in 0..MASK, x_t in 0..V as u32, step in 1usize..6, lambda in 0.0..1.0f64) {
        let betas = [0.1, 0.2, 0.3, 0.4, 0.5, 0.9];
        let band = Dense::band(V, &betas, 2).unwrap();
        let walk = nearest_neighbour_rates(&Array2::from_shape_fn((V, 2), |(i, j)| (i * i + 3 * j) as f64), 2).unwrap();
        let nearest = Dense::exponential(&walk, &betas).unwrap();
        let hybrid = Hybrid::new(V, MASK, 0.2, 1.0).unwrap();
        let (t, s) = ((step + 1) as f64 / 6.0, step as f64 / 6.0);
        for process in [&band as &dyn TokenProcess, &nearest, &hybrid] {
            let mut gradient = vec![f64::NAN; V];
            let loss = |l: &[f64], g: Option<&mut [f64]>| {
                d3pm::loss(process, l, x_0, x_t, t.min(0.99), s, lambda, &mut d3pm::Scratch::new(V), g)
            };
            let found = loss(&logits, Some(&mut gradient));
            check_gradient(&logits, &gradient, |l| loss(l, None));
            // The KL of the two posteriors, written out.
            let (mut q, mut p) = (vec![0.0; V], vec![0.0; V]);
            process.posterior(t.min(0.99), s, x_t, &one_hot(V, x_0), &mut q);
            process.posterior(t.min(0.99), s, x_t, &probabilities(&logits), &mut p);
            let kl: f64 = q.iter().zip(&p).filter(|(q, _)| **q > 0.0).map(|(q, p)| q * (q / p).ln()).sum();
            let mut marginal = vec![0.0; V];
            process.marginal(t.min(0.99), &one_hot(V, x_0), &mut marginal);
            if marginal[x_t as usize] > 0.0 {
                let expected = kl - lambda * probabilities(&logits)[x_0 as usize].ln();
                prop_assert!((found - expected).abs() < 1e-11, "{} {}", found, expected);
            }
        }
    }

    /// A model that knows the data's law pays exactly its entropy: the bound is tight. (For the uniform process that
    /// law is p(x_0) given the *other* tokens; the observed token is accounted for by the posterior.)
    #[test]
    fn uniform_bound_at_the_truth_is_the_entropy(p in distribution(4)) {
        let process = Categorical::new(4, Limit::Uniform).unwrap();
        let logits: Vec<f64> = p.iter().map(|p| p.ln()).collect();
        let expected_loss = |t: f64| -> f64 {
            let a = Linear.alpha_bar(t);
            let mut mean = 0.0;
            for x_0 in 0..4u32 {
                for (x_t, q) in process.marginal(x_0, a).iter().enumerate() {
                    mean += p[x_0 as usize] * q * uniform::nelbo(&logits, x_0, x_t as u32, a, -1.0, None);
                }
            }
            mean
        };
        // Substituting t = u^3 tames the logarithmic peak at t = 0; Simpson's rule does the rest.
        let (n, mut integral) = (2000, 0.0);
        for i in 1..=n {
            let u = f64::from(i) / f64::from(n);
            let weight = if i == n { 1.0 } else if i % 2 == 1 { 4.0 } else { 2.0 };
            integral += weight * 3.0 * u * u * expected_loss((u * u * u).min(1.0 - 1e-9)) / (3.0 * f64::from(n));
        }
        let entropy: f64 = p.iter().map(|p| -p * p.ln()).sum();
        prop_assert!((integral - entropy).abs() < 1e-5, "{integral} {entropy}");
    }

    #[test]
    fn rounding_gradients(h in proptest::collection::vec(-1.0..1.0f64, 3), table in proptest::collection::vec(-1.5..1.5f64, V * 3), token in 0..V as u32) {
        let embeddings = Array2::from_shape_vec((V, 3), table.clone()).unwrap();
        let bias = Array1::linspace(-0.5, 0.5, V);
        for kind in [Rounding::Dot, Rounding::Distance, Rounding::Bayes { alpha_bar: 0.4 }] {
            let mut dlogits = vec![0.0; V];
            kind.nll(&h, &embeddings, Some(&bias), token, &mut dlogits);
            let (mut dh, mut dembeddings) = (vec![0.0; 3], Array2::zeros((V, 3)));
            kind.backward(&dlogits, &h, &embeddings, &mut dh, Some(&mut dembeddings));
            let loss = |h: &[f64], embeddings: &Array2<f64>, bias: &Array1<f64>| {
                kind.nll(h, embeddings, Some(bias), token, &mut [0.0; V])
            };
            let away = embeddings.outer_iter().all(|e| e.iter().zip(&h).any(|(e, h)| (e - h).abs() > 0.1));
            if away {
                check_gradient_loosely(&h, &dh, |h| loss(h, &embeddings, &bias));
                let flat: Vec<f64> = dembeddings.iter().copied().collect();
                check_gradient_loosely(&table, &flat, |t| loss(&h, &Array2::from_shape_vec((V, 3), t.to_vec()).unwrap(), &bias));
            }
            check_gradient(&bias.to_vec(), &dlogits, |b| loss(&h, &embeddings, &Array1::from(b.to_vec())));
        }
    }

    #[test]
    fn distance_logits_choose_the_nearest(h in proptest::collection::vec(-1.0..1.0f64, 3), table in proptest::collection::vec(-1.5..1.5f64, V * 3)) {
        let embeddings = Array2::from_shape_vec((V, 3), table).unwrap();
        let mut logits = vec![0.0; V];
        Rounding::Distance.logits(&h, &embeddings, None, &mut logits);
        let best = (0..V).max_by(|&i, &j| logits[i].total_cmp(&logits[j])).unwrap();
        prop_assert_eq!(rounding::nearest(&h, &embeddings) as usize, best);
    }

    #[test]
    fn bayes_logits_are_the_posterior(h in proptest::collection::vec(-1.0..1.0f64, 3), table in proptest::collection::vec(-1.5..1.5f64, V * 3), a in 0.05..0.95f64) {
        let embeddings = Array2::from_shape_vec((V, 3), table).unwrap();
        let mut logits = vec![0.0; V];
        Rounding::Bayes { alpha_bar: a }.logits(&h, &embeddings, None, &mut logits);
        let mut densities: Vec<f64> = embeddings.outer_iter()
            .map(|e| -e.iter().zip(&h).map(|(e, h)| (h - a.sqrt() * e).powi(2)).sum::<f64>() / (2.0 * (1.0 - a)))
            .collect();
        softmax(&mut densities);
        softmax(&mut logits);
        for (found, expected) in logits.iter().zip(densities) {
            prop_assert!((found - expected).abs() < 1e-12);
        }
    }

    #[test]
    fn embedding_gradients(x in proptest::collection::vec(-2.0..2.0f64, 5), y in proptest::collection::vec(-2.0..2.0f64, 5)) {
        let mut gradient = vec![f64::NAN; 5];
        embedding::mse(&x, &y, Some(&mut gradient));
        check_gradient(&x, &gradient, |x| embedding::mse(x, &y, None));
        embedding::prior(&x, 0.3, Some(&mut gradient));
        check_gradient(&x, &gradient, |x| embedding::prior(x, 0.3, None));
    }
}

/// Distances bend near 0, so their finite differences are good to 1e-4 only.
fn check_gradient_loosely(at: &[f64], gradient: &[f64], loss: impl Fn(&[f64]) -> f64) {
    for k in 0..at.len() {
        let along = |x: f64| {
            let mut moved = at.to_vec();
            moved[k] = x;
            loss(&moved)
        };
        let expected = derivative(along, at[k], 1e-4);
        assert!((gradient[k] - expected).abs() < 1e-6, "coordinate {k}: {} {expected}", gradient[k]);
    }
}

#[test]
fn masked_bound_at_the_truth_is_the_entropy() {
    // A single token of law p: masked with probability t at weight 1/t costs H(p) at every t.
    let p = [0.5f64, 0.25, 0.125, 0.125];
    let logits: Vec<f64> = p.iter().map(|p| p.ln()).chain([3.0]).collect();
    let entropy: f64 = p.iter().map(|p| -p * p.ln()).sum();
    for t in [0.1, 0.5, 1.0] {
        let mean: f64 = (0..4u32)
            .map(|x_0| p[x_0 as usize] * t * masked::nelbo(&logits, x_0, 4, 4, masked::weight(&Linear, t), None))
            .sum();
        assert!((mean - entropy).abs() < 1e-12);
    }
}

#[test]
fn large_logits_stay_finite() {
    let logits = [1e4, -1e4, 0.0, 5e3, 0.0, 1e5];
    let mut gradient = [f64::NAN; V];
    assert_eq!(masked::nelbo(&logits, 1, MASK, MASK, 2.0, Some(&mut gradient)), 4e4);
    assert!(gradient.iter().all(|g| g.is_finite()));
    assert!(uniform::nelbo(&logits, 1, 2, 0.3, -1.0, Some(&mut gradient)).is_finite());
    assert!(gradient.iter().all(|g| g.is_finite()));
    assert_eq!(log_sum_exp(&[f64::NEG_INFINITY; 3], None), f64::NEG_INFINITY);
}

#[test]
fn batches_are_rows() {
    let logits = Array3::from_shape_fn((2, 3, V), |(b, l, k)| ((b * 7 + l * 3 + k * 5) % 11) as f32 * 0.3);
    let (x_0, x_t) = (array![[0, 1, 2], [3, 4, 0]], array![[5, 1, 5], [5, 5, 0]]);
    let weights = [0.5, 2.0];
    let (mut loss, mut dlogits) = (Array2::zeros((2, 3)), Array3::from_elem((2, 3, V), f32::NAN));
    let arrays = Batch { x_0: &x_0, x_t: &x_t, logits: &logits };
    let objective = |row: crate::objectives::Row<'_>| {
        masked::nelbo(row.logits, row.x_0, row.x_t, MASK, weights[row.b], row.dlogits)
    };
    batch(arrays, &mut loss, Some(&mut dlogits), objective).unwrap();
    for b in 0..2 {
        for l in 0..3 {
            let row: Vec<f64> = (0..V).map(|k| f64::from(logits[[b, l, k]])).collect();
            let mut gradient = vec![0.0; V];
            let expected = masked::nelbo(&row, x_0[[b, l]], x_t[[b, l]], MASK, weights[b], Some(&mut gradient));
            assert_eq!(loss[[b, l]], expected);
            for k in 0..V {
                assert_eq!(dlogits[[b, l, k]], gradient[k] as f32);
            }
        }
    }
    let mut small = Array2::zeros((2, 2));
    assert!(batch(arrays, &mut small, None, objective).is_err());
    let outside = array![[0, 1, 9], [3, 4, 0]];
    assert!(batch(Batch { x_0: &outside, ..arrays }, &mut loss, None, objective).is_err());
    // What is no distribution stops at the border, with its place.
    for bad in [f32::NAN, f32::INFINITY] {
        let mut broken = logits.clone();
        broken[[1, 2, 4]] = bad;
        let error = batch(Batch { logits: &broken, ..arrays }, &mut loss, None, objective).unwrap_err();
        assert!(matches!(error, Error::Logits { row: 1, position: 2, id: 4, .. }), "{error}");
    }
    let mut forbidden = logits.clone();
    forbidden[[0, 0, 3]] = f32::NEG_INFINITY;
    assert!(batch(Batch { logits: &forbidden, ..arrays }, &mut loss, None, objective).is_ok());
    forbidden.fill(f32::NEG_INFINITY);
    assert!(matches!(
        batch(Batch { logits: &forbidden, ..arrays }, &mut loss, None, objective),
        Err(Error::Logits { .. })
    ));
}

#[test]
fn reconstruction_is_a_uniform_guess_at_what_is_masked() {
    assert!((masked::reconstruction(0.9, 6) - 0.1 * 5f64.ln()).abs() < 1e-15);
}
