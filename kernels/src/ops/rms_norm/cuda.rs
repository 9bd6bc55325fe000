use crate::cuda::{Launches, Machine};
use crate::norm::cuda::{self, Gradient, Tables};
use crate::op::Norm;
use crate::program::Inst;

/// y and stats.
pub(crate) fn forward(inst: &Inst, eps: f32, gain: bool) -> Launches {
    let tables = Tables { gain: gain.then(|| &inst.reads[1]), shift: None };
    cuda::forward((Norm::Rms, eps), inst.reads[0], tables, None, inst.writes[0], inst.writes[1])
}

/// dx and dgain.
pub(crate) fn backward(inst: &Inst, machine: Machine, gain: bool) -> Launches {
    let (reads, writes) = (&inst.reads, &inst.writes);
    let gradient = Gradient {
        norm: Norm::Rms,
        x: reads[0],
        stats: reads[1],
        dy: reads[2],
        plus: None,
        gain: gain.then(|| &reads[3]),
        dropped: None,
    };
    gradient.launches(machine, writes[0], Tables { gain: gain.then(|| &writes[1]), shift: None })
}
