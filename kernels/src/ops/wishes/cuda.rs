use crate::cuda::grid::Groups;
use crate::cuda::{Arch, Launch, Launches, Place, Source};
use crate::program::Inst;

/// How likely wishes are.
pub(crate) const SOURCE: Source = Source { name: "wishes", text: include_str!("wishes.cu"), archs: &Arch::ALL };

/// loss and lse.
pub(crate) fn forward(inst: &Inst) -> Launches {
    let (logits, wishes, weight, lse) = (inst.reads[0], inst.reads[1], inst.reads[2], inst.writes[1]);
    let (n, v) = (logits.shape.rows(), logits.shape.cols());
    let groups = Groups::of_logits(v);
    let rows = groups.launch(&SOURCE, "wishes_lse", groups.blocks(n, usize::MAX)).at(logits).at(lse);
    let loss = Launch::new(&SOURCE, "wishes_loss", [1, 1, 1], 256).at(logits).at(wishes).at(weight).at(lse);
    let loss = loss.at(inst.writes[0]).u32(logits.shape.dim(0)).u32(logits.shape.dim(1)).u32(v).u32(weight.shape.len());
    Launches { list: vec![rows.u64(n).u32(v).u32(groups.lanes), loss], scratch: 0 }
}

/// dlogits.
pub(crate) fn backward(inst: &Inst) -> Launches {
    let (logits, wishes, weight, lse) = (inst.reads[0], inst.reads[1], inst.reads[2], inst.reads[3]);
    let (n, v, count) = (logits.shape.rows(), logits.shape.cols(), weight.shape.len());
    let groups = Groups::of_logits(v);
    let mut launches = Launches::default();
    let slopes = Place::Scratch(launches.reserve(8 * n * count));
    let each = Launch::over(&SOURCE, "wishes_slopes", n * count).at(logits).at(wishes).at(weight).at(lse);
    let each = each.at(inst.reads[4]).at(slopes).u64(n).u32(logits.shape.dim(1)).u32(v).u32(count);
    let rows = groups.launch(&SOURCE, "wishes_grad", groups.blocks(n, usize::MAX)).at(logits).at(wishes).at(lse);
    let rows = rows.at(slopes).at(inst.writes[0]).u64(n).u32(v).u32(groups.lanes).u32(count);
    launches.list = vec![each, rows];
    launches
}
