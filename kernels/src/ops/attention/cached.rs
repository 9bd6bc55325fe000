use super::forward::attend;
use super::layout::{Block, Dims, Head, scratch};
use super::micro::stride;
use super::rows::{Out, Rows, dots, load, store};
use super::softmax::{combine, mix, normalise};
use crate::cpu::Cores;
use crate::isa::Isa;
use crate::pool::Pieces;
use crate::real::Real;

/// Up to this many queries a key, keys and values are read once where they lie; more are worth a block of lanes.
const FEW: usize = 4;
/// Keys of a task that reads them so: all heads of a position lie together, and memory is fastest in one direction.
const SPAN: usize = 256;
/// Keys that are read between two looks at a query: in the second cache until every head had its part.
const RUN: usize = 32;
/// Positions of a task that appends.
const GRAIN: usize = 64;

impl Dims {
    fn few(self) -> bool {
        self.queries() <= FEW
    }

    /// The scratch of [`cached`]: for few queries, [b, spans of the capacity, queries of all heads, d_head + 2] parts of
    /// mixtures with their largest score and their sum.
    pub fn partials(self, batch: usize, capacity: usize) -> [usize; 4] {
        if self.few() { [batch, capacity.div_ceil(SPAN), self.len * self.heads, self.d_head + 2] } else { [1; 4] }
    }
}

/// y [b, n, heads d_head] of n new positions, and their keys and values at `past ..` of the caches [b, capacity, kv_heads
/// d_head].
///
/// # Panics
/// If the cache has no room for them.
#[expect(clippy::too_many_arguments, reason = "the op's parameters, reads and writes")]
pub fn cached<X: Real>(
    cores: &Cores,
    dims: Dims,
    past: usize,
    capacity: usize,
    qkv: &[X],
    caches: [&mut [X]; 2],
    y: &mut [X],
    partials: &mut [f32],
) {
    let Dims { heads, kv_heads, d_head, len: n, .. } = dims;
    assert!(n <= capacity && past <= capacity - n, "attention_cached: {past} positions and {n} more, of {capacity}");
    let (width, d, kept) = (dims.width(), heads * d_head, kv_heads * d_head);
    let (batch, len) = (y.len() / (n * d), past + n);
    let [keys, values] = caches;
    assert_eq!((keys.len(), values.len()), (batch * capacity * kept, batch * capacity * kept));
    let pieces = [Pieces::new(keys), Pieces::new(values)];
    cores.pool.run((batch * n).div_ceil(GRAIN), &|task| {
        for row in task * GRAIN..((task + 1) * GRAIN).min(batch * n) {
            for (part, pieces) in pieces.iter().enumerate() {
                let to = (row / n * capacity + past + row % n) * kept;
                // SAFETY: this row of a cache belongs to this task alone.
                let to = unsafe { pieces.piece(to, to + kept) };
                to.copy_from_slice(&qkv[row * width + d + part * kept..][..kept]);
            }
        }
    });
    let caches = [&*keys, &*values];
    if dims.few() {
        let read = Few { isa: cores.isa, dims, past, capacity, qkv, caches };
        let (spans, rows, part) = (len.div_ceil(SPAN), n * heads, d_head + 2);
        let every = capacity.div_ceil(SPAN) * rows * part;
        let pieces = Pieces::new(partials);
        cores.pool.run(batch * spans, &|task| {
            let (b, span) = (task / spans, task % spans);
            let at = b * every + span * rows * part;
            // SAFETY: the parts of this span of this batch element are this task's alone.
            read.span(b, span * SPAN..((span + 1) * SPAN).min(len), unsafe { pieces.piece(at, at + rows * part) });
        });
        let (partials, y) = (&*partials, Pieces::new(y));
        cores.pool.run(batch * kv_heads, &|task| {
            let (head, queries) = (Head::new(task, dims), dims.queries());
            // SAFETY: this head's columns of its rows are this task's alone.
            let mut y = unsafe { Out::new(&y, head.place(d, head.columns()[3])) };
            for r in 0..queries {
                let from = head.batch * every + (head.kv * queries + r) * part;
                let to = from + (spans - 1) * rows * part + part;
                combine(cores.isa, &partials[from..to], rows * part, y.row(r));
            }
        });
        return;
    }
    let y = Pieces::new(y);
    let most = dims.task(batch);
    let blocks = dims.queries().div_ceil(most);
    // One task a block of queries of a key/value head.
    cores.pool.run(batch * kv_heads * blocks, &|task| {
        let head = Head::new(task / blocks, dims);
        let block = Block::new(dims, task % blocks * most, most, past, len);
        let [q, _, _, out] = head.columns();
        let q = head.queries(qkv, width, q);
        let kv = caches.map(|x| head.keys(x, capacity, kept, head.kv * d_head));
        attend(cores.isa, dims, &block, q, kv, None, None, [(q, 0, 0); 3], |mixed, along, softmax| {
            // SAFETY: this block's rows of its heads' columns are this task's alone.
            let mut y = unsafe { Out::new(&y, head.place(d, out)) };
            store(cores.isa, mixed, along, block.count, 1.0, Some(&softmax.total.0), &mut y, block.first);
        });
    });
}

