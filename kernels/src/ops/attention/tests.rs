use super::{Dims, reference};
use crate::cases::{BF16, Host, check, check_both, run};
use crate::isa::Isa;
use crate::op::{AttentionMask, Dropout, Op};
use crate::ops::add::differences::check_gradients;
use proptest::prelude::*;

/// Three chained products in f32 (scores, an exponential of 2e-7, the mixture), each a sum of up to two hundred terms.
const TOLERANCE: f64 = 5e-6;

use AttentionMask::{BlockCausal, BlockDiffusion, Causal, Full};

/// Batch, length, heads, key/value heads, width of a head: one position, the edges of register tiles and of blocks, wide
/// and odd heads, keys shared by two, three and four heads, blocks that end between the heads of a position, many tasks a batch and
/// few.
const SIZES: [(usize, usize, usize, usize, usize); 15] = [
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
    (1, 300, 2, 1, 6),
];

fn dims((_, len, heads, kv_heads, d_head): (usize, usize, usize, usize, usize), mask: AttentionMask) -> Dims {
    Dims { heads, kv_heads, d_head, len, mask }
}

fn ops(dims: Dims, padding: bool, dropout: Option<Dropout>) -> [Op; 2] {
    let (heads, kv_heads, mask) = (dims.heads as u32, dims.kv_heads as u32, dims.mask);
    let forward = Op::Attention { heads, kv_heads, mask, padding, dropout };
    [forward, Op::AttentionGrad { heads, kv_heads, mask, padding, dropout }]
}

/// One head that shares its keys with no other.
fn plain(heads: u32, mask: AttentionMask, padding: bool) -> Op {
    Op::Attention { heads, kv_heads: heads, mask, padding, dropout: None }
}

fn compare(b: usize, dims: Dims, qkv: &Host, visible: Option<&[u32]>, tolerance: f64) {
    compare_dropped(b, dims, qkv, visible, None, tolerance);
}

fn compare_dropped(
    b: usize,
    dims: Dims,
    qkv: &Host,
    visible: Option<&[u32]>,
    dropout: reference::Dropped,
    tolerance: f64,
) {
    let Dims { heads, len, d_head, .. } = dims;
    let d = heads * d_head;
    // Activations of either type: in bf16 the reference sees what was rounded. A coarser tolerance is for scores whose
    // rounding in f32 is all there is to see.
    let rounded = match dims.mask {
        Full | Causal | BlockCausal(_) => BF16,
        // The first keys of x_0 are seen by both halves: what the rounding of y costs dy . y is summed over twice as many queries.
        BlockDiffusion(_) => 1.5 * BF16,
    };
    let both = [(false, tolerance), (true, rounded)];
    for (round, tolerance) in both.into_iter().take(if tolerance < BF16 { 2 } else { 1 }) {
        let real = |x: Host| if round { x.bf16() } else { x };
        let (qkv, dy) = (real(qkv.clone()), real(Host::normal(&[b, len, d], 2)));
        let (y, lse) = reference::forward(dims, &qkv.f64(), visible, dropout);
        let f32s = |dims: &[usize], x: &[f64]| Host::f32(dims, x.iter().map(|&x| x as f32).collect());
        let kept = [real(f32s(&[b, len, d], &y)), f32s(&[b, heads, len], &lse)];
        let dqkv = reference::backward(dims, &qkv.f64(), visible, dropout, &dy.f64());
        let [forward, backward] = ops(dims, visible.is_some(), dropout.map(|(dropout, _)| dropout));
        let rng = dropout.map(|(_, rng)| Host::u32(&[4], rng.to_vec()));
        let mut reads = vec![qkv];
        reads.extend(visible.map(|v| Host::u32(&[b, len], v.to_vec())));
        // On tensor cores weights and their gradients are rounded to bf16 before they are summed: as much again.
        let tolerance = [tolerance, if round { 2.0 * tolerance } else { tolerance }];
        check_both(forward, &[&reads[..], rng.as_slice()].concat(), &[], &[y, lse], tolerance);
        reads.extend(kept);
        reads.push(dy);
        reads.extend(rng);
        check_both(backward, &reads, &[], &[dqkv], tolerance);
    }
}

/// A dropout with its rng.
const DROPPED: (Dropout, [u32; 4]) = (Dropout { p: 0.3, stream: 5 }, [4, 9, 17, 0]);

