//! Rows of a table by id, and the table's gradient.
//!
//! ```text
//! y_n = table[ids_n],     dtable_v = sum of dy_n over the n with ids_n = v
//! ```
//!
//! Shapes: ids [..]; table, dtable [v, d]; y, dy [.., d]. The table and y, and dy, are f32 or bf16; dtable is f32.
//! The gradient is dense: rows that no id names are zero. A task owns some columns of the table and adds in the order of
//! the ids. `step` hands it to the optimizer row by row instead: only rows that an id names have one, so none is written or read, and
//! every bit is that of the dense gradient and AdamW after it. A task owns rows, and finds the positions of a row by a
//! list through them.
//! Cost: a copy of 8 n d bytes; backward n d additions, 4 n d + 4 v d bytes; `step` AdamW's, and 4 n d bytes.
//!
//! # Source
//! Bengio et al. (2003), "A neural probabilistic language model", section 2 (the matrix C).

mod cpu;
pub(crate) mod cuda;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;

pub use cpu::{backward, forward, step};
