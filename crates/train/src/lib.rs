#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
// Shapes are written [b, l, d]: one extent alone, [b], is no link either.
#![allow(rustdoc::broken_intra_doc_links)]

mod checkpoint;
pub mod config;
mod corpus;
mod error;
mod evaluate;
mod generator;
pub mod objective;
mod rates;
mod relaxed;
mod run;

pub use config::Config;
pub use corpus::{Corpus, Vocabulary};
pub use error::Error;
pub use evaluate::Evaluation;
pub use galatea_kernels::device::{Choice, Device, DeviceError};
pub use generator::{Frame, Generator, Order, Outcome, Sampling, pass_program};
pub use objective::{Batch, Levels, Objective, Purpose};
pub use relaxed::{ByLevel, Level, Readers};
pub use run::{Run, StepReport, step_program};
