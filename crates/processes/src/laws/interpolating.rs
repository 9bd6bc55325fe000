use super::check_gradient;
use crate::objectives::interpolating::{self, Weighting};
use crate::{Categorical, Hybrid, Interpolating, Limit, Scheduled, TokenProcess};
use galatea_schedules::{LogLinear, Sine};
use proptest::prelude::*;

const V: usize = 6;
const MASK: u32 = 5;

fn logits() -> impl Strategy<Value = Vec<f64>> {
    proptest::collection::vec(-2.0..2.0f64, V)
}

proptest! {
    #[test]
    fn gradient_of_the_bound(logits in logits(), x_0 in 0..MASK, x_t in 0..V as u32, t in 0.05..0.95f64, weight in 0.1..3.0f64) {
        let uniform = Scheduled::new(Categorical::new(V, Limit::Uniform).unwrap(), LogLinear::default());
        let masked = Scheduled::new(Categorical::new(V, Limit::Mask(MASK)).unwrap(), Sine);
        let hybrid = Hybrid::new(V, MASK, 0.2, 1.0).unwrap();
        fn check(process: &impl Interpolating, logits: &[f64], x_0: u32, x_t: u32, t: f64, weight: f64) {
            let mut gradient = vec![f64::NAN; V];
            interpolating::nelbo(process, logits, x_0, x_t, t, weight, Some(&mut gradient));
            check_gradient(logits, &gradient, |l| interpolating::nelbo(process, l, x_0, x_t, t, weight, None));
            if let Some(mask) = process.mask() {
                assert_eq!(gradient[mask as usize], 0.0);
            }
        }
        for x_t in [x_t, x_0, MASK] {
            check(&uniform, &logits, x_0, x_t, t, weight);
            check(&hybrid, &logits, x_0, x_t, t, weight);
        }
        check(&masked, &logits, x_0, MASK, t, weight);
        // A weight on what is shown (GIDD's clip from below) is learned from, too.
        check(&masked, &logits, x_0, x_0, t, weight);
    }

    #[test]
    fn bound_is_never_negative_and_0_at_the_truth(x_0 in 0..MASK, x_t in 0..V as u32, t in 0.05..0.95f64, logits in logits()) {
        let process = Hybrid::new(V, MASK, 0.3, 1.0).unwrap();
        let certain: Vec<f64> = (0..V as u32).map(|k| if k == x_0 { 0.0 } else { -800.0 }).collect();
        for x_t in [x_t, x_0, MASK] {
            let weight = interpolating::weight(&process, x_0, x_t, t);
            let loss = |l: &[f64]| interpolating::nelbo(&process, l, x_0, x_t, t, weight, None);
            prop_assert!(loss(&logits) >= -1e-12 && loss(&certain).abs() < 1e-12 * weight.max(1.0));
        }
    }

    /// The paper's own three cases.
    #[test]
    fn weights_are_those_of_the_paper(p in 0.01..0.9f64, gamma in 0.2..2.0f64, t in 0.01..0.99f64) {
        let process = Hybrid::new(V, MASK, p, gamma).unwrap();
        let n = (V - 1) as f64;
        let b = gamma.exp2() * p / (1.0 - p);
        let c = b * (t * (1.0 - t)).powf(gamma / 2.0);
        let slope = c * gamma / 2.0 * (1.0 - 2.0 * t) / (t * (1.0 - t));
        let inflow = c + (1.0 - t) * slope;
        let cases = [
            (MASK, 1.0 / (t * (1.0 - t))),
            (1, inflow / ((1.0 - t) * c)),
            (0, inflow / n / ((1.0 - t) * (1.0 - t + c / n))),
        ];
        for (x_t, expected) in cases {
            let found = interpolating::weight(&process, 0, x_t, t);
            prop_assert!((found - expected).abs() < 1e-10 * expected.abs().max(1.0), "{}: {} {}", x_t, found, expected);
        }
    }

    #[test]
    fn training_weights(t in 0.01..0.99f64, x_t in 0..V as u32) {
        let process = Hybrid::new(V, MASK, 0.2, 1.0).unwrap();
        let bound = Weighting::Bound.weight(&process, 0, x_t, t);
        prop_assert_eq!(bound, interpolating::weight(&process, 0, x_t, t));
        prop_assert_eq!(Weighting::Clip { min: 0.5, max: 2.0 }.weight(&process, 0, x_t, t), bound.clamp(0.5, 2.0));
        let dynamic = Weighting::Dynamic { min: 0.0, max: 1.5 };
        prop_assert_eq!(dynamic.weight(&process, 0, MASK, t), 1.5);
        prop_assert_eq!(dynamic.weight(&process, 0, 1, t), 1.0);
        let right = dynamic.weight(&process, 0, 0, t);
        prop_assert!((right - 0.5 / V as f64 * (0.5 / (1.0 + t.exp())).exp()).abs() < 1e-15);
    }
}

