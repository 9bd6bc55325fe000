//! Muon on matrices of one shape: momentum, then the nearest orthogonal matrix to it instead of the momentum itself.
//!
//! ```text
//! g <- g min(1, max_norm / norm),   momentum <- mu momentum + g,   u = g + mu momentum            (Nesterov)
//! X = u / (|u|_F + 1e-7);   repeat: A = X X^T,   X <- a X + (b A + c A^2) X      (A = X^T X from the right if r > c)
//! param <- param - lr weight_decay param - lr sqrt(max(1, r / c)) X
//! ```
//!
//! with (a, b, c) = (3.4445, -4.7750, 2.0315): the quintic a s + b s^3 + c s^5 takes every singular value towards one
//! as fast as it can and leaves it, after five iterations, between about 0.68 and 1.14; convergence to one would need
//! smaller steps and gains nothing in training. The factor sqrt(max(1, r / c)) is Jordan's: it gives tall matrices the
//! same root-mean-square change per output as square ones. A fused qkv weight `[3 d, d]` is one matrix here.
//!
//! Shapes: g, param, momentum `[n, r, c]`, every matrix by itself; norm `[1]`; scratch x, next `[n, r, c]` and gram, poly
//! `[n, s, s]` with s = min(r, c); lr is `hyper[MUON_LR]`. The n products of a kind are one list of tasks, so that small
//! matrices fill all threads; A and its square are symmetric, and half of each is computed. Cost: n (3 s^2 k + s^3) flops an
//! iteration with k = max(r, c), all in matrix products.
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

pub use cpu::{Scratch, step};
