use crate::cuda::grid::each_in_rows;
use crate::cuda::{Arch, Launch, Launches, Source};
use crate::op::Chunk;
use crate::program::Inst;

/// Factors of a text.
pub(crate) const SOURCE: Source = Source { name: "scale_rows", text: include_str!("scale_rows.cu"), archs: &Arch::ALL };

/// y: a text is one long row.
pub(crate) fn forward(inst: &Inst, chunk: Chunk) -> Launches {
    let (x, m) = (inst.reads[0], inst.reads[1]);
    let (texts, width) = (x.shape.dim(0), x.shape.dim(1) * x.shape.cols());
    let launch = each_in_rows(&SOURCE, "scale_rows", x.dtype, texts, width).at(x).at(m).at(inst.writes[0]);
    launch.u64(texts).u32(width).u32(chunk.of).u32(chunk.index).into()
}

/// dm.
pub(crate) fn backward(inst: &Inst, chunk: Chunk) -> Launches {
    let (x, dy) = (inst.reads[0], inst.reads[2]);
    let (texts, width) = (x.shape.dim(0), x.shape.dim(1) * x.shape.cols());
    let launch = Launch::new(&SOURCE, "scale_rows_grad", [texts as u32, 1, 1], 512).at(x).at(dy).at(inst.writes[0]);
    launch.u32(width).u32(chunk.of).u32(chunk.index).into()
}
