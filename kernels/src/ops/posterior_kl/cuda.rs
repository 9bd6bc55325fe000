use crate::cuda::{Arch, Launch, Launches, Source};
use crate::ops::cross_entropy::cuda::weighted_sum;
use crate::program::Inst;

/// Divergences of dense chains.
pub(crate) const SOURCE: Source =
    Source { name: "posterior_kl", text: include_str!("posterior_kl.cu"), archs: &Arch::ALL };

/// Threads of a block, which has a token.
const THREADS: u32 = 128;

/// loss, d, p and m.
pub(crate) fn forward(inst: &Inst, lambda: f32) -> Launches {
    let (logits, w, d) = (inst.reads[0], inst.reads[4], inst.writes[1]);
    let (len, v) = (logits.shape.dim(1), logits.shape.cols());
    let launch = Launch::new(&SOURCE, "posterior_kl", [logits.shape.rows() as u32, 1, 1], THREADS).shared(4 * v);
    let launch = inst.reads.iter().chain(&inst.writes[1..]).fold(launch, |launch, slot| launch.at(*slot));
    let launch = launch.u32(len).u32(v).f32(lambda);
    Launches { list: vec![launch, weighted_sum(w, d, inst.writes[0])], scratch: 0 }
}

/// dlogits and dm.
pub(crate) fn backward(inst: &Inst, lambda: f32) -> Launches {
    let p = inst.reads[0];
    let (len, v) = (p.shape.dim(1), p.shape.cols());
    let launch = Launch::new(&SOURCE, "posterior_kl_grad", [p.shape.rows() as u32, 1, 1], THREADS).shared(8 * v);
    let launch = inst.reads.iter().chain(&*inst.writes).fold(launch, |launch, slot| launch.at(*slot));
    launch.u32(len).u32(v).f32(lambda).into()
}
