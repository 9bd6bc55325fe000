use super::dropped::{Dropped, Kept};
use super::layout::{Block, Dims, Head, scratch};
use super::micro::{LANES, Matrix, product_while, stride, tiles};
use super::rows::{Ahead, Out, Rows, load, store, turn};
use super::softmax::{Softmax, drop_weights, hide, hide_twice, scale_rows, settle, soften};
use crate::cpu::Cores;
use crate::isa::Isa;
use crate::op::Dropout;
use crate::pool::Pieces;
use crate::real::Real;

/// Bytes of qkv below which it stays in the caches of a core or its neighbours.
const NEAR: usize = 4 << 20;

/// y [b, l, heads d_head] = softmax(q k^T / sqrt(d_head) + mask) v and lse [b, heads, l] for qkv [b, l, (heads + 2 kv_heads)
/// d_head]; `visible` [b, l] hides keys where it is 0; `dropout` (with its rng) is applied to what the softmax gives.
pub fn forward<X: Real>(
    cores: &Cores,
    dims: Dims,
    qkv: &[X],
    visible: Option<&[u32]>,
    dropout: Option<(Dropout, &[u32])>,
    y: &mut [X],
    lse: &mut [f32],
) {
    let Dims { heads, kv_heads, d_head, len, .. } = dims;
    let (width, d) = (dims.width(), heads * d_head);
    let batch = y.len() / (len * d);
    assert_eq!((y.len(), lse.len(), qkv.len()), (batch * len * d, batch * heads * len, batch * len * width));
    let (y, lse, dropped) = (Pieces::new(y), Pieces::new(lse), dropout.map(Dropped::new));
    let most = dims.task(batch);
    let blocks = dims.queries().div_ceil(most);
    // One task a block of queries: its rows of its heads' columns of y, and its places of lse.
    cores.pool.run(batch * kv_heads * blocks, &|task| {
        let head = Head::new(task / blocks, dims);
        let block = Block::new(dims, task % blocks * most, most, 0, len);
        let [q, k, v, out] = head.columns();
        let (k, v) = (head.keys(qkv, len, width, k), head.keys(qkv, len, width, v));
        let visible = visible.map(|v| &v[head.batch * len..][..len]);
        let q = head.queries(qkv, width, q);
        // What this thread will probably take next, where it is too much to be in cache already.
        let next = (task + cores.pool.threads()).min(batch * kv_heads * blocks - 1);
        let (after, first) = (Head::new(next / blocks, dims), next % blocks * most);
        let [next_q, next_k, next_v, _] = after.columns();
        let far = size_of_val(qkv) > NEAR;
        let (to, keys) =
            if far { ((first + most).min(dims.queries()), Block::most_keys(len).min(len)) } else { (first, 0) };
        let next = [
            (after.queries(qkv, width, next_q), first, to),
            (after.keys(qkv, len, width, next_k), 0, keys),
            (after.keys(qkv, len, width, next_v), 0, keys),
        ];
        let kept = dropped.map(|dropped| dropped.of(head, &block));
        let scale = kept.as_ref().map_or(1.0, Kept::scale);
        attend(cores.isa, dims, &block, q, [k, v], visible, kept.as_ref(), next, |mixed, along, softmax| {
            // SAFETY: this block's rows of its heads' columns, and their log-sums, are this task's alone.
            let (mut y, mut lse) = unsafe { (Out::new(&y, head.place(d, out)), Out::new(&lse, head.lse_place())) };
            store(cores.isa, mixed, along, block.count, scale, Some(&softmax.total.0), &mut y, block.first);
            for (r, log_sum) in softmax.largest.0.iter().enumerate().take(block.count) {
                lse.row(block.first + r)[0] = *log_sum;
            }
        });
    });
}

/// The attention of a block of queries over the keys and values that it sees; `finish(mixtures, stride, softmax)` gets
/// the mixtures of values, a row a query, yet to be multiplied by the softmax's totals and what is `kept` by its scale. `next` will be wanted afterwards.
#[expect(clippy::too_many_arguments, reason = "what is attended, and what comes next")]
pub(super) fn attend<X: Real>(
    isa: Isa,
    dims: Dims,
    block: &Block,
    q: Rows<'_, X>,
    [k, v]: [Rows<'_, X>; 2],
    visible: Option<&[u32]>,
    kept: Option<&Kept>,
    next: [(Rows<'_, X>, usize, usize); 3],
    finish: impl FnOnce(&[f32], usize, &Softmax),
) {
    let (d_head, count) = (dims.d_head, block.count);
    let keys = Block::most_keys(block.len);
    let (across, along) = (stride(count), stride(d_head));
    let sizes = [along * across, keys * along, keys * along, keys * across, count.next_multiple_of(LANES) * along];
    scratch(sizes, |[queries, k_rows, v_rows, s, mixed]| {
        // The queries pass through the place of what will be mixed.
        load(isa, q, block.first, count, 1.0 / (d_head as f32).sqrt(), mixed, along);
        turn(isa, isa, count, d_head, mixed, along, queries, across);
        let mut softmax = Softmax::new();
        for (n, (j, keys)) in block.keys(0, block.len).enumerate() {
            let from = block.from(j);
            let (after, end) = (j + keys, (j + 2 * keys).min(block.end()));
            let wanted = if after < end { [(q, 0, 0), (k, after, end), (v, after, end)] } else { next };
            let mut ahead = Ahead::new(wanted, tiles(keys, count - from) + tiles(count - from, d_head));
            load(isa, k, j, keys, 1.0, k_rows, along);
            load(isa, v, j, keys, 1.0, v_rows, along);
            let (k, q) = (Matrix::new(k_rows, along), Matrix::new(&queries[from..], across));
            product_while::<false>(isa, (keys, count - from, d_head), k, q, &mut s[from..], across, false, &mut || {
                ahead.step()
            });
            block.mask(isa, s, across, (j, keys), from, visible);
            soften(isa, isa, s, across, keys, from, count, &mut softmax);
            if let Some(kept) = kept {
                drop_weights(isa, s, across, j, keys, from, count, kept);
            }
            if n > 0 {
                scale_rows(isa, &mut mixed[from * along..], along, d_head, &softmax.keep.0[from..count]);
            }
            let (p, v) = (Matrix::new(&s[from..], across), Matrix::new(v_rows, along));
            product_while::<true>(
                isa,
                (count - from, d_head, keys),
                p,
                v,
                &mut mixed[from * along..],
                along,
                n > 0,
                &mut || ahead.step(),
            );
        }
        settle(isa, &mut softmax);
        finish(mixed, along, &softmax);
    });
}

impl Block {
    /// s [keys, queries from .. ] = -inf where a query may not use a key of the block `j .. j + keys`.
    pub(super) fn mask(
        &self,
        isa: Isa,
        s: &mut [f32],
        stride: usize,
        (j, keys): (usize, usize),
        from: usize,
        visible: Option<&[u32]>,
    ) {
        match &self.twice {
            None if j + keys <= self.reach[from] as usize => {}
            None => hide(isa, s, stride, keys, j, from, self.count, &self.reach),
            Some(twice) => hide_twice(isa, s, stride, keys, j, self.count, &self.reach, twice),
        }
        if let Some(visible) = visible {
            let hidden = s.chunks_mut(stride).zip(&visible[j..j + keys]).filter(|(_, v)| **v == 0);
            hidden.for_each(|(s, _)| s[from..self.count].fill(f32::NEG_INFINITY));
        }
    }
}
