//! Where heads lie, what their queries see, and the scratch of a thread.

use super::micro::{LANES, ROWS};
use super::rows::{Place, Rows, offset};
use super::softmax::MOST;
use crate::op::AttentionMask;
use galatea_tensor::Shape;
use std::array::from_fn;
use std::cell::RefCell;

/// Most keys of a block: with MOST queries, their scores fill the second cache no further than half.
const KEYS: usize = 128;
/// Most keys of a block where some queries see less than others: what is wholly hidden is left out.
const MASKED_KEYS: usize = 64;
/// Fewer tasks than this are cut to half as many queries, so that a few threads share them evenly.
const TASKS: usize = 16;

/// The sizes of an attention and its mask.
#[derive(Clone, Copy, Debug)]
pub struct Dims {
    /// Heads of the queries.
    pub heads: usize,
    /// Heads of the keys and values: query head h uses h / (heads / kv_heads).
    pub kv_heads: usize,
    /// The width of a head.
    pub d_head: usize,
    /// Positions of the queries.
    pub len: usize,
    /// Pairs by position.
    pub mask: AttentionMask,
}

impl Dims {
    /// The sizes of an attention over qkv [b, l, (heads + 2 kv_heads) d_head].
    pub fn new(qkv: Shape, heads: u32, kv_heads: u32, mask: AttentionMask) -> Self {
        let (heads, kv_heads) = (heads as usize, kv_heads as usize);
        Self { heads, kv_heads, d_head: qkv.cols() / (heads + 2 * kv_heads), len: qkv.dim(1), mask }
    }

    /// Query heads that share a key.
    pub(super) fn group(self) -> usize {
        self.heads / self.kv_heads
    }

    /// The width of qkv.
    pub(super) fn width(self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.d_head
    }

    /// Queries of all heads that share a key.
    pub(super) fn queries(self) -> usize {
        self.len * self.group()
    }

    /// Queries that are taken together where one task has them all.
    pub(super) fn block(self) -> usize {
        even(self.queries(), MOST, LANES)
    }

    /// Whether a batch has so few key/value heads that the gradients of keys and of queries are tasks of their own.
    pub(super) fn splits(self, batch: usize) -> bool {
        batch * self.kv_heads < TASKS / 2 && self.queries() > MOST
    }

    /// Keys of a task that has the gradients of some.
    pub(super) fn span(self) -> usize {
        even(self.len, 2 * KEYS, ROWS)
    }

    /// Queries of a task of their own: a function of the shape alone, so that no bit depends on the machine.
    pub(super) fn task(self, batch: usize) -> usize {
        let tasks = batch * self.kv_heads * self.queries().div_ceil(MOST);
        even(self.queries(), if tasks < TASKS { MOST / 2 } else { MOST }, LANES)
    }

    /// Where the keys that position `i` of `len` may see end: those of a prefix, or of x_0 beside its own block of x_t.
    pub(super) fn reach(self, i: usize, len: usize) -> usize {
        match self.mask {
            AttentionMask::Full => len,
            AttentionMask::Causal => (i + 1).min(len),
            AttentionMask::BlockCausal(block) => ((i / block as usize + 1) * block as usize).min(len),
            AttentionMask::BlockDiffusion(block) => {
                let (half, block) = (len / 2, block as usize);
                if i < half { half + i / block * block } else { (half + ((i - half) / block + 1) * block).min(len) }
            }
        }
    }
}

/// The size of even pieces of `len`, of at most `most` each and a multiple of `unit`.
fn even(len: usize, most: usize, unit: usize) -> usize {
    len.div_ceil(len.div_ceil(most).max(1)).next_multiple_of(unit).max(unit)
}

/// One key/value head of one batch element.
#[derive(Clone, Copy)]
pub(super) struct Head {
    pub(super) batch: usize,
    pub(super) kv: usize,
    dims: Dims,
}

impl Head {
    pub(super) fn new(task: usize, dims: Dims) -> Self {
        Self { batch: task / dims.kv_heads, kv: task % dims.kv_heads, dims }
    }

