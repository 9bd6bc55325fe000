//! Parameters in and out of safetensors files.

mod checksum;
mod read;
mod write;

pub use read::{Origin, load};
pub use write::{Tensor, Weights, export, write_atomically};

/// The note under which a file carries its checksum.
const CHECKSUM: &str = "galatea.sum";
