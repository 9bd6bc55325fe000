use crate::cuda::grid::{each_in_rows, typed};
use crate::cuda::{Arch, Launches, Source};
use crate::program::Inst;

/// Gaussian corruption.
pub(crate) const SOURCE: Source =
    Source { name: "corrupt_gaussian", text: include_str!("corrupt_gaussian.cu"), archs: &Arch::ALL };

/// x_t and its noise.
pub(crate) fn forward(inst: &Inst, stream: u32) -> Launches {
    let x_0 = inst.reads[0];
    let (rows, d) = (x_0.shape.rows(), x_0.shape.cols());
    let entry = typed(x_0.dtype, "corrupt_gaussian_f32", "corrupt_gaussian_bf16");
    let launch = each_in_rows(&SOURCE, entry, x_0.dtype, rows, d).at(x_0).at(inst.reads[1]).at(inst.reads[2]);
    let launch = launch.at(inst.writes[0]).at(inst.writes[1]);
    launch.u64(rows).u32(d).u32(x_0.shape.dim(1)).u32(stream).into()
}

/// dx_0: a text is one long row.
pub(crate) fn backward(inst: &Inst) -> Launches {
    let (level, dy) = (inst.reads[0], inst.reads[1]);
    let (texts, width) = (dy.shape.dim(0), dy.shape.dim(1) * dy.shape.cols());
    let entry = typed(dy.dtype, "corrupt_gaussian_grad_f32", "corrupt_gaussian_grad_bf16");
    let launch = each_in_rows(&SOURCE, entry, dy.dtype, texts, width).at(level).at(dy).at(inst.writes[0]);
    launch.u64(texts).u32(width).into()
}
