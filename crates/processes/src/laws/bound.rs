use super::two_alpha_bars;
use crate::objectives::bound;
use crate::objectives::rounding::Rounding;
use crate::objectives::softmax;
use crate::{Gaussian, Variance};
use galatea_fixtures::derivative;
use galatea_schedules::{Cosine, LinearBeta, LinearLogSnr, Schedule};
use ndarray::array;
use proptest::prelude::*;

proptest! {
    /// The KL of two Gaussians of one variance, whose means are those of the reverse step.
    #[test]
    fn weight_of_a_step_is_the_kl_of_its_gaussians((a_t, a_s) in two_alpha_bars().prop_filter("a step", |(t, s)| s - t > 1e-3), gap in -2.0..2.0f64) {
        let step = Gaussian.ddpm(a_t, a_s, 0.9, 0.1, Variance::Small);
        let kl = (step.c_0 * gap / step.sigma).powi(2) / 2.0;
        let found = bound::diffusion(&[gap], &[0.0], bound::weight_of_step(a_t, a_s), None, None);
        prop_assert!((found - kl).abs() < 1e-10 * kl.max(1.0), "{found} {kl}");
    }

    #[test]
    fn weight_is_the_derivative_of_the_snr(t in 0.05..0.95f64) {
        for schedule in [&Cosine::default() as &dyn Schedule, &LinearBeta::default(), &LinearLogSnr::default()] {
            let expected = -0.5 * derivative(|t| schedule.log_snr(t).exp(), t, 1e-4 * t);
            prop_assert!((bound::weight(&schedule, t) / expected - 1.0).abs() < 1e-6);
            // T steps of a chain weigh as much as their interval.
            let n = 1000;
            let at = |i: i32| schedule.alpha_bar(t + 0.01 * f64::from(i) / f64::from(n));
            let chain: f64 = (0..n).map(|i| bound::weight_of_step(at(i + 1), at(i))).sum();
            prop_assert!((chain - bound::weight_of_step(at(n), at(0))).abs() < 1e-9 * chain);
        }
    }

    #[test]
    fn diffusion_gradients(x in proptest::collection::vec(-2.0..2.0f64, 4), y in proptest::collection::vec(-2.0..2.0f64, 4)) {
        let (mut dx, mut dy) = (vec![f64::NAN; 4], vec![f64::NAN; 4]);
        bound::diffusion(&x, &y, 1.7, Some(&mut dx), Some(&mut dy));
        for k in 0..4 {
            let moved = |v: &[f64], value: f64| { let mut v = v.to_vec(); v[k] = value; v };
            let on_x = derivative(|u| bound::diffusion(&moved(&x, u), &y, 1.7, None, None), x[k], 1e-3);
            let on_y = derivative(|u| bound::diffusion(&x, &moved(&y, u), 1.7, None, None), y[k], 1e-3);
            prop_assert!((dx[k] - on_x).abs() < 1e-9 && (dy[k] - on_y).abs() < 1e-9);
        }
    }
}

/// With the exact posterior mean as denoiser and the exact posterior as decoder, the bound is the entropy of the token:
/// four tokens on a line, an integral over the noise and one over time, no sampling.
#[test]
fn optimal_denoiser_pays_the_entropy() {
    let embeddings = array![[-1.3], [-0.2], [0.4], [1.5]];
    let schedule = LinearLogSnr::new(8.0, -8.0).unwrap();
    let expectation = |f: &dyn Fn(f64) -> f64| -> f64 {
        let h = 0.05;
        (-160..=160)
            .map(|i| f64::from(i) * h)
            .map(|z| f(z) * (-0.5 * z * z).exp() / std::f64::consts::TAU.sqrt() * h)
            .sum()
    };
    let posterior = |z_t: f64, alpha_bar: f64| {
        let mut p = [0.0; 4];
        Rounding::Bayes { alpha_bar }.logits(&[z_t], &embeddings, None, &mut p);
        softmax(&mut p);
        p
    };
    let mut total = 0.0;
    for token in 0..4u32 {
        let x_0 = embeddings[[token as usize, 0]];
        let noisy = |t: f64, z: f64| {
            let (signal, spread) = Gaussian.marginal(schedule.alpha_bar(t));
            signal * x_0 + spread * z
        };
        let reconstruction = expectation(&|z| {
            let kind = Rounding::Bayes { alpha_bar: schedule.alpha_bar(0.0) };
            kind.nll(&[noisy(0.0, z)], &embeddings, None, token, &mut [0.0; 4])
        });
        let diffusion = |t: f64| {
            expectation(&|z| {
                let z_t = noisy(t, z);
                let p = posterior(z_t, schedule.alpha_bar(t));
                let x_0_hat: f64 = p.iter().zip(&embeddings).map(|(p, e)| p * e).sum();
                bound::diffusion(&[x_0], &[x_0_hat], bound::weight(&schedule, t), None, None)
            })
        };
        let n = 400;
        let simpson: f64 = (0..=n)
            .map(|i| {
                let weight = if i == 0 || i == n {
                    1.0
                } else if i % 2 == 1 {
                    4.0
                } else {
                    2.0
                };
                weight * diffusion(f64::from(i) / f64::from(n)) / (3.0 * f64::from(n))
            })
            .sum();
        total += 0.25 * (reconstruction + simpson + Gaussian.prior_kl(&[x_0], schedule.alpha_bar(1.0)));
    }
    // The prior KL charges the signal left at t = 1 although the model could use it: at most SNR(1) E|x|² / 2 too much.
    assert!((total - 4f64.ln()).abs() < 5e-4, "{total} {}", 4f64.ln());
    assert!(total > 4f64.ln() - 1e-6, "{total} is below the entropy");
}
