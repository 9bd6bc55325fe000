use super::tile::{
    LANES, Matrix, PerQuery, SIDE, Softmax, Tile, dots, hide, probabilities, product, product_turned, score_gradient,
    settle, soften, turn,
};
use crate::cpu::Cores;
use crate::isa::Isa;
use crate::op::AttentionMask;
use crate::pool::Pieces;
use std::array::from_fn;
use std::cell::RefCell;

thread_local! {
    /// A thread's tiles: of one size for every shape, and part of the thread itself.
    static SCRATCH: RefCell<Scratch> = const {
        RefCell::new(Scratch { q: Turned::EMPTY, dy: Turned::EMPTY, p: EMPTY, ds: EMPTY, out: EMPTY })
    };
}

const EMPTY: Tile = [[0.0; SIDE]; SIDE];

struct Scratch {
    q: Turned,
    dy: Turned,
    p: Tile,
    ds: Tile,
    out: Tile,
}

/// A block of queries (or of their dy) turned to [d_head, SIDE], 64 of d_head at a time; heads of up to 128 are turned
/// once.
struct Turned {
    tiles: [Tile; 2],
    /// The first column of what each holds.
    holds: [usize; 2],
}

impl Turned {
    const EMPTY: Self = Self { tiles: [EMPTY; 2], holds: [usize::MAX; 2] };

    fn columns(&mut self, isa: Isa, rows: usize, (from, to): (usize, usize), x: Matrix<'_>, scale: f32) -> &Tile {
        let at = from / SIDE % 2;
        if self.holds[at] != from {
            turn(isa, rows, to - from, Matrix { data: &x.data[from..], ..x }, scale, &mut self.tiles[at]);
            self.holds[at] = from;
        }
        &self.tiles[at]
    }
}

/// One head of one batch element.
#[derive(Clone, Copy)]
struct Head {
    /// The row of its first position.
    first: usize,
    /// Its first column.
    col: usize,
    d: usize,
    d_head: usize,
}

impl Head {
    fn new(task: usize, heads: usize, len: usize, d: usize) -> Self {
        let d_head = d / heads;
        Self { first: task / heads * len, col: task % heads * d_head, d, d_head }
    }

    /// Its rows from position `i` on and columns from `c` on, of a matrix [b, l, parts d].
    fn of(self, x: &[f32], (part, parts): (usize, usize), i: usize, c: usize) -> Matrix<'_> {
        let stride = parts * self.d;
        Matrix { data: &x[(self.first + i) * stride + part * self.d + self.col + c..], stride }
    }

    /// The columns of d_head in tiles.
    fn tiles(self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.d_head).step_by(SIDE).map(move |c| (c, (c + SIDE).min(self.d_head)))
    }
}

/// The keys that query `i` may see: a prefix of the positions.
fn reach(mask: AttentionMask, i: usize, len: usize) -> usize {
    match mask {
        AttentionMask::Full => len,
        AttentionMask::Causal => i + 1,
        AttentionMask::BlockCausal(block) => ((i / block as usize + 1) * block as usize).min(len),
    }
}

/// A block of queries: positions `first..first + rows`.
struct Block {
    first: usize,
    rows: usize,
    /// Rows in whole vectors.
    lanes: usize,
    reach: [u32; SIDE],
}

impl Block {
    fn new(mask: AttentionMask, first: usize, len: usize) -> Self {
        let rows = (len - first).min(SIDE);
        let reach = from_fn(|r| reach(mask, first + r.min(rows - 1), len) as u32);
        Self { first, rows, lanes: rows.next_multiple_of(LANES), reach }
    }

    /// The keys that some query of the block may see, in tiles: (first, how many).
    fn key_tiles(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let end = self.reach[SIDE - 1] as usize;
        (0..end).step_by(SIDE).map(move |j| (j, (end - j).min(SIDE)))
    }

