use super::reference;
use crate::cases::{Host, check};
use crate::op::Op;

/// One rounding of a number in [-1, 1]: angles are formed in f64.
const TOLERANCE: f64 = 6e-8;

#[test]
fn kernel_equals_reference() {
    for (t, dim, max_period, scale) in [
        (vec![0.37], 2, 10_000.0, 1.0),
        (vec![0.0, 1e-5, 0.5, 0.999, 1.0], 6, 10_000.0, 1000.0),
        (vec![-3.0, 12.5, 700.0], 256, 100.0, 0.1),
    ] {
        let t = Host::f32(&[t.len()], t);
        let truth = reference::forward(dim as usize, f64::from(max_period), f64::from(scale), &t.f64());
        check(Op::TimeFeatures { dim, max_period, scale }, &[t], &[], &[truth], TOLERANCE);
    }
}

#[test]
fn features_lie_on_unit_circles() {
    let y = reference::forward(10, 10_000.0, 1000.0, &[0.123]);
    for i in 0..5 {
        assert!((y[i].powi(2) + y[i + 5].powi(2) - 1.0).abs() < 1e-14);
    }
    assert!((y[0] - 123f64.cos()).abs() < 1e-14, "the first frequency is one");
}
