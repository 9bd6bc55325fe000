//! The linear layer with its bias and activation, and its gradients as two more products.
//!
//! ```text
//! u = x w^T + b,  y = act(u);      dx = du w,   dw = du^T x,   db_o = sum_n du_no
//! ```
//!
//! Shapes: x, dx [.., i]; w, dw [o, i]; b, db [o]; u, y, du [.., o]. The two gradient kernels read du, which they call
//! dy: the activation's gradient is its own op. The bias is added to a tile of u while it is in registers' reach
//! (`finish` of the product); y is a second pass over u.
//! `dw_adamw` hands each tile of dw to the optimizer instead of memory: 8 bytes less a weight written and read, and its traffic
//! overlaps the product's arithmetic. The same bits as dw followed by AdamW without a clip.
//! Cost: 2 n o i flops each for u, dx and dw; 4 (n i + o i + n o) bytes.
//!
//! # Source
//! Goodfellow, Bengio & Courville (2016), "Deep learning", section 6.5.6 (the gradients of a matrix product).

mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
pub(crate) mod reference;
#[cfg(test)]
mod tests;

pub use cpu::{dw, dw_adamw, dx, forward, packed};
