use crate::cuda::{Arch, Launch, Launches, Source};
use crate::program::Inst;

/// Features of a time.
pub(crate) const SOURCE: Source =
    Source { name: "time_features", text: include_str!("time_features.cu"), archs: &Arch::ALL };

/// y.
pub(crate) fn forward(inst: &Inst, dim: u32, max_period: f32, scale: f32) -> Launches {
    let (t, half) = (inst.reads[0], dim / 2);
    let batch = t.shape.len();
    let launch = Launch::over(&SOURCE, "time_features", batch * half as usize).at(t).at(inst.writes[0]);
    launch.u64(batch).u32(half).f32(max_period).f32(scale).into()
}
