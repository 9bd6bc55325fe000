use crate::cuda::grid::{each_in_rows, typed};
use crate::cuda::{Launches, Machine};
use crate::op::Chunk;
use crate::ops::modulate::cuda::{SOURCE, gradient};
use crate::program::Inst;

/// y = x + gate h.
pub(crate) fn forward(inst: &Inst, gate: Chunk) -> Launches {
    let x = inst.reads[0];
    let (rows, d) = (x.shape.rows(), x.shape.cols());
    let launch = each_in_rows(&SOURCE, typed(x.dtype, "gate_f32", "gate_bf16"), x.dtype, rows, d);
    let launch = launch.at(x).at(inst.reads[1]).at(inst.reads[2]).at(inst.writes[0]);
    launch.u64(rows).u32(d).u32(x.shape.dim(1)).u32(gate.of).u32(gate.index).into()
}

/// dh and dm.
pub(crate) fn backward(inst: &Inst, machine: Machine, gate: Chunk) -> Launches {
    gradient(inst, machine, ["gate_grad_f32", "gate_grad_bf16"], gate, None)
}
