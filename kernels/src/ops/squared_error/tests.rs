use super::reference;
use crate::cases::{Host, both, check};
use crate::op::Op;
use galatea_fixtures::derivative;

/// A sum of squares in sixteen lanes of f32: some ten roundings.
const TOLERANCE: f64 = 1e-6;

#[test]
fn kernels_equal_reference() {
    for dims in [&[1usize, 1][..], &[3, 5], &[2, 3, 64], &[4, 1, 131], &[700, 2]] {
        let d = dims[dims.len() - 1];
        let lead = &dims[..dims.len() - 1];
        let w = |n: usize| Host::f32(lead, (0..n).map(|n| [0.5, 0.0, 3.0][n % 3]).collect());
        for ([prediction, target], tolerance) in both([1, 2].map(|row| Host::normal(dims, row)), TOLERANCE) {
            let w = w(prediction.f64().len() / d);
            let (loss, error) = reference::forward(&prediction.f64(), &target.f64(), &w.f64());
            let reads = [prediction.clone(), target.clone(), w.clone()];
            // The loss and the errors are in f32 for either type.
            check(Op::SquaredError, &reads, &[], &[vec![loss], error], TOLERANCE);
            let (dp, dt) = reference::backward(&prediction.f64(), &target.f64(), &w.f64(), 0.75);
            let reads = [prediction, target, w, Host::f32(&[1], vec![0.75])];
            check(Op::SquaredErrorGrad, &reads, &[], &[dp, dt], tolerance);
        }
    }
}

#[test]
fn rows_of_weight_zero_may_hold_anything() {
    let bad = Host::f32(&[2, 2], vec![f32::NAN, 1.0, 3.0, 4.0]);
    let (target, w) = (Host::f32(&[2, 2], vec![0.0; 4]), Host::f32(&[2], vec![0.0, 2.0]));
    check(Op::SquaredError, &[bad.clone(), target.clone(), w.clone()], &[], &[vec![50.0]], 0.0);
    let truth = [vec![0.0, 0.0, 12.0, 16.0], vec![0.0, 0.0, -12.0, -16.0]];
    check(Op::SquaredErrorGrad, &[bad, target, w, Host::f32(&[1], vec![1.0])], &[], &truth, 0.0);
}

#[test]
fn gradient_equals_finite_differences() {
    let [prediction, target] = [1, 2].map(|row| Host::normal(&[2, 3], row).f64());
    let w = [0.3, 1.7];
    let (dp, dt) = reference::backward(&prediction, &target, &w, 2.0);
    for i in 0..6 {
        let moved = |base: &[f64], x: f64| {
            let mut moved = base.to_vec();
            moved[i] = x;
            moved
        };
        let by_prediction = |x| 2.0 * reference::forward(&moved(&prediction, x), &target, &w).0;
        let by_target = |x| 2.0 * reference::forward(&prediction, &moved(&target, x), &w).0;
        assert!((derivative(by_prediction, prediction[i], 1e-2) - dp[i]).abs() < 1e-11);
        assert!((derivative(by_target, target[i], 1e-2) - dt[i]).abs() < 1e-11);
    }
}