    /// Columns of the queries, of the keys and of the values of this head in qkv, and of its queries in y.
    pub(super) fn columns(self) -> [usize; 4] {
        let Dims { heads, kv_heads, d_head, .. } = self.dims;
        let q = self.kv * self.dims.group() * d_head;
        [q, (heads + self.kv) * d_head, (heads + kv_heads + self.kv) * d_head, q]
    }

    /// The head of query `r`, counted over the batch, and its position.
    pub(super) fn query(self, r: usize) -> (usize, usize) {
        let group = self.dims.group();
        (self.batch * self.dims.heads + self.kv * group + r % group, r / group)
    }

    /// The queries of this head in a matrix of `stride` columns, from column `col` on.
    pub(super) fn queries<X>(self, x: &[X], stride: usize, col: usize) -> Rows<'_, X> {
        let data = &x[self.batch * self.dims.len * stride + col..];
        Rows { data, stride, group: self.dims.group(), width: self.dims.d_head }
    }

    /// The keys or values of this head in a matrix of `len` positions of `stride` columns, from column `col` on.
    pub(super) fn keys<X>(self, x: &[X], len: usize, stride: usize, col: usize) -> Rows<'_, X> {
        Rows { data: &x[self.batch * len * stride + col..], stride, group: 1, width: self.dims.d_head }
    }

    /// Where the queries of this head lie in an output of `stride` columns, from column `col` on.
    pub(super) fn place(self, stride: usize, col: usize) -> Place {
        let Dims { d_head, len, .. } = self.dims;
        let start = self.batch * len * stride + col;
        Place { start, stride, group: self.dims.group(), step: d_head, width: d_head }
    }

    /// Where its keys or values lie.
    pub(super) fn key_place(self, stride: usize, col: usize) -> Place {
        Place { group: 1, ..self.place(stride, col) }
    }

    /// Where the log-sums of its queries lie.
    pub(super) fn lse_place(self) -> Place {
        let Dims { heads, len, .. } = self.dims;
        let group = self.dims.group();
        Place { start: (self.batch * heads + self.kv * group) * len, stride: 1, group, step: len, width: 1 }
    }

    /// Where the log-sum of query `r` stands.
    pub(super) fn lse(self, r: usize) -> usize {
        let Place { start, stride, group, step, .. } = self.lse_place();
        start + offset(r, group, stride, step)
    }
}

/// A block of queries of one head.
pub(super) struct Block {
    pub(super) first: usize,
    pub(super) count: usize,
    /// Keys that there are.
    pub(super) len: usize,
    /// Where the keys that each sees end: all before are seen, and the ends never fall, unless the canvas stands twice.
    pub(super) reach: [u32; MOST],
    /// What else there is to know where it does.
    pub(super) twice: Option<Twice>,
}

/// Queries of a canvas that stands twice, [x_t ; x_0]: the keys from `half` on that are before a query's reach are seen, and
/// of those before `half` the query's own block.
pub(super) struct Twice {
    /// Positions of x_t.
    pub(super) half: u32,
    /// Positions of a block.
    pub(super) block: u32,
    /// Where the block of each query begins; `half` for queries of x_0, which see nothing of x_t.
    pub(super) own: [u32; MOST],
    /// The keys that some query of the block sees: of x_t, and of x_0.
    spans: [(usize, usize); 2],
}

impl Block {
    /// Queries `first ..`, at most `most`, of positions that begin at `past` among `len` keys.
    pub(super) fn new(dims: Dims, first: usize, most: usize, past: usize, len: usize) -> Self {
        let (count, group) = (most.min(dims.queries() - first), dims.group());
        let position = |r: usize| past + (first + r.min(count - 1)) / group;
        let reach = match dims.mask {
            AttentionMask::Full => [len as u32; MOST],
            AttentionMask::Causal | AttentionMask::BlockCausal(_) | AttentionMask::BlockDiffusion(_) => {
                from_fn(|r| dims.reach(position(r), len) as u32)
            }
        };
        let twice = match dims.mask {
            AttentionMask::Full | AttentionMask::Causal | AttentionMask::BlockCausal(_) => None,
            AttentionMask::BlockDiffusion(block) => Some(Twice::new(len / 2, block as usize, position, &reach)),
        };
        Self { first, count, len, reach, twice }
    }

