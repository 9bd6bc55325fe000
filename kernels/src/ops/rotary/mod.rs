//! Rotary positions: element i of a head's first half and element i of its second half turn by the angle of (position,
//! i).
//!
//! ```text
//! (y_i, y_{i+k}) = (x_i cos - x_{i+k} sin, x_i sin + x_{i+k} cos),  k = d_head / 2
//! for the heads of q and k;  v as it is
//! ```
//!
//! Shapes: qkv, y [b, l, (heads + 2 kv_heads) d_head]; table [l, d_head]: the cosines of a position's k angles, then the
//! sines; past [1]: where the rows of a longer table begin. The gradient is the rotation back, `inverse`: the same op on
//! dy.
//! Cost: 6 flops a pair of q and k; 8 bytes an element of qkv.
//!
//! # Source
//! Su et al. (2021), "RoFormer: enhanced transformer with rotary position embedding", equation 34, with the pairs (i, i
//! + k) of GPT-NeoX.

mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

pub use cpu::{Dims, forward};
