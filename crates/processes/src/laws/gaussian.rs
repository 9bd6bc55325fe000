use super::two_alpha_bars;
use crate::{Gaussian, GaussianStep, Prediction, Variance, VarianceExploding};
use ndarray::{Array3, Axis, array};
use proptest::prelude::*;

const KINDS: [Prediction; 4] = [Prediction::X0, Prediction::Noise, Prediction::V, Prediction::Score];

fn same(a: GaussianStep, b: GaussianStep, tolerance: f64) -> bool {
    (a.c_0 - b.c_0).abs() < tolerance && (a.c_t - b.c_t).abs() < tolerance && (a.sigma - b.sigma).abs() < tolerance
}

proptest! {
    /// The product of the two Gaussians q(x_s | x_0) and q(x_t | x_s), by their precisions.
    #[test]
    fn ddpm_equals_bayes((a_t, a_s) in two_alpha_bars().prop_filter("a step", |(t, s)| s - t > 1e-3)) {
        let r = a_t / a_s;
        let (prior, likelihood) = (1.0 / (1.0 - a_s), r / (1.0 - r));
        let variance = 1.0 / (prior + likelihood);
        let step = Gaussian.ddpm(a_t, a_s, 0.9, 0.1, Variance::Small);
        prop_assert!((step.c_0 - variance * prior * a_s.sqrt()).abs() < 1e-12);
        prop_assert!((step.c_t - variance * likelihood / r.sqrt()).abs() < 1e-12);
        prop_assert!((step.sigma.powi(2) - variance).abs() < 1e-12);
        prop_assert!((Gaussian.ddpm(a_t, a_s, 0.9, 0.1, Variance::Large).sigma.powi(2) - (1.0 - r)).abs() < 1e-14);
        prop_assert_eq!((step.t, step.s), (0.9, 0.1));
    }

    #[test]
    fn ddim_with_eta_one_is_ddpm((a_t, a_s) in two_alpha_bars().prop_filter("a step", |(t, s)| s - t > 1e-3)) {
        prop_assert!(same(Gaussian.ddim(a_t, a_s, 0.9, 0.1, 1.0), Gaussian.ddpm(a_t, a_s, 0.9, 0.1, Variance::Small), 1e-12));
    }

    /// Pushing q(x_t | x_0) through the step gives q(x_s | x_0), for every eta.
    #[test]
    fn ddim_keeps_the_marginals((a_t, a_s) in two_alpha_bars(), eta in 0.0..=1.0f64) {
        let step = Gaussian.ddim(a_t, a_s, 0.9, 0.1, eta);
        prop_assert!((step.c_t * a_t.sqrt() + step.c_0 - a_s.sqrt()).abs() < 1e-14);
        prop_assert!((step.c_t.powi(2) * (1.0 - a_t) + step.sigma.powi(2) - (1.0 - a_s)).abs() < 1e-14);
    }

    /// VDM's form, written with gamma = -log SNR.
    #[test]
    fn ddpm_is_the_vdm_form((a_t, a_s) in two_alpha_bars()) {
        let gamma = |a: f64| ((1.0 - a) / a).ln();
        let c = -(gamma(a_s) - gamma(a_t)).exp_m1();
        let vdm = GaussianStep {
            t: 0.9, s: 0.1,
            c_t: (1.0 - c) * (a_s / a_t).sqrt(),
            c_0: c * a_s.sqrt(),
            sigma: (c * (1.0 - a_s)).sqrt(),
        };
        prop_assert!(same(Gaussian.ddpm(a_t, a_s, 0.9, 0.1, Variance::Small), vdm, 1e-12));
    }

    #[test]
    fn two_ddim_steps_are_one((a_t, a_s) in two_alpha_bars(), u in 0.0..1.0f64, x in -3.0..3.0f64, x_0 in -2.0..2.0f64) {
        // With a fixed prediction of x_0 and no noise the path is straight, so the stop in between does not matter.
        let a_u = a_t + u * (a_s - a_t);
        let half = Gaussian.ddim(a_t, a_u, 0.9, 0.5, 0.0).apply(x, x_0, 0.0);
        let whole = Gaussian.ddim(a_u, a_s, 0.5, 0.1, 0.0).apply(half, x_0, 0.0);
        prop_assert!((whole - Gaussian.ddim(a_t, a_s, 0.9, 0.1, 0.0).apply(x, x_0, 0.0)).abs() < 1e-12);
    }

    #[test]
    fn predictions_convert_to_the_truth(a in 0.01..0.99f64, x_0 in -3.0..3.0f64, noise in -3.0..3.0f64) {
        let (signal, spread) = Gaussian.marginal(a);
        let x_t = signal * x_0 + spread * noise;
        let truth = |kind| match kind {
            Prediction::X0 => x_0,
            Prediction::Noise => noise,
            Prediction::V => signal * noise - spread * x_0,
            // The gradient of log N(x_t; signal x_0, spread²).
            Prediction::Score => -(x_t - signal * x_0) / (spread * spread),
        };
        for from in KINDS {
            for to in KINDS {
                let found = from.to(to, a).apply(x_t, truth(from));
                prop_assert!((found - truth(to)).abs() < 1e-10, "{from:?} to {to:?}: {found} {}", truth(to));
            }
        }
    }

    #[test]
    fn predictions_round_trip(a in 0.01..0.99f64, x_t in -3.0..3.0f64, value in -3.0..3.0f64) {
        for from in KINDS {
            for to in KINDS {
                let there = from.to(to, a).apply(x_t, value);
                prop_assert!((to.to(from, a).apply(x_t, there) - value).abs() < 1e-10, "{from:?} to {to:?}");
            }
        }
    }

    #[test]
    fn variance_exploding_is_variance_preserving_rescaled(sigma_t in 0.1..20.0f64, u in 0.0..1.0f64, eta in 0.0..=1.0f64,
        x in -9.0..9.0f64, x_0 in -2.0..2.0f64, noise in -2.0..2.0f64)
    {
        let sigma_s = u * sigma_t;
        let (a_t, a_s) = (VarianceExploding.alpha_bar(sigma_t), VarianceExploding.alpha_bar(sigma_s));
        let ve = VarianceExploding.step(sigma_t, sigma_s, 0.9, 0.1, eta).apply(x, x_0, noise);
        let vp = Gaussian.ddim(a_t, a_s, 0.9, 0.1, eta).apply(x * a_t.sqrt(), x_0, noise) / a_s.sqrt();
        prop_assert!((ve - vp).abs() < 1e-9 * (1.0 + ve.abs()), "{ve} {vp}");
        prop_assert!((VarianceExploding.sigma(a_t) - sigma_t).abs() < 1e-9 * sigma_t);
    }

    #[test]
    fn prior_kl_is_the_integral(x in -2.0..2.0f64, a in 0.01..0.95f64) {
        // The integral of q log(q / p) by the trapezoid rule, which converges geometrically for Gaussians.
        let (mean, std) = (a.sqrt() * x, (1.0 - a).sqrt());
        let h = 0.02;
        let expected: f64 = (-500..=500).map(|i| {
            let u = f64::from(i) * h;
            let z = mean + std * u;
            let q = (-0.5 * u * u).exp() / std::f64::consts::TAU.sqrt();
            q * (-0.5 * u * u - std.ln() + 0.5 * z * z) * h
        }).sum();
        prop_assert!((Gaussian.prior_kl(&[x], a) - expected).abs() < 1e-10);
    }
}

