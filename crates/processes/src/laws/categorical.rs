use super::{distribution, one_hot, two_alpha_bars};
use crate::{Categorical, Error, Limit};
use ndarray::{Array1, Array2, Axis, array};
use proptest::prelude::*;

const V: usize = 6;

fn both() -> impl Strategy<Value = Categorical> {
    prop_oneof![Just(Limit::Uniform), (0..V as u32).prop_map(Limit::Mask)]
        .prop_map(|limit| Categorical::new(V, limit).unwrap())
}

/// A token that the process can hold clean.
fn clean(process: &Categorical, token: u32) -> u32 {
    match process.limit() {
        Limit::Mask(mask) if mask == token => (token + 1) % V as u32,
        Limit::Mask(_) | Limit::Uniform => token,
    }
}

/// Bayes' rule with dense matrices: q(x_s | x_t, p) from the joint of a two-step chain 0 -> s -> t.
fn bayes(q_s: &Array2<f64>, q_ts: &Array2<f64>, p: &[f64], x_t: u32) -> Array1<f64> {
    let marginal = Array1::from(p.to_vec()).dot(q_s);
    let joint = &marginal * &q_ts.column(x_t as usize);
    let total = joint.sum();
    joint / total
}

fn posterior(process: &Categorical, a_t: f64, a_s: f64, x_t: u32, p: &[f64]) -> Array1<f64> {
    let mut q = vec![f64::NAN; V];
    process.posterior(a_t, a_s, x_t, p, &mut q);
    q.into()
}

fn close(a: &Array1<f64>, b: &Array1<f64>, tolerance: f64) -> bool {
    a.iter().zip(b).all(|(a, b)| (a - b).abs() <= tolerance)
}