/// A model that knows the data's law (given the other tokens) pays exactly its entropy, as under uniform noise.
#[test]
fn hybrid_bound_at_the_truth_is_the_entropy() {
    let p = [0.4f64, 0.3, 0.2, 0.1];
    let process = Hybrid::new(5, 4, 0.2, 1.0).unwrap();
    let logits: Vec<f64> = p.iter().map(|p| p.ln()).chain([3.0]).collect();
    let expected_loss = |t: f64| -> f64 {
        let mut mean = 0.0;
        for x_0 in 0..4u32 {
            let mut q = [0.0; 5];
            process.marginal(t, &super::one_hot(5, x_0), &mut q);
            for (x_t, q) in q.iter().enumerate() {
                let weight = interpolating::weight(&process, x_0, x_t as u32, t);
                mean += p[x_0 as usize] * q * interpolating::nelbo(&process, &logits, x_0, x_t as u32, t, weight, None);
            }
        }
        mean
    };
    // t = sin²(π/2 (3u² - 2u³)) tames both ends, where uniform tokens come and go infinitely fast.
    let (n, mut integral) = (4000, 0.0);
    for i in 1..n {
        let u = f64::from(i) / f64::from(n);
        let weight = if i % 2 == 1 { 4.0 } else { 2.0 };
        let angle = std::f64::consts::FRAC_PI_2 * u * u * (3.0 - 2.0 * u);
        let slope = (2.0 * angle).sin() * std::f64::consts::FRAC_PI_2 * 6.0 * u * (1.0 - u);
        integral += weight * slope * expected_loss(angle.sin().powi(2)) / (3.0 * f64::from(n));
    }
    let entropy: f64 = p.iter().map(|p| -p * p.ln()).sum();
    assert!((integral - entropy).abs() < 1e-4, "{integral} {entropy}");
}

#[test]
fn ends_of_time_and_large_logits_stay_finite() {
    let process = Hybrid::new(V, MASK, 0.2, 1.0).unwrap();
    let logits = [1e4, -1e4, 0.0, 5e3, 0.0, 1e5];
    let mut gradient = [f64::NAN; V];
    for t in [1e-4, 0.5, 1.0 - 1e-4] {
        for x_t in 0..V as u32 {
            let weight = interpolating::weight(&process, 1, x_t, t);
            let loss = interpolating::nelbo(&process, &logits, 1, x_t, t, weight, Some(&mut gradient));
            assert!(loss.is_finite() && gradient.iter().all(|g| g.is_finite()), "{t} {x_t}: {loss} {gradient:?}");
        }
    }
    assert_eq!(interpolating::nelbo(&process, &logits, 1, 2, 1.0, f64::INFINITY, Some(&mut gradient)), 0.0);
    assert_eq!(gradient, [0.0; V]);
    // Without uniform noise the logarithm never passes through the probability.
    let masked = Hybrid::new(V, MASK, 0.0, 1.0).unwrap();
    let found = interpolating::nelbo(&masked, &logits, 1, MASK, 0.5, 4.0, Some(&mut gradient));
    assert!((found - 4e4).abs() < 1e-9 && (gradient[1] + 2.0).abs() < 1e-12 && (gradient[0] - 2.0).abs() < 1e-12);
}
