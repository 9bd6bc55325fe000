//! What ops are told by value: their parameters, the constants of the optimizer, and the scalars that change from step to step.

/// What a linear layer or an elementwise op applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// y = u.
    None,
    /// max(u, 0).
    Relu,
    /// u sigmoid(u).
    Silu,
    /// The tanh form of u Phi(u).
    Gelu,
    /// u Phi(u) itself, Phi by the error function.
    GeluErf,
    /// The hyperbolic tangent.
    Tanh,
    /// silu(a) b for u = (a, b): y has half as many columns as u. Of linear layers alone.
    SwiGlu,
}

impl Activation {
    /// Columns of u for each column of y.
    pub fn halves(self) -> usize {
        match self {
            Activation::None
            | Activation::Relu
            | Activation::Silu
            | Activation::Gelu
            | Activation::GeluErf
            | Activation::Tanh => 1,
            Activation::SwiGlu => 2,
        }
    }
}

/// Which rows a small table is added to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// r is [l, d]: the same for every batch element (learned positions); or [p, d] with p dividing l, every p positions again.
    Positions,
    /// r is [b, d]: the same for every position (additive time).
    Batch,
}

/// Which (query, key) pairs attention may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttentionMask {
    /// Every pair.
    Full,
    /// Keys up to and including the query.
    Causal,
    /// Keys of the query's block of this many positions and of earlier blocks.
    BlockCausal(u32),
    /// A canvas twice, [x_t ; x_0], in blocks of this many positions: a position of x_t sees its own block of x_t and the
    /// earlier blocks of x_0, one of x_0 sees its block and the earlier blocks of x_0. The number of positions is even.
    BlockDiffusion(u32),
}

impl AttentionMask {
    /// Whether the mask is one of `len` positions.
    pub(crate) fn fits(self, len: usize) -> bool {
        match self {
            AttentionMask::Full | AttentionMask::Causal => true,
            AttentionMask::BlockCausal(block) => block > 0,
            AttentionMask::BlockDiffusion(block) => block > 0 && len.is_multiple_of(2),
        }
    }

    /// Whether what a position sees is never beyond the positions after it, so that a cache can serve it.
    pub(crate) fn is_prefix(self) -> bool {
        match self {
            AttentionMask::Full | AttentionMask::Causal | AttentionMask::BlockCausal(_) => true,
            AttentionMask::BlockDiffusion(_) => false,
        }
    }
}

/// Where a chunk of width d stands in an adaLN modulation vector [b, chunks d].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Which chunk, from 0.
    pub index: u32,
    /// How many there are.
    pub of: u32,
}

/// What [`crate::Op::Wishes`] reads of a wish: u32 [`Wish::LEN`] = (token, position, complement).
pub struct Wish;

impl Wish {
    /// Words of a wish.
    pub const LEN: usize = 3;
    /// In the place of a position: at some position, p = sum over positions of p_l / e^len.
    pub const ANY: u32 = u32::MAX;
    /// In the place of a position: at every position, the sum of the log-probabilities.
    pub const ALL: u32 = u32::MAX - 1;
}

/// The limit of a categorical corruption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// A corrupted token becomes this id.
    Mask(u32),
    /// A corrupted token is drawn uniformly from this many ids.
    Uniform(u32),
    /// A corrupted token becomes the mask or one of the other ids: how often which is read.
    Hybrid {
        /// Ids that are not the mask: all below `ids + 1` but it.
        ids: u32,
        /// The mask id.
        mask: u32,
    },
}

impl Limit {
    /// How many numbers say how noisy a token is: alpha_bar, and the share of masks where that varies.
    pub fn levels(self) -> usize {
        match self {
            Limit::Mask(_) | Limit::Uniform(_) => 1,
            Limit::Hybrid { .. } => 2,
        }
    }
}

/// What the logits of a [`crate::Op::Divergence`] are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Unnormalised log-probabilities of x_0: p = softmax(logits).
    Softmax,
    /// Logarithms of the rates themselves, but for a factor: p = exp(logits).
    Exp,
}

/// Which statistics a norm takes of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Norm {
    /// Mean and variance.
    Layer,
    /// The mean square alone.
    Rms,
}

/// Dropout inside another op.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability of zero.
    pub p: f32,
    /// Stream of the mask.
    pub stream: u32,
}

/// Constants of AdamW (Loshchilov & Hutter 2019, algorithm 2); rates travel in the step block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamW {
    /// Decay of the first moment.
    pub beta_1: f32,
    /// Decay of the second moment.
    pub beta_2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decoupled weight decay, multiplied by the learning rate.
    pub weight_decay: f32,
}

/// Constants of Muon (Jordan et al. 2024): momentum, then an orthogonal factor by Newton-Schulz.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Muon {
    /// Decay of the momentum buffer (Nesterov form).
    pub momentum: f32,
    /// Newton-Schulz iterations.
    pub iterations: u32,
    /// Decoupled weight decay, multiplied by the learning rate.
    pub weight_decay: f32,
}

/// Positions of the per-step scalars the optimizer ops read: one f32 vector `hyper` of [`Hyper::LEN`] in `Region::Step`.
pub struct Hyper;

impl Hyper {
    /// Learning rate of AdamW.
    pub const LR: usize = 0;
    /// Learning rate of Muon.
    pub const MUON_LR: usize = 1;
    /// Global-norm clip: gradients are scaled by min(1, max_norm / norm); infinite for none.
    pub const MAX_NORM: usize = 2;
    /// 1 / (1 - beta_1^step).
    pub const CORRECTION_1: usize = 3;
    /// 1 / (1 - beta_2^step).
    pub const CORRECTION_2: usize = 4;
    /// Decay of the exponential moving average.
    pub const EMA_DECAY: usize = 5;
    /// The vector's length.
    pub const LEN: usize = 8;
}
