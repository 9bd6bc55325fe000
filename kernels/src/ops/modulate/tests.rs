use super::reference;
use crate::cases::{Host, both, check};
use crate::op::{Chunk, Op};
use crate::ops::add::differences::check_gradients;

/// A sum of up to two hundred products, rounded one by one.
const TOLERANCE: f64 = 2e-6;

fn chunk(index: usize, of: usize) -> Chunk {
    Chunk { index: index as u32, of: of as u32 }
}

#[test]
fn kernels_equal_reference() {
    for (b, l, d, shift, scale, of) in [
        (1, 1, 1, 0, 1, 2),
        (2, 3, 7, 1, 0, 2),
        (3, 1, 33, 3, 4, 6),
        (1, 200, 20, 5, 1, 6),
        (4, 48, 128, 0, 1, 6),
        (1, 1100, 8, 1, 2, 3),
    ] {
        let [x, dy] = [1, 2].map(|row| Host::normal(&[b, l, d], row));
        for ([x, m, dy], tolerance) in both([x, Host::normal(&[b, of * d], 3), dy], TOLERANCE) {
            let y = reference::forward(shift, scale, of, l, d, &x.f64(), &m.f64());
            let (dx, dm) = reference::backward(shift, scale, of, l, d, &x.f64(), &m.f64(), &dy.f64());
            let (shift, scale) = (chunk(shift, of), chunk(scale, of));
            check(Op::Modulate { shift, scale }, &[x.clone(), m.clone()], &[], &[y], tolerance);
            check(Op::ModulateGrad { shift, scale }, &[x, m, dy], &[], &[dx, dm], tolerance);
        }
    }
}

#[test]
fn a_zero_condition_changes_nothing() {
    let (x, m) = (Host::normal(&[2, 3, 17], 1), Host::f32(&[2, 2 * 17], vec![0.0; 68]));
    let op = Op::Modulate { shift: chunk(0, 2), scale: chunk(1, 2) };
    check(op, &[x.clone(), m], &[], &[x.f64()], 0.0);
}

#[test]
fn gradient_equals_finite_differences() {
    let (b, l, d, of) = (2, 3, 2, 3);
    let [x, dy] = [1, 2].map(|row| Host::normal(&[b, l, d], row).f64());
    let m = Host::normal(&[b, of * d], 3).f64();
    let (dx, dm) = reference::backward(2, 0, of, l, d, &x, &m, &dy);
    check_gradients(&[x, m], &dy, &[dx, dm], |x| reference::forward(2, 0, of, l, d, &x[0], &x[1]));
}
