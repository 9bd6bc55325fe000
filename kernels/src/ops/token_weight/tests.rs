use super::reference;
use crate::cases::{Host, check};
use crate::op::Op;

#[test]
fn kernel_equals_reference() {
    for (b, l, groups) in [(1, 1, 1), (3, 5, 1), (3, 5, 5), (2, 700, 7)] {
        for mask in [None, Some(4)] {
            let x_t: Vec<u32> = (0..b * l).map(|i| (i * i % 7) as u32).collect();
            let x_0: Vec<u32> = (0..b * l).map(|i| (i % 3) as u32).collect();
            let weight = Host::normal(&[b, groups, 3], 1);
            let truth = reference::forward(mask, &x_0, &x_t, b, &weight.f64());
            let reads = [Host::u32(&[b, l], x_0), Host::u32(&[b, l], x_t), weight];
            check(Op::TokenWeight { mask }, &reads, &[], &[truth], 0.0);
        }
    }
}
