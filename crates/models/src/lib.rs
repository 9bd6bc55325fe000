#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
// Shapes are written [b, l, d]: one extent alone, [b], is no link either.
#![allow(rustdoc::broken_intra_doc_links)]

mod attend;
mod blocks;
mod decoder;
mod denoiser;
mod diffusion_lm;
mod dit;
mod encoder;
mod error;
mod frozen;
mod llama;
mod model;
pub mod plaid;
pub mod weights;

pub use blocks::{BlockDenoiser, BlockModel, BlockProgram};
pub use decoder::Decoder;
pub use denoiser::{NetDenoiser, NetEmbeddingDenoiser};
pub use diffusion_lm::{DiffusionLm, RoundingLogits};
pub use dit::{Dit, Told};
pub use encoder::{Encoder, Nonlinearity, Norm, NormPlace, Positions, TimeInput};
pub use error::Error;
pub use frozen::{Frozen, FrozenDenoiser};
pub use llama::{Llama, Naming};
pub use model::{EmbeddingNetwork, Head, Model, Rounding};
pub use plaid::{NetPlaid, Plaid};