proptest! {
    #[test]
    fn rows_of_q_sum_to_one(process in both(), r in 0.0..=1.0f64) {
        for matrix in [process.transition(r), process.q_bar(r)] {
            for row in matrix.rows() {
                prop_assert!((row.sum() - 1.0).abs() < 1e-15 && row.iter().all(|&q| q >= 0.0));
            }
        }
    }

    /// The textbook's quiz 4: the product of the dense one-step matrices is the closed form of Q_bar.
    #[test]
    fn product_of_q_is_q_bar(process in both(), betas in proptest::collection::vec(0.0..=1.0f64, 1..12)) {
        let mut product = Array2::eye(V);
        let mut alpha_bar = 1.0;
        for beta in betas {
            product = product.dot(&process.transition(1.0 - beta));
            alpha_bar *= 1.0 - beta;
            let error = (&product - &process.q_bar(alpha_bar)).mapv(f64::abs).fold(0.0, |m: f64, &x| m.max(x));
            prop_assert!(error < 1e-14, "{error:e}");
        }
    }

    #[test]
    fn chapman_kolmogorov(process in both(), a in distribution(3)) {
        // Three times u < s < t: going from u to t is going through s.
        let (a_u, a_s, a_t) = (1.0 - 0.3 * a[0], 0.9 - 0.5 * a[1], 0.3 * a[2] + 0.01);
        let through = process.transition(a_s / a_u).dot(&process.transition(a_t / a_s));
        let direct = process.transition(a_t / a_u);
        prop_assert!((through - direct).iter().all(|e| e.abs() < 1e-15));
    }

    #[test]
    fn marginal_is_a_row_of_q_bar(process in both(), x_0 in 0..V as u32, a in 0.0..=1.0f64) {
        prop_assert!(close(&process.marginal(x_0, a), &process.q_bar(a).row(x_0 as usize).to_owned(), 1e-16));
    }

    #[test]
    fn posterior_equals_bayes((process, p, x_t, x_0, (a_t, a_s)) in
        (both(), distribution(V), 0..V as u32, 0..V as u32, two_alpha_bars()))
    {
        let (q_s, q_ts) = (process.q_bar(a_s), process.transition(a_t / a_s));
        // Soft and hard x_0; x_0 = x_t is among the latter, and is also asked for by name.
        for p in [p, one_hot(V, x_0), one_hot(V, x_t)] {
            let expected = bayes(&q_s, &q_ts, &p, x_t);
            if expected.iter().any(|q| q.is_nan()) {
                continue; // A masked process cannot have produced this x_t from this x_0.
            }
            let found = posterior(&process, a_t, a_s, x_t, &p);
            prop_assert!(close(&found, &expected, 1e-14), "{found} {expected}");
            prop_assert!((found.sum() - 1.0).abs() < 1e-14);
        }
    }

    /// A chain of small steps, multiplied out, instead of one jump.
    #[test]
    fn posterior_equals_bayes_over_a_chain(process in both(), p in distribution(V), x_t in 0..V as u32,
        betas in proptest::collection::vec(0.01..0.5f64, 2..8), cut in 1usize..7)
    {
        let cut = cut.min(betas.len() - 1);
        let product = |betas: &[f64]| betas.iter().fold(Array2::eye(V), |m, b| m.dot(&process.transition(1.0 - b)));
        let left = |betas: &[f64]| betas.iter().map(|b| 1.0 - b).product::<f64>();
        let expected = bayes(&product(&betas[..cut]), &product(&betas[cut..]), &p, x_t);
        let found = posterior(&process, left(&betas), left(&betas[..cut]), x_t, &p);
        prop_assert!(close(&found, &expected, 1e-13));
    }

    #[test]
    fn posterior_into_clean_data_is_bayes_on_x_0(p in distribution(V), x_t in 0..V as u32, a_t in 0.0..0.99f64) {
        let process = Categorical::new(V, Limit::Uniform).unwrap();
        let likelihood = process.q_bar(a_t).column(x_t as usize).to_owned();
        let joint = &Array1::from(p.clone()) * &likelihood;
        let found = posterior(&process, a_t, 1.0, x_t, &p);
        prop_assert!(close(&found, &(&joint / joint.sum()), 1e-15));
        prop_assert_eq!(posterior(&process, a_t, 1.0, x_t, &one_hot(V, 2)), Array1::from(one_hot(V, 2)));
    }

    #[test]
    fn posterior_keeps_the_marginals(process in both(), x_0 in 0..V as u32, (a_t, a_s) in two_alpha_bars()) {
        // Averaged over x_t, the posterior gives back q(x_s | x_0).
        let x_0 = clean(&process, x_0);
        let mut mean = Array1::zeros(V);
        for (x_t, &weight) in process.marginal(x_0, a_t).iter().enumerate() {
            if weight > 0.0 {
                mean += &(posterior(&process, a_t, a_s, x_t as u32, &one_hot(V, x_0)) * weight);
            }
        }
        prop_assert!(close(&mean, &process.marginal(x_0, a_s), 1e-14));
    }

    #[test]
    fn posterior_is_linear_in_the_unnormalised_x_0(p in distribution(V), x_t in 0..V as u32, (a_t, a_s) in two_alpha_bars()) {
        // A soft posterior is the mixture of the hard ones, weighted by p(x_0) q(x_t | x_0).
        let process = Categorical::new(V, Limit::Uniform).unwrap();
        let (mut mixture, mut total) = (Array1::<f64>::zeros(V), 0.0);
        for k in 0..V as u32 {
            let weight = p[k as usize] * process.marginal(k, a_t)[x_t as usize];
            mixture += &(posterior(&process, a_t, a_s, x_t, &one_hot(V, k)) * weight);
            total += weight;
        }
        prop_assert!(close(&posterior(&process, a_t, a_s, x_t, &p), &(mixture / total), 1e-14));
    }

    #[test]
    fn routes_are_the_posterior(process in both(), x_t in 0..V as u32, x_0 in 0..V as u32, (a_t, a_s) in two_alpha_bars()) {
        let x_0 = clean(&process, x_0);
        let x_t = match process.limit() { Limit::Mask(mask) => mask, Limit::Uniform => x_t };
        let step = process.step(a_t, a_s, 0.8, 0.4);
        prop_assert!((step.keep + step.jump + step.draw - 1.0).abs() < 1e-15);
        let routes = if x_t == x_0 {
            let redraw = step.redraw_on_hit(V);
            Array1::from(one_hot(V, x_t)) * (1.0 - redraw) + process.prior() * redraw
        } else {
            Array1::from(one_hot(V, x_t)) * step.keep + Array1::from(one_hot(V, x_0)) * step.jump + process.prior() * step.draw
        };
        prop_assert!(close(&routes, &posterior(&process, a_t, a_s, x_t, &one_hot(V, x_0)), 1e-15));
    }

    #[test]
    fn soft_routes_are_the_posterior(process in both(), p in distribution(V), x_t in 0..V as u32,
        (a_t, a_s) in two_alpha_bars(), clean_end in any::<bool>())
    {
        let a_s = if clean_end { 1.0 } else { a_s };
        let x_t = match process.limit() { Limit::Mask(mask) => mask, Limit::Uniform => x_t };
        let step = process.soft_step(a_t, a_s, 0.8, 0.4, p[x_t as usize]);
        let routes = Array1::from(one_hot(V, x_t)) * step.keep + Array1::from(p.clone()) * step.jump + process.prior() * step.draw;
        prop_assert!(close(&routes, &posterior(&process, a_t, a_s, x_t, &p), 1e-15));
    }

    #[test]
    fn posterior_kl_is_the_sum_over_ids((process, p, x_t, x_0, (a_t, a_s)) in
        (both(), distribution(V), 0..V as u32, 0..V as u32, two_alpha_bars()))
    {
        let x_0 = clean(&process, x_0);
        let kl = process.posterior_kl(a_t, a_s, x_t, x_0, &p);
        let q = posterior(&process, a_t, a_s, x_t, &one_hot(V, x_0));
        let expected: f64 = q.iter().zip(&posterior(&process, a_t, a_s, x_t, &p))
            .filter(|(q, _)| **q > 0.0).map(|(q, p)| q * (q / p).ln()).sum();
        prop_assert!(kl >= -1e-15 && (kl - expected).abs() < 1e-13, "{kl} {expected}");
        prop_assert!(process.posterior_kl(a_t, a_s, x_t, x_0, &one_hot(V, x_0)).abs() < 1e-14);
    }

    #[test]
    fn prior_kl_is_the_sum_over_ids(x_0 in 0..V as u32, a in 0.0..1.0f64) {
        let process = Categorical::new(V, Limit::Uniform).unwrap();
        let expected: f64 = process.marginal(x_0, a).iter().map(|q| q * (q * V as f64).ln()).sum();
        prop_assert!((process.prior_kl(a) - expected).abs() < 1e-14);
    }
}

