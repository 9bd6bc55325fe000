use crate::cuda::grid::Groups;
use crate::cuda::{Arch, Launch, Launches, Source};
use crate::op::Link;
use crate::ops::cross_entropy::cuda::weighted_sum;
use crate::program::Inst;

/// Bounds on tokens.
pub(crate) const SOURCE: Source = Source { name: "divergence", text: include_str!("divergence.cu"), archs: &Arch::ALL };

/// What both passes read of the tokens, and the sizes.
fn tokens(launch: Launch, inst: &Inst, groups: Groups, forbid: Option<u32>) -> Launch {
    let (logits, reads) = (inst.reads[0], &inst.reads);
    let launch = launch.at(reads[1]).at(reads[2]).at(reads[3]).at(reads[4]).u64(logits.shape.rows());
    let launch = launch.u32(logits.shape.cols()).u32(groups.lanes).u32(logits.shape.dim(1)).u32(reads[3].shape.dim(1));
    launch.u32(forbid.unwrap_or(0)).u32(u32::from(forbid.is_some()))
}

/// loss, d and lse.
pub(crate) fn forward(inst: &Inst, link: Link, forbid: Option<u32>) -> Launches {
    let (logits, d, lse) = (inst.reads[0], inst.writes[1], inst.writes[2]);
    let groups = Groups::of_logits(logits.shape.cols());
    let entry = match link {
        Link::Softmax => "divergence_softmax",
        Link::Exp => "divergence_exp",
    };
    let launch = groups.launch(&SOURCE, entry, groups.blocks(logits.shape.rows(), usize::MAX));
    let rows = tokens(launch.at(logits).at(d).at(lse), inst, groups, forbid);
    Launches { list: vec![rows, weighted_sum(inst.reads[4], d, inst.writes[0])], scratch: 0 }
}

/// dlogits.
pub(crate) fn backward(inst: &Inst, link: Link, forbid: Option<u32>) -> Launches {
    let logits = inst.reads[0];
    let groups = Groups::of_logits(logits.shape.cols());
    let entry = match link {
        Link::Softmax => "divergence_grad_softmax",
        Link::Exp => "divergence_grad_exp",
    };
    let launch = groups.launch(&SOURCE, entry, groups.blocks(logits.shape.rows(), usize::MAX));
    let launch = launch.at(logits).at(inst.reads[5]).at(inst.reads[6]).at(inst.writes[0]);
    tokens(launch, inst, groups, forbid).into()
}
