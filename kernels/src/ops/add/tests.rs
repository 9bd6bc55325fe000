use super::reference;
use crate::cases::{BF16, Host, check};
use crate::op::Op;

/// One rounding of a sum.
const TOLERANCE: f64 = 6e-8;

#[test]
fn kernels_equal_reference() {
    // The last two are more than one task.
    for dims in [&[1][..], &[7], &[3, 1, 5], &[2, 4, 8], &[16_385], &[3, 40_001]] {
        let (a, b) = (Host::normal(dims, 1), Host::normal(dims, 2));
        let truth = [reference::add(&a.f64(), &b.f64())];
        check(Op::Add, &[a.clone(), b.clone()], &[], &truth, TOLERANCE);
        let (half_a, half_b) = (a.bf16(), b.bf16());
        check(Op::Accumulate, &[a], &[b], &truth, TOLERANCE);
        let truth = [reference::add(&half_a.f64(), &half_b.f64())];
        check(Op::Add, &[half_a, half_b], &[], &truth, BF16);
    }
}

#[test]
fn what_is_not_finite_stays_visible() {
    let (a, b) = (vec![f32::INFINITY, f32::MAX, 1.0], vec![1.0, f32::MAX, f32::NEG_INFINITY]);
    let truth = vec![vec![f64::INFINITY, f64::INFINITY, f64::NEG_INFINITY]];
    check(Op::Add, &[Host::f32(&[3], a.clone()), Host::f32(&[3], b.clone())], &[], &truth, 0.0);
    check(Op::Accumulate, &[Host::f32(&[3], a)], &[Host::f32(&[3], b)], &truth, 0.0);
}
