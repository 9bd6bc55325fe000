use super::reference::{self, Dims};
use crate::cases::{Host, check, run};
use crate::isa::Isa;
use crate::op::{AttentionMask, Op};
use crate::ops::add::differences::check_gradients;
use proptest::prelude::*;

/// Three chained products in f32 (scores, an exponential of 2e-7, the mixture), each a sum of up to two hundred terms.
const TOLERANCE: f64 = 5e-6;

use AttentionMask::{BlockCausal, Causal, Full};

/// Batch, length, heads, width of a head: one position, the edges of a tile of 64, several tiles, wide and odd heads.
const SIZES: [(usize, usize, usize, usize); 9] = [
    (1, 1, 1, 2),
    (2, 3, 2, 6),
    (3, 17, 1, 16),
    (2, 48, 4, 32),
    (1, 64, 2, 64),
    (1, 65, 1, 20),
    (2, 130, 2, 8),
    (1, 70, 1, 130),
    (1, 200, 1, 34),
];

fn compare(b: usize, dims: Dims, qkv: &Host, visible: Option<&[u32]>, tolerance: f64) {
    let Dims { heads, mask, len, d } = dims;
    let dy = Host::normal(&[b, len, d], 2);
    let (y, lse) = reference::forward(dims, &qkv.f64(), visible);
    let dqkv = reference::backward(dims, &qkv.f64(), visible, &dy.f64());
    let f32s = |dims: &[usize], x: &[f64]| Host::f32(dims, x.iter().map(|&x| x as f32).collect());
    let kept = [f32s(&[b, len, d], &y), f32s(&[b, heads, len], &lse)];
    let (h, padding) = (heads as u32, visible.is_some());
    let mut reads = vec![qkv.clone()];
    reads.extend(visible.map(|v| Host::u32(&[b, len], v.to_vec())));
    check(Op::Attention { heads: h, mask, padding }, &reads, &[], &[y, lse], tolerance);
    reads.extend(kept);
    reads.push(dy);
    check(Op::AttentionGrad { heads: h, mask, padding }, &reads, &[], &[dqkv], tolerance);
}

fn masks(len: usize) -> [AttentionMask; 4] {
    [Full, Causal, BlockCausal(1.max(len as u32 / 3)), BlockCausal(7)]
}

#[test]
fn kernels_equal_reference() {
    for (b, len, heads, d_head) in SIZES {
        let qkv = Host::normal(&[b, len, 3 * heads * d_head], 1);
        for mask in masks(len) {
            compare(b, Dims { heads, mask, len, d: heads * d_head }, &qkv, None, TOLERANCE);
        }
    }
}

#[test]
fn hidden_keys_take_no_part() {
    // Every third key hidden; the first two thirds (causal rows without a key); a padded tail.
    let patterns = [|j: usize, _| j % 3 == 1, |j, len| 3 * j < 2 * len, |j, len| 4 * j > 3 * len];
    for (size, (b, len, heads, d_head)) in SIZES.into_iter().enumerate() {
        let qkv = Host::normal(&[b, len, 3 * heads * d_head], 1);
        for (at, mask) in masks(len).into_iter().enumerate() {
            let hidden = patterns[(size + at) % 3];
            let visible: Vec<u32> = (0..b * len).map(|n| u32::from(!hidden(n % len, len))).collect();
            compare(b, Dims { heads, mask, len, d: heads * d_head }, &qkv, Some(&visible), TOLERANCE);
        }
    }
}

#[test]
fn rows_without_a_key_are_zero_and_pass_nothing_back() {
    for len in [1, 5, 64, 100] {
        let (b, d) = (2, 12);
        let qkv = Host::normal(&[b, len, 3 * d], 1);
        // The second batch element sees everything.
        let visible: Vec<u32> = (0..b * len).map(|n| u32::from(n >= len)).collect();
        let dims = Dims { heads: 2, mask: Full, len, d };
        compare(b, dims, &qkv, Some(&visible), TOLERANCE);
        let op = Op::Attention { heads: 2, mask: Full, padding: true };
        let writes = run(Isa::detect(), 2, op, &[qkv, Host::u32(&[b, len], visible)], &[]);
        assert!(writes[0][..len * d].iter().all(|&y| y == 0.0));
        assert!(writes[1][..2 * len].iter().all(|&lse| lse == f64::NEG_INFINITY));
    }
}

