//! Muon on one matrix: momentum, then the nearest orthogonal matrix to it instead of the momentum itself.
//!
//! ```text
//! g <- g min(1, max_norm / norm),   momentum <- mu momentum + g,   u = g + mu momentum            (Nesterov)
//! X = u / (|u|_F + 1e-7), transposed if r > c;   repeat: A = X X^T,   X <- a X + (b A + c A^2) X
//! param <- param - lr weight_decay param - lr sqrt(max(1, r / c)) X
//! ```
//!
//! with (a, b, c) = (3.4445, -4.7750, 2.0315): the quintic a s + b s^3 + c s^5 takes every singular value towards one
//! as fast as it can and leaves it, after five iterations, between about 0.68 and 1.14; convergence to one would need
//! smaller steps and gains nothing in training. The factor sqrt(max(1, r / c)) is Jordan's: it gives tall matrices the
//! same root-mean-square change per output as square ones. A fused qkv weight `[3 d, d]` is one matrix here.
//!
//! Shapes: g, param, momentum `[r, c]`; norm `[1]`; scratch x, next `[s, k]` and gram, poly `[s, s]` with s = min(r,
//! c), k = max(r, c); lr is `hyper[MUON_LR]`. Cost: 4 s^2 k + 2 s^3 flops an iteration, all in matrix products.
//!
//! # Source
//! Jordan et al. (2024), "Muon: an optimizer for hidden layers in neural networks"; Newton-Schulz: Higham (2008),
//! "Functions of matrices", chapter 8; Bernstein & Newhouse (2024), "Old optimizer, new norm".

mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

pub use cpu::step;
