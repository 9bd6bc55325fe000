#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
// Shapes are written [b, l, d]: one extent alone, [b], is no link either.
#![allow(rustdoc::broken_intra_doc_links)]

mod checkpoint;
mod init;
mod inspect;
mod ops;
mod pack;
mod plan;
mod record;
mod session;
mod update;
mod vjp;

pub use checkpoint::Keep;
pub use init::Init;
pub use inspect::Summary;
pub use plan::{Param, Part, Plan};
pub use record::{Recorder, Var};
pub use session::{Fault, Session};
pub use update::{Optimizer, Update};

pub use galatea_kernels::ops::linear_int8::RelativeError;
pub use galatea_kernels::{Activation, AdamW, AttentionMask, Chunk, Hyper, Limit, Link, Muon, Rows, Wish};
pub use galatea_tensor::{DType, Shape};
