#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod ancestral;
pub mod blockwise;
pub mod canvas;
pub mod classifier;
pub mod correcting;
pub mod corrector;
pub mod draws;
pub mod embedding;
pub mod error;
pub mod evaluate;
pub mod filter;
pub mod fixed;
pub mod guidance;
pub mod idiom;
pub mod levels;
mod noise;
pub mod refining;
mod reverse;
pub mod revise;
pub mod rounding;
pub mod rule;
pub mod select;
pub mod stats;
pub mod steps;
mod tokens;
pub mod unmasking;
mod wide;

#[cfg(test)]
mod invariants;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod laws_evaluate;
#[cfg(test)]
mod laws_gaussian;
#[cfg(test)]
mod laws_orders;
#[cfg(test)]
mod laws_steps;
#[cfg(test)]
mod laws_texts;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod source;

pub use ancestral::{Ancestral, AncestralOptions, Conditioning, NoiseRemoval, TimeDependence};
pub use blockwise::{Blockwise, BlockwiseOptions, Fill, LowEntropy, Stop};
pub use canvas::{Canvas, Sampler};
pub use classifier::{Changes, Classifier, ClassifierGuided, Every, FirstOrder, Gradient, Guided};
pub use correcting::{Correcting, CorrectingOptions};
pub use corrector::{Gibbs, Pick};
pub use draws::{At, Draws, Keyed, stream};
pub use embedding::{Clamp, Embedding, EmbeddingOptions, Guidance, Guide, Known, Method, Unguided};
pub use error::{Error, Failure};
pub use filter::{Filter, Nucleus};
pub use fixed::Fixed;
pub use guidance::{ClassifierFree, Condition, Conditional, Pair, Prompt, Shifted};
pub use idiom::Idiom;
pub use levels::{Level, Levels, Plateau};
pub use refining::{Refining, RefiningOptions, Stability};
pub use revise::Revise;
pub use rounding::Rounding;
pub use rule::{Output, Rule};
pub use select::{Score, Scored, Selection, above, best, by_segments, quota, share, within_entropy, within_factor};
pub use stats::{RowStats, row_stats};
pub use steps::Steps;
pub use unmasking::{Blocks, Unmasking, UnmaskingOptions};
