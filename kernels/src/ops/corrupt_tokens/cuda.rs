use crate::cuda::{Arch, Launch, Launches, Source};
use crate::op::Limit;
use crate::program::Inst;

/// Corruption of tokens.
pub(crate) const SOURCE: Source =
    Source { name: "corrupt_tokens", text: include_str!("corrupt_tokens.cu"), archs: &Arch::ALL };

/// x_t.
pub(crate) fn forward(inst: &Inst, limit: Limit, stream: u32) -> Launches {
    let (x_0, level) = (inst.reads[0], inst.reads[1]);
    let (n, len) = (x_0.shape.len(), x_0.shape.dim(1));
    let (number, ids, mask) = match limit {
        Limit::Mask(mask) => (0, 0, mask),
        Limit::Uniform(ids) => (1, ids, 0),
        Limit::Hybrid { ids, mask } => (2, ids, mask),
    };
    let launch = Launch::over(&SOURCE, "corrupt_tokens", n).at(x_0).at(level).at(inst.reads[2]).at(inst.writes[0]);
    launch.u64(n).u32(len).u32(level.shape.dim(1)).u32(number as u32).u32(ids).u32(mask).u32(stream).into()
}
