//! Rows of a table by id, and the table's gradient.
//!
//! ids [n], table [v, d], y [n, d]: a copy of 8 n d bytes; backward n d additions and 4 v d bytes of zeros.

mod cpu;

pub use cpu::{backward, forward};
