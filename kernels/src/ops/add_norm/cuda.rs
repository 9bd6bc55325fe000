use crate::cuda::grid::take;
use crate::cuda::{Launches, Machine};
use crate::norm::cuda::{self, Gradient, Residual, Tables};
use crate::op::{Dropout, Norm};
use crate::program::Inst;

/// s, y and stats.
pub(crate) fn forward(inst: &Inst, norm: (Norm, f32), gain: bool, bias: bool, dropout: Option<Dropout>) -> Launches {
    let (reads, writes) = (&inst.reads, &inst.writes);
    let mut next = reads[2..].iter();
    let tables = Tables { gain: take(&mut next, gain), shift: take(&mut next, bias) };
    let residual = Residual { h: reads[1], s: writes[1], dropout: dropout.zip(next.next()) };
    cuda::forward(norm, reads[0], tables, Some(residual), writes[0], writes[2])
}

/// dx, dh, dgain and dshift.
pub(crate) fn backward(
    inst: &Inst,
    machine: Machine,
    norm: Norm,
    (gain, bias, sum): (bool, bool, bool),
    dropout: Option<Dropout>,
) -> Launches {
    let (mut reads, mut writes) = (inst.reads[3..].iter(), inst.writes[1..].iter());
    let (plus, table) = (take(&mut reads, sum), take(&mut reads, gain));
    let dropped = dropout.and_then(|dropout| Some((dropout, reads.next()?, writes.next()?)));
    let (x, stats, dy) = (inst.reads[0], inst.reads[1], inst.reads[2]);
    let gradient = Gradient { norm, x, stats, dy, plus, gain: table, dropped };
    let sums = Tables { gain: take(&mut writes, gain), shift: take(&mut writes, bias) };
    gradient.launches(machine, inst.writes[0], sums)
}