#[test]
fn ends_of_time_are_exact() {
    let uniform = Categorical::new(V, Limit::Uniform).unwrap();
    let masked = Categorical::new(V, Limit::Mask(5)).unwrap();
    let p = [0.1, 0.2, 0.3, 0.2, 0.2, 0.0];
    // From pure noise (alpha_bar_t = 0) to s: the marginal at s, whatever x_t was.
    let found = posterior(&uniform, 0.0, 0.4, 3, &p);
    assert!(close(&found, &(Array1::from(p.to_vec()) * 0.4 + 0.1), 1e-15));
    // From pure noise to clean data in one step: p.
    assert!(close(&posterior(&masked, 0.0, 1.0, 5, &p), &p.to_vec().into(), 1e-15));
    assert!(close(&posterior(&uniform, 0.0, 1.0, 3, &p), &p.to_vec().into(), 1e-15));
    // No step, no change.
    for process in [uniform, masked] {
        for a in [0.0, 0.3, 1.0] {
            assert_eq!(posterior(&process, a, a, 2, &one_hot(V, 2)), Array1::from(one_hot(V, 2)));
            let step = process.step(a, a, 0.5, 0.5);
            assert!((step.keep - 1.0).abs() < 1e-15 && step.jump == 0.0 && step.draw == 0.0);
        }
    }
    // An unmasked token stays even where the model says it is impossible.
    assert_eq!(posterior(&masked, 0.2, 0.7, 0, &one_hot(V, 3)), Array1::from(one_hot(V, 0)));
    // A token that noise-free data contradict stays.
    assert_eq!(posterior(&uniform, 1.0, 1.0, 0, &one_hot(V, 3)), Array1::from(one_hot(V, 0)));
    assert_eq!((masked.prior_kl(0.0), masked.prior_kl(0.1)), (0.0, f64::INFINITY));
    assert!(uniform.prior_kl(0.0).abs() < 1e-16 && (uniform.prior_kl(1.0) - (V as f64).ln()).abs() < 1e-15);
}

