use super::reference;
use crate::cases::{Host, both, check};
use crate::op::{Chunk, Op};
use crate::ops::add::differences::check_gradients;

/// A sum of up to two hundred products, rounded one by one.
const TOLERANCE: f64 = 2e-6;

#[test]
fn kernels_equal_reference() {
    for (b, l, d, gate, of) in
        [(1, 1, 1, 0, 1), (2, 3, 7, 1, 2), (3, 1, 33, 5, 6), (1, 200, 20, 2, 6), (4, 48, 128, 0, 6)]
    {
        let [x, h, dy] = [1, 2, 3].map(|row| Host::normal(&[b, l, d], row));
        for ([x, h, m, dy], tolerance) in both([x, h, Host::normal(&[b, of * d], 4), dy], TOLERANCE) {
            let y = reference::forward(gate, of, l, d, &x.f64(), &h.f64(), &m.f64());
            let (dh, dm) = reference::backward(gate, of, l, d, &h.f64(), &m.f64(), &dy.f64());
            let gate = Chunk { index: gate as u32, of: of as u32 };
            check(Op::Gate { gate }, &[x, h.clone(), m.clone()], &[], &[y], tolerance);
            check(Op::GateGrad { gate }, &[h, m, dy], &[], &[dh, dm], tolerance);
        }
    }
}

#[test]
fn a_closed_gate_is_the_identity() {
    let [x, h] = [1, 2].map(|row| Host::normal(&[2, 3, 17], row));
    let op = Op::Gate { gate: Chunk { index: 0, of: 1 } };
    check(op, &[x.clone(), h, Host::f32(&[2, 17], vec![0.0; 34])], &[], &[x.f64()], 0.0);
}

#[test]
fn gradient_equals_finite_differences() {
    let (b, l, d, of) = (2, 3, 2, 3);
    let [x, h, dy] = [1, 2, 3].map(|row| Host::normal(&[b, l, d], row).f64());
    let m = Host::normal(&[b, of * d], 4).f64();
    let (dh, dm) = reference::backward(1, of, l, d, &h, &m, &dy);
    check_gradients(&[x, h, m], &dy, &[dy.clone(), dh, dm], |x| reference::forward(1, of, l, d, &x[0], &x[1], &x[2]));
}