    /// s = -inf where a query of this block may not use a key of the tile.
    fn mask(&self, isa: Isa, s: &mut Tile, (j, keys): (usize, usize), visible: Option<&[u32]>) {
        if j + keys > self.reach[0] as usize {
            hide(isa, s, keys, j, &self.reach);
        }
        if let Some(visible) = visible {
            let hidden = s.iter_mut().zip(&visible[j..j + keys]).filter(|(_, v)| **v == 0);
            hidden.for_each(|(s, _)| s.fill(f32::NEG_INFINITY));
        }
    }
}

/// y [b, l, d] = softmax(q k^T / sqrt(d_head) + mask) v and lse [b, heads, l] for qkv [b, l, 3 d]; `visible` [b, l]
/// hides keys where it is 0.
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn forward(
    cores: &Cores,
    heads: u32,
    mask: AttentionMask,
    len: usize,
    d: usize,
    qkv: &[f32],
    visible: Option<&[u32]>,
    y: &mut [f32],
    lse: &mut [f32],
) {
    let (heads, isa, blocks) = (heads as usize, cores.isa, len.div_ceil(SIDE));
    let batch = y.len() / (len * d);
    assert_eq!((y.len(), lse.len(), qkv.len()), (batch * len * d, batch * heads * len, batch * len * 3 * d));
    let (y, lse) = (Pieces::new(y), Pieces::new(lse));
    // One task a block of queries of a head: its rows of the head's columns of y, and its run of lse.
    cores.pool.run(batch * heads * blocks, &|task| {
        let (task, block) = (task / blocks, Block::new(mask, task % blocks * SIDE, len));
        let head = Head::new(task, heads, len, d);
        let scale = 1.0 / (head.d_head as f32).sqrt();
        let visible = visible.map(|v| &v[head.first..head.first + len]);
        let y = |r: usize, (from, to): (usize, usize)| {
            let at = (head.first + block.first + r) * d + head.col;
            // SAFETY: this head's columns of this block's rows belong to this task alone, and it holds one piece at a
            // time.
            unsafe { y.piece(at + from, at + to) }
        };
        let at = task * len + block.first;
        // SAFETY: these rows of this head belong to this task alone.
        let lse = unsafe { lse.piece(at, at + block.rows) };
        SCRATCH.with_borrow_mut(|Scratch { q, p, out, .. }| {
            q.holds = Turned::EMPTY.holds;
            let mut softmax = Softmax::new();
            for (j, keys) in block.key_tiles() {
                for (c, to) in head.tiles() {
                    let q = q.columns(isa, block.rows, (c, to), head.of(qkv, (0, 3), block.first, 0), scale);
                    let k = head.of(qkv, (1, 3), j, c);
                    product(isa, isa, keys, to - c, block.lanes, k, q.into(), c > 0, p);
                }
                block.mask(isa, p, (j, keys), visible);
                soften(isa, p, keys, block.lanes, &mut softmax);
                let last = j + keys == block.reach[SIDE - 1] as usize;
                for (c, to) in head.tiles() {
                    product_turned(isa, isa, block.rows, keys, to - c, p, head.of(qkv, (2, 3), j, c), out);
                    for (r, fresh) in out.iter().enumerate().take(block.rows) {
                        let total = softmax.total[r];
                        let scale = if last && total != 0.0 { 1.0 / total } else { 1.0 };
                        settle(isa, y(r, (c, to)), (j > 0).then_some(softmax.keep[r]), &fresh[..to - c], scale);
                    }
                }
            }
            for (r, lse) in lse.iter_mut().enumerate() {
                *lse = softmax.largest[r] + softmax.total[r].ln();
            }
        });
    });
}