/// What few queries read.
struct Few<'a, X> {
    isa: Isa,
    dims: Dims,
    past: usize,
    capacity: usize,
    qkv: &'a [X],
    caches: [&'a [X]; 2],
}

impl<X: Real> Few<'_, X> {
    /// The parts of one batch element over a span of keys, each key and each value read once: first every score, then the
    /// mixtures.
    fn span(&self, b: usize, keys: std::ops::Range<usize>, parts: &mut [f32]) {
        let &Self { isa, dims, .. } = self;
        let Dims { kv_heads, d_head, len: n, .. } = dims;
        let (queries, kept) = (dims.queries(), kv_heads * d_head);
        let (along, across) = (stride(d_head), stride(SPAN));
        let heads = || (0..kv_heads).map(|kv| Head::new(b * kv_heads + kv, dims));
        let rows = |cache: usize, head: Head| -> Rows<'_, X> {
            head.keys(self.caches[cache], self.capacity, kept, head.kv * d_head)
        };
        scratch([kv_heads * queries * along, kv_heads * queries * across], |[q, p]| {
            let scale = 1.0 / (d_head as f32).sqrt();
            for (head, q) in heads().zip(q.chunks_mut(queries * along)) {
                load(isa, head.queries(self.qkv, dims.width(), head.columns()[0]), 0, queries, scale, q, along);
            }
            let runs = || keys.clone().step_by(RUN).map(|j| (j, (keys.end - j).min(RUN)));
            for (j, count) in runs() {
                for (row, (q, p)) in q.chunks(along).zip(p.chunks_mut(across)).enumerate().take(kv_heads * queries) {
                    let k = rows(0, Head::new(b * kv_heads + row / queries, dims));
                    dots(isa, isa, q, 0, k, j, count, &mut p[j - keys.start..][..count]);
                }
            }
            for (row, (p, part)) in p.chunks_mut(across).zip(parts.chunks_mut(d_head + 2)).enumerate() {
                // Keys beyond the reach come after the others and are left out.
                let reach = dims.reach(self.past + row % queries / dims.group(), self.past + n);
                let (seen, hidden) = p[..keys.len()].split_at_mut(reach.clamp(keys.start, keys.end) - keys.start);
                hidden.fill(0.0);
                part[..d_head].fill(0.0);
                part[d_head..].copy_from_slice(&normalise(isa, isa, seen));
            }
            for (j, count) in runs() {
                for (row, (p, part)) in p.chunks(across).zip(parts.chunks_mut(d_head + 2)).enumerate() {
                    let v = rows(1, Head::new(b * kv_heads + row / queries, dims));
                    mix(isa, isa, &p[j - keys.start..][..count], v, j, &mut part[..d_head]);
                }
            }
        });
    }
}
