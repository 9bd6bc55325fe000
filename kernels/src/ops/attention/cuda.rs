use super::Dims;
use crate::cuda::{Arch, Launch, Launches, Place, Source, Unsupported};
use crate::op::{AttentionMask, Dropout};
use crate::program::Inst;
use galatea_tensor::{DType, Slot};

/// Any width of a head.
pub(crate) const SOURCE: Source = Source { name: "attention", text: include_str!("attention.cu"), archs: &Arch::ALL };
/// Common widths on tensor cores.
pub(crate) const BF16: Source =
    Source { name: "attention_bf16", text: include_str!("attention_bf16.cu"), archs: &Arch::ALL };
/// By a cache.
pub(crate) const CACHED: Source =
    Source { name: "attention_cached", text: include_str!("attention_cached.cu"), archs: &Arch::ALL };

/// Threads of a block.
const THREADS: u32 = 128;
/// Most columns of a head that the tiles of the general kernels have room for, and that lanes of a cached one hold.
const MOST: usize = 256;

/// Which kernels have heads of a width: forward, the gradients of queries, those of keys and values.
struct Kernels {
    source: &'static Source,
    entries: [&'static str; 3],
    /// Queries, or keys, of a block.
    tile: usize,
    /// Bytes of shared memory of each.
    shared: [usize; 3],
    /// Whether the width is a parameter of the kernel.
    any: bool,
}

impl Kernels {
    fn new(dtype: DType, d: usize) -> Self {
        let entries = match (dtype, d) {
            (DType::Bf16, 32) => ["attention_bf16_32", "attention_grad_q_bf16_32", "attention_grad_kv_bf16_32"],
            (DType::Bf16, 64) => ["attention_bf16_64", "attention_grad_q_bf16_64", "attention_grad_kv_bf16_64"],
            (DType::Bf16, 96) => ["attention_bf16_96", "attention_grad_q_bf16_96", "attention_grad_kv_bf16_96"],
            (DType::Bf16, 128) => ["attention_bf16_128", "attention_grad_q_bf16_128", "attention_grad_kv_bf16_128"],
            _ => return Self::any(dtype, d),
        };
        let tile = 2 * 64 * (d + 8);
        Self { source: &BF16, entries, tile: 64, shared: [5 * tile, 4 * tile, 4 * tile + 4 * 2 * 64], any: false }
    }

    fn any(dtype: DType, d: usize) -> Self {
        let entries = match dtype {
            DType::Bf16 => ["attention_bf16", "attention_grad_q_bf16", "attention_grad_kv_bf16"],
            DType::F32 | DType::F16 | DType::U32 | DType::I8 => {
                ["attention_f32", "attention_grad_q_f32", "attention_grad_kv_f32"]
            }
        };
        let (tile, pairs, numbers) = (4 * 32 * (d + 1), 4 * 32 * 33, 4 * 32);
        let backward = 2 * pairs + 2 * numbers;
        let shared = [4 * tile + pairs + numbers, 5 * tile + backward, 6 * tile + backward];
        Self { source: &SOURCE, entries, tile: 32, shared, any: true }
    }

