use super::law;
use crate::cuda::grid::{each_in_rows, typed};
use crate::cuda::{Arch, Launches, Source};
use crate::program::Inst;

/// Masks.
pub(crate) const SOURCE: Source = Source { name: "dropout", text: include_str!("dropout.cu"), archs: &Arch::ALL };

/// y = x keep / (1 - p).
pub(crate) fn forward(inst: &Inst, p: f32, stream: u32) -> Launches {
    let x = inst.reads[0];
    let (rows, d, (least, scale)) = (x.shape.rows(), x.shape.cols(), law(p));
    let launch = each_in_rows(&SOURCE, typed(x.dtype, "dropout_f32", "dropout_bf16"), x.dtype, rows, d);
    let launch = launch.at(x).at(inst.reads[1]).at(inst.writes[0]).u64(rows).u32(d);
    launch.u32(stream).u32(least).f32(scale).into()
}