    /// The keys that some query sees are below this one.
    pub(super) fn end(&self) -> usize {
        match &self.twice {
            None => self.reach[MOST - 1] as usize,
            Some(twice) => twice.spans[1].1.min(self.len),
        }
    }

    /// Most keys that [`Block::keys`] takes together of `len`.
    pub(super) fn most_keys(len: usize) -> usize {
        len.next_multiple_of(ROWS).min(KEYS)
    }

    /// The keys that some query sees among those `first .. last`, in blocks: (first, how many). They end where whole
    /// register tiles do, or with the last key.
    pub(super) fn keys(&self, first: usize, last: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let all = self.twice.is_none() && self.reach[0] as usize == self.end();
        let most = if all { KEYS } else { MASKED_KEYS };
        let spans = self.twice.as_ref().map_or([(0, self.end().next_multiple_of(ROWS)), (0, 0)], |twice| twice.spans);
        spans.into_iter().flat_map(move |(from, to)| {
            let from = from.max(first);
            let to = to.min(last).max(from);
            let step = even(to - from, most, ROWS);
            (from..to).step_by(step).map(move |j| (j, (to - j).min(step)))
        })
    }

    /// The first query that sees key `j` or a later one that [`Block::keys`] gives, rounded down to whole vectors.
    pub(super) fn from(&self, j: usize) -> usize {
        match self.twice {
            None => self.reach.partition_point(|&reach| reach as usize <= j) / LANES * LANES,
            Some(_) => 0,
        }
    }
}

impl Twice {
    /// For queries at `position(0) .. position(MOST - 1)`, which never falls, of 2 `half` positions in blocks of `block`.
    fn new(half: usize, block: usize, position: impl Fn(usize) -> usize, reach: &[u32; MOST]) -> Self {
        let start = |i: usize| if i < half { i / block * block } else { half };
        let (first, last) = (position(0), position(MOST - 1));
        // The keys of x_t end with the block of the last query of x_t.
        let noisy = if first < half { (start(last.min(half - 1)) + block).min(half) } else { 0 };
        let clean = reach.iter().copied().max().map_or(half, |end| end as usize);
        let [from, to] = [start(first) / ROWS * ROWS, noisy.next_multiple_of(ROWS)];
        // Register tiles of the two spans never overlap.
        let spans = [
            (if noisy == 0 { 0 } else { from }, to),
            ((half / ROWS * ROWS).max(to), if clean > half { clean.next_multiple_of(ROWS) } else { 0 }),
        ];
        let own = from_fn(|r| start(position(r)) as u32);
        Self { half: half as u32, block: block as u32, own, spans }
    }
}

thread_local! {
    /// A thread's buffer: it grows to the largest shape that the thread has met.
    static SCRATCH: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

/// Runs `body` on parts of this thread's buffer, each at a vector's boundary. They hold whatever was left there.
pub(super) fn scratch<const N: usize>(sizes: [usize; N], body: impl FnOnce([&mut [f32]; N])) {
    SCRATCH.with_borrow_mut(|buffer| {
        let sizes = sizes.map(|size| size.next_multiple_of(LANES));
        let need = sizes.iter().sum::<usize>() + LANES;
        if buffer.len() < need {
            buffer.resize(need, 0.0);
        }
        let start = buffer.as_ptr().align_offset(64).min(LANES);
        let mut rest = &mut buffer[start..];
        body(sizes.map(|size| {
            let (part, after) = std::mem::take(&mut rest).split_at_mut(size);
            rest = after;
            part
        }));
    });
}
