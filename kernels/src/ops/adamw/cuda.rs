use crate::cuda::grid::{each, take};
use crate::cuda::{Arch, Launches, Source};
use crate::op::AdamW;
use crate::program::Inst;

/// Steps of the optimizer.
pub(crate) const SOURCE: Source = Source { name: "adamw", text: include_str!("adamw.cu"), archs: &Arch::ALL };

/// param, m, v, and ema and the copy where asked.
pub(crate) fn step(inst: &Inst, adamw: AdamW, ema: bool, copy: bool) -> Launches {
    let AdamW { beta_1, beta_2, eps, weight_decay } = adamw;
    let (g, mut writes) = (inst.reads[0], inst.writes[3..].iter());
    let launch = each(&SOURCE, "adamw", g.dtype, g.shape.len()).at(g).at(inst.reads[1]).at(inst.reads[2]);
    let launch = launch.at(inst.writes[0]).at(inst.writes[1]).at(inst.writes[2]);
    let launch = launch.maybe(take(&mut writes, ema)).maybe(take(&mut writes, copy)).u64(g.shape.len());
    launch.f32(beta_1).f32(beta_2).f32(eps).f32(weight_decay).into()
}
