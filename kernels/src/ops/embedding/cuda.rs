use crate::cuda::grid::{each_in_rows, piece, typed};
use crate::cuda::{Arch, Launch, Launches, Place, Source};
use crate::op::AdamW;
use crate::program::Inst;
use galatea_tensor::DType;

/// Rows by id.
pub(crate) const SOURCE: Source = Source { name: "embedding", text: include_str!("embedding.cu"), archs: &Arch::ALL };

/// Tokens of a warp of the backward pass (`CHUNK` of the kernel).
const CHUNK: usize = 64;

/// y = table[ids].
pub(crate) fn forward(inst: &Inst) -> Launches {
    let (ids, table, y) = (inst.reads[0], inst.reads[1], inst.writes[0]);
    let (n, d) = (y.shape.rows(), y.shape.cols());
    let launch = each_in_rows(&SOURCE, typed(table.dtype, "embedding_f32", "embedding_bf16"), table.dtype, n, d);
    launch.at(ids).at(table).at(y).u64(n).u32(d).u32(table.shape.dim(0)).into()
}

/// dtable.
pub(crate) fn backward(inst: &Inst) -> Launches {
    gradient(inst, inst.writes[0].into(), inst.writes[0].shape.dim(0), Launches::default())
}

/// The gradient in scratch, then the optimizer over all rows: on a GPU one more table of traffic is the price of one launch that
/// streams, and no clip holds.
pub(crate) fn step(inst: &Inst, vocab: u32, adamw: AdamW, ema: bool, copy: bool) -> Launches {
    let (mut launches, len) = (Launches::default(), inst.writes[0].shape.len());
    let g = Place::Scratch(launches.reserve(size_of::<f32>() * len));
    let mut launches = gradient(inst, g, vocab as usize, launches);
    launches.list.push(crate::ops::adamw::cuda::unclipped(g, inst.reads[2], &inst.writes, adamw, (ema, copy)));
    launches
}

/// The tokens sorted by id, then sums of chunks of them, then what reaches over the chunks.
fn gradient(inst: &Inst, dtable: Place, vocab: usize, mut launches: Launches) -> Launches {
    let (ids, dy) = (inst.reads[0], inst.reads[1]);
    let (n, d) = (dy.shape.rows(), dy.shape.cols());
    let chunks = n.div_ceil(CHUNK);
    let mut words = |count: usize| Place::Scratch(launches.reserve(4 * count));
    let [counts, starts, next, tokens, sorted] = [vocab, vocab + 1, vocab, n, n].map(&mut words);
    let parts = words(2 * chunks * d);
    let warps = |entry, tasks: usize| Launch::over(&SOURCE, entry, 32 * tasks);
    let strips = |piece: usize| d.div_ceil(32 * piece);
    let (of_dy, of_dtable) = (strips(piece(dy.dtype, d)), strips(piece(DType::F32, d)));
    let sum = typed(dy.dtype, "embedding_chunks_f32", "embedding_chunks_bf16");
    launches.list = vec![
        Launch::over(&SOURCE, "embedding_zero", vocab).at(counts).u32(vocab),
        Launch::over(&SOURCE, "embedding_count", n).at(ids).at(counts).u32(n).u32(vocab),
        Launch::new(&SOURCE, "embedding_scan", [1, 1, 1], 1024).at(counts).at(starts).at(next).u32(vocab),
        Launch::over(&SOURCE, "embedding_place", n).at(ids).at(next).at(tokens).u32(n).u32(vocab),
        Launch::over(&SOURCE, "embedding_order", n).at(ids).at(starts).at(tokens).at(sorted).u32(vocab),
        warps(sum, chunks * of_dy)
            .at(ids)
            .at(starts)
            .at(sorted)
            .at(dy)
            .at(dtable)
            .at(parts)
            .u32(d)
            .u32(vocab)
            .u32(of_dy),
        warps("embedding_finish", vocab * of_dtable).at(starts).at(parts).at(dtable).u32(d).u32(vocab).u32(of_dtable),
    ];
    launches
}
