use crate::cuda::grid::{each, take};
use crate::cuda::{Arch, Launch, Launches, Place, Source};
use crate::op::AdamW;
use crate::program::Inst;
use galatea_tensor::{DType, Slot};

/// Steps of the optimizer.
pub(crate) const SOURCE: Source = Source { name: "adamw", text: include_str!("adamw.cu"), archs: &Arch::ALL };

/// param, m, v, and ema and the copy where asked.
pub(crate) fn step(inst: &Inst, adamw: AdamW, ema: bool, copy: bool) -> Launches {
    let [g, norm, hyper] = inst.reads[..] else { unreachable!("what the op reads (slots.rs)") };
    launch(g.into(), Some(&norm), hyper, &inst.writes, adamw, (ema, copy)).into()
}

/// The same for a gradient in scratch that nothing clips.
pub(crate) fn unclipped(g: Place, hyper: Slot, writes: &[Slot], adamw: AdamW, kept: (bool, bool)) -> Launch {
    launch(g, None, hyper, writes, adamw, kept)
}

fn launch(
    g: Place,
    norm: Option<&Slot>,
    hyper: Slot,
    state: &[Slot],
    AdamW { beta_1, beta_2, eps, weight_decay }: AdamW,
    (ema, copy): (bool, bool),
) -> Launch {
    let (n, mut rest) = (state[0].shape.len(), state[3..].iter());
    let launch =
        each(&SOURCE, "adamw", DType::F32, n).at(g).maybe(norm).at(hyper).at(state[0]).at(state[1]).at(state[2]);
    let launch = launch.maybe(take(&mut rest, ema)).maybe(take(&mut rest, copy)).u64(n);
    launch.f32(beta_1).f32(beta_2).f32(eps).f32(weight_decay)
}
