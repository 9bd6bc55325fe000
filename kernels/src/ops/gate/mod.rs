//! The gated residual of adaLN-zero: y = x + gate h, the gate one row a batch element.
//!
//! x, h [b, l, d], m [b, chunks d]: two operations and 12 bytes an element.
//!
//! Source: Peebles & Xie 2023, section 3.2.

mod cpu;

pub use cpu::{backward, forward};
