use super::Dims;
use crate::columns::cuda::Columns;
use crate::cuda::grid::{Groups, piece, typed};
use crate::cuda::{Arch, Launches, Machine, Place, Source};
use crate::program::Inst;
use galatea_tensor::{DType, Slot};

/// Norms of heads.
pub(crate) const SOURCE: Source = Source { name: "qk_norm", text: include_str!("qk_norm.cu"), archs: &Arch::ALL };

/// Elements of a head that a thread keeps in registers (`E` of the kernel).
const HELD: usize = 8;
/// The most threads of a block with a head of its own.
const MOST: u32 = 256;

fn groups(qkv: Slot, dims: Dims) -> Groups {
    Groups::new(dims.d_head, piece(qkv.dtype, dims.d_head), HELD, MOST)
}

/// y and stats.
pub(crate) fn forward(inst: &Inst, (heads, kv_heads): (u32, u32), eps: f32, gain: f32, learned: bool) -> Launches {
    let qkv = inst.reads[0];
    let (n, dims) = (qkv.shape.rows(), Dims::new(qkv.shape.cols(), heads, kv_heads));
    let groups = groups(qkv, dims);
    let blocks = groups.blocks(n * dims.heads, usize::MAX);
    let launch = groups.launch(&SOURCE, typed(qkv.dtype, "qk_norm_f32", "qk_norm_bf16"), blocks);
    let launch = launch.at(qkv).maybe(learned.then(|| &inst.reads[1])).at(inst.writes[0]).at(inst.writes[1]).u64(n);
    let launch = launch.u32(dims.heads).u32(dims.normed).u32(dims.queries).u32(dims.d_head).u32(groups.lanes);
    launch.f32(eps).f32(gain).into()
}

/// dqkv and, where they are learned, dgains.
pub(crate) fn backward(
    inst: &Inst,
    machine: Machine,
    (heads, kv_heads): (u32, u32),
    gain: f32,
    learned: bool,
) -> Launches {
    let (qkv, writes) = (inst.reads[0], &inst.writes);
    let (n, dims) = (qkv.shape.rows(), Dims::new(qkv.shape.cols(), heads, kv_heads));
    let (groups, width) = (groups(qkv, dims), 2 * dims.d_head);
    // Four blocks of a processor's registers, where sums make few blocks better than many.
    let most = if learned { 4 * machine.processors as usize } else { usize::MAX };
    let blocks = groups.blocks(n * dims.heads, most);
    let mut launches = Launches::default();
    let partial = learned.then(|| Place::Scratch(launches.reserve(4 * blocks * width)));
    let shared = if learned && groups.lanes <= 32 { 4 * width } else { 0 };
    let launch = groups.launch(&SOURCE, typed(qkv.dtype, "qk_norm_grad_f32", "qk_norm_grad_bf16"), blocks);
    let launch = launch.shared(shared).at(qkv).at(inst.reads[1]).at(inst.reads[2]);
    let launch = launch.maybe(learned.then(|| &inst.reads[3])).at(writes[0]);
    let launch = match partial {
        Some(place) => launch.at(place),
        None => launch.null(),
    };
    let launch = launch.u64(n).u32(dims.heads).u32(dims.normed).u32(dims.queries).u32(dims.d_head);
    launches.list.push(launch.u32(groups.lanes).f32(gain));
    if let Some(partial) = partial {
        let (x, y) = ((partial, DType::F32), (writes[1].into(), DType::F32));
        let columns =
            Columns { x, segments: 1, from: 0, stride: width, count: blocks, width, y, pitch: width, second: None };
        columns.launch(machine, &mut launches);
    }
    launches
}
