//! adaLN modulation: y = x (1 + scale) + shift, scale and shift one row a batch element.
//!
//! x [b, l, d], m [b, chunks d]: two operations and 8 bytes an element; backward four.
//!
//! Source: Peebles & Xie 2023, section 3.2.

mod cpu;

pub use cpu::{backward, forward};
