use super::reference;
use crate::cases::{Host, both, check};
use crate::op::{Op, Rows};
use crate::ops::add::differences::check_gradients;

/// A sum of up to two hundred roundings, each half a unit of the largest partial sum.
const TOLERANCE: f64 = 2e-6;

fn table(over: Rows, (b, l, d): (usize, usize, usize)) -> Host {
    Host::normal(&[rows(over, b, l), d], 2)
}

/// Of a table of positions, half as many as there are where that is a whole number.
fn rows(over: Rows, b: usize, l: usize) -> usize {
    match over {
        Rows::Positions if l.is_multiple_of(2) => l / 2,
        Rows::Positions => l,
        Rows::Batch => b,
    }
}

#[test]
fn kernels_equal_reference() {
    for over in [Rows::Positions, Rows::Batch] {
        for (b, l, d) in
            [(1, 1, 1), (1, 5, 3), (4, 1, 7), (3, 5, 33), (2, 200, 130), (200, 2, 65), (40, 9, 100), (1, 1100, 5)]
        {
            let r = table(over, (b, l, d));
            for ([x, half], tolerance) in both([Host::normal(&[b, l, d], 1), r.clone()], TOLERANCE) {
                // A table of positions is a parameter, which stays in f32.
                let r = if over == Rows::Positions { r.clone() } else { half };
                let truth = reference::forward(over, l, d, &x.f64(), &r.f64());
                let rows = rows(over, b, l);
                let dr = reference::backward(over, l, rows, d, &x.f64());
                check(Op::AddRows { over, past: false }, &[x.clone(), r], &[], &[truth], tolerance);
                check(Op::AddRowsGrad { over, rows: rows as u32 }, &[x], &[], &[dr], tolerance);
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
        let gradients = [dy.clone(), reference::backward(over, l, rows(over, b, l), d, &dy)];
        check_gradients(&inputs, &dy, &gradients, |x| reference::forward(over, l, d, &x[0], &x[1]));
    }
}

#[test]
fn positions_may_begin_later() {
    let (b, l, d) = (2, 3, 5);
    let (x, r) = (Host::normal(&[b, l, d], 1), Host::normal(&[9, d], 2));
    for past in [0, 4, 6] {
        let rows = r.f64()[past * d..][..l * d].to_vec();
        let truth = reference::forward(Rows::Positions, l, d, &x.f64(), &rows);
        let reads = [x.clone(), r.clone(), Host::u32(&[1], vec![past as u32])];
        check(Op::AddRows { over: Rows::Positions, past: true }, &reads, &[], &[truth], TOLERANCE);
    }
}