fn masks(len: usize) -> Vec<AttentionMask> {
    let mut masks = vec![Full, Causal, BlockCausal(1.max(len as u32 / 3)), BlockCausal(7)];
    if len.is_multiple_of(2) {
        masks.extend([BlockDiffusion(1.max(len as u32 / 10)), BlockDiffusion(7)]);
    }
    masks
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
        let (y, lse) = reference::forward(dims, &qkv, None, None);
        assert!(galatea_fixtures::relative_to_max(&found[0], &y) < TOLERANCE);
        assert!(galatea_fixtures::relative_to_max(&found[1], &lse) < TOLERANCE);
    }
}

#[test]
fn gradient_equals_finite_differences() {
    let (b, len, heads, d_head) = (2, 4, 2, 2);
    let visible = [1, 0, 1, 1, 0, 0, 0, 1];
    for (mask, kv_heads) in [(Full, 2), (Causal, 2), (BlockCausal(2), 1), (BlockDiffusion(1), 2)] {
        for (visible, dropout) in
            [(None, None), (Some(&visible[..]), None), (None, Some(DROPPED)), (Some(&visible[..]), Some(DROPPED))]
        {
            let dims = Dims { heads, kv_heads, d_head, len, mask };
            let widths = [(dims.width(), 1), (heads * d_head, 2)];
            let [qkv, dy] = widths.map(|(width, row)| Host::normal(&[b, len, width], row).f64());
            let gradient = reference::backward(dims, &qkv, visible, dropout, &dy);
            check_gradients(std::slice::from_ref(&qkv), &dy, &[gradient], |x| {
                reference::forward(dims, &x[0], visible, dropout).0
            });
        }
    }
}

#[test]
fn dropped_kernels_equal_reference() {
    for (i, size) in SIZES.into_iter().enumerate() {
        let (b, len, ..) = size;
        for (at, mask) in masks(len).into_iter().enumerate().skip(i % 2).step_by(2) {
            let visible: Vec<u32> = (0..b * len).map(|n| u32::from(n % 3 != 1)).collect();
            let visible = ((i + at) % 4 > 1).then_some(&visible[..]);
            let (Dropout { stream, .. }, rng) = DROPPED;
            let dropout = (Dropout { p: [0.1, 0.5, 0.9][(i + at) % 3], stream }, rng);
            let dims = dims(size, mask);
            // Weights are scaled by up to ten, and so are what is wrong with them and with dp beside the dropped ones.
            let qkv = Host::normal(&[b, len, dims.width()], 1);
            compare_dropped(b, dims, &qkv, visible, Some(dropout), 2.0 * TOLERANCE);
        }
    }
}

/// The weights [b, heads, len, len] of the forward and the backward pass, by one-hot values and gradients: that of query i and
/// key j is element j of y_i, and element i of dv_j.
fn weights(isa: Isa, (b, len, heads): (usize, usize, usize), (dropout, rng): (Dropout, [u32; 4])) -> [Vec<f64>; 2] {
    // Heads as wide as the sequence, scores of zero: every weight is 1 / len, or nothing.
    let d = heads * len;
    let one_hot = |e: usize, width: usize| if e % width % len == e / width % len { 1.0 } else { 0.0 };
    let value = |e: usize| if e % (3 * d) < 2 * d { 0.0 } else { one_hot(e, 3 * d) };
    // 3 d and 2 d are multiples of len: the column within a head is the element's number modulo len.
    let qkv = Host::f32(&[b, len, 3 * d], (0..b * len * 3 * d).map(value).collect());
    let dy = Host::f32(&[b, len, d], (0..b * len * d).map(|e| one_hot(e, d)).collect());
    let rng = Host::u32(&[4], rng.to_vec());
    let dims = Dims { heads, kv_heads: heads, d_head: len, len, mask: Full };
    let [forward, backward] = ops(dims, false, Some(dropout));
    let found = run(isa, 2, forward, &[qkv.clone(), rng.clone()], &[]);
    let f32s = |dims: &[usize], x: &[f64]| Host::f32(dims, x.iter().map(|&x| x as f32).collect());
    let (y, lse) = (f32s(&[b, len, d], &found[0]), f32s(&[b, heads, len], &found[1]));
    let dqkv = run(isa, 2, backward, &[qkv, y, lse, dy, rng], &[]).remove(0);
    let at = |e: usize| (e / (heads * len * len), e / (len * len) % heads, e / len % len, e % len);
    let by = |weight: &dyn Fn(usize, usize, usize, usize) -> f64| {
        let each = |e: usize| {
            let (b, h, i, j) = at(e);
            weight(b, h, i, j)
        };
        (0..b * heads * len * len).map(each).collect::<Vec<_>>()
    };
    let forward = by(&|b, h, i, j| found[0][(b * len + i) * d + h * len + j]);
    [forward, by(&|b, h, i, j| dqkv[(b * len + j) * 3 * d + 2 * d + h * len + i])]
}

