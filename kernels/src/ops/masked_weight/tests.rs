use super::reference;
use crate::cases::{Host, check};
use crate::op::Op;

#[test]
fn kernel_equals_reference() {
    // A weight a row, or a weight a block.
    for (b, l, weights) in
        [(1, 1, vec![1]), (3, 5, vec![3]), (2, 700, vec![2]), (2, 12, vec![2, 4]), (3, 5, vec![3, 1])]
    {
        let x_t: Vec<u32> = (0..b * l).map(|i| (i * i % 7) as u32).collect();
        let weight = Host::normal(&weights, 1);
        let truth = reference::forward(4, &x_t, &weight.f64());
        assert!(l == 1 || truth.iter().any(|&w| w != 0.0) && truth.contains(&0.0));
        check(Op::MaskedWeight { mask: 4 }, &[Host::u32(&[b, l], x_t), weight], &[], &[truth], 0.0);
    }
}