    /// One of the three over `blocks` tiles.
    fn launch(&self, which: usize, dims: Dims, batch: usize, heads: usize, args: impl Fn(Launch) -> Launch) -> Launch {
        let blocks = (dims.len.div_ceil(self.tile) * heads * batch) as u32;
        let launch = Launch::new(self.source, self.entries[which], [blocks, 1, 1], THREADS).shared(self.shared[which]);
        let launch = args(launch).u32(dims.len).u32(dims.heads).u32(dims.kv_heads);
        if self.any { launch.u32(dims.d_head) } else { launch }
    }
}

/// The mask as a kernel knows it: a kind and the positions of a block.
fn pairs(launch: Launch, mask: AttentionMask) -> Launch {
    let (kind, block) = match mask {
        AttentionMask::Full => (0, 1),
        AttentionMask::Causal => (1, 1),
        AttentionMask::BlockCausal(block) => (2, block),
        AttentionMask::BlockDiffusion(block) => (3, block),
    };
    launch.u32(kind).u32(block)
}

/// The dropout of weights, or none.
fn kept(launch: Launch, dropout: Option<(Dropout, &Slot)>) -> Launch {
    let (p, stream) = dropout.map_or((0.0, 0), |(dropout, _)| (dropout.p, dropout.stream));
    let least = (f64::from(p) * 65_536.0).round().min(65_535.0) as u32;
    let scale = 65_536.0 / (65_536 - least) as f32;
    launch.maybe(dropout.map(|(_, rng)| rng)).u32(stream).u32(least).f32(scale)
}

fn refuse_wide(inst: &Inst, dims: Dims) -> Result<(), Unsupported> {
    if dims.d_head > MOST { Err(Unsupported { op: inst.op.name() }) } else { Ok(()) }
}

/// y and the log-sums.
pub(crate) fn forward(
    inst: &Inst,
    (heads, kv_heads): (u32, u32),
    mask: AttentionMask,
    padding: bool,
    dropout: Option<Dropout>,
) -> Result<Launches, Unsupported> {
    let qkv = inst.reads[0];
    let dims = Dims::new(qkv.shape, heads, kv_heads, mask);
    refuse_wide(inst, dims)?;
    let visible = padding.then(|| &inst.reads[1]);
    let dropout = dropout.map(|dropout| (dropout, &inst.reads[1 + usize::from(padding)]));
    let kernels = Kernels::new(qkv.dtype, dims.d_head);
    let launch = kernels.launch(0, dims, qkv.shape.dim(0), dims.heads, |launch| {
        launch.at(qkv).maybe(visible).at(inst.writes[0]).at(inst.writes[1])
    });
    Ok(kept(pairs(launch, mask), dropout).into())
}

/// dqkv: the products of dy and y of every query, then the queries, then the keys and values.
pub(crate) fn backward(
    inst: &Inst,
    (heads, kv_heads): (u32, u32),
    mask: AttentionMask,
    padding: bool,
    dropout: Option<Dropout>,
) -> Result<Launches, Unsupported> {
    let qkv = inst.reads[0];
    let dims = Dims::new(qkv.shape, heads, kv_heads, mask);
    refuse_wide(inst, dims)?;
    let p = usize::from(padding);
    let visible = padding.then(|| &inst.reads[1]);
    let (y, lse, dy) = (inst.reads[1 + p], inst.reads[2 + p], inst.reads[3 + p]);
    let dropout = dropout.map(|dropout| (dropout, &inst.reads[4 + p]));
    let (batch, delta) = (qkv.shape.dim(0), Place::Scratch(0));
    let count = lse.shape.len();
    let name = if qkv.dtype == DType::Bf16 { "attention_dots_bf16" } else { "attention_dots_f32" };
    let dots = Launch::new(&SOURCE, name, [count.div_ceil(4) as u32, 1, 1], THREADS);
    let dots = dots.at(y).at(dy).at(delta).u32(dims.len).u32(dims.heads).u32(dims.d_head).u64(count);
    let kernels = Kernels::new(qkv.dtype, dims.d_head);
    let gradient = |which: usize, heads: usize| {
        let launch = kernels.launch(which, dims, batch, heads, |launch| {
            launch.at(qkv).maybe(visible).at(lse).at(dy).at(delta).at(inst.writes[0])
        });
        kept(pairs(launch, mask), dropout)
    };
    Ok(Launches { list: vec![dots, gradient(1, dims.heads), gradient(2, dims.kv_heads)], scratch: 4 * count })
}

/// The new keys and values, then y.
pub(crate) fn cached(
    inst: &Inst,
    (heads, kv_heads): (u32, u32),
    capacity: u32,
    mask: AttentionMask,
) -> Result<Launches, Unsupported> {
    let (qkv, past) = (inst.reads[0], inst.reads[1]);
    let dims = Dims::new(qkv.shape, heads, kv_heads, mask);
    refuse_wide(inst, dims)?;
    let [append, attend] = match qkv.dtype {
        DType::Bf16 => ["attention_append_bf16", "attention_cached_bf16"],
        DType::F32 | DType::F16 | DType::U32 | DType::I8 => ["attention_append_f32", "attention_cached_f32"],
    };
    let sizes = |launch: Launch| launch.u32(dims.len).u32(dims.heads).u32(dims.kv_heads).u32(dims.d_head).u32(capacity);
    let count = qkv.shape.rows() * dims.kv_heads * dims.d_head;
    let append = Launch::over(&CACHED, append, count).at(qkv).at(past).at(inst.writes[0]).at(inst.writes[1]);
    let blocks = (qkv.shape.rows() * dims.heads) as u32;
    let attend = Launch::new(&CACHED, attend, [blocks, 1, 1], THREADS);
    let attend = attend.at(qkv).at(past).at(inst.writes[0]).at(inst.writes[1]).at(inst.writes[2]);
    Ok(Launches { list: vec![sizes(append).u64(count), pairs(sizes(attend), mask)], scratch: 0 })
}
