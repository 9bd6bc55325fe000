use crate::cuda::grid::Groups;
use crate::cuda::{Arch, Launch, Launches, Source};
use crate::program::Inst;
use galatea_tensor::Slot;

/// Cross-entropies.
pub(crate) const SOURCE: Source =
    Source { name: "cross_entropy", text: include_str!("cross_entropy.cu"), archs: &Arch::ALL };

/// In the place of a forbidden column: none (`NO_COLUMN` of logits.cuh).
pub(crate) const NONE: u32 = u32::MAX;

/// loss and nll.
pub(crate) fn forward(inst: &Inst, forbid: Option<u32>) -> Launches {
    let (logits, target, w, nll) = (inst.reads[0], inst.reads[1], inst.reads[2], inst.writes[1]);
    let (n, v) = (logits.shape.rows(), logits.shape.cols());
    let groups = Groups::of_logits(v);
    let launch = groups.launch(&SOURCE, "cross_entropy", groups.blocks(n, usize::MAX)).at(logits).at(target).at(nll);
    let launch = launch.u64(n).u32(v).u32(groups.lanes).u32(forbid.unwrap_or(NONE));
    Launches { list: vec![launch, weighted_sum(w, nll, inst.writes[0])], scratch: 0 }
}

/// dlogits.
pub(crate) fn backward(inst: &Inst, forbid: Option<u32>) -> Launches {
    let (logits, target, w, dloss) = (inst.reads[0], inst.reads[1], inst.reads[2], inst.reads[4]);
    let (n, v) = (logits.shape.rows(), logits.shape.cols());
    let groups = Groups::of_logits(v);
    let launch = groups.launch(&SOURCE, "cross_entropy_grad", groups.blocks(n, usize::MAX));
    let launch = launch.at(logits).at(target).at(w).at(dloss).at(inst.writes[0]);
    launch.u64(n).u32(v).u32(groups.lanes).u32(forbid.unwrap_or(NONE)).into()
}

/// sum = sum_n w_n x_n over the rows whose weight is not zero.
pub(crate) fn weighted_sum(w: Slot, x: Slot, sum: Slot) -> Launch {
    Launch::new(&SOURCE, "weighted_sum", [1, 1, 1], 1024).at(w).at(x).at(sum).u64(x.shape.len())
}
