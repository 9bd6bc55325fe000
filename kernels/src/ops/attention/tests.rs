use super::{Dims, reference};
use crate::cases::{BF16, Host, check, run};
use crate::isa::Isa;
use crate::op::{AttentionMask, Op};
use crate::ops::add::differences::check_gradients;
use proptest::prelude::*;

/// Three chained products in f32 (scores, an exponential of 2e-7, the mixture), each a sum of up to two hundred terms.
const TOLERANCE: f64 = 5e-6;

use AttentionMask::{BlockCausal, Causal, Full};

/// Batch, length, heads, key/value heads, width of a head: one position, the edges of register tiles and of blocks, wide
/// and odd heads, keys shared by two, three and four heads, and blocks that end between the heads of a position.
const SIZES: [(usize, usize, usize, usize, usize); 14] = [
    (1, 1, 1, 1, 2),
    (2, 3, 2, 2, 6),
    (3, 17, 1, 1, 16),
    (2, 48, 4, 4, 32),
    (1, 64, 2, 2, 64),
    (1, 65, 1, 1, 20),
    (2, 130, 2, 2, 8),
    (1, 70, 1, 1, 130),
    (1, 200, 1, 1, 34),
    (2, 5, 4, 2, 10),
    (1, 50, 3, 1, 16),
    (2, 33, 6, 2, 24),
    (1, 100, 8, 2, 12),
    (16, 129, 1, 1, 4),
];

fn dims((_, len, heads, kv_heads, d_head): (usize, usize, usize, usize, usize), mask: AttentionMask) -> Dims {
    Dims { heads, kv_heads, d_head, len, mask }
}

fn ops(dims: Dims, padding: bool) -> [Op; 2] {
    let (heads, kv_heads, mask) = (dims.heads as u32, dims.kv_heads as u32, dims.mask);
    [Op::Attention { heads, kv_heads, mask, padding }, Op::AttentionGrad { heads, kv_heads, mask, padding }]
}

/// One head that shares its keys with no other.
fn plain(heads: u32, mask: AttentionMask, padding: bool) -> Op {
    Op::Attention { heads, kv_heads: heads, mask, padding }
}

fn compare(b: usize, dims: Dims, qkv: &Host, visible: Option<&[u32]>, tolerance: f64) {
    let Dims { heads, len, d_head, .. } = dims;
    let d = heads * d_head;
    // Activations of either type: in bf16 the reference sees what was rounded. A coarser tolerance is for scores whose
    // rounding in f32 is all there is to see.
    for (round, tolerance) in [(false, tolerance), (true, BF16)].into_iter().take(if tolerance < BF16 { 2 } else { 1 })
    {
        let real = |x: Host| if round { x.bf16() } else { x };
        let (qkv, dy) = (real(qkv.clone()), real(Host::normal(&[b, len, d], 2)));
        let (y, lse) = reference::forward(dims, &qkv.f64(), visible);
        let f32s = |dims: &[usize], x: &[f64]| Host::f32(dims, x.iter().map(|&x| x as f32).collect());
        let kept = [real(f32s(&[b, len, d], &y)), f32s(&[b, heads, len], &lse)];
        let dqkv = reference::backward(dims, &qkv.f64(), visible, &dy.f64());
        let [forward, backward] = ops(dims, visible.is_some());
        let mut reads = vec![qkv];
        reads.extend(visible.map(|v| Host::u32(&[b, len], v.to_vec())));
        check(forward, &reads, &[], &[y, lse], tolerance);
        reads.extend(kept);
        reads.push(dy);
        check(backward, &reads, &[], &[dqkv], tolerance);
    }
}

fn masks(len: usize) -> [AttentionMask; 4] {
    [Full, Causal, BlockCausal(1.max(len as u32 / 3)), BlockCausal(7)]
}

#[test]
fn kernels_equal_reference() {
    for size in SIZES {
        let (b, len, ..) = size;
        for mask in masks(len) {
            let dims = dims(size, mask);
            compare(b, dims, &Host::normal(&[b, len, dims.width()], 1), None, TOLERANCE);
        }
    }
}

#[test]
fn hidden_keys_take_no_part() {
    // Every third key hidden; the first two thirds (causal rows without a key); a padded tail.
    let patterns = [|j: usize, _| j % 3 == 1, |j, len| 3 * j < 2 * len, |j, len| 4 * j > 3 * len];
    for (i, size) in SIZES.into_iter().enumerate() {
        let (b, len, ..) = size;
        for (at, mask) in masks(len).into_iter().enumerate() {
            let hidden = patterns[(i + at) % 3];
            let visible: Vec<u32> = (0..b * len).map(|n| u32::from(!hidden(n % len, len))).collect();
            let dims = dims(size, mask);
            compare(b, dims, &Host::normal(&[b, len, dims.width()], 1), Some(&visible), TOLERANCE);
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
        compare(b, dims((b, len, 2, 2, 6), Full), &qkv, Some(&visible), TOLERANCE);
        let writes = run(Isa::detect(), 2, plain(2, Full, true), &[qkv, Host::u32(&[b, len], visible)], &[]);
        assert!(writes[0][..len * d].iter().all(|&y| y == 0.0));
        assert!(writes[1][..2 * len].iter().all(|&lse| lse == f64::NEG_INFINITY));
    }
}

#[test]
fn large_scores_do_not_overflow() {
    for len in [9, 100] {
        let d = 32;
        let qkv: Vec<f32> = Host::normal(&[1, len, 3 * d], 1).f64().iter().map(|&x| 30.0 * x as f32).collect();
        // Scores near 1e4 carry a rounding of 1e-3, and every probability with them.
        let dims = dims((1, len, 2, 2, 16), Full);
        compare(1, dims, &Host::f32(&[1, len, 3 * d], qkv), None, 5e-3);
        // Scores of 1e30: a softmax that is a choice.
        let qkv: Vec<f32> = Host::normal(&[1, len, 3 * d], 1).f64().iter().map(|&x| 1e15 * x as f32).collect();
        let found = run(Isa::detect(), 2, plain(2, Full, false), &[Host::f32(&[1, len, 3 * d], qkv.clone())], &[]);
        let qkv: Vec<f64> = qkv.into_iter().map(f64::from).collect();
        let (y, lse) = reference::forward(dims, &qkv, None);
        assert!(galatea_testkit::relative_to_max(&found[0], &y) < TOLERANCE);
        assert!(galatea_testkit::relative_to_max(&found[1], &lse) < TOLERANCE);
    }
}

#[test]
fn gradient_equals_finite_differences() {
    let (b, len, heads, d_head) = (2, 4, 2, 2);
    let visible = [1, 0, 1, 1, 0, 0, 0, 1];
    for (mask, kv_heads) in [(Full, 2), (Causal, 2), (BlockCausal(2), 1)] {
        for visible in [None, Some(&visible[..])] {
            let dims = Dims { heads, kv_heads, d_head, len, mask };
            let widths = [(dims.width(), 1), (heads * d_head, 2)];
            let [qkv, dy] = widths.map(|(width, row)| Host::normal(&[b, len, width], row).f64());
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
            run(Isa::detect(), 1, plain(2, mask, false), &[qkv], &[]).remove(0)
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
        let op = plain(1, Full, false);
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
        let attend = |mask| run(Isa::detect(), 1, plain(2, mask, false), std::slice::from_ref(&qkv), &[]);
        prop_assert_eq!(attend(BlockCausal(len as u32)), attend(Full));
        prop_assert_eq!(attend(BlockCausal(1)), attend(Causal));
    }
}
