#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod blocks;
pub mod categorical;
pub mod denoiser;
pub mod dense;
pub mod error;
pub mod gaussian;
pub mod interpolating;
pub mod objectives;
mod posterior;
pub mod prediction;
pub mod process;
pub mod rates;
pub mod step;
pub mod times;

#[cfg(test)]
mod laws;

pub use blocks::Bounds;
pub use categorical::{Categorical, Limit};
pub use denoiser::{Denoiser, EmbeddingDenoiser};
pub use dense::Dense;
pub use error::Error;
pub use gaussian::{Gaussian, Variance, VarianceExploding};
pub use interpolating::{Hybrid, Interpolating, Scheduled, Shares};
pub use prediction::{Conversion, Prediction};
pub use process::TokenProcess;
pub use rates::FlowRates;
pub use step::{CategoricalStep, GaussianStep};
pub use times::{LossHistory, Times};
