use super::reference;
use crate::cases::{Host, check};
use crate::op::Op;
use crate::ops::add::differences::check_gradients;

/// A root and a quotient behind a sum of squares.
const TOLERANCE: f64 = 1e-6;

#[test]
fn kernels_equal_reference() {
    for dims in [&[1usize, 1][..], &[3, 5], &[2, 3, 64], &[40, 8], &[1000, 16]] {
        let d = dims[dims.len() - 1];
        let [x, dy] = [1, 2].map(|row| Host::normal(dims, row));
        for eps in [0.0f32, 1e-8, 0.5] {
            let y = reference::forward(f64::from(eps), d, &x.f64());
            let dx = reference::backward(f64::from(eps), d, &x.f64(), &dy.f64());
            check(Op::UnitRows { eps }, std::slice::from_ref(&x), &[], &[y], TOLERANCE);
            check(Op::UnitRowsGrad { eps }, &[x.clone(), dy.clone()], &[], &[dx], TOLERANCE);
        }
    }
}

#[test]
fn a_row_of_zeros_stays_finite() {
    let zeros = Host::f32(&[1, 3], vec![0.0; 3]);
    let dy = Host::f32(&[1, 3], vec![1.0, -2.0, 3.0]);
    check(Op::UnitRows { eps: 0.0 }, std::slice::from_ref(&zeros), &[], &[vec![0.0; 3]], 0.0);
    check(Op::UnitRowsGrad { eps: 0.0 }, &[zeros.clone(), dy.clone()], &[], &[vec![0.0; 3]], 0.0);
    check(Op::UnitRowsGrad { eps: 0.5 }, &[zeros, dy], &[], &[vec![2.0, -4.0, 6.0]], 0.0);
}

#[test]
fn gradient_equals_finite_differences() {
    let [x, dy] = [1, 2].map(|row| Host::normal(&[2, 4], row).f64());
    for eps in [0.0, 0.3] {
        let dx = reference::backward(eps, 4, &x, &dy);
        check_gradients(std::slice::from_ref(&x), &dy, &[dx], |x| reference::forward(eps, 4, &x[0]));
    }
}
