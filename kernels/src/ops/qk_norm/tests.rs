use super::reference;
use crate::cases::{Host, both, check};
use crate::op::Op;
use crate::ops::add::differences::check_gradients;

/// A sum in sixteen lanes of f32, then a root, a quotient and two products.
const TOLERANCE: f64 = 2e-6;

const EPS: f32 = 1e-6;
const GAIN: f32 = 1.5;

fn compare(dims: [usize; 3], heads: usize, qkv: Host, dy: Host, tolerance: f64) {
    let d = dims[2] / 3;
    let (y, stats) = reference::forward(heads, EPS.into(), GAIN.into(), d, &qkv.f64());
    let dqkv = reference::backward(heads, GAIN.into(), d, &qkv.f64(), &stats, &dy.f64());
    let kept = Host::f32(&[dims[0] * dims[1], 2 * heads], stats.iter().map(|&s| s as f32).collect());
    let h = heads as u32;
    check(Op::QkNorm { heads: h, eps: EPS, gain: GAIN }, std::slice::from_ref(&qkv), &[], &[y, stats], tolerance);
    check(Op::QkNormGrad { heads: h, gain: GAIN }, &[qkv, kept, dy], &[], &[dqkv], tolerance);
}

#[test]
fn kernels_equal_reference() {
    for (b, l, heads, d_head) in [(1, 1, 1, 2), (2, 3, 2, 5), (1, 7, 3, 18), (3, 50, 4, 32)] {
        let dims = [b, l, 3 * heads * d_head];
        for ([qkv, dy], tolerance) in both([1, 2].map(|row| Host::normal(&dims, row)), TOLERANCE) {
            compare(dims, heads, qkv, dy, tolerance);
        }
    }
}

#[test]
fn large_heads_are_finite() {
    let dims = [1, 4, 3 * 2 * 20];
    let large = Host::normal(&dims, 1).f64().iter().map(|&x| 1e15 * x as f32).collect();
    compare(dims, 2, Host::f32(&dims, large), Host::normal(&dims, 2), TOLERANCE);
}

#[test]
fn gradient_equals_finite_differences() {
    let (n, heads, d, eps) = (2, 2, 6, 0.1);
    let [qkv, dy] = [1, 2].map(|row| Host::normal(&[n, 3 * d], row).f64());
    let stats = reference::forward(heads, eps, 1.7, d, &qkv).1;
    let gradient = reference::backward(heads, 1.7, d, &qkv, &stats, &dy);
    check_gradients(&[qkv], &dy, &[gradient], |x| reference::forward(heads, eps, 1.7, d, &x[0]).0);
}
