//! From an instruction to launches.

use super::launch::{Launches, Machine};
use crate::op::Op;
use crate::ops;
use crate::program::Inst;

/// An op that has no CUDA kernel at its sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{op} has no CUDA kernel at these sizes: run this program on the CPU (--device cpu)")]
pub struct Unsupported {
    /// Its name.
    pub op: &'static str,
}

/// The launches of an instruction on a machine.
///
/// # Errors
/// If the op has no kernel at its sizes: attention of heads wider than 256.
pub fn launches(inst: &Inst, machine: Machine) -> Result<Launches, Unsupported> {
    // exhaustive: no wildcard arm
    match inst.op {
        Op::Add => Ok(ops::add::cuda::add(inst)),
        Op::Accumulate => Ok(ops::add::cuda::accumulate(inst)),
        Op::Cast { .. } => Ok(ops::cast::cuda::forward(inst)),
        Op::AddRows { over, past } => Ok(ops::add_rows::cuda::forward(inst, over, past)),
        Op::AddRowsGrad { over, rows } => Ok(ops::add_rows::cuda::backward(inst, machine, over, rows as usize)),
        Op::Activate { activation } => Ok(ops::activation::cuda::forward(inst, activation)),
        Op::ActivateGrad { activation } => Ok(ops::activation::cuda::backward(inst, activation)),
        Op::SwiGlu => Ok(ops::swiglu::cuda::forward(inst)),
        Op::SwiGluGrad => Ok(ops::swiglu::cuda::backward(inst)),
        Op::Linear { bias, activation, keep } => Ok(ops::linear::cuda::forward(inst, machine, bias, activation, keep)),
        Op::LinearPacked { bias, activation, outputs } => {
            Ok(ops::linear::cuda::packed(inst, machine, bias, activation, outputs))
        }
        Op::LinearInt8 { bias, activation } => Ok(ops::linear_int8::cuda::forward(inst, machine, bias, activation)),
        Op::LinearDx => Ok(ops::linear::cuda::dx(inst, machine)),
        Op::LinearDw { bias } => Ok(ops::linear::cuda::dw(inst, machine, bias)),
        Op::Embedding => Ok(ops::embedding::cuda::forward(inst)),
        Op::EmbeddingGrad { .. } => Ok(ops::embedding::cuda::backward(inst)),
        Op::LayerNorm { eps, gain, bias } => Ok(ops::layer_norm::cuda::forward(inst, eps, gain, bias)),
        Op::LayerNormGrad { gain, bias } => Ok(ops::layer_norm::cuda::backward(inst, machine, gain, bias)),
        Op::RmsNorm { eps, gain } => Ok(ops::rms_norm::cuda::forward(inst, eps, gain)),
        Op::RmsNormGrad { gain } => Ok(ops::rms_norm::cuda::backward(inst, machine, gain)),
        Op::AddNorm { norm, eps, gain, bias, dropout } => {
            Ok(ops::add_norm::cuda::forward(inst, (norm, eps), gain, bias, dropout))
        }
        Op::AddNormGrad { norm, gain, bias, dropout, sum } => {
            Ok(ops::add_norm::cuda::backward(inst, machine, norm, (gain, bias, sum), dropout))
        }
        Op::QkNorm { heads, kv_heads, eps, gain, learned } => {
            Ok(ops::qk_norm::cuda::forward(inst, (heads, kv_heads), eps, gain, learned))
        }
        Op::QkNormGrad { heads, kv_heads, gain, learned } => {
            Ok(ops::qk_norm::cuda::backward(inst, machine, (heads, kv_heads), gain, learned))
        }
        Op::Modulate { shift, scale } => Ok(ops::modulate::cuda::forward(inst, shift, scale)),
        Op::ModulateGrad { shift, scale } => Ok(ops::modulate::cuda::backward(inst, machine, shift, scale)),
        Op::Gate { gate } => Ok(ops::gate::cuda::forward(inst, gate)),
        Op::GateGrad { gate } => Ok(ops::gate::cuda::backward(inst, machine, gate)),
        Op::Rotary { heads, kv_heads, inverse, past } => {
            Ok(ops::rotary::cuda::forward(inst, heads, kv_heads, inverse, past))
        }
        Op::Attention { heads, kv_heads, mask, padding, dropout } => {
            ops::attention::cuda::forward(inst, (heads, kv_heads), mask, padding, dropout)
        }
        Op::AttentionGrad { heads, kv_heads, mask, padding, dropout } => {
            ops::attention::cuda::backward(inst, (heads, kv_heads), mask, padding, dropout)
        }
        Op::AttentionCached { heads, kv_heads, capacity, mask } => {
            ops::attention::cuda::cached(inst, (heads, kv_heads), capacity, mask)
        }
        Op::TimeFeatures { dim, max_period, scale } => {
            Ok(ops::time_features::cuda::forward(inst, dim, max_period, scale))
        }
        Op::CorruptTokens { limit, stream } => Ok(ops::corrupt_tokens::cuda::forward(inst, limit, stream)),
        Op::CorruptGaussian { stream } => Ok(ops::corrupt_gaussian::cuda::forward(inst, stream)),
        Op::CorruptGaussianGrad => Ok(ops::corrupt_gaussian::cuda::backward(inst)),
        Op::Dropout { p, stream } => Ok(ops::dropout::cuda::forward(inst, p, stream)),
        Op::TokenWeight { mask } => Ok(ops::token_weight::cuda::forward(inst, mask)),
        Op::CrossEntropy { forbid } => Ok(ops::cross_entropy::cuda::forward(inst, forbid)),
        Op::CrossEntropyGrad { forbid } => Ok(ops::cross_entropy::cuda::backward(inst, forbid)),
        Op::LinearCrossEntropy { bias, forbid } => Ok(ops::head::cuda::forward(inst, bias, forbid)),
        Op::LinearCrossEntropyGrad { bias, forbid } => Ok(ops::head::cuda::backward(inst, machine, bias, forbid)),
        Op::LinearSample { bias, stream, temperature, forbid } => {
            Ok(ops::head::cuda::sample(inst, bias, (stream, temperature), forbid))
        }
        Op::Divergence { link, forbid } => Ok(ops::divergence::cuda::forward(inst, link, forbid)),
        Op::DivergenceGrad { link, forbid } => Ok(ops::divergence::cuda::backward(inst, link, forbid)),
        Op::PosteriorKl { lambda } => Ok(ops::posterior_kl::cuda::forward(inst, lambda)),
        Op::PosteriorKlGrad { lambda } => Ok(ops::posterior_kl::cuda::backward(inst, lambda)),
        Op::SquaredError => Ok(ops::squared_error::cuda::forward(inst)),
        Op::SquaredErrorGrad => Ok(ops::squared_error::cuda::backward(inst)),
        Op::Distances => Ok(ops::distances::cuda::forward(inst)),
        Op::DistancesGrad => Ok(ops::distances::cuda::backward(inst)),
        Op::Softmax => Ok(ops::softmax::cuda::forward(inst)),
        Op::SoftmaxGrad => Ok(ops::softmax::cuda::backward(inst)),
        Op::UnitRows { eps } | Op::UnitRowsGrad { eps } => Ok(ops::unit_rows::cuda::rows(inst, eps)),
        Op::ScaleRows { chunk } => Ok(ops::scale_rows::cuda::forward(inst, chunk)),
        Op::ScaleRowsGrad { chunk } => Ok(ops::scale_rows::cuda::backward(inst, chunk)),
        Op::Wishes => Ok(ops::wishes::cuda::forward(inst)),
        Op::WishesGrad => Ok(ops::wishes::cuda::backward(inst)),
        Op::SampleTokens { stream, temperature, forbid } => {
            Ok(ops::sample_tokens::cuda::forward(inst, stream, temperature, forbid))
        }
        Op::GlobalNorm => Ok(ops::global_norm::cuda::forward(inst, machine)),
        Op::LinearDwAdamW { bias, adamw, ema, copy } => {
            Ok(ops::linear::cuda::dw_adamw(inst, machine, (bias, ema, copy), adamw))
        }
        Op::EmbeddingAdamW { vocab, adamw, ema, copy } => Ok(ops::embedding::cuda::step(inst, vocab, adamw, ema, copy)),
        Op::AdamW { adamw, ema, copy } => Ok(ops::adamw::cuda::step(inst, adamw, ema, copy)),
        Op::Muon(muon) => Ok(ops::muon::cuda::step(inst, machine, muon)),
        Op::Ema => Ok(ops::ema::cuda::step(inst)),
    }
}