#[test]
fn both_passes_drop_the_same_weights_at_every_level_and_length() {
    for (b, len, heads) in [(2, 37, 3), (1, 150, 2)] {
        let stays = |b: usize, h: usize, i: usize, j: usize| reference::factor(Some(DROPPED), heads, b, h, i, j) != 0.0;
        for isa in Isa::available() {
            let [forward, backward] = weights(isa, (b, len, heads), DROPPED);
            for (e, (forward, backward)) in forward.iter().zip(backward).enumerate() {
                let expected = stays(e / (heads * len * len), e / (len * len) % heads, e / len % len, e % len);
                assert_eq!((*forward != 0.0, backward != 0.0), (expected, expected), "{isa:?}, weight {e}");
            }
        }
    }
}

#[test]
fn the_share_that_stays_is_that_of_p() {
    let (b, len, heads) = (2, 128, 4);
    let n = (b * len * len * heads) as f64;
    for p in [0.0, 0.1, 0.5, 0.9] {
        let [weights, _] = weights(Isa::detect(), (b, len, heads), (Dropout { p, stream: 2 }, [1, 2, 3, 0]));
        let (share, p) = (weights.iter().filter(|&&w| w != 0.0).count() as f64 / n, f64::from(p));
        // Four standard errors, and the rounding of p.
        assert!((share - (1.0 - p)).abs() <= 4.0 * (p * (1.0 - p) / n).sqrt() + 1e-5, "p = {p}: {share}");
        // A query's weights still sum to one on average.
        let mean = weights.iter().sum::<f64>() / (b * heads * len) as f64;
        assert!((mean - 1.0).abs() < 4.0 * (p / (1.0 - p) / n).sqrt() + 1e-5, "p = {p}: {mean}");
    }
    // However near p is to one, a weight in 65536 stays.
    let [weights, _] = weights(Isa::detect(), (b, len, heads), (Dropout { p: 0.999_999_9, stream: 2 }, [1, 2, 3, 0]));
    assert!(weights.iter().all(|&w| w == 0.0 || (w - 65_536.0 / len as f64).abs() < 0.1));
}

#[test]
fn padding_moves_no_dropped_weight() {
    let (b, heads, width) = (3, 4, 3 * 4 * 8);
    let attend = |len: usize| {
        // The same first forty rows of every element, then padding.
        let row = |n: usize| Host::normal(&[width], (n / len * 40 + n % len) as u32).f64();
        let rows = |n: usize| if n % len < 40 { row(n) } else { vec![7.0; width] };
        let qkv: Vec<f32> = (0..b * len).flat_map(rows).map(|x| x as f32).collect();
        let visible = Host::u32(&[b, len], (0..b * len).map(|n| u32::from(n % len < 40)).collect());
        let (dropout, rng) = (Some(DROPPED.0), Host::u32(&[4], DROPPED.1.to_vec()));
        let op = Op::Attention { heads, kv_heads: heads, mask: Full, padding: true, dropout };
        let y = run(Isa::detect(), 2, op, &[Host::f32(&[b, len, width], qkv), visible, rng], &[]).remove(0);
        y.chunks(len * width / 3).flat_map(|y| y[..40 * width / 3].to_vec()).collect::<Vec<_>>()
    };
    for len in [41, 77, 300] {
        assert!(galatea_fixtures::relative_to_max(&attend(len), &attend(40)) < TOLERANCE, "{len}");
    }
}

#[test]
fn steps_and_streams_drop_apart() {
    let dropped = |stream, step| weights(Isa::detect(), (1, 40, 2), (Dropout { p: 0.5, stream }, [1, 2, step, 0]));
    assert_eq!(dropped(1, 1), dropped(1, 1));
    assert_ne!(dropped(1, 1), dropped(2, 1));
    assert_ne!(dropped(1, 1), dropped(1, 2));
}

