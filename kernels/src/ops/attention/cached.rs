use super::forward::attend;
use super::layout::{Block, Dims, Head, scratch};
use super::micro::stride;
use super::rows::{Out, Rows, dots, load, store};
use super::softmax::{mix, normalise};
use crate::cpu::Cores;
use crate::isa::Isa;
use crate::pool::Pieces;
use crate::real::Real;

/// Up to this many queries a key, keys and values are read once where they lie; more are worth a block of lanes.
const FEW: usize = 4;
/// Keys that are read between two looks at a query: in the first cache with their values.
const RUN: usize = 32;
/// Positions of a task that appends.
const GRAIN: usize = 64;

/// y [b, n, heads d_head] of n new positions, and their keys and values at `past ..` of the caches [b, capacity, kv_heads
/// d_head].
///
/// # Panics
/// If the cache has no room for them.
pub fn cached<X: Real>(
    cores: &Cores,
    dims: Dims,
    past: usize,
    capacity: usize,
    qkv: &[X],
    caches: [&mut [X]; 2],
    y: &mut [X],
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
    let (keys, values, y) = (&*keys, &*values, Pieces::new(y));
    let few = dims.queries() <= FEW;
    let most = dims.task(batch);
    let blocks = dims.queries().div_ceil(most);
    // One task a block of queries of a key/value head.
    cores.pool.run(batch * kv_heads * blocks, &|task| {
        let head = Head::new(task / blocks, dims);
        let block = Block::new(dims, task % blocks * most, most, past, len);
        let [q, _, _, out] = head.columns();
        let q = head.queries(qkv, width, q);
        let [k, v] = [keys, values].map(|x| head.keys(x, capacity, kept, head.kv * d_head));
        let finish = |mixed: &[f32], along: usize, scales: &[f32]| {
            // SAFETY: this block's rows of its heads' columns are this task's alone.
            let mut y = unsafe { Out::new(&y, head.place(d, out)) };
            store(cores.isa, mixed, along, block.count, 1.0, Some(scales), &mut y, block.first);
        };
        if few {
            stream(cores.isa, &block, q, [k, v], finish);
        } else {
            let next = [(q, 0, 0); 3];
            attend(cores.isa, dims, &block, q, [k, v], None, next, |mixed, along, softmax| {
                finish(mixed, along, &softmax.total.0);
            });
        }
    });
}

/// The attention of a few queries, keys and values read once: first every score, then the mixture.
fn stream<X: Real>(
    isa: Isa,
    block: &Block,
    q: Rows<'_, X>,
    [k, v]: [Rows<'_, X>; 2],
    finish: impl FnOnce(&[f32], usize, &[f32]),
) {
    let (d_head, count) = (q.width, block.count);
    let (along, across) = (stride(d_head), stride(block.len));
    scratch([count * along, count * across, count * along], |[queries, p, mixed]| {
        load(isa, q, block.first, count, 1.0 / (d_head as f32).sqrt(), queries, along);
        for j in (0..block.len).step_by(RUN) {
            let keys = (block.len - j).min(RUN);
            for (q, p) in queries.chunks(along).zip(p.chunks_mut(across)) {
                dots(isa, isa, q, 0, k, j, keys, &mut p[j..j + keys]);
            }
        }
        let mut scales = [0.0; FEW];
        for (r, (p, scale)) in p.chunks_mut(across).zip(&mut scales).enumerate() {
            // Hidden keys are left out: they come after the others.
            let (seen, hidden) = p.split_at_mut(block.reach[r] as usize);
            hidden.fill(0.0);
            *scale = 1.0 / normalise(isa, isa, seen);
        }
        mixed.fill(0.0);
        for j in (0..block.len).step_by(RUN) {
            let keys = (block.len - j).min(RUN);
            for (p, mixed) in p.chunks(across).zip(mixed.chunks_mut(along)) {
                mix(isa, isa, &p[j..j + keys], v, j, &mut mixed[..d_head]);
            }
        }
        finish(mixed, along, &scales);
    });
}