#[test]
fn large_scores_do_not_overflow() {
    for len in [9, 100] {
        let (heads, d) = (2, 32);
        let qkv: Vec<f32> = Host::normal(&[1, len, 3 * d], 1).f64().iter().map(|&x| 30.0 * x as f32).collect();
        // Scores near 1e4 carry a rounding of 1e-3, and every probability with them.
        compare(1, Dims { heads, mask: Full, len, d }, &Host::f32(&[1, len, 3 * d], qkv), None, 5e-3);
        // Scores of 1e30: a softmax that is a choice.
        let qkv: Vec<f32> = Host::normal(&[1, len, 3 * d], 1).f64().iter().map(|&x| 1e15 * x as f32).collect();
        let op = Op::Attention { heads: heads as u32, mask: Full, padding: false };
        let found = run(Isa::detect(), 2, op, &[Host::f32(&[1, len, 3 * d], qkv.clone())], &[]);
        let qkv: Vec<f64> = qkv.into_iter().map(f64::from).collect();
        let (y, lse) = reference::forward(Dims { heads, mask: Full, len, d }, &qkv, None);
        assert!(galatea_testkit::relative_to_max(&found[0], &y) < TOLERANCE);
        assert!(galatea_testkit::relative_to_max(&found[1], &lse) < TOLERANCE);
    }
}

#[test]
fn gradient_equals_finite_differences() {
    let (b, len, heads, d) = (2, 4, 2, 4);
    let [qkv, dy] = [(3 * d, 1), (d, 2)].map(|(width, row)| Host::normal(&[b, len, width], row).f64());
    let visible = [1, 0, 1, 1, 0, 0, 0, 1];
    for mask in [Full, Causal, BlockCausal(2)] {
        for visible in [None, Some(&visible[..])] {
            let dims = Dims { heads, mask, len, d };
            let gradient = reference::backward(dims, &qkv, visible, &dy);
            check_gradients(std::slice::from_ref(&qkv), &dy, &[gradient], |x| {
                reference::forward(dims, &x[0], visible).0
            });
        }
    }
}

#[test]
fn the_future_changes_nothing_before_its_block() {
    let (len, d) = (130, 16);
    let qkv = Host::normal(&[1, len, 3 * d], 1).f64();
    for (mask, from, first) in [(Causal, 70, 70), (BlockCausal(32), 70, 64), (BlockCausal(100), 101, 100)] {
        let y = |changed: bool| {
            let change = |(e, &x): (usize, &f64)| if changed && e / (3 * d) >= from { -x } else { x } as f32;
            let qkv = Host::f32(&[1, len, 3 * d], qkv.iter().enumerate().map(change).collect());
            run(Isa::detect(), 1, Op::Attention { heads: 2, mask, padding: false }, &[qkv], &[]).remove(0)
        };
        let (before, after) = (y(false), y(true));
        assert_eq!(before[..first * d], after[..first * d], "{mask:?}");
        assert_ne!(before[first * d..], after[first * d..], "{mask:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// A mixture of equal values is that value, and attention without a mask does not know the order of its keys.
    #[test]
    fn mixtures_are_convex_and_know_no_order(len in 1usize..150, half in 1usize..20, shift in 0usize..150) {
        let d = 2 * half;
        let op = Op::Attention { heads: 1, mask: Full, padding: false };
        let mut rows: Vec<Vec<f32>> =
            Host::normal(&[len, 3 * d], 1).f64().chunks(3 * d).map(|r| r.iter().map(|&x| x as f32).collect()).collect();
        rows.iter_mut().for_each(|row| row[2 * d] = 0.75);
        let attend = |rows: &[Vec<f32>]| {
            run(Isa::detect(), 1, op, &[Host::f32(&[1, len, 3 * d], rows.concat())], &[]).remove(0)
        };
        let y = attend(&rows);
        prop_assert!(y.chunks(d).all(|y| (y[0] - 0.75).abs() < 1e-5));
        rows.rotate_left(shift % len);
        let turned: Vec<f64> = attend(&rows);
        let mut expected: Vec<&[f64]> = y.chunks(d).collect();
        expected.rotate_left(shift % len);
        prop_assert!(galatea_testkit::relative_to_max(&turned, &expected.concat()) < TOLERANCE);
    }

    #[test]
    fn a_block_of_everything_is_full_and_a_block_of_one_is_causal(len in 1usize..150) {
        let qkv = Host::normal(&[1, len, 3 * 8], 1);
        let op = |mask| Op::Attention { heads: 2, mask, padding: false };
        let attend = |mask| run(Isa::detect(), 1, op(mask), std::slice::from_ref(&qkv), &[]);
        prop_assert_eq!(attend(BlockCausal(len as u32)), attend(Full));
        prop_assert_eq!(attend(BlockCausal(1)), attend(Causal));
    }
}
