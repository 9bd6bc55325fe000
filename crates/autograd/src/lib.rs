#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod init;
mod inspect;
mod ops;
mod plan;
mod record;
mod session;
mod update;
mod vjp;

pub use init::Init;
pub use inspect::Summary;
pub use plan::{Param, Part, Plan};
pub use record::{Recorder, Var};
pub use session::{Fault, Session};
pub use update::{Optimizer, Update};

pub use galatea_kernels::{Activation, AdamW, AttentionMask, Chunk, Hyper, Limit, Muon, Rows};
pub use galatea_tensor::{DType, Shape};