#[test]
fn ends_of_time_are_exact() {
    for variance in [Variance::Small, Variance::Large] {
        // Into clean data: the prediction itself, without noise.
        let last = Gaussian.ddpm(0.3, 1.0, 0.1, 0.0, variance);
        assert!(same(last, GaussianStep { t: 0.1, s: 0.0, c_0: 1.0, c_t: 0.0, sigma: 0.0 }, 1e-15));
        // From pure noise: q(x_s | x_0_hat), for which the larger variance is 1.
        let first = Gaussian.ddpm(0.0, 0.36, 1.0, 0.5, variance);
        let sigma = if variance == Variance::Small { 0.8 } else { 1.0 };
        assert!(same(first, GaussianStep { t: 1.0, s: 0.5, c_0: 0.6, c_t: 0.0, sigma }, 1e-15));
    }
    // DDIM from pure noise keeps x_t as the noise.
    let first = Gaussian.ddim(0.0, 0.36, 1.0, 0.5, 0.0);
    assert!(same(first, GaussianStep { t: 1.0, s: 0.5, c_0: 0.6, c_t: 0.8, sigma: 0.0 }, 1e-15));
    for a in [0.0, 0.4, 1.0] {
        for step in [Gaussian.ddpm(a, a, 0.5, 0.5, Variance::Small), Gaussian.ddim(a, a, 0.5, 0.5, 0.7)] {
            assert!(same(step, GaussianStep { t: 0.5, s: 0.5, c_0: 0.0, c_t: 1.0, sigma: 0.0 }, 1e-15), "{step:?}");
        }
    }
    assert_eq!(Prediction::V.to(Prediction::Noise, 0.0).apply(3.0, 1.0), 3.0);
    assert_eq!(Prediction::V.to(Prediction::X0, 0.0).apply(3.0, -2.0), 2.0);
}

#[test]
fn corruption_has_the_marginal_moments() {
    let x_0 = Array3::from_elem((2, 100, 100), 1.5f32);
    let mut x_t = Array3::zeros((2, 100, 100));
    Gaussian.corrupt(&x_0, &array![0.64, 0.09], 5, 1, 0, &mut x_t).unwrap();
    for (plane, a) in x_t.outer_iter().zip([0.64f64, 0.09]) {
        let mean = plane.iter().map(|&x| f64::from(x)).sum::<f64>() / 1e4;
        let variance = plane.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / 1e4;
        assert!((mean - 1.5 * a.sqrt()).abs() < 4.0 * ((1.0 - a) / 1e4).sqrt(), "{mean}");
        assert!((variance / (1.0 - a) - 1.0).abs() < 4.0 * (2.0f64 / 1e4).sqrt(), "{variance}");
    }
    // Corrupting is drawing the noise and blending it in; a row does not depend on the others.
    let mut noise = Array3::zeros((1, 100, 100));
    Gaussian.draw_noise(5, 1, 0, &mut noise);
    let head = x_0.view().split_at(Axis(0), 1).0.to_owned();
    Gaussian.blend(&head, &array![0.64], &mut noise).unwrap();
    assert_eq!(noise, x_t.view().split_at(Axis(0), 1).0);
    assert!(Gaussian.corrupt(&x_0, &array![0.5], 0, 0, 0, &mut x_t).is_err());
    assert!(Gaussian.corrupt(&head, &array![0.5], 0, 0, 0, &mut x_t).is_err());
}

#[test]
fn slices_convert_in_place() {
    let mut prediction = [1.0f32, -2.0];
    Prediction::V.to(Prediction::X0, 0.36).apply_all(&[2.0, 0.5], &mut prediction);
    assert!((prediction[0] - 0.4).abs() < 1e-6 && (prediction[1] - 1.9).abs() < 1e-6);
}
