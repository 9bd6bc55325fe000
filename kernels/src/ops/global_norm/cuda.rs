use crate::cuda::{Arch, Launch, Launches, Machine, Place, Source};
use crate::program::Inst;

/// Norms of flat vectors.
pub(crate) const SOURCE: Source =
    Source { name: "global_norm", text: include_str!("global_norm.cu"), archs: &Arch::ALL };

/// The least elements of a block.
const SMALLEST: usize = 4096;

/// norm = |g|.
pub(crate) fn forward(inst: &Inst, machine: Machine) -> Launches {
    let (g, n) = (inst.reads[0], inst.reads[0].shape.len());
    let blocks = n.div_ceil(SMALLEST).min(8 * machine.processors as usize);
    let mut launches = Launches::default();
    let partial = Place::Scratch(launches.reserve(8 * blocks));
    launches.list = vec![
        Launch::new(&SOURCE, "squares", [blocks as u32, 1, 1], 256).at(g).at(partial).u64(n),
        Launch::new(&SOURCE, "root_of_sum", [1, 1, 1], 256).at(partial).at(inst.writes[0]).u32(blocks),
    ];
    launches
}
