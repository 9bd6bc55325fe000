//! What a block-wise sampler may be asked to do.

use crate::{Blocks, Filter, Idiom, Steps, TimeDependence};

/// How a block of masks is filled.
#[derive(Clone, Debug, PartialEq)]
pub enum Fill {
    /// Position by position, at the times at which the exact chain would: with n masks left the next one falls at
    /// t u^(1/n), at any of the n positions alike. One network evaluation a token, and none in vain.
    FirstHitting,
    /// Ancestral steps, the same for every block; what is masked after the last is drawn at once.
    Ancestral(Steps),
}

/// When a text ends before its canvas does.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stop {
    /// At this token, once the block that holds it is full.
    pub end: Option<u32>,
    /// When the last tokens say too little.
    pub entropy: Option<LowEntropy>,
}

/// The tokens before the end of a full block have too little entropy: the text goes round in circles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LowEntropy {
    /// In nats, of the frequencies of the tokens in the window.
    pub least: f64,
    /// How many tokens; a shorter text is not judged.
    pub window: usize,
}

/// The options of [`Blockwise`](crate::Blockwise).
#[derive(Clone, Debug, PartialEq)]
pub struct BlockwiseOptions {
    /// The seed of every draw.
    pub seed: u64,
    /// The number of the batch's first sample under this seed.
    pub first_sample: u32,
    /// How logits become p(x_0).
    pub filter: Filter,
    /// How uniforms become a token.
    pub idiom: Idiom,
    /// Whether the denoiser depends on t.
    pub time: TimeDependence,
    /// The blocks.
    pub blocks: Blocks,
    /// How a block is filled.
    pub fill: Fill,
    /// How many of the last positions the denoiser is shown, at least a block; `None` shows all. Masks before them are not
    /// filled.
    ///
    /// MDLM's texts of any length are of this kind: a model of `n` positions moves on by `size` of them, with
    /// `Blocks { first: n - size, size }` and a window of `n`.
    pub window: Option<usize>,
    /// When a text ends before its canvas does.
    pub stop: Stop,
}

impl BlockwiseOptions {
    /// First-hitting in blocks of `size` for a denoiser without a time.
    pub fn new(size: usize) -> Self {
        Self {
            seed: 0,
            first_sample: 0,
            filter: Filter::default(),
            idiom: Idiom::Exact,
            time: TimeDependence::Free,
            blocks: Blocks { first: 0, size },
            fill: Fill::FirstHitting,
            window: None,
            stop: Stop::default(),
        }
    }
}
