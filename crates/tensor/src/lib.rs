#![doc = include_str!("../README.md")]

mod dtype;
mod memory;
mod pages;
mod shape;
mod slot;

pub use dtype::{DType, Elem};
pub use memory::Memory;
pub use shape::Shape;
pub use slot::{Region, Slot};

pub use half::{bf16, f16};
