//! The exponential moving average of parameters: what is sampled from and validated.
//!
//! ```text
//! ema <- decay ema + (1 - decay) param
//! ```
//!
//! Shapes: param, ema flat; the decay is `hyper[EMA_DECAY]` and may change from step to step. Written as ema + (1 -
//! decay) (param - ema): with a decay near one, the first form rounds away the small part. Cost: 3 len flops, 12 len
//! bytes.
//!
//! # Source
//! Polyak & Juditsky (1992), "Acceleration of stochastic approximation by averaging", in the exponential form of Ho,
//! Jain, Abbeel (2020), appendix B.

mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
pub(crate) mod reference;
#[cfg(test)]
mod tests;

pub use cpu::step;
