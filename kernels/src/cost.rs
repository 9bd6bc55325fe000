//! What an instruction costs: the arithmetic and the traffic behind every floor.

use crate::op::{Activation, Dropout, Norm, Op};
use crate::program::Inst;
use galatea_tensor::Slot;

/// Floating-point operations and bytes that must move.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Additions, multiplications and elementary functions, each as one.
    pub flops: u64,
    /// Bytes of all reads and writes, once each (twice where modified in place).
    pub bytes: u64,
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.flops += other.flops;
        self.bytes += other.bytes;
    }
}

/// The cost of one instruction, from its shapes.
pub fn cost(inst: &Inst) -> Cost {
    let len = |slots: &[Slot], i: usize| slots[i].shape.len() as u64;
    let read = |i| len(&inst.reads, i);
    let write = |i| len(&inst.writes, i);
    // exhaustive: no wildcard arm
    let flops = match inst.op {
        // A conversion is no arithmetic.
        Op::Cast { .. } => 0,
        Op::Add | Op::AddRows { .. } | Op::Accumulate => write(0),
        Op::AddRowsGrad { .. } | Op::GlobalNorm => 2 * read(0),
        Op::Activate { activation } => elementwise(activation) * write(0),
        Op::ActivateGrad { activation } => 2 * elementwise(activation) * write(0),
        Op::SwiGlu => (1 + elementwise(Activation::Silu)) * write(0),
        Op::SwiGluGrad => (2 + elementwise(Activation::Silu)) * write(0),
        Op::Linear { bias, activation, .. } | Op::LinearPacked { bias, activation, .. } => {
            let per_u = 2 * inst.reads[0].shape.cols() as u64 + u64::from(bias);
            write(0) * (activation.halves() as u64 * per_u + elementwise(activation))
        }
        Op::LinearInt8 { bias, activation } => {
            let i = inst.reads[0].shape.cols() as u64;
            // Quantising: the largest magnitude, a product, a rounding and a sum.
            let per_u = 2 * i + 2 + u64::from(bias);
            write(0) * (activation.halves() as u64 * per_u + elementwise(activation)) + 4 * read(0)
        }
        Op::LinearDx => 2 * write(0) * inst.reads[0].shape.cols() as u64,
        Op::LinearDw { bias } => 2 * write(0) * inst.reads[0].shape.rows() as u64 + if bias { read(0) } else { 0 },
        Op::Embedding => 0,
        Op::EmbeddingGrad { .. } => read(1),
        Op::LayerNorm { .. } => 8 * read(0),
        Op::LayerNormGrad { .. } => 14 * read(0),
        Op::AddNorm { norm, dropout, .. } => {
            let statistics = if norm == Norm::Layer { 8 } else { 5 };
            (1 + statistics + if dropout.is_some() { 16 } else { 0 }) * read(0)
        }
        Op::AddNormGrad { norm, dropout, sum, .. } => {
            let gradient = if norm == Norm::Layer { 14 } else { 9 };
            (gradient + u64::from(sum) + if dropout.is_some() { 16 } else { 0 }) * read(0)
        }
        Op::RmsNorm { .. } | Op::QkNorm { .. } => 5 * read(0),
        Op::RmsNormGrad { .. } | Op::QkNormGrad { .. } => 9 * read(0),
        Op::Modulate { .. } | Op::Gate { .. } => 2 * write(0),
        Op::ModulateGrad { .. } | Op::GateGrad { .. } => 4 * write(0),
        Op::Rotary { .. } => 3 * write(0),
        Op::Attention { heads, kv_heads, dropout, .. } => {
            4 * attention_pairs(inst, heads, kv_heads) + attention_draws(inst, heads, dropout)
        }
        Op::AttentionGrad { heads, kv_heads, dropout, .. } => {
            10 * attention_pairs(inst, heads, kv_heads) + attention_draws(inst, heads, dropout)
        }
        // As if the cache were full: how much it holds is known only when it runs.
        Op::AttentionCached { capacity, .. } => 4 * len(&inst.writes, 2) * u64::from(capacity),
        Op::TimeFeatures { .. } => 3 * write(0),
        // Ten rounds of six operations a draw.
        Op::CorruptTokens { .. } => 60 * write(0),
        Op::CorruptGaussian { .. } => 40 * write(0),
        Op::CorruptGaussianGrad | Op::TokenWeight { .. } => write(0),
        Op::Dropout { .. } => 16 * write(0),
        Op::CrossEntropy { .. } => 4 * read(0),
        Op::CrossEntropyGrad { .. } => 4 * read(0),
        // Of all rows: which are live is known only in a run.
        Op::LinearCrossEntropy { .. } | Op::LinearSample { .. } => 2 * read(0) * inst.reads[1].shape.dim(0) as u64,
        Op::LinearCrossEntropyGrad { .. } => 6 * read(0) * inst.reads[1].shape.dim(0) as u64,
        Op::Divergence { .. } => 8 * read(0),
        Op::DivergenceGrad { .. } => 10 * read(0),
        Op::PosteriorKl { .. } | Op::PosteriorKlGrad { .. } => 2 * read(0) * inst.reads[0].shape.cols() as u64,
        Op::SquaredError => 3 * read(0),
        Op::SquaredErrorGrad => 4 * read(0),
        Op::Distances => 3 * write(0) * inst.reads[0].shape.cols() as u64,
        Op::DistancesGrad => 8 * read(2) * inst.reads[0].shape.cols() as u64,
        Op::Softmax => 14 * read(0),
        Op::SoftmaxGrad => 4 * read(0),
        Op::UnitRows { .. } => 3 * read(0),
        Op::UnitRowsGrad { .. } => 7 * read(0),
        Op::ScaleRows { .. } => write(0),
        Op::ScaleRowsGrad { .. } => 2 * read(0),
        // The normaliser of every row; the wishes are few.
        Op::Wishes => 14 * read(0),
        Op::WishesGrad => 14 * read(0),
        Op::SampleTokens { .. } => 8 * read(0),
        Op::LinearDwAdamW { bias, ema, .. } => {
            let dw = 2 * write(0) * inst.reads[0].shape.rows() as u64 + if bias { read(0) } else { 0 };
            dw + (15 + if ema { 3 } else { 0 }) * write(0)
        }
        Op::EmbeddingAdamW { ema, .. } => read(1) + (15 + if ema { 3 } else { 0 }) * write(0),
        Op::AdamW { ema, .. } => (15 + if ema { 3 } else { 0 }) * read(0),
        Op::Muon(muon) => {
            let (n, s) = (write(4) / inst.writes[4].shape.cols() as u64, inst.writes[4].shape.cols() as u64);
            // Half of two symmetric products, the whole of the third: n s is the rows of gram, so read(0) / n s is k / s.
            u64::from(muon.iterations) * (3 * s * read(0) + n * s * s) + 8 * read(0)
        }
        Op::Ema => 3 * write(0),
    };
    let bytes: usize =
        inst.reads.iter().chain(&inst.writes).chain(&inst.writes[..inst.op.in_place()]).map(Slot::bytes).sum();
    Cost { flops, bytes: bytes as u64 }
}

fn elementwise(activation: Activation) -> u64 {
    match activation {
        Activation::None => 0,
        Activation::Relu => 1,
        Activation::Silu => 12,
        Activation::Gelu => 18,
        Activation::GeluErf => 26,
        Activation::Tanh => 12,
        Activation::SwiGlu => 1 + elementwise(Activation::Silu),
    }
}

/// Half of what dropout counts for an element, for every weight: a Philox block is drawn for eight of them, not four.
fn attention_draws(inst: &Inst, heads: u32, dropout: Option<Dropout>) -> u64 {
    let qkv = inst.reads[0].shape;
    if dropout.is_some() { 8 * qkv.dim(0) as u64 * (qkv.dim(1) as u64).pow(2) * u64::from(heads) } else { 0 }
}

/// batch len len d: every query with every key, over the width (the softmax is a 1 / d_head of it and left out).
fn attention_pairs(inst: &Inst, heads: u32, kv_heads: u32) -> u64 {
    let qkv = inst.reads[0].shape;
    let (heads, kv_heads) = (u64::from(heads), u64::from(kv_heads));
    qkv.dim(0) as u64 * (qkv.dim(1) as u64).pow(2) * qkv.dim(2) as u64 * heads / (heads + 2 * kv_heads)
}
