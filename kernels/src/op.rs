//! The ops: one variant is one fused kernel, parameters by value.
//!
//! Each variant states what it reads and writes, in order. `b` batch, `l` length, `d` width, `n = b l` rows, `v`
//! vocabulary. A slot marked *in place* is read and written: it stands among the writes only.

use galatea_tensor::DType;

pub use crate::parameters::{
    Activation, AdamW, AttentionMask, Chunk, Dropout, Hyper, Limit, Link, Muon, Norm, Rows, Wish,
};

/// One fused kernel. `rng` is always u32 [4] in `Region::Step`: seed low, seed high, step, 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Op {
    /// y = a + b. Reads a, b (same shape); writes y.
    Add,
    /// y += x. Reads x; writes y *in place*.
    Accumulate,
    /// y = x in another element type, f32 or bf16. Reads x; writes y.
    Cast {
        /// The type of y.
        to: DType,
    },
    /// y[b,l,:] = x[b,l,:] + r. Reads x [b,l,d], r (f32 for `Positions`, a parameter; of x's type for `Batch`); writes y.
    AddRows {
        /// Which rows share r.
        over: Rows,
        /// Whether positions begin at a count that is read, u32 [1]: r then has rows for more of them.
        past: bool,
    },
    /// dr = sum of dy over the rows that shared r. Reads dy [b,l,d]; writes dr, of r's type.
    AddRowsGrad {
        /// Which rows share r.
        over: Rows,
        /// The rows of r.
        rows: u32,
    },
    /// y = act(u). Reads u; writes y.
    Activate {
        /// The function.
        activation: Activation,
    },
    /// du = act'(u) dy. Reads u, dy; writes du.
    ActivateGrad {
        /// The function.
        activation: Activation,
    },
    /// y = silu(a) b. Reads u [.., 2 f] = (a, b); writes y [.., f].
    SwiGlu,
    /// Reads u, dy; writes du.
    SwiGluGrad,
    /// y = act(u), u = x w^T + b. Reads x [.., i], w [o, i], b [o] if `bias`; writes y [.., o] ([.., o / 2] for `SwiGlu`) and, if
    /// `keep`, u [.., o].
    Linear {
        /// Whether b is read.
        bias: bool,
        /// What is applied to u.
        activation: Activation,
        /// Whether u is written, which a backward pass reads.
        keep: bool,
    },
    /// [`Op::Linear`] in bf16 with weights that the backend packed when they were set ([`crate::Backend::upload_weights`]).
    /// Reads x bf16 [.., i], the words u32 [`crate::gemm::packed_words`] (for `SwiGlu` those of each half of w, one after the
    /// other), b [o] if `bias`; writes y bf16 [.., o], or half of it, alone.
    LinearPacked {
        /// Whether b is read.
        bias: bool,
        /// What is applied.
        activation: Activation,
        /// o.
        outputs: u32,
    },
    /// [`Op::Linear`] with int8 weights: y = act(scale_n scale_o sum a q + b), x quantised by rows to a on the way. Reads x
    /// [.., i], q int8 [o, i], scale [o], b [o] if `bias`; writes y [.., o], or half of it, of x's type, then scratch: a int8 [n,
    /// i] and (scale, sum) of every row [n, 2].
    LinearInt8 {
        /// Whether b is read.
        bias: bool,
        /// What is applied to u.
        activation: Activation,
    },
    /// dx = dy w. Reads dy [.., o], w [o, i]; writes dx [.., i].
    LinearDx,
    /// dw = dy^T x, db = sum of rows of dy. Reads dy [.., o], x [.., i]; writes dw [o, i], db [o] if `bias`.
    LinearDw {
        /// Whether db is written.
        bias: bool,
    },
    /// y = table[ids]. Reads ids u32 [b,l], table [v,d]; writes y [b,l,d], of the table's type.
    Embedding,
    /// dtable[v] = sum of dy where ids = v. Reads ids, dy [b,l,d]; writes dtable f32 [vocab, d] (dense).
    EmbeddingGrad {
        /// Rows of the table.
        vocab: u32,
    },
    /// y = (x - mean) / sqrt(var + eps) * gain + shift per row. Reads x [.., d], gain [d] if `gain`, shift [d] if `bias`;
    /// writes y, stats [n, 2] = (mean, 1 / sqrt(var + eps)).
    LayerNorm {
        /// Added to the variance.
        eps: f32,
        /// Whether gain is read.
        gain: bool,
        /// Whether shift is read.
        bias: bool,
    },
    /// Reads x, stats, dy, gain if `gain`; writes dx, dgain [d] if `gain`, dshift [d] if `bias`, then, with either of them,
    /// scratch: the column sums of every task.
    LayerNormGrad {
        /// Whether gain is read and dgain written.
        gain: bool,
        /// Whether dshift is written.
        bias: bool,
    },
    /// y = x / sqrt(mean(x^2) + eps) * gain per row. Reads x [.., d], gain [d] if `gain`; writes y, stats [n] = 1 / sqrt(..).
    RmsNorm {
        /// Added to the mean square.
        eps: f32,
        /// Whether gain is read.
        gain: bool,
    },
    /// Reads x, stats, dy, gain if `gain`; writes dx and, if `gain`, dgain [d] and scratch: the column sums of every task.
    RmsNormGrad {
        /// Whether gain is read and dgain written.
        gain: bool,
    },
    /// A residual and the norm after it: s = x + dropout(h), y = norm(s) gain + shift. Reads x [.., d], h like x, gain [d] if
    /// `gain`, shift [d] if `bias`, rng with a dropout; writes y, s, stats as the norm's own op.
    AddNorm {
        /// Which norm.
        norm: Norm,
        /// Added to the variance or the mean square.
        eps: f32,
        /// Whether gain is read.
        gain: bool,
        /// Whether shift is read.
        bias: bool,
        /// What is applied to h.
        dropout: Option<Dropout>,
    },
    /// dx = ds + the norm's gradient at s. Reads s, stats, dy, ds if `sum`, gain if `gain`, rng with a dropout; writes dx (the
    /// gradient of h too, without a dropout), dh with one, dgain [d] if `gain`, dshift [d] if `bias`, then, with either of
    /// them, scratch: the column sums of every task.
    AddNormGrad {
        /// Which norm.
        norm: Norm,
        /// Whether gain is read and dgain written.
        gain: bool,
        /// Whether dshift is written.
        bias: bool,
        /// What was applied to h.
        dropout: Option<Dropout>,
        /// Whether s has a gradient of its own.
        sum: bool,
    },
    /// RMS norm of every head of q and k of qkv, times one gain; v copied. Reads qkv [b, l, (heads + 2 kv_heads) d_head], gains
    /// [2 d_head] if `learned` (those of q, then of k); writes y like it, stats [n, heads + kv_heads] = 1 / sqrt(mean + eps), q
    /// heads first.
    QkNorm {
        /// Heads of the queries.
        heads: u32,
        /// Heads of the keys and values.
        kv_heads: u32,
        /// Added to the mean square.
        eps: f32,
        /// Multiplies both: the largest score is gain^2 sqrt(d_head).
        gain: f32,
        /// Whether gains are read, which multiply the elements of a head.
        learned: bool,
    },
    /// Reads qkv, stats, dy, gains if `learned`; writes dqkv and, if `learned`, dgains [2 d_head] and scratch: the sums of every
    /// task.
    QkNormGrad {
        /// Heads of the queries.
        heads: u32,
        /// Heads of the keys and values.
        kv_heads: u32,
        /// As in the forward pass.
        gain: f32,
        /// Whether gains are read and dgains written.
        learned: bool,
    },
    /// y = x (1 + scale) + shift, broadcast over positions. Reads x [b,l,d], m [b, chunks d]; writes y.
    Modulate {
        /// Where shift stands in m.
        shift: Chunk,
        /// Where scale stands in m.
        scale: Chunk,
    },
    /// Reads x, m, dy; writes dx, dm (full width, zero outside the two chunks).
    ModulateGrad {
        /// Where shift stands in m.
        shift: Chunk,
        /// Where scale stands in m.
        scale: Chunk,
    },
    /// y = x + gate h, broadcast over positions. Reads x [b,l,d], h [b,l,d], m [b, chunks d]; writes y.
    Gate {
        /// Where the gate stands in m.
        gate: Chunk,
    },
    /// Reads h, m, dy; writes dh, dm (full width, zero outside the chunk). The gradient of x is dy itself.
    GateGrad {
        /// Where the gate stands in m.
        gate: Chunk,
    },
    /// Rotates q and k of qkv by position (half-rotation: i pairs with i + d_head / 2), v copied. Reads qkv [b, l, (heads + 2
    /// kv_heads) d_head], table [l, d_head] (cos of the d_head / 2 angles, then sin) and, if `past`, a table of more
    /// positions and past u32 [1], the position of the first row; writes y. The gradient is the inverse rotation.
    Rotary {
        /// Heads of the queries.
        heads: u32,
        /// Heads of the keys and values.
        kv_heads: u32,
        /// Whether to rotate back.
        inverse: bool,
        /// Whether positions begin at a count that is read.
        past: bool,
    },
    /// softmax(q k^T / sqrt(d_head) + mask) v per head, without a [len, len] tensor in memory. Reads qkv [b, l, (heads + 2
    /// kv_heads) d_head] (q heads first, then k, then v), visible u32 [b,l] if `padding` (0 hides a key; a row with no visible
    /// key gives zeros), rng with a dropout (then l is at most 65536); writes y [b, l, heads d_head], lse [b, heads, l].
    Attention {
        /// Heads of the queries.
        heads: u32,
        /// Heads of the keys and values, each shared by heads / kv_heads in a row.
        kv_heads: u32,
        /// Pairs by position.
        mask: AttentionMask,
        /// Whether `visible` is read.
        padding: bool,
        /// What is applied to the weights of the values.
        dropout: Option<Dropout>,
    },
    /// Reads qkv, visible if `padding`, y, lse, dy, rng with a dropout; writes dqkv.
    AttentionGrad {
        /// Heads of the queries.
        heads: u32,
        /// Heads of the keys and values.
        kv_heads: u32,
        /// Pairs by position.
        mask: AttentionMask,
        /// Whether `visible` is read.
        padding: bool,
        /// As in the forward pass: the same mask is drawn again.
        dropout: Option<Dropout>,
    },
    /// Attention of n new positions over those before them and themselves, by a cache that it extends. Reads qkv [b, n,
    /// (heads + 2 kv_heads) d_head], past u32 [1] (positions that the cache holds: the new ones are past .. past + n); writes
    /// cache_k, cache_v [b, capacity, kv_heads d_head] *in place* (the new keys and values), then y [b, n, heads d_head] and
    /// scratch f32.
    AttentionCached {
        /// Heads of the queries.
        heads: u32,
        /// Heads of the keys and values.
        kv_heads: u32,
        /// Positions that the cache has room for.
        capacity: u32,
        /// Pairs by position.
        mask: AttentionMask,
    },
    /// [cos(t f), sin(t f)], f_i = max_period^(-i / (dim / 2)). Reads t [b]; writes y [b, dim].
    TimeFeatures {
        /// Width, even.
        dim: u32,
        /// Longest period, in units of t / 2 pi.
        max_period: f32,
        /// t is multiplied by this first.
        scale: f32,
    },
    /// x_t ~ alpha_bar x_0 + (1 - alpha_bar) limit, per token. Reads x_0 u32 [b,l], level [b,g] (alpha_bar of g groups of
    /// positions) or [b,g,2] (with the share of masks, for the hybrid), rng; writes x_t u32 [b,l].
    CorruptTokens {
        /// What a corrupted token becomes.
        limit: Limit,
        /// Stream of the draws.
        stream: u32,
    },
    /// x_t = signal x_0 + sigma noise. Reads x_0 [b,l,d], level [b,2] = (signal, sigma), rng; writes x_t, noise [b,l,d].
    CorruptGaussian {
        /// Stream of the draws.
        stream: u32,
    },
    /// dx_0 = signal dy. Reads level [b,2], dy [b,l,d]; writes dx_0.
    CorruptGaussianGrad,
    /// y = x keep / (1 - p) with the counter-based mask of (rng, stream); the backward pass is the same op on dy, the mask
    /// drawn again. Reads x, rng; writes y.
    Dropout {
        /// Probability of zero.
        p: f32,
        /// Stream of the mask.
        stream: u32,
    },
    /// w[b,l] = weight[b,g,class], the class of a token being 0 where it is the mask, 1 where x_t = x_0, 2 elsewhere. Reads x_0,
    /// x_t u32 [b,l], weight [b,g,3] (g groups of positions); writes w [b,l].
    TokenWeight {
        /// The mask id.
        mask: Option<u32>,
    },
    /// loss = sum_n w_n nll_n, nll_n = -log softmax(logits_n)[target_n], the forbidden column left out. Reads logits [.., v],
    /// target u32 [..], w [..]; writes loss [1], nll [..].
    CrossEntropy {
        /// A column that has probability zero (the mask id).
        forbid: Option<u32>,
    },
    /// dlogits = dloss w (softmax - onehot). Reads logits, target, w, nll, dloss [1]; writes dlogits.
    CrossEntropyGrad {
        /// A column that has probability zero.
        forbid: Option<u32>,
    },
    /// The cross-entropy of u = x w^T + b without u in memory, for the rows whose weight is not zero. Reads x [.., d], w [v, d],
    /// b [v] if `bias`, target u32 [..], weight [..]; writes loss [1] = sum_n weight_n nll_n, nll [..], lse [..] (0 for the other
    /// rows), then scratch.
    LinearCrossEntropy {
        /// Whether b is read.
        bias: bool,
        /// A column that has probability zero (the mask id).
        forbid: Option<u32>,
    },
    /// Reads x, w, b if `bias`, target, weight, lse, dloss [1]; writes dx, dw [v, d], db [v] if `bias`, then scratch.
    LinearCrossEntropyGrad {
        /// Whether b is read and db written.
        bias: bool,
        /// As in the forward pass.
        forbid: Option<u32>,
    },
    /// A draw from softmax((x w^T + b) / temperature) for the rows whose flag `live` is not zero. Reads x [.., d], w [v, d], b [v]
    /// if `bias`, live u32 [..], rng; writes ids u32 [..], log_p [..], entropy [..] as [`Op::SampleTokens`] (0 for the other
    /// rows), then scratch.
    LinearSample {
        /// Whether b is read.
        bias: bool,
        /// Stream of the draws.
        stream: u32,
        /// Divides the logits; 0 takes the largest.
        temperature: f32,
        /// A column that has probability zero.
        forbid: Option<u32>,
    },
    /// loss = sum_n w_n d_n, d_n the divergence of what the model says of a token from what x_0 says, in the form that all
    /// bounds on tokens have (`ops/divergence`). Reads logits [b,l,v], x_0, x_t u32 [b,l], terms [b,g,3,12] (of g groups of
    /// positions and the three classes of [`Op::TokenWeight`]), w [b,l]; writes loss [1], d [b,l], lse [b,l]; d and lse are 0
    /// where w is.
    Divergence {
        /// What the logits are.
        link: Link,
        /// A column that has probability zero: the mask id.
        forbid: Option<u32>,
    },
    /// Reads logits, x_0, x_t, terms, w, lse, dloss [1]; writes dlogits.
    DivergenceGrad {
        /// As in the forward pass.
        link: Link,
        /// As in the forward pass.
        forbid: Option<u32>,
    },
    /// loss = sum_n w_n d_n, d_n the KL of the posteriors of one step of a chain given by its matrices, plus lambda cross-entropies
    /// (`ops/posterior_kl`). Reads logits [b,l,v], x_0, x_t u32 [b,l], chain [b,2,v,v] (Q_bar to the step's start and the transposed
    /// Q of the step), w [b,l]; writes loss [1], d [b,l], then p and m [b,l,v]; all are 0 where w is.
    PosteriorKl {
        /// The factor of the cross-entropy.
        lambda: f32,
    },
    /// Reads p, m, x_0, x_t, chain, w, dloss [1]; writes dlogits, then scratch like it.
    PosteriorKlGrad {
        /// As in the forward pass.
        lambda: f32,
    },
    /// loss = sum_n w_n error_n, error_n = |prediction_n - target_n|^2 (a sum over d). Reads prediction [.., d], target
    /// [.., d], w [..]; writes loss [1], error [..].
    SquaredError,
    /// Reads prediction, target, w, dloss [1]; writes dprediction, dtarget.
    SquaredErrorGrad,
    /// y = -|x_n - w_v|. Reads x f32 [.., d], w f32 [v, d]; writes y [.., v].
    Distances,
    /// Reads x, w, y, dy; writes dx, dw.
    DistancesGrad,
    /// p = softmax(x) per row. Reads x f32 [.., v]; writes p like it.
    Softmax,
    /// dx = p (dy - sum_v p dy). Reads p, dy; writes dx.
    SoftmaxGrad,
    /// y = x / (|x| + eps) per row. Reads x f32 [.., d]; writes y like it.
    UnitRows {
        /// Added to the length.
        eps: f32,
    },
    /// Reads x, dy; writes dx.
    UnitRowsGrad {
        /// As in the forward pass.
        eps: f32,
    },
    /// y[b,l,:] = m[b,chunk] x[b,l,:]. Reads x f32 [b,l,d], m f32 [b, chunks]; writes y. The gradient of x is the same op on dy.
    ScaleRows {
        /// Where the factor stands in a row of m.
        chunk: Chunk,
    },
    /// dm[b,chunk] = sum of x dy over l and d. Reads x, m, dy; writes dm (full width, zero outside the chunk).
    ScaleRowsGrad {
        /// Where the factor stands in a row of m.
        chunk: Chunk,
    },
    /// loss = sum_b sum_k weight_k log p_k: how likely softmax(logits) makes what is wished of every text. Reads logits f32
    /// [b,l,v], wishes u32 [k, 3] as [`Wish`] has them, weight f32 [k]; writes loss [1], lse [b,l].
    Wishes,
    /// Reads logits, wishes, weight, lse, dloss [1]; writes dlogits.
    WishesGrad,
    /// Draws ids from softmax(logits / temperature). Reads logits [.., v], rng; writes ids u32 [..], log_p [..] (of the drawn
    /// id under softmax(logits)), entropy [..] (of softmax(logits), nats).
    SampleTokens {
        /// Stream of the draws.
        stream: u32,
        /// Divides the logits; 0 takes the largest.
        temperature: f32,
        /// A column that is never drawn.
        forbid: Option<u32>,
    },
    /// norm = |g|_2. Reads g (flat); writes norm [1].
    GlobalNorm,
    /// The gradient of a linear layer's weights and their AdamW step in one: a tile of dw moves its weights while it is in
    /// registers and is never in memory, so nothing clips it. Reads dy [.., o], x [.., i], hyper; writes param [o, i], m, v and,
    /// if `ema`, ema, all *in place*, then the bf16 copy if `copy`, then db [o] if `bias`.
    LinearDwAdamW {
        /// Whether db is written.
        bias: bool,
        /// Its constants.
        adamw: AdamW,
        /// Whether the moving average follows.
        ema: bool,
        /// Whether the bf16 copy is written.
        copy: bool,
    },
    /// The gradient of a table and its AdamW step in one: rows that no id names have a gradient of zero, which is neither written
    /// nor read, so nothing clips it. Reads ids u32 [b, l], dy [b, l, d], hyper; writes param [vocab, d], m, v and, if `ema`, ema,
    /// all *in place*, then the bf16 copy if `copy`, then scratch u32 [vocab + b l]: by row, its first position, and by position,
    /// the next one of its id.
    EmbeddingAdamW {
        /// Rows of the table.
        vocab: u32,
        /// Its constants.
        adamw: AdamW,
        /// Whether the moving average follows.
        ema: bool,
        /// Whether the bf16 copy is written.
        copy: bool,
    },
    /// AdamW on a flat run of parameters. Reads g, norm [1], hyper; writes param, m, v and, if `ema`, ema, all *in place*,
    /// then, if `copy`, the new param in bf16.
    AdamW {
        /// Its constants.
        adamw: AdamW,
        /// Whether the moving average follows in the same pass: ema = decay ema + (1 - decay) param.
        ema: bool,
        /// Whether the bf16 copy is written.
        copy: bool,
    },
    /// Muon on n matrices of one shape. Reads g [n,r,c], norm [1], hyper; writes param [n,r,c] and momentum [n,r,c] *in place*,
    /// then scratch: x [n,r,c], next [n,r,c], gram [n,s,s], poly [n,s,s] with s = min(r,c).
    Muon(Muon),
    /// ema = decay ema + (1 - decay) param, flat. Reads param, hyper; writes ema *in place*.
    Ema,
}

