//! Sums: y = a + b and y += x.
//!
//! One addition an element; 12 bytes of traffic each.

mod cpu;

pub use cpu::{accumulate, add};
