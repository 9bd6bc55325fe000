//! The linear layer with int8 weights on CUDA: rows quantised, then one product.

use crate::cuda::{Arch, Launch, Launches, Machine, Source};
use crate::gemm::cuda::{Finish, bytes};
use crate::op::Activation;
use crate::program::Inst;
use galatea_tensor::DType;

/// The quantisation.
pub(crate) const SOURCE: Source =
    Source { name: "linear_int8", text: include_str!("linear_int8.cu"), archs: &Arch::ALL };

/// y = act(scale_n scale_o sum a q + b).
pub(crate) fn forward(inst: &Inst, machine: Machine, bias: bool, activation: Activation) -> Launches {
    let ([x, q, scales], [y, a, rows]) = ([0, 1, 2].map(|i| inst.reads[i]), [0, 1, 2].map(|i| inst.writes[i]));
    let (n, i, o) = (x.shape.rows(), x.shape.cols(), q.shape.dim(0));
    let entry = if x.dtype == DType::Bf16 { "quantise_bf16" } else { "quantise_f32" };
    let grid = [n.div_ceil(8) as u32, 1, 1];
    let mut plan = Launches::from(Launch::new(&SOURCE, entry, grid, 256).at(x).at(a).at(rows).u32(n).u32(i));
    let finish = Finish { bias: bias.then(|| inst.reads[3].into()), activation, ..Finish::plain(y) };
    bytes(machine, (n, o, i), (a.into(), rows.into()), (q.into(), scales.into()), finish, &mut plan);
    plan
}
