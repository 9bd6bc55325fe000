//! RMS norm of every head of q and k, without gains: attention scores stay bounded however large the weights grow.
//!
//! qkv [n, 3 d]: 5 operations an element of q and k; 8 bytes an element.
//!
//! Source: Henry et al. 2020 (query-key normalisation), here with RMS instead of L2.

mod cpu;

pub use cpu::{backward, forward};
