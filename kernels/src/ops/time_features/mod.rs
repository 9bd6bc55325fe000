//! Sinusoidal features of a time: what a model reads instead of t itself.
//!
//! ```text
//! y[b, i] = cos(scale t_b f_i),  y[b, i + dim / 2] = sin(scale t_b f_i),  f_i = max_period^(-i / (dim / 2))
//! ```
//!
//! Shapes: t `[b]`; y `[b, dim]`. Angles are formed in f64: scale t may be a thousand radians, where f32 keeps five
//! digits. t carries no gradient. Cost: an exponential and a sine-cosine pair for every two of b dim outputs; 4 b dim
//! bytes.
//!
//! # Source
//! Vaswani et al. (2017), "Attention is all you need", section 3.5; the order cos, sin and the continuous t follow
//! Dhariwal & Nichol (2021), "Diffusion models beat GANs" (code: `timestep_embedding`).

mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

pub use cpu::forward;
