use super::reference;
use crate::cases::{Host, both, check, run};
use crate::isa::Isa;
use crate::op::Op;
use crate::ops::add::differences::check_gradients;
use proptest::prelude::*;

/// Sums in sixteen lanes of f32, then a root, a quotient and three products.
const TOLERANCE: f64 = 3e-6;

const EPS: f32 = 1e-6;

fn compare(dims: &[usize], x: &Host, dy: &Host, tolerance: f64) {
    let d = dims[dims.len() - 1];
    let g = Host::normal(&[d], 2);
    for gain in [false, true] {
        let g64 = gain.then(|| g.f64());
        let (y, stats) = reference::forward(EPS.into(), d, &x.f64(), g64.as_deref());
        let (dx, dgain) = reference::backward(d, &x.f64(), &stats, &dy.f64(), g64.as_deref());
        let kept = Host::f32(&[stats.len()], stats.iter().map(|&s| s as f32).collect());
        let mut reads = vec![x.clone()];
        reads.extend(gain.then(|| g.clone()));
        check(Op::RmsNorm { eps: EPS, gain }, &reads, &[], &[y, stats], tolerance);
        let mut reads = vec![x.clone(), kept, dy.clone()];
        reads.extend(gain.then(|| g.clone()));
        let truth: Vec<_> = [Some(dx), gain.then_some(dgain)].into_iter().flatten().collect();
        check(Op::RmsNormGrad { gain }, &reads, &[], &truth, tolerance);
    }
}

#[test]
fn kernels_equal_reference() {
    for dims in [&[1][..], &[7], &[3, 33], &[2, 5, 64], &[2, 3, 129], &[150, 130]] {
        for ([x, dy], tolerance) in both([1, 4].map(|row| Host::normal(dims, row)), TOLERANCE) {
            compare(dims, &x, &dy, tolerance);
        }
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
fn large_and_zero_rows_are_finite() {
    let large: Vec<f32> = Host::normal(&[2, 40], 1).f64().iter().map(|&x| 1e15 * x as f32).collect();
    compare(&[2, 40], &Host::f32(&[2, 40], large), &Host::normal(&[2, 40], 4), TOLERANCE);
    let y = reference::forward(EPS.into(), 9, &[0.0; 9], None).0;
    check(Op::RmsNorm { eps: EPS, gain: false }, &[Host::f32(&[9], vec![0.0; 9])], &[], &[y], 0.0);
}

#[test]
fn gradient_equals_finite_differences() {
    let (n, d) = (3, 5);
    let [x, dy] = [1, 4].map(|row| Host::normal(&[n, d], row).f64());
    let (gain, eps) = (Host::normal(&[d], 2).f64(), 0.1);
    let stats = reference::forward(eps, d, &x, None).1;
    let (dx, dgain) = reference::backward(d, &x, &stats, &dy, Some(&gain));
    check_gradients(&[x.clone(), gain], &dy, &[dx, dgain], |x| reference::forward(eps, d, &x[0], Some(&x[1])).0);
    let dx = reference::backward(d, &x, &stats, &dy, None).0;
    check_gradients(&[x], &dy, &[dx], |x| reference::forward(eps, d, &x[0], None).0);
}

proptest! {
    /// Scaling a row by a power of two changes nothing but the statistic, where eps is negligible.
    #[test]
    fn rows_of_any_scale_have_one_image(x in prop::collection::vec(1f32..100.0, 1..200), power in 0i32..20) {
        let (d, factor) = (x.len(), 2f32.powi(power));
        let norm = |x: Vec<f32>| {
            run(Isa::detect(), 1, Op::RmsNorm { eps: 0.0, gain: false }, &[Host::f32(&[d], x)], &[]).remove(0)
        };
        prop_assert_eq!(norm(x.clone()), norm(x.iter().map(|x| x * factor).collect()));
    }
}
