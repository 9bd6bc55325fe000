//! The linear layer with int8 weights on CUDA: rows quantised, then one product.

use crate::cuda::{Arch, Launch, Launches, Machine, Source};
use crate::gemm::cuda::{Finish, Matrix, bytes, gate, later, reserve};
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
    let operands = ((a.into(), rows.into()), (q.into(), scales.into()));
    if activation == Activation::SwiGlu {
        let sums = reserve(&mut plan, n * o * size_of::<f32>());
        let product = Finish::plain(Matrix { place: sums, dtype: DType::F32 });
        bytes(machine, (n, o, i), operands.0, operands.1, product, &mut plan);
        let halves = (sums, later(sums, o / 2 * size_of::<f32>()), o);
        gate((n, o / 2), halves, Finish { activation: Activation::None, ..finish }, &mut plan);
    } else {
        bytes(machine, (n, o, i), operands.0, operands.1, finish, &mut plan);
    }
    plan
}
