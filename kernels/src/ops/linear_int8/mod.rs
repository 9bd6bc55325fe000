//! The linear layer with int8 weights, for inference: weights quantised once by output channel, activations by row on the
//! way in, products summed exactly.
//!
//! ```text
//! scale_o = max_i |w_oi| / 127,   q_oi = round(w_oi / scale_o)
//! scale_n = max_i |x_ni| / 127,   a_ni = round(x_ni / scale_n)
//! u_no = scale_n scale_o sum_i a_ni q_oi + b_o,   y = act(u)
//! ```
//!
//! Shapes: x, a [.., i]; q [o, i]; scale, b [o]; y [.., o]. Both quantisations are symmetric, so |w - scale q| <= scale / 2 and
//! |x - scale a| <= scale / 2 (a little more for a in f32, which multiplies by the reciprocal). Of y that leaves
//!
//! ```text
//! |y_no - x_n . w_o| <= scale_o / 2 |x_n|_1 + scale_n / 2 |w_o|_1 + i scale_n scale_o / 4
//! ```
//!
//! for the worst signs; for signs at random the squares add, and normal x and w of a few hundred columns give a relative error
//! of about 1 % in the root of the mean square. A row whose scale would be subnormal counts as zero; one with a number that is
//! not finite has the scale NaN, which reaches its outputs.
//! Cost: 2 n o i operations on bytes; n i + o i bytes, a quarter of f32's.
//!
//! # Source
//! Jacob et al. (2018), "Quantization and training of neural networks for efficient integer-arithmetic-only inference";
//! Dettmers et al. (2022), "LLM.int8()", section 2 (row-wise activations, column-wise weights).

mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
mod weights;

pub use cpu::{forward, quantise};
pub use weights::{RelativeError, dequantise_weights, quantise_weights, relative_error};
