use super::reference;
use crate::cases::{Host, check};
use crate::op::Op;
use crate::ops::add::differences::check_gradients;

/// Sums of up to a hundred terms in f32.
const TOLERANCE: f64 = 3e-6;

#[test]
fn kernels_equal_reference() {
    for (lead, v, d) in [(&[1usize][..], 1, 1), (&[3], 5, 7), (&[2, 4], 40, 16), (&[5, 9], 33, 3), (&[70], 90, 20)] {
        let dims = |cols: usize| [lead, &[cols]].concat();
        let (x, w, dy) = (Host::normal(&dims(d), 1), Host::normal(&[v, d], 2), Host::normal(&dims(v), 3));
        let y = reference::forward(d, &x.f64(), &w.f64());
        let (dx, dw) = reference::backward(d, &x.f64(), &w.f64(), &dy.f64());
        check(Op::Distances, &[x.clone(), w.clone()], &[], std::slice::from_ref(&y), TOLERANCE);
        let y = Host::f32(&dims(v), y.iter().map(|&y| y as f32).collect());
        check(Op::DistancesGrad, &[x, w, y, dy], &[], &[dx, dw], TOLERANCE);
    }
}

#[test]
fn a_point_on_a_row_has_no_slope_towards_it() {
    let (x, w) = (Host::f32(&[1, 2], vec![1.0, 2.0]), Host::f32(&[2, 2], vec![1.0, 2.0, 4.0, 6.0]));
    check(Op::Distances, &[x.clone(), w.clone()], &[], &[vec![0.0, -5.0]], 0.0);
    let (y, dy) = (Host::f32(&[1, 2], vec![0.0, -5.0]), Host::f32(&[1, 2], vec![7.0, 5.0]));
    let truth = [vec![3.0, 4.0], vec![0.0, 0.0, -3.0, -4.0]];
    check(Op::DistancesGrad, &[x, w, y, dy], &[], &truth, 1e-7);
}

#[test]
fn gradient_equals_finite_differences() {
    let [x, w, dy] =
        [(1, 2), (2, 4), (3, 2)].map(|(row, rows)| Host::normal(&[rows, if row == 3 { 4 } else { 3 }], row).f64());
    let (dx, dw) = reference::backward(3, &x, &w, &dy);
    check_gradients(&[x, w], &dy, &[dx, dw], |x| reference::forward(3, &x[0], &x[1]));
}
