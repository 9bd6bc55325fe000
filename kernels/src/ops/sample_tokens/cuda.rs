use crate::cuda::grid::Groups;
use crate::cuda::{Arch, Launches, Source};
use crate::ops::cross_entropy::cuda::NONE;
use crate::program::Inst;

/// Draws from logits.
pub(crate) const SOURCE: Source =
    Source { name: "sample_tokens", text: include_str!("sample_tokens.cu"), archs: &Arch::ALL };

/// ids, log_p and entropy.
pub(crate) fn forward(inst: &Inst, stream: u32, temperature: f32, forbid: Option<u32>) -> Launches {
    let (logits, writes) = (inst.reads[0], &inst.writes);
    let (n, v) = (logits.shape.rows(), logits.shape.cols());
    let groups = Groups::of_logits(v);
    let launch = groups.launch(&SOURCE, "sample_tokens", groups.blocks(n, usize::MAX)).at(logits).at(inst.reads[1]);
    let launch = launch.at(writes[0]).at(writes[1]).at(writes[2]).u64(n).u32(v).u32(groups.lanes);
    launch.u32(stream).f32(temperature).u32(forbid.unwrap_or(NONE)).into()
}
