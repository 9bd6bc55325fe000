use crate::cuda::{Arch, Launch, Launches, Source};
use crate::program::Inst;

/// Weights by class.
pub(crate) const SOURCE: Source =
    Source { name: "token_weight", text: include_str!("token_weight.cu"), archs: &Arch::ALL };

/// w.
pub(crate) fn forward(inst: &Inst, mask: Option<u32>) -> Launches {
    let (x_0, x_t, weight) = (inst.reads[0], inst.reads[1], inst.reads[2]);
    let n = x_0.shape.len();
    let launch = Launch::over(&SOURCE, "token_weight", n).at(x_0).at(x_t).at(weight).at(inst.writes[0]);
    let launch = launch.u64(n).u32(x_0.shape.dim(1)).u32(weight.shape.dim(1));
    launch.u32(mask.unwrap_or(0)).u32(u32::from(mask.is_some())).into()
}
