use crate::cuda::grid::{each_in_rows, typed};
use crate::cuda::{Arch, Launches, Source};
use crate::program::Inst;

/// The gate.
pub(crate) const SOURCE: Source = Source { name: "swiglu", text: include_str!("swiglu.cu"), archs: &Arch::ALL };

/// y = silu(a) b.
pub(crate) fn forward(inst: &Inst) -> Launches {
    let (u, y) = (inst.reads[0], inst.writes[0]);
    let (rows, f) = (y.shape.rows(), y.shape.cols());
    let launch = each_in_rows(&SOURCE, typed(u.dtype, "swiglu_f32", "swiglu_bf16"), u.dtype, rows, f);
    launch.at(u).at(y).u64(rows).u32(f).into()
}

/// du.
pub(crate) fn backward(inst: &Inst) -> Launches {
    let (u, dy) = (inst.reads[0], inst.reads[1]);
    let (rows, f) = (dy.shape.rows(), dy.shape.cols());
    let launch = each_in_rows(&SOURCE, typed(u.dtype, "swiglu_grad_f32", "swiglu_grad_bf16"), u.dtype, rows, f);
    launch.at(u).at(dy).at(inst.writes[0]).u64(rows).u32(f).into()
}
