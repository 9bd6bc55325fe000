//! The fused ops of galatea: one folder each under [`ops`], with its equation, its reference in f64 and its CPU kernel;
//! the [`Program`] they form and the [`Backend`] that runs it.

// Shapes are written [b, l, d]: one extent alone, [b], is no link either.
#![allow(rustdoc::broken_intra_doc_links)]

mod backend;
#[cfg(test)]
mod cases;
mod cost;
pub mod cpu;
pub mod gemm;
pub mod isa;
pub mod math;
mod op;
pub mod ops;
pub mod peak;
pub mod pool;
mod program;
mod slots;

pub use backend::Backend;
pub use cost::{Cost, cost};
pub use cpu::Cpu;
pub use isa::Isa;
pub use op::{Activation, AdamW, AttentionMask, Chunk, Hyper, Limit, Muon, Op, Rows};
pub use program::{Constant, Inst, Program, VerifyError};
pub use slots::{Kind, ShapeError, slots};