/// Far more than a cache holds, where a task asks for what the next one reads.
#[test]
fn a_large_batch_is_its_elements() {
    let (b, len, heads, width) = (33, 64, 8, 3 * 8 * 32);
    let qkv = Host::normal(&[b, len, width], 1).f64();
    let attend = |b: usize, qkv: &[f64]| {
        let qkv = Host::f32(&[b, len, width], qkv.iter().map(|&x| x as f32).collect());
        run(Isa::detect(), 2, plain(heads, Full, false), &[qkv], &[])
    };
    let all = attend(b, &qkv);
    for i in [0, 7, b - 1] {
        let one = attend(1, &qkv[i * len * width..(i + 1) * len * width]);
        for (all, one) in all.iter().zip(one) {
            assert_eq!(all[i * one.len()..(i + 1) * one.len()], one);
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
        prop_assert!(galatea_fixtures::relative_to_max(&turned, &expected.concat()) < TOLERANCE);
    }

    #[test]
    fn a_block_of_everything_is_full_and_a_block_of_one_is_causal(len in 1usize..150) {
        let qkv = Host::normal(&[1, len, 3 * 8], 1);
        let attend = |mask| run(Isa::detect(), 1, plain(2, mask, false), std::slice::from_ref(&qkv), &[]);
        prop_assert_eq!(attend(BlockCausal(len as u32)), attend(Full));
        prop_assert_eq!(attend(BlockCausal(1)), attend(Causal));
    }
}

#[test]
fn block_diffusion_is_made_of_what_is_known() {
    for (half, block) in [(40, 8), (65, 16), (130, 130), (96, 1)] {
        let (len, width, d) = (2 * half, 3 * 16, 16);
        let qkv = Host::normal(&[1, len, width], 1);
        let all = run(Isa::detect(), 2, plain(2, BlockDiffusion(block), false), std::slice::from_ref(&qkv), &[]);
        let rows = |positions: &[usize]| -> Host {
            let values: Vec<f64> = qkv.f64();
            let row = |&i: &usize| values[i * width..(i + 1) * width].to_vec();
            let rows: Vec<f32> = positions.iter().flat_map(row).map(|x| x as f32).collect();
            Host::f32(&[1, positions.len(), width], rows)
        };
        let same = |found: &[f64], truth: &[f64]| assert!(galatea_fixtures::relative_to_max(found, truth) < TOLERANCE);
        // The clean half is a text that is read block by block.
        let clean: Vec<usize> = (half..len).collect();
        let alone = run(Isa::detect(), 2, plain(2, BlockCausal(block), false), &[rows(&clean)], &[]);
        same(&all[0][half * d..], &alone[0]);
        // A noisy block is the last of a text whose earlier blocks are clean: what sampling sees.
        for first in (0..half).step_by(block as usize) {
            let last = (first + block as usize).min(half);
            let text: Vec<usize> = (half..half + first).chain(first..last).collect();
            let alone = run(Isa::detect(), 2, plain(2, Full, false), &[rows(&text)], &[]);
            same(&all[0][first * d..last * d], &alone[0][first * d..]);
        }
    }
}

/// One step of a decoder: what it writes, in f64.
fn step(dims: Dims, capacity: usize, past: usize, qkv: &Host, caches: &[Host]) -> Vec<Vec<f64>> {
    let (heads, kv_heads, capacity) = (dims.heads as u32, dims.kv_heads as u32, capacity as u32);
    let op = Op::AttentionCached { heads, kv_heads, capacity, mask: dims.mask };
    run(Isa::detect(), 2, op, &[qkv.clone(), Host::u32(&[1], vec![past as u32])], caches)
}

/// Caches of NaN where nothing was appended yet.
fn empty(b: usize, capacity: usize, dims: Dims, round: bool) -> Vec<Host> {
    let cache = Host::poison(&[b, capacity, dims.kv_heads * dims.d_head]);
    vec![if round { cache.bf16() } else { cache }; 2]
}

#[test]
fn steps_by_a_cache_equal_the_whole_sequence() {
    // Positions a step: one by one, in runs, and beginning with a long one.
    let cuts: [&[usize]; 4] = [&[1; 40], &[3; 40], &[16; 40], &[30, 1, 1, 1, 5, 20, 20, 20]];
    for (i, (b, len, heads, kv_heads, d_head)) in
        [(1, 5, 1, 1, 2), (2, 40, 4, 4, 32), (1, 37, 4, 1, 16), (2, 33, 6, 2, 20), (1, 40, 8, 1, 96)]
            .into_iter()
            .enumerate()
    {
        for (cut, round) in cuts.iter().flat_map(|cut| [(cut, false), (cut, true)]) {
            let even = cut.iter().all(|n| n == &cut[0]);
            let mask = if i % 2 == 1 && even { BlockCausal(cut[0] as u32) } else { Causal };
            let whole = Dims { heads, kv_heads, d_head, len, mask };
            let (width, d, kept) = (whole.width(), heads * d_head, kv_heads * d_head);
            let real = |x: Host| if round { x.bf16() } else { x };
            let all = real(Host::normal(&[b, len, width], 1)).f64();
            let (truth, _) = reference::forward(whole, &all, None, None);
            let capacity = len + 3;
            let mut caches = empty(b, capacity, whole, round);
            let mut past = 0;
            for &n in cut.iter() {
                let n = n.min(len - past);
                if n == 0 {
                    break;
                }
                let new = |from: usize, to: usize, width: usize, x: &[f64]| -> Vec<f32> {
                    let rows = |b: usize| x[(b * len + from) * width..(b * len + to) * width].iter().map(|&x| x as f32);
                    (0..b).flat_map(rows).collect()
                };
                let qkv = real(Host::f32(&[b, n, width], new(past, past + n, width, &all)));
                let mut found = step(Dims { len: n, ..whole }, capacity, past, &qkv, &caches);
                found.truncate(3);
                let y = found.pop().expect("y comes after the caches");
                let expected: Vec<f64> = new(past, past + n, d, &truth).into_iter().map(f64::from).collect();
                let error = galatea_fixtures::relative_to_max(&y, &expected);
                let bound = if round { BF16 } else { TOLERANCE };
                assert!(error < bound, "{whole:?}, {n} after {past}: {error}");
                let cache = |x: &Vec<f64>| Host::f32(&[b, capacity, kept], x.iter().map(|&x| x as f32).collect());
                caches = found.iter().map(|x| real(cache(x))).collect();
                past += n;
            }
            assert_eq!(past, len.min(cut.iter().sum()));
        }
    }
}

#[test]
fn cached_kernels_equal_reference_at_every_level() {
    for (b, n, past, heads, kv_heads, d_head) in [
        (2, 1, 0, 2, 2, 6),
        (1, 1, 200, 2, 1, 40),
        (1, 1, 700, 4, 1, 24),
        (2, 3, 254, 2, 2, 16),
        (2, 5, 140, 4, 2, 8),
        (1, 70, 9, 2, 2, 12),
    ] {
        for mask in [Causal, Full, BlockCausal(16)] {
            let (len, capacity) = (past + n, past + n + 2);
            let whole = Dims { heads, kv_heads, d_head, len, mask };
            let (width, d, kept) = (whole.width(), heads * d_head, kv_heads * d_head);
            let all = Host::normal(&[b, len, width], 1).f64();
            let (y, _) = reference::forward(whole, &all, None, None);
            let rows = |from: usize, to: usize, of: usize, cols: std::ops::Range<usize>, x: &[f64]| -> Vec<f64> {
                (0..b * len)
                    .filter(|row| (from..to).contains(&(row % len)))
                    .flat_map(|row| x[row * of..][cols.clone()].to_vec())
                    .collect()
            };
            let f32s = |dims: &[usize], x: Vec<f64>| Host::f32(dims, x.into_iter().map(|x| x as f32).collect());
            // What is beyond the appended positions stays as it was.
            let cache = |filled: usize, col: usize| -> Vec<f64> {
                let row = |b: usize, j: usize| match j < filled {
                    true => all[(b * len + j) * width + col..][..kept].to_vec(),
                    false => vec![7.0; kept],
                };
                (0..b * capacity).flat_map(|row_of| row(row_of / capacity, row_of % capacity)).collect()
            };
            let caches = [d, d + kept].map(|col| f32s(&[b, capacity, kept], cache(past, col)));
            let truth = [cache(len, d), cache(len, d + kept), rows(past, len, d, 0..d, &y)];
            let qkv = f32s(&[b, n, width], rows(past, len, width, 0..width, &all));
            let (heads, kv_heads, capacity) = (heads as u32, kv_heads as u32, capacity as u32);
            let op = Op::AttentionCached { heads, kv_heads, capacity, mask };
            check(op, &[qkv, Host::u32(&[1], vec![past as u32])], &caches, &truth, TOLERANCE);
        }
    }
}

#[test]
#[should_panic(expected = "attention_cached: 5 positions and 3 more, of 7")]
fn a_full_cache_takes_no_more() {
    let dims = Dims { heads: 1, kv_heads: 1, d_head: 4, len: 3, mask: Causal };
    step(dims, 7, 5, &Host::normal(&[1, 3, 12], 1), &empty(1, 7, dims, false));
}
