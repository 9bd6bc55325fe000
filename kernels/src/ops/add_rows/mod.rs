//! A small table added to every batch element or every position: learned positions, additive time.
//!
//! y[b,l,:] = x[b,l,:] + r; the gradient of r sums over the rows that shared it. One addition an element.

mod cpu;

pub use cpu::{backward, forward};
