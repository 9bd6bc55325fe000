use crate::cases::{Host, check};
use crate::op::Op;
use galatea_tensor::DType;
use std::slice::from_ref;

#[test]
fn there_and_back_is_one_rounding() {
    for dims in [&[1][..], &[17], &[3, 5, 7], &[16_385]] {
        let x = Host::normal(dims, 1);
        let half = x.bf16();
        // The oracle is the rounding of the host, which `real` holds against another crate's.
        check(Op::Cast { to: DType::Bf16 }, from_ref(&x), &[], &[half.f64()], 0.0);
        check(Op::Cast { to: DType::F32 }, from_ref(&half), &[], &[half.f64()], 0.0);
        check(Op::Cast { to: DType::F32 }, from_ref(&x), &[], &[x.f64()], 0.0);
        check(Op::Cast { to: DType::Bf16 }, from_ref(&half), &[], &[half.f64()], 0.0);
    }
}
