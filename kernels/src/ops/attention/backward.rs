use super::layout::{Block, Dims, Head, scratch};
use super::micro::{Matrix, ROWS, product, stride};
use super::rows::{dots, load, store, turn};
use super::softmax::{MOST, PerQuery, differentiate};
use crate::cpu::Cores;
use crate::pool::Pieces;
use crate::real::Real;

/// dqkv [b, l, (heads + 2 kv_heads) d_head] for dy [b, l, heads d_head]; the probabilities are computed again from `lse`.
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn backward<X: Real>(
    cores: &Cores,
    dims: Dims,
    qkv: &[X],
    visible: Option<&[u32]>,
    y: &[X],
    lse: &[f32],
    dy: &[X],
    dqkv: &mut [X],
) {
    let Dims { heads, kv_heads, d_head, len, .. } = dims;
    let (isa, width, d) = (cores.isa, dims.width(), heads * d_head);
    let batch = y.len() / (len * d);
    assert_eq!((qkv.len(), dqkv.len(), dy.len()), (batch * len * width, batch * len * width, y.len()));
    let dqkv = Pieces::new(dqkv);
    // One task a key/value head: blocks of queries add to its dk and dv in order.
    cores.pool.run(batch * kv_heads, &|task| {
        let head = Head::new(task, dims);
        let [q_col, k_col, v_col, y_col] = head.columns();
        let q = head.queries(qkv, width, q_col);
        let [y, dy] = [y, dy].map(|x| head.queries(x, d, y_col));
        let (k, v) = (head.keys(qkv, len, width, k_col), head.keys(qkv, len, width, v_col));
        let visible = visible.map(|v| &v[head.batch * len..][..len]);
        let scale = 1.0 / (d_head as f32).sqrt();
        let put = |at: usize, row: &[f32], scale: f32| {
            // SAFETY: the columns of this head's queries, keys and values belong to this task alone, and it holds one piece
            // at a time.
            let piece = unsafe { dqkv.piece(at, at + d_head) };
            store(isa, &row[..d_head], scale, piece);
        };
        let most = dims.block();
        let (across, along) = (stride(most), stride(d_head));
        let (all, some, keys) = (len.next_multiple_of(ROWS) * along, most * along, Block::most_keys(len) * across);
        let sizes = [all, all, all, all, along * across, along * across, some, some, some, keys, keys];
        scratch(sizes, |[k_rows, v_rows, dk, dv, q_turned, dy_turned, q_rows, dy_rows, dq, s, ds]| {
            load(isa, k, 0, len, 1.0, k_rows, along);
            load(isa, v, 0, len, 1.0, v_rows, along);
            dk.fill(0.0);
            dv.fill(0.0);
            for first in (0..dims.queries()).step_by(most) {
                let block = Block::new(dims, first, most, 0, len);
                let count = block.count;
                load(isa, q, first, count, scale, q_rows, along);
                load(isa, dy, first, count, 1.0, dy_rows, along);
                turn(isa, isa, count, d_head, q_rows, along, q_turned, across);
                turn(isa, isa, count, d_head, dy_rows, along, dy_turned, across);
                // +inf for rows without a key and lanes without a row: every probability becomes zero.
                let mut log_sums = PerQuery([f32::INFINITY; MOST]);
                let mut delta = PerQuery([0.0; MOST]);
                for (r, to) in log_sums.0.iter_mut().enumerate().take(count) {
                    let log_sum = lse[head.lse(first + r)];
                    *to = if log_sum == f32::NEG_INFINITY { f32::INFINITY } else { log_sum };
                }
                dots(isa, isa, dy_rows, along, y, first, count, &mut delta.0);
                for (j, keys) in block.keys() {
                    let from = block.from(j);
                    let lanes = count - from;
                    let matrix = |data, stride| Matrix { data, stride };
                    let rows = j * along..(j + keys.next_multiple_of(ROWS)) * along;
                    let (k, v) = (matrix(&k_rows[rows.clone()], along), matrix(&v_rows[rows.clone()], along));
                    let shape = (keys, lanes, d_head);
                    product::<false>(
                        isa,
                        shape,
                        k,
                        matrix(&q_turned[from..], across),
                        &mut s[from..],
                        across,
                        false,
                        &mut || {},
                    );
                    product::<false>(
                        isa,
                        shape,
                        v,
                        matrix(&dy_turned[from..], across),
                        &mut ds[from..],
                        across,
                        false,
                        &mut || {},
                    );
                    block.mask(isa, s, across, (j, keys), from, visible);
                    differentiate(isa, isa, s, ds, across, keys, from, count, &log_sums, &delta);
                    let (p, ds) = (matrix(&s[from..], across), matrix(&ds[from..], across));
                    let shape = (keys, d_head, lanes);
                    let dy = matrix(&dy_rows[from * along..], along);
                    product::<false>(isa, shape, p, dy, &mut dv[rows.clone()], along, true, &mut || {});
                    let q = matrix(&q_rows[from * along..], along);
                    product::<false>(isa, shape, ds, q, &mut dk[rows], along, true, &mut || {});
                    let shape = (lanes, d_head, keys);
                    product::<true>(isa, shape, ds, k, &mut dq[from * along..], along, j > 0, &mut || {});
                }
                for (r, dq) in dq.chunks(along).enumerate().take(count) {
                    put(head.query(first + r, width, q_col), dq, scale);
                }
            }
            for (part, col) in [(&*dk, k_col), (&*dv, v_col)] {
                for (j, row) in part.chunks(along).enumerate().take(len) {
                    put((head.batch * len + j) * width + col, row, 1.0);
                }
            }
        });
    });
}
