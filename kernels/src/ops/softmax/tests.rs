use super::reference;
use crate::cases::{Host, check};
use crate::op::Op;
use crate::ops::add::differences::check_gradients;

/// An exponential of 2e-7 over a sum of them.
const TOLERANCE: f64 = 1e-6;

#[test]
fn kernels_equal_reference() {
    for dims in [&[1usize, 1][..], &[3, 5], &[2, 3, 40], &[4, 1, 131], &[700, 2]] {
        let v = dims[dims.len() - 1];
        let [x, dy] = [1, 2].map(|row| Host::normal(dims, row));
        let p = reference::forward(v, &x.f64());
        check(Op::Softmax, &[x], &[], std::slice::from_ref(&p), TOLERANCE);
        let p = Host::f32(dims, p.iter().map(|&p| p as f32).collect());
        let dx = reference::backward(v, &p.f64(), &dy.f64());
        check(Op::SoftmaxGrad, &[p, dy], &[], &[dx], TOLERANCE);
    }
}

#[test]
fn large_logits_do_not_overflow() {
    let x = Host::f32(&[2, 3], vec![3e4, -3e4, 3e4, -1e30, -1e30, 0.0]);
    check(Op::Softmax, &[x], &[], &[vec![0.5, 0.0, 0.5, 0.0, 0.0, 1.0]], TOLERANCE);
}

#[test]
fn gradient_equals_finite_differences() {
    let [x, dy] = [1, 2].map(|row| Host::normal(&[2, 5], row).f64());
    let dx = reference::backward(5, &reference::forward(5, &x), &dy);
    check_gradients(&[x], &dy, &[dx], |x| reference::forward(5, &x[0]));
}
