use crate::cuda::grid::{each_in_rows, piece, typed};
use crate::cuda::{Arch, Launch, Launches, Place, Source};
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

/// dtable: the tokens sorted by id, then sums of chunks of them, then what reaches over the chunks.
pub(crate) fn backward(inst: &Inst) -> Launches {
    let (ids, dy, dtable) = (inst.reads[0], inst.reads[1], inst.writes[0]);
    let (n, d, vocab) = (dy.shape.rows(), dy.shape.cols(), dtable.shape.dim(0));
    let chunks = n.div_ceil(CHUNK);
    let mut launches = Launches::default();
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