impl Op {
    /// The name printed in programs, errors and benches.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Add => "add",
            Op::Accumulate => "accumulate",
            Op::Cast { .. } => "cast",
            Op::AddRows { .. } => "add_rows",
            Op::AddRowsGrad { .. } => "add_rows_grad",
            Op::Activate { .. } => "activate",
            Op::ActivateGrad { .. } => "activate_grad",
            Op::SwiGlu => "swiglu",
            Op::SwiGluGrad => "swiglu_grad",
            Op::Linear { .. } => "linear",
            Op::LinearPacked { .. } => "linear_packed",
            Op::LinearInt8 { .. } => "linear_int8",
            Op::LinearDx => "linear_dx",
            Op::LinearDw { .. } => "linear_dw",
            Op::Embedding => "embedding",
            Op::EmbeddingGrad { .. } => "embedding_grad",
            Op::LayerNorm { .. } => "layer_norm",
            Op::LayerNormGrad { .. } => "layer_norm_grad",
            Op::RmsNorm { .. } => "rms_norm",
            Op::RmsNormGrad { .. } => "rms_norm_grad",
            Op::AddNorm { .. } => "add_norm",
            Op::AddNormGrad { .. } => "add_norm_grad",
            Op::QkNorm { .. } => "qk_norm",
            Op::QkNormGrad { .. } => "qk_norm_grad",
            Op::Modulate { .. } => "modulate",
            Op::ModulateGrad { .. } => "modulate_grad",
            Op::Gate { .. } => "gate",
            Op::GateGrad { .. } => "gate_grad",
            Op::Rotary { .. } => "rotary",
            Op::Attention { .. } => "attention",
            Op::AttentionGrad { .. } => "attention_grad",
            Op::AttentionCached { .. } => "attention_cached",
            Op::TimeFeatures { .. } => "time_features",
            Op::CorruptTokens { .. } => "corrupt_tokens",
            Op::CorruptGaussian { .. } => "corrupt_gaussian",
            Op::CorruptGaussianGrad => "corrupt_gaussian_grad",
            Op::Dropout { .. } => "dropout",
            Op::TokenWeight { .. } => "token_weight",
            Op::CrossEntropy { .. } => "cross_entropy",
            Op::CrossEntropyGrad { .. } => "cross_entropy_grad",
            Op::LinearCrossEntropy { .. } => "linear_cross_entropy",
            Op::LinearCrossEntropyGrad { .. } => "linear_cross_entropy_grad",
            Op::LinearSample { .. } => "linear_sample",
            Op::Divergence { .. } => "divergence",
            Op::DivergenceGrad { .. } => "divergence_grad",
            Op::PosteriorKl { .. } => "posterior_kl",
            Op::PosteriorKlGrad { .. } => "posterior_kl_grad",
            Op::SquaredError => "squared_error",
            Op::SquaredErrorGrad => "squared_error_grad",
            Op::Distances => "distances",
            Op::DistancesGrad => "distances_grad",
            Op::Softmax => "softmax",
            Op::SoftmaxGrad => "softmax_grad",
            Op::UnitRows { .. } => "unit_rows",
            Op::UnitRowsGrad { .. } => "unit_rows_grad",
            Op::ScaleRows { .. } => "scale_rows",
            Op::ScaleRowsGrad { .. } => "scale_rows_grad",
            Op::Wishes => "wishes",
            Op::WishesGrad => "wishes_grad",
            Op::SampleTokens { .. } => "sample_tokens",
            Op::GlobalNorm => "global_norm",
            Op::AdamW { .. } => "adamw",
            Op::LinearDwAdamW { .. } => "linear_dw_adamw",
            Op::EmbeddingAdamW { .. } => "embedding_adamw",
            Op::Muon(_) => "muon",
            Op::Ema => "ema",
        }
    }

    /// How many of the first writes are also read (modified in place).
    pub fn in_place(&self) -> usize {
        match *self {
            Op::Accumulate | Op::Ema => 1,
            Op::AdamW { ema, .. } | Op::LinearDwAdamW { ema, .. } | Op::EmbeddingAdamW { ema, .. } => {
                3 + usize::from(ema)
            }
            Op::Muon(_) | Op::AttentionCached { .. } => 2,
            _ => 0,
        }
    }
}
