use super::reference;
use crate::cases::{Host, both, check, run};
use crate::isa::Isa;
use crate::op::Op;
use crate::ops::add::differences::check_gradients;
use proptest::prelude::*;

/// Sums in sixteen lanes of f32, then a root, a quotient and four products.
const TOLERANCE: f64 = 3e-6;

const EPS: f32 = 1e-5;

const FORMS: [(bool, bool); 4] = [(false, false), (true, false), (false, true), (true, true)];

fn compare(dims: &[usize], x: &Host, dy: &Host, tolerance: f64) {
    let d = dims[dims.len() - 1];
    let (g, b) = (Host::normal(&[d], 2), Host::normal(&[d], 3));
    for (gain, bias) in FORMS {
        let (g64, b64) = (gain.then(|| g.f64()), bias.then(|| b.f64()));
        let (y, stats) = reference::forward(EPS.into(), d, &x.f64(), g64.as_deref(), b64.as_deref());
        let (dx, dgain, dshift) = reference::backward(d, &x.f64(), &stats, &dy.f64(), g64.as_deref());
        let n = x.f64().len() / d;
        let kept = Host::f32(&[n, 2], stats.iter().map(|&s| s as f32).collect());

        let mut reads = vec![x.clone()];
        reads.extend([gain.then(|| g.clone()), bias.then(|| b.clone())].into_iter().flatten());
        check(Op::LayerNorm { eps: EPS, gain, bias }, &reads, &[], &[y, stats], tolerance);

        let mut reads = vec![x.clone(), kept, dy.clone()];
        reads.extend(gain.then(|| g.clone()));
        let truth: Vec<_> = [Some(dx), gain.then_some(dgain), bias.then_some(dshift)].into_iter().flatten().collect();
        check(Op::LayerNormGrad { gain, bias }, &reads, &[], &truth, tolerance);
    }
}

/// Rows of a block, in registers and beyond them, in whole vectors and not.
#[test]
fn long_rows_equal_reference() {
    for dims in [[3, 1028], [5, 261], [2, 2051], [2, 8200]] {
        for ([x, dy], tolerance) in both([1, 4].map(|row| Host::normal(&dims, row)), TOLERANCE) {
            compare(&dims, &x, &dy, tolerance);
        }
    }
}

#[test]
fn kernels_equal_reference() {
    for dims in [&[1][..], &[1, 1], &[7], &[3, 33], &[2, 5, 64], &[2, 3, 129], &[150, 130]] {
        for ([x, dy], tolerance) in both([1, 4].map(|row| Host::normal(dims, row)), TOLERANCE) {
            compare(dims, &x, &dy, tolerance);
        }
    }
}

#[test]
fn a_large_mean_costs_only_the_rounding_of_x() {
    let dims = [3, 100];
    let dy = Host::normal(&dims, 4);
    let far = Host::normal(&dims, 1).f64().iter().map(|&x| x as f32 + 1e4).collect();
    // The mean, kept in f32, is rounded by up to half a unit of 1e4, 5e-4: h moves by that much.
    compare(&dims, &Host::f32(&dims, far), &dy, 1e-3);
    let large: Vec<f32> = Host::normal(&dims, 1).f64().iter().map(|&x| 1e15 * x as f32).collect();
    compare(&dims, &Host::f32(&dims, large), &dy, TOLERANCE);
}

#[test]
fn a_constant_row_is_its_shift() {
    let x = Host::f32(&[2, 50], vec![7.25; 100]);
    let shift = Host::normal(&[50], 3);
    let y = [shift.f64(), shift.f64()].concat();
    check(Op::LayerNorm { eps: EPS, gain: false, bias: true }, &[x, shift], &[], &[y], 0.0);
}

#[test]
fn gradient_equals_finite_differences() {
    let (n, d) = (3, 5);
    let [x, dy] = [1, 4].map(|row| Host::normal(&[n, d], row).f64());
    let [gain, shift] = [2, 3].map(|row| Host::normal(&[d], row).f64());
    let eps = 0.1;
    let stats = reference::forward(eps, d, &x, Some(&gain), Some(&shift)).1;
    let (dx, dgain, dshift) = reference::backward(d, &x, &stats, &dy, Some(&gain));
    check_gradients(&[x.clone(), gain, shift], &dy, &[dx, dgain, dshift], |x| {
        reference::forward(eps, d, &x[0], Some(&x[1]), Some(&x[2])).0
    });
    let stats = reference::forward(eps, d, &x, None, None).1;
    let dx = reference::backward(d, &x, &stats, &dy, None).0;
    check_gradients(&[x], &dy, &[dx], |x| reference::forward(eps, d, &x[0], None, None).0);
}

proptest! {
    /// Mean 0 and mean square var / (var + eps), whatever the row.
    #[test]
    fn rows_are_normalised(x in prop::collection::vec(-100f32..100.0, 2..200)) {
        let d = x.len();
        let op = Op::LayerNorm { eps: EPS, gain: false, bias: false };
        let writes = run(Isa::detect(), 1, op, &[Host::f32(&[d], x)], &[]);
        let mean = writes[0].iter().sum::<f64>() / d as f64;
        let square = writes[0].iter().map(|y| y * y).sum::<f64>() / d as f64;
        let expected = 1.0 - f64::from(EPS) * writes[1][1].powi(2);
        prop_assert!(mean.abs() < 1e-5 && (square - expected).abs() < 1e-5, "mean {mean}, square {square}");
    }
}