/// dqkv [b, l, 3 d] for dy [b, l, d]; the probabilities are computed again from `lse`.
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn backward(
    cores: &Cores,
    heads: u32,
    mask: AttentionMask,
    len: usize,
    d: usize,
    qkv: &[f32],
    visible: Option<&[u32]>,
    y: &[f32],
    lse: &[f32],
    dy: &[f32],
    dqkv: &mut [f32],
) {
    let (heads, isa) = (heads as usize, cores.isa);
    let batch = y.len() / (len * d);
    assert_eq!((qkv.len(), dqkv.len()), (batch * len * 3 * d, batch * len * 3 * d));
    let dqkv = Pieces::new(dqkv);
    // One task a head: blocks of queries add to its dk and dv in order.
    cores.pool.run(batch * heads, &|task| {
        let head = Head::new(task, heads, len, d);
        let scale = 1.0 / (head.d_head as f32).sqrt();
        let visible = visible.map(|v| &v[head.first..head.first + len]);
        let piece = |part: usize, i: usize, (from, to): (usize, usize)| {
            let at = (head.first + i) * 3 * d + part * d + head.col;
            // SAFETY: this head's columns of every row and part belong to this task alone, and it holds one piece at a
            // time.
            unsafe { dqkv.piece(at + from, at + to) }
        };
        let add = |part: usize, i: usize, rows: usize, (from, to): (usize, usize), tile: &Tile| {
            for (r, tile) in tile.iter().enumerate().take(rows) {
                settle(isa, piece(part, i + r, (from, to)), Some(1.0), &tile[..to - from], 1.0);
            }
        };
        for i in 0..len {
            (0..3).for_each(|part| piece(part, i, (0, head.d_head)).fill(0.0));
        }
        SCRATCH.with_borrow_mut(|Scratch { q, dy: dy_turned, p, ds, out }| {
            for i in (0..len).step_by(SIDE) {
                let block = Block::new(mask, i, len);
                let (rows, lanes) = (block.rows, block.lanes);
                (q.holds, dy_turned.holds) = (Turned::EMPTY.holds, Turned::EMPTY.holds);
                let lse = lanes_of_lse(&lse[task * len + i..][..rows]);
                let delta = dots(isa, rows, head.d_head, head.of(y, (0, 1), i, 0), head.of(dy, (0, 1), i, 0));
                for (j, keys) in block.key_tiles() {
                    for (c, to) in head.tiles() {
                        let (k, v) = (head.of(qkv, (1, 3), j, c), head.of(qkv, (2, 3), j, c));
                        let q = q.columns(isa, rows, (c, to), head.of(qkv, (0, 3), i, 0), scale);
                        product(isa, isa, keys, to - c, lanes, k, q.into(), c > 0, p);
                        let dy = dy_turned.columns(isa, rows, (c, to), head.of(dy, (0, 1), i, 0), 1.0);
                        product(isa, isa, keys, to - c, lanes, v, dy.into(), c > 0, ds);
                    }
                    block.mask(isa, p, (j, keys), visible);
                    probabilities(isa, p, keys, lanes, &lse);
                    score_gradient(isa, p, ds, keys, lanes, &delta, scale);
                    for (c, to) in head.tiles() {
                        product_turned(isa, isa, rows, keys, to - c, ds, head.of(qkv, (1, 3), j, c), out);
                        add(0, i, rows, (c, to), out);
                        let (q, dy) = (head.of(qkv, (0, 3), i, c), head.of(dy, (0, 1), i, c));
                        product(isa, isa, keys, rows, to - c, (&*ds).into(), q, false, out);
                        add(1, j, keys, (c, to), out);
                        product(isa, isa, keys, rows, to - c, (&*p).into(), dy, false, out);
                        add(2, j, keys, (c, to), out);
                    }
                }
            }
        });
    });
}

/// A block's log-sums; +inf for rows without a key and lanes without a row, where every probability becomes zero.
fn lanes_of_lse(lse: &[f32]) -> PerQuery {
    from_fn(|r| lse.get(r).copied().filter(|&lse| lse != f32::NEG_INFINITY).unwrap_or(f32::INFINITY))
}
