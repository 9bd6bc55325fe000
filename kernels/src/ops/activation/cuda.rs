use crate::cuda::grid::{each, typed};
use crate::cuda::{Arch, Launches, Source};
use crate::gemm::cuda::number;
use crate::op::Activation;
use crate::program::Inst;

/// Nonlinearities.
pub(crate) const SOURCE: Source = Source { name: "activation", text: include_str!("activation.cu"), archs: &Arch::ALL };

/// y = act(u).
pub(crate) fn forward(inst: &Inst, activation: Activation) -> Launches {
    let (u, n) = (inst.reads[0], inst.reads[0].shape.len());
    let launch = each(&SOURCE, typed(u.dtype, "activate_f32", "activate_bf16"), u.dtype, n);
    launch.at(u).at(inst.writes[0]).u64(n).u32(number(activation)).into()
}

/// du = act'(u) dy.
pub(crate) fn backward(inst: &Inst, activation: Activation) -> Launches {
    let (u, n) = (inst.reads[0], inst.reads[0].shape.len());
    let launch = each(&SOURCE, typed(u.dtype, "activate_grad_f32", "activate_grad_bf16"), u.dtype, n);
    launch.at(u).at(inst.reads[1]).at(inst.writes[0]).u64(n).u32(number(activation)).into()
}
