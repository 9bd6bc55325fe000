use crate::cuda::grid::{each_in_rows, typed};
use crate::cuda::{Arch, Launches, Source};
use crate::program::Inst;

/// Rotations.
pub(crate) const SOURCE: Source = Source { name: "rotary", text: include_str!("rotary.cu"), archs: &Arch::ALL };

/// Every head of q and k turned by its position, back if `inverse`.
pub(crate) fn forward(inst: &Inst, heads: u32, kv_heads: u32, inverse: bool, past: bool) -> Launches {
    let (qkv, table) = (inst.reads[0], inst.reads[1]);
    let (turned, all, len) = (heads + kv_heads, heads + 2 * kv_heads, qkv.shape.dim(1));
    let (rows, half) = (qkv.shape.rows() * all as usize, qkv.shape.cols() / all as usize / 2);
    let launch = each_in_rows(&SOURCE, typed(qkv.dtype, "rotary_f32", "rotary_bf16"), qkv.dtype, rows, half);
    let launch = launch.at(qkv).at(table).maybe(past.then(|| &inst.reads[2])).at(inst.writes[0]);
    let launch = launch.u64(rows).u32(half).u32(all).u32(turned).u32(len).u32(table.shape.dim(0));
    launch.f32(if inverse { -1.0 } else { 1.0 }).into()
}
