use crate::cuda::grid::take;
use crate::cuda::{Launches, Machine};
use crate::norm::cuda::{self, Gradient, Tables};
use crate::op::Norm;
use crate::program::Inst;

/// y and stats.
pub(crate) fn forward(inst: &Inst, eps: f32, gain: bool, bias: bool) -> Launches {
    let mut next = inst.reads[1..].iter();
    let tables = Tables { gain: take(&mut next, gain), shift: take(&mut next, bias) };
    cuda::forward((Norm::Layer, eps), inst.reads[0], tables, None, inst.writes[0], inst.writes[1])
}

/// dx, dgain and dshift.
pub(crate) fn backward(inst: &Inst, machine: Machine, gain: bool, bias: bool) -> Launches {
    let reads = &inst.reads;
    let gradient = Gradient {
        norm: Norm::Layer,
        x: reads[0],
        stats: reads[1],
        dy: reads[2],
        plus: None,
        gain: gain.then(|| &reads[3]),
        dropped: None,
    };
    let mut next = inst.writes[1..].iter();
    let sums = Tables { gain: take(&mut next, gain), shift: take(&mut next, bias) };
    gradient.launches(machine, inst.writes[0], sums)
}
