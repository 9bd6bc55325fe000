use super::reference;
use crate::cases::{Host, check};
use crate::op::{Chunk, Op};
use crate::ops::add::differences::check_gradients;

/// Pieces of a thousand products in f32, together in f64.
const TOLERANCE: f64 = 2e-6;

#[test]
fn kernels_equal_reference() {
    for (b, l, d, index, of) in
        [(1, 1, 1, 0, 1), (2, 3, 7, 1, 2), (3, 1, 33, 4, 5), (1, 200, 20, 2, 6), (5, 48, 128, 0, 3)]
    {
        let [x, dy] = [1, 2].map(|row| Host::normal(&[b, l, d], row));
        let m = Host::normal(&[b, of], 3);
        let y = reference::forward(index, of, &x.f64(), &m.f64());
        let dm = reference::backward(index, of, &x.f64(), &m.f64(), &dy.f64());
        let chunk = Chunk { index: index as u32, of: of as u32 };
        check(Op::ScaleRows { chunk }, &[x.clone(), m.clone()], &[], &[y], TOLERANCE);
        check(Op::ScaleRowsGrad { chunk }, &[x, m, dy], &[], &[dm], TOLERANCE);
    }
}

#[test]
fn gradient_equals_finite_differences() {
    let [x, dy] = [1, 2].map(|row| Host::normal(&[2, 3, 2], row).f64());
    let m = Host::normal(&[2, 3], 3).f64();
    let (dx, dm) = (reference::forward(1, 3, &dy, &m), reference::backward(1, 3, &x, &m, &dy));
    check_gradients(&[x, m], &dy, &[dx, dm], |x| reference::forward(1, 3, &x[0], &x[1]));
}
