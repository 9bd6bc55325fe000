use super::reference;
use crate::cases::{BF16, Host, check};
use crate::op::Op;
use crate::ops::add::differences::check_gradients;

/// An exponential of 2e-7 behind a quotient and three products.
const TOLERANCE: f64 = 1e-6;

#[test]
fn kernels_equal_reference() {
    for (lead, f) in [(&[1][..], 1), (&[3], 5), (&[2, 3], 33), (&[7, 5], 64), (&[2, 40], 130)] {
        let [wide, narrow] = [2 * f, f].map(|width| [lead, &[width]].concat());
        let (u, dy) = (Host::normal(&wide, 1), Host::normal(&narrow, 2));
        for (u, dy, tolerance) in [(u.clone(), dy.clone(), TOLERANCE), (u.bf16(), dy.bf16(), BF16)] {
            let (y, du) = (reference::forward(f, &u.f64()), reference::backward(f, &u.f64(), &dy.f64()));
            check(Op::SwiGlu, std::slice::from_ref(&u), &[], &[y], tolerance);
            check(Op::SwiGluGrad, &[u, dy], &[], &[du], tolerance);
        }
    }
}

#[test]
fn a_closed_gate_lets_nothing_pass() {
    let u = Host::f32(&[2, 2], vec![-200.0, 3.0, 0.0, -1e30]);
    check(Op::SwiGlu, &[u], &[], &[vec![0.0, 0.0]], 0.0);
}

#[test]
fn gradient_equals_finite_differences() {
    let (n, f) = (3, 4);
    let (u, dy) = (Host::normal(&[n, 2 * f], 1).f64(), Host::normal(&[n, f], 2).f64());
    let gradient = reference::backward(f, &u, &dy);
    check_gradients(&[u], &dy, &[gradient], |x| reference::forward(f, &x[0]));
}
