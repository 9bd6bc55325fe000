use super::dropped::Dropped;
use super::layout::{Block, Dims, Head, scratch};
use super::micro::{Matrix, ROWS, product, stride};
use super::rows::{Out, dots, load, store, turn};
use super::softmax::{MOST, PerQuery, differentiate, differentiate_dropped};
use crate::cpu::Cores;
use crate::isa::Isa;
use crate::op::Dropout;
use crate::pool::Pieces;
use crate::real::Real;
use std::ops::Range;

/// dqkv [b, l, (heads + 2 kv_heads) d_head] for dy [b, l, heads d_head]; the probabilities are computed again from `lse`, and
/// what `dropout` (with its rng) leaves of them is drawn again.
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn backward<X: Real>(
    cores: &Cores,
    dims: Dims,
    qkv: &[X],
    visible: Option<&[u32]>,
    dropout: Option<(Dropout, &[u32])>,
    y: &[X],
    lse: &[f32],
    dy: &[X],
    dqkv: &mut [X],
) {
    let Dims { heads, kv_heads, d_head, len, .. } = dims;
    let (width, d) = (dims.width(), heads * d_head);
    let batch = y.len() / (len * d);
    assert_eq!((qkv.len(), dqkv.len(), dy.len()), (batch * len * width, batch * len * width, y.len()));
    let of = Reads { isa: cores.isa, dims, qkv, visible, dropped: dropout.map(Dropped::new), y, lse, dy };
    let (dqkv, all, heads) = (Pieces::new(dqkv), dims.queries(), batch * kv_heads);
    let run = |tasks: usize, part: &(dyn Fn(usize) -> (usize, Range<usize>, Range<usize>, Wanted) + Sync)| {
        cores.pool.run(tasks, &|task| {
            let (head, queries, keys, wanted) = part(task);
            of.gradients(Head::new(head, dims), queries, keys, wanted, &dqkv);
        });
    };
    if dims.splits(batch) {
        // Scores are computed twice, so that each task has its own keys or its own queries.
        let (span, most) = (dims.span(), dims.block());
        let (spans, blocks) = (len.div_ceil(span), all.div_ceil(most));
        run(heads * spans, &|task| {
            let first = task % spans * span;
            (task / spans, 0..all, first..(first + span).min(len), Wanted::Keys)
        });
        run(heads * blocks, &|task| {
            let first = task % blocks * most;
            (task / blocks, first..(first + most).min(all), 0..len, Wanted::Queries)
        });
    } else {
        run(heads, &|task| (task, 0..all, 0..len, Wanted::Both));
    }
}

/// The gradients that a task computes: of its queries over its keys, or of its keys over its queries.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Queries,
    Keys,
    Both,
}

/// What the op reads.
struct Reads<'a, X> {
    isa: Isa,
    dims: Dims,
    qkv: &'a [X],
    visible: Option<&'a [u32]>,
    dropped: Option<Dropped>,
    y: &'a [X],
    lse: &'a [f32],
    dy: &'a [X],
}

