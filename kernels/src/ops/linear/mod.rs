//! The linear layer: y = act(x w^T + b), dx = dy w, dw = dy^T x, db = sum of dy's rows.
//!
//! x [n, i], w [o, i], b [o], y [n, o]: 2 n o i operations each for y, dx, dw; bias and activation are applied to a tile while
//! it is in cache. Bytes: 4 (n i + o i + n o).

mod cpu;

pub use cpu::{dw, dx, forward};
