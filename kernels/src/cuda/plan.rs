//! From an instruction to launches.

use super::launch::{Launches, Machine};
use crate::op::Op;
use crate::ops;
use crate::program::Inst;

/// An op that has no CUDA kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{op} has no CUDA kernel: run this program on the CPU")]
pub struct Unsupported {
    /// Its name.
    pub op: &'static str,
}

/// The launches of an instruction on a machine.
///
/// # Errors
/// If the op has no kernel.
pub fn launches(inst: &Inst, machine: Machine) -> Result<Launches, Unsupported> {
    let none = Err(Unsupported { op: inst.op.name() });
    // exhaustive: no wildcard arm
    match inst.op {
        Op::Add => none,
        Op::Accumulate => none,
        Op::Cast { .. } => none,
        Op::AddRows { .. } => none,
        Op::AddRowsGrad { .. } => none,
        Op::Activate { .. } => none,
        Op::ActivateGrad { .. } => none,
        Op::SwiGlu => none,
        Op::SwiGluGrad => none,
        Op::Linear { bias, activation } => Ok(ops::linear::cuda::forward(inst, machine, bias, activation)),
        Op::LinearPacked { bias, activation, outputs } => {
            Ok(ops::linear::cuda::packed(inst, machine, bias, activation, outputs))
        }
        Op::LinearInt8 { bias, activation } => Ok(ops::linear_int8::cuda::forward(inst, machine, bias, activation)),
        Op::LinearDx => Ok(ops::linear::cuda::dx(inst, machine)),
        Op::LinearDw { bias } => Ok(ops::linear::cuda::dw(inst, machine, bias)),
        Op::Embedding => none,
        Op::EmbeddingGrad { .. } => none,
        Op::LayerNorm { .. } => none,
        Op::LayerNormGrad { .. } => none,
        Op::RmsNorm { .. } => none,
        Op::RmsNormGrad { .. } => none,
        Op::AddNorm { .. } => none,
        Op::AddNormGrad { .. } => none,
        Op::QkNorm { .. } => none,
        Op::QkNormGrad { .. } => none,
        Op::Modulate { .. } => none,
        Op::ModulateGrad { .. } => none,
        Op::Gate { .. } => none,
        Op::GateGrad { .. } => none,
        Op::Rotary { .. } => none,
        Op::Attention { heads, kv_heads, mask, padding, dropout } => {
            ops::attention::cuda::forward(inst, (heads, kv_heads), mask, padding, dropout)
        }
        Op::AttentionGrad { heads, kv_heads, mask, padding, dropout } => {
            ops::attention::cuda::backward(inst, (heads, kv_heads), mask, padding, dropout)
        }
        Op::AttentionCached { heads, kv_heads, capacity, mask } => {
            ops::attention::cuda::cached(inst, (heads, kv_heads), capacity, mask)
        }
        Op::TimeFeatures { .. } => none,
        Op::CorruptTokens { .. } => none,
        Op::CorruptGaussian { .. } => none,
        Op::CorruptGaussianGrad => none,
        Op::Dropout { .. } => none,
        Op::TokenWeight { .. } => none,
        Op::CrossEntropy { .. } => none,
        Op::CrossEntropyGrad { .. } => none,
        Op::LinearCrossEntropy { bias, forbid } => Ok(ops::head::cuda::forward(inst, bias, forbid)),
        Op::LinearCrossEntropyGrad { bias, forbid } => Ok(ops::head::cuda::backward(inst, machine, bias, forbid)),
        Op::LinearSample { bias, stream, temperature, forbid } => {
            Ok(ops::head::cuda::sample(inst, bias, (stream, temperature), forbid))
        }
        Op::Divergence { .. } => none,
        Op::DivergenceGrad { .. } => none,
        Op::PosteriorKl { .. } => none,
        Op::PosteriorKlGrad { .. } => none,
        Op::SquaredError => none,
        Op::SquaredErrorGrad => none,
        Op::Distances => none,
        Op::DistancesGrad => none,
        Op::Softmax => none,
        Op::SoftmaxGrad => none,
        Op::UnitRows { .. } => none,
        Op::UnitRowsGrad { .. } => none,
        Op::ScaleRows { .. } => none,
        Op::ScaleRowsGrad { .. } => none,
        Op::Wishes => none,
        Op::WishesGrad => none,
        Op::SampleTokens { .. } => none,
        Op::GlobalNorm => none,
        Op::LinearDwAdamW { bias, adamw, ema, copy } => {
            Ok(ops::linear::cuda::dw_adamw(inst, machine, (bias, ema, copy), adamw))
        }
        Op::EmbeddingAdamW { .. } => none,
        Op::AdamW { .. } => none,
        Op::Muon(muon) => Ok(ops::muon::cuda::step(inst, machine, muon)),
        Op::Ema => none,
    }
}
