//! Rotary positions: element i of a head's first half and element i of its second half turn by the angle of (position, i).
//!
//! (a, b) -> (a cos - b sin, a sin + b cos); the inverse turns back and is the gradient. Six operations a pair.
//!
//! Source: Su et al. 2021, equation 34, in the half-rotation order of GPT-NeoX.

mod cpu;

pub use cpu::forward;