impl<X: Real> Reads<'_, X> {
    /// The wanted gradients of one key/value head; no other task may want the same of its `queries` or `keys`.
    fn gradients(&self, head: Head, queries: Range<usize>, keys: Range<usize>, wanted: Wanted, dqkv: &Pieces<'_, X>) {
        let &Self { isa, dims, .. } = self;
        let Dims { heads, d_head, len, .. } = dims;
        let (width, d) = (dims.width(), heads * d_head);
        let [q_col, k_col, v_col, y_col] = head.columns();
        let q = head.queries(self.qkv, width, q_col);
        let [y, dy] = [self.y, self.dy].map(|x| head.queries(x, d, y_col));
        let [k, v] = [k_col, v_col].map(|col| head.keys(self.qkv, len, width, col));
        let visible = self.visible.map(|v| &v[head.batch * len..][..len]);
        // SAFETY: a head's columns of its queries, and of its keys and values, are written by the one task that wants them.
        let (mut dq_out, mut dk_out, mut dv_out) = unsafe {
            let [dk, dv] = [k_col, v_col].map(|col| Out::new(dqkv, head.key_place(width, col)));
            (Out::new(dqkv, head.place(width, q_col)), dk, dv)
        };
        let scale = 1.0 / (d_head as f32).sqrt();
        let most = dims.block();
        let (across, along) = (stride(most), stride(d_head));
        let (all, some) = (keys.len().next_multiple_of(ROWS) * along, most * along);
        let (turned, scores) = (along * across, Block::most_keys(len) * across);
        let sizes = [all, all, all, all, turned, turned, some, some, some, scores, scores];
        scratch(sizes, |[k_rows, v_rows, dk, dv, q_turned, dy_turned, q_rows, dy_rows, dq, s, ds]| {
            load(isa, k, keys.start, keys.len(), 1.0, k_rows, along);
            load(isa, v, keys.start, keys.len(), 1.0, v_rows, along);
            if wanted != Wanted::Queries {
                dk.fill(0.0);
                dv.fill(0.0);
            }
            for first in queries.clone().step_by(most) {
                let block = Block::new(dims, first, most, 0, len);
                let count = block.count;
                let kept = self.dropped.map(|dropped| dropped.of(head, &block));
                load(isa, q, first, count, scale, q_rows, along);
                load(isa, dy, first, count, 1.0, dy_rows, along);
                turn(isa, isa, count, d_head, q_rows, along, q_turned, across);
                turn(isa, isa, count, d_head, dy_rows, along, dy_turned, across);
                let log_sums = self.log_sums(head, first, count);
                let mut delta = PerQuery([0.0; MOST]);
                dots(isa, isa, dy_rows, along, y, first, count, &mut delta.0);
                for (n, (j, some)) in block.keys(keys.start, keys.end).enumerate() {
                    let (from, at) = (block.from(j), j - keys.start);
                    let lanes = count - from;
                    let rows = at * along..(at + some.next_multiple_of(ROWS)) * along;
                    let (k, v) = (Matrix::new(&k_rows[rows.clone()], along), Matrix::new(&v_rows[rows.clone()], along));
                    let (q, dy) = (Matrix::new(&q_turned[from..], across), Matrix::new(&dy_turned[from..], across));
                    product::<false>(isa, (some, lanes, d_head), k, q, &mut s[from..], across, false);
                    product::<false>(isa, (some, lanes, d_head), v, dy, &mut ds[from..], across, false);
                    block.mask(isa, s, across, (j, some), from, visible);
                    match &kept {
                        None => differentiate(isa, isa, s, ds, across, some, from, count, &log_sums, &delta),
                        Some(kept) => {
                            differentiate_dropped(
                                isa, isa, s, ds, across, j, some, from, count, &log_sums, &delta, kept,
                            );
                        }
                    }
                    let (p, ds) = (Matrix::new(&s[from..], across), Matrix::new(&ds[from..], across));
                    if wanted != Wanted::Queries {
                        let [q, dy] = [&q_rows, &dy_rows].map(|x| Matrix::new(&x[from * along..], along));
                        product::<false>(isa, (some, d_head, lanes), p, dy, &mut dv[rows.clone()], along, true);
                        product::<false>(isa, (some, d_head, lanes), ds, q, &mut dk[rows], along, true);
                    }
                    if wanted != Wanted::Keys {
                        let dq = &mut dq[from * along..];
                        product::<true>(isa, (lanes, d_head, some), ds, k, dq, along, n > 0);
                    }
                }
                if wanted != Wanted::Keys {
                    store(isa, dq, along, count, scale, None, &mut dq_out, first);
                }
            }
            if wanted != Wanted::Queries {
                store(isa, dk, along, keys.len(), 1.0, None, &mut dk_out, keys.start);
                store(isa, dv, along, keys.len(), 1.0, None, &mut dv_out, keys.start);
            }
        });
    }

    /// The log-sums of a block of queries; +inf for rows without a key and lanes without a row, where every probability
    /// becomes zero.
    fn log_sums(&self, head: Head, first: usize, count: usize) -> PerQuery {
        let mut log_sums = PerQuery([f32::INFINITY; MOST]);
        for (r, to) in log_sums.0.iter_mut().enumerate().take(count) {
            let log_sum = self.lse[head.lse(first + r)];
            *to = if log_sum == f32::NEG_INFINITY { f32::INFINITY } else { log_sum };
        }
        log_sums
    }
}
