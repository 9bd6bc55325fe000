use crate::cuda::grid::{each, typed};
use crate::cuda::{Arch, Launches, Source};
use crate::program::Inst;

/// Sums.
pub(crate) const SOURCE: Source = Source { name: "add", text: include_str!("add.cu"), archs: &Arch::ALL };

/// y = a + b.
pub(crate) fn add(inst: &Inst) -> Launches {
    let (a, y) = (inst.reads[0], inst.writes[0]);
    let (n, entry) = (a.shape.len(), typed(a.dtype, "add_f32", "add_bf16"));
    each(&SOURCE, entry, a.dtype, n).at(a).at(inst.reads[1]).at(y).u64(n).into()
}

/// y += x.
pub(crate) fn accumulate(inst: &Inst) -> Launches {
    let (x, y) = (inst.reads[0], inst.writes[0]);
    each(&SOURCE, "accumulate_f32", x.dtype, x.shape.len()).at(x).at(y).u64(x.shape.len()).into()
}
