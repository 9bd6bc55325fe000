use super::reference;
use crate::cases::{Host, both, check};
use crate::op::{Op, Rows};
use crate::ops::add::differences::check_gradients;

/// A sum of up to two hundred roundings, each half a unit of the largest partial sum.
const TOLERANCE: f64 = 2e-6;

fn table(over: Rows, (b, l, d): (usize, usize, usize)) -> Host {
    Host::normal(&[if over == Rows::Positions { l } else { b }, d], 2)
}

#[test]
fn kernels_equal_reference() {
    for over in [Rows::Positions, Rows::Batch] {
        for (b, l, d) in [(1, 1, 1), (1, 5, 3), (4, 1, 7), (3, 5, 33), (2, 200, 130), (200, 2, 65), (40, 9, 100)] {
            let r = table(over, (b, l, d));
            for ([x, half], tolerance) in both([Host::normal(&[b, l, d], 1), r.clone()], TOLERANCE) {
                // A table of positions is a parameter, which stays in f32.
                let r = if over == Rows::Positions { r.clone() } else { half };
                let truth = reference::forward(over, l, d, &x.f64(), &r.f64());
                let dr = reference::backward(over, l, d, &x.f64());
                check(Op::AddRows { over }, &[x.clone(), r], &[], &[truth], tolerance);
                check(Op::AddRowsGrad { over }, &[x], &[], &[dr], tolerance);
            }
        }
    }
}

#[test]
fn gradient_equals_finite_differences() {
    let (b, l, d) = (2, 3, 4);
    for over in [Rows::Positions, Rows::Batch] {
        let (x, dy) = (Host::normal(&[b, l, d], 1).f64(), Host::normal(&[b, l, d], 3).f64());
        let inputs = [x, table(over, (b, l, d)).f64()];
        let gradients = [dy.clone(), reference::backward(over, l, d, &dy)];
        check_gradients(&inputs, &dy, &gradients, |x| reference::forward(over, l, d, &x[0], &x[1]));
    }
}
