use super::reference;
use crate::cases::{Host, both, check, run};
use crate::isa::Isa;
use crate::op::{Activation, Op};
use galatea_fixtures::derivative;
use proptest::prelude::*;

/// An exponential of 2e-7 behind a quotient and a product.
const TOLERANCE: f64 = 1e-6;

const ALL: [Activation; 6] =
    [Activation::None, Activation::Relu, Activation::Silu, Activation::Gelu, Activation::GeluErf, Activation::Tanh];

fn compare(u: &Host, dy: &Host, tolerance: f64) {
    for activation in ALL {
        let y = u.f64().iter().map(|&u| reference::forward(activation, u)).collect();
        let du = u.f64().iter().zip(dy.f64()).map(|(&u, dy)| reference::derivative(activation, u) * dy).collect();
        check(Op::Activate { activation }, std::slice::from_ref(u), &[], &[y], tolerance);
        check(Op::ActivateGrad { activation }, &[u.clone(), dy.clone()], &[], &[du], tolerance);
    }
}

#[test]
fn kernels_equal_reference() {
    for dims in [&[1][..], &[17], &[3, 5, 7], &[8193], &[5, 6000]] {
        for ([u, dy], tolerance) in both([1, 2].map(|row| Host::normal(dims, row)), TOLERANCE) {
            compare(&u, &dy, tolerance);
        }
    }
}

#[test]
fn large_and_tiny_arguments_keep_their_limits() {
    let u = [0.0, -0.0, 1e-30, -1e-30, 4.0, -4.0, 30.0, -30.0, 88.5, -88.5, 1e4, -1e4, 1e15, -1e15];
    for (i, &u) in u.iter().enumerate() {
        // One at a time, so that a large value does not widen the tolerance of a small one.
        compare(&Host::f32(&[1], vec![u]), &Host::f32(&[1], vec![1.0 + i as f32]), TOLERANCE);
    }
    compare(&Host::f32(&[2], vec![1e37, -1e37]), &Host::f32(&[2], vec![1.0, 1.0]), TOLERANCE);
}

#[test]
fn a_nan_is_not_swallowed() {
    for activation in ALL {
        let u = Host::f32(&[17], vec![f32::NAN; 17]);
        let y = run(Isa::detect(), 1, Op::Activate { activation }, &[u], &[]).remove(0);
        assert!(y.iter().all(|y| y.is_nan()), "{activation:?}: {y:?}");
    }
}

#[test]
fn the_tail_of_gelu_keeps_its_relative_accuracy() {
    let u = Host::f32(&[3], vec![-3.0, -4.0, -5.0]);
    let y =
        run(Isa::detect(), 1, Op::Activate { activation: Activation::Gelu }, std::slice::from_ref(&u), &[]).remove(0);
    for (u, y) in u.f64().into_iter().zip(y) {
        let truth = reference::forward(Activation::Gelu, u);
        // The argument 2 z of the exponential is near twenty: its last bit moves the value by 2e-6.
        assert!((y - truth).abs() < 1e-5 * truth.abs(), "gelu({u}) = {y}, not {truth}");
    }
}

proptest! {
    #[test]
    fn gradient_equals_finite_differences(u in -6.0f64..6.0) {
        for activation in ALL {
            // ReLU has no derivative at zero.
            if activation == Activation::Relu && u.abs() < 3e-3 {
                continue;
            }
            let found = derivative(|u| reference::forward(activation, u), u, 1e-3);
            let truth = reference::derivative(activation, u);
            prop_assert!((found - truth).abs() < 1e-9, "{activation:?} at {u}: {found} and {truth}");
        }
    }
}
