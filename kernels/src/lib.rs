//! The fused ops of galatea: one folder each under [`ops`], with its equation, its reference in f64 and its CPU kernel;
//! the [`Program`] they form and the [`Backend`] that runs it.

// Shapes are written [b, l, d]: one extent alone, [b], is no link either.
#![allow(rustdoc::broken_intra_doc_links)]

mod backend;
#[cfg(test)]
mod cases;
mod columns;
mod cost;
pub mod cpu;
pub mod cuda;
pub mod device;
pub mod gemm;
pub mod isa;
pub mod math;
mod norm;
mod op;
pub mod ops;
mod parameters;
pub mod peak;
mod philox;
mod pieces;
pub mod pool;
mod program;
mod real;
mod slots;

pub use backend::Backend;
pub use cost::{Cost, cost};
pub use cpu::Cpu;
pub use device::Device;
pub use isa::Isa;
pub use op::{Activation, AdamW, AttentionMask, Chunk, Dropout, Hyper, Limit, Link, Muon, Norm, Op, Rows, Wish};
pub use program::{Constant, Inst, Program, VerifyError};
pub use real::Real;
pub use slots::{Kind, ShapeError, slots};
