use super::{clip, reference};
use crate::cases::{Host, check, run};
use crate::isa::Isa;
use crate::op::Op;

/// One rounding: everything before it is in f64.
const TOLERANCE: f64 = 6e-8;

#[test]
fn kernel_equals_reference() {
    for len in [1, 15, 4096, 4097, 3 * 4096 + 17, 256 * 4096 + 5] {
        let g = Host::normal(&[len], 1);
        let truth = reference::forward(&g.f64());
        check(Op::GlobalNorm, &[g], &[], &[vec![truth]], TOLERANCE);
    }
}

#[test]
fn squares_neither_overflow_nor_vanish() {
    for x in [1e30f32, 1e-30] {
        let g = Host::f32(&[3], vec![3.0 * x, 0.0, -4.0 * x]);
        let norm = run(Isa::detect(), 1, Op::GlobalNorm, &[g], &[])[0][0];
        assert!((norm / f64::from(x) - 5.0).abs() < 1e-6, "{norm}");
    }
}

#[test]
fn the_clip_is_at_most_one_and_passes_nan_on() {
    for (max_norm, norm) in [(1.0, 4.0), (1.0, 0.5), (f32::INFINITY, 3.0), (2.0, 2.0), (1.0, 0.0)] {
        assert_eq!(f64::from(clip(max_norm, norm)), reference::clip(max_norm.into(), norm.into()));
    }
    assert!(clip(1.0, f32::NAN).is_nan());
    assert!(run(Isa::detect(), 1, Op::GlobalNorm, &[Host::f32(&[2], vec![1.0, f32::NAN])], &[])[0][0].is_nan());
}
