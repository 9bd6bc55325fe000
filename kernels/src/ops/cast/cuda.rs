use crate::cuda::{Arch, Launch, Launches, Source};
use crate::program::Inst;
use galatea_tensor::DType::Bf16;

/// Other element types.
pub(crate) const SOURCE: Source = Source { name: "cast", text: include_str!("cast.cu"), archs: &Arch::ALL };

/// Elements of a thread.
const EACH: usize = 8;

/// y = x.
pub(crate) fn forward(inst: &Inst) -> Launches {
    let (x, y) = (inst.reads[0], inst.writes[0]);
    let entry = match (x.dtype == Bf16, y.dtype == Bf16) {
        (false, false) => "cast_f32_f32",
        (false, true) => "cast_f32_bf16",
        (true, false) => "cast_bf16_f32",
        (true, true) => "cast_bf16_bf16",
    };
    Launch::over(&SOURCE, entry, x.shape.len().div_ceil(EACH)).at(x).at(y).u64(x.shape.len()).into()
}
