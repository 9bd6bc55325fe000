use crate::cuda::grid::{Groups, piece};
use crate::cuda::{Arch, Launches, Source};
use crate::program::Inst;

/// Rows of length one.
pub(crate) const SOURCE: Source = Source { name: "unit_rows", text: include_str!("unit_rows.cu"), archs: &Arch::ALL };

/// The most threads of a block with a row of its own.
const MOST: u32 = 256;

/// y of x, or, with a dy among the reads, dx.
pub(crate) fn rows(inst: &Inst, eps: f32) -> Launches {
    let x = inst.reads[0];
    let (n, d) = (x.shape.rows(), x.shape.cols());
    let whole = piece(x.dtype, d);
    let groups = Groups::new(d, whole, Groups::held(whole), MOST);
    let launch = groups.launch(&SOURCE, "unit_rows", groups.blocks(n, usize::MAX)).at(x).maybe(inst.reads.get(1));
    launch.at(inst.writes[0]).u64(n).u32(d).u32(groups.lanes).f32(eps).into()
}
