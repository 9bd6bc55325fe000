//! AdamW on a flat run of parameters, in one pass.
//!
//! ```text
//! g <- g min(1, max_norm / norm)
//! m <- beta_1 m + (1 - beta_1) g,   v <- beta_2 v + (1 - beta_2) g^2
//! m_hat = m / (1 - beta_1^step),   v_hat = v / (1 - beta_2^step)
//! param <- param - lr weight_decay param - lr m_hat / (sqrt(v_hat) + eps)
//! ```
//!
//! and, where asked, ema <- decay ema + (1 - decay) param and a copy of param in bf16, while param is at hand.
//!
//! Shapes: g, param, m, v, ema, copy flat and equal; norm `[1]`; hyper the vector of [`Hyper`](crate::Hyper), with both
//! corrections inverted already. A norm that is NaN makes every parameter NaN: a broken step must be seen. Cost: 15 len
//! flops, 28 len bytes; the average 3 and 8 more, the copy 2 bytes.
//!
//! # Source
//! Loshchilov & Hutter (2019), "Decoupled weight decay regularization", algorithm 2, with the decay multiplied by lr.

mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
pub(crate) mod reference;
#[cfg(test)]
mod tests;

pub use cpu::{State, step};
pub(crate) use cpu::{Tiles, piece};