#[test]
fn corruption_has_the_marginal_law() {
    let n = 40_000;
    for limit in [Limit::Uniform, Limit::Mask(5)] {
        let process = Categorical::new(V, limit).unwrap();
        let x_0 = Array2::from_elem((2, n), 2);
        let mut x_t = Array2::zeros((2, n));
        process.corrupt(&x_0, &array![0.7, 0.1], 11, 3, 5, &mut x_t).unwrap();
        for (row, a) in x_t.rows().into_iter().zip([0.7, 0.1]) {
            for (k, &q) in process.marginal(2, a).iter().enumerate() {
                let share = row.iter().filter(|&&x| x == k as u32).count() as f64 / n as f64;
                // Four standard errors.
                assert!((share - q).abs() <= 4.0 * (q * (1.0 - q) / n as f64).sqrt(), "{limit:?} {k}: {share} {q}");
            }
        }
    }
}

#[test]
fn corruption_at_the_ends_and_by_key() {
    let masked = Categorical::new(V, Limit::Mask(5)).unwrap();
    let x_0 = Array2::from_shape_fn((3, 8), |(b, l)| ((b + l) % 5) as u32);
    let mut x_t = Array2::zeros((3, 8));
    masked.corrupt(&x_0, &array![1.0, 0.0, 0.5], 1, 2, 3, &mut x_t).unwrap();
    assert_eq!(x_t.row(0), x_0.row(0));
    assert!(x_t.row(1).iter().all(|&x| x == 5));
    assert!(x_t.row(2).iter().zip(x_0.row(2)).all(|(&x, &clean)| x == 5 || x == clean));
    // A row's draws do not depend on the rows and positions after it.
    let mut part = Array2::zeros((3, 4));
    let head = x_0.view().split_at(Axis(1), 4).0.to_owned();
    masked.corrupt(&head, &array![1.0, 0.0, 0.5], 1, 2, 3, &mut part).unwrap();
    assert_eq!(part, x_t.view().split_at(Axis(1), 4).0);
    let uniform = Categorical::new(V, Limit::Uniform).unwrap();
    let mut draws: Vec<Array2<u32>> = Vec::new();
    for (seed, stream, step) in [(1, 2, 3), (2, 2, 3), (1, 3, 3), (1, 2, 4)] {
        uniform.corrupt(&x_0, &array![0.0, 0.0, 0.0], seed, stream, step, &mut x_t).unwrap();
        assert!(!draws.contains(&x_t));
        draws.push(x_t.clone());
    }
    uniform.corrupt(&x_0, &array![0.0, 0.0, 0.0], 1, 2, 3, &mut x_t).unwrap();
    assert_eq!(draws[0], x_t);
}

#[test]
fn errors_say_what_was_wrong() {
    assert_eq!(Categorical::new(1, Limit::Uniform).unwrap_err(), Error::Vocabulary { expected: 2, found: 1 });
    assert_eq!(Categorical::new(4, Limit::Mask(4)).unwrap_err(), Error::Mask { mask: 4, vocab: 4 });
    let process = Categorical::new(4, Limit::Uniform).unwrap();
    let found = process.corrupt(&array![[0, 9]], &array![0.5], 0, 0, 0, &mut array![[0, 0]]).unwrap_err();
    assert_eq!(found.to_string(), "token 9 at row 0, position 1 is outside the vocabulary of 4 ids");
    assert!(process.corrupt(&array![[0, 1]], &array![0.5], 0, 0, 0, &mut array![[0]]).is_err());
    for bad in [f64::NAN, -0.1, 1.1] {
        let found = process.corrupt(&array![[0, 1]], &array![bad], 0, 0, 0, &mut array![[0, 0]]).unwrap_err();
        assert!(matches!(found, Error::Parameter { parameter: "alpha_bar", .. }), "{found}");
        let (x_0, mut x_t) = (ndarray::Array3::zeros((1, 2, 2)), ndarray::Array3::zeros((1, 2, 2)));
        let found = crate::Gaussian.corrupt(&x_0, &array![bad], 0, 0, 0, &mut x_t).unwrap_err();
        assert!(matches!(found, Error::Parameter { parameter: "alpha_bar", .. }), "{found}");
    }
    assert!(process.corrupt(&array![[0, 1]], &array![0.5, 0.5], 0, 0, 0, &mut array![[0, 0]]).is_err());
}
