use crate::cuda::grid::Groups;
use crate::cuda::{Arch, Launches, Source};
use crate::program::Inst;

/// Softmax of rows.
pub(crate) const SOURCE: Source = Source { name: "softmax", text: include_str!("softmax.cu"), archs: &Arch::ALL };

/// p.
pub(crate) fn forward(inst: &Inst) -> Launches {
    let x = inst.reads[0];
    let (n, v) = (x.shape.rows(), x.shape.cols());
    let groups = Groups::of_logits(v);
    let launch = groups.launch(&SOURCE, "softmax", groups.blocks(n, usize::MAX)).at(x).at(inst.writes[0]);
    launch.u64(n).u32(v).u32(groups.lanes).into()
}

/// dx.
pub(crate) fn backward(inst: &Inst) -> Launches {
    let p = inst.reads[0];
    let (n, v) = (p.shape.rows(), p.shape.cols());
    let groups = Groups::of_logits(v);
    let launch = groups.launch(&SOURCE, "softmax_grad", groups.blocks(n, usize::MAX)).at(p).at(inst.reads[1]);
    launch.at(inst.writes[0]).u64(n).u32(v).u32(groups.lanes).into()
}
