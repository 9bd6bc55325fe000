//! Where programs run.

use crate::program::Program;
use galatea_tensor::{Elem, Slot, bf16};
use std::ops::Range;

/// A machine that holds memory and runs programs.
pub trait Backend {
    /// Its memory.
    type Memory;
    /// What can go wrong.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Zeroed memory with the program's constants in place.
    ///
    /// # Errors
    /// If the machine has not that much.
    fn allocate(&mut self, program: &Program) -> Result<Self::Memory, Self::Error>;

    /// Lets `write` fill `at`: where it lies, if the machine's memory is the host's.
    ///
    /// # Errors
    /// If the machine fails.
    fn upload_with<T: Elem>(
        &mut self,
        memory: &mut Self::Memory,
        at: Slot,
        write: impl FnOnce(&mut [T]),
    ) -> Result<(), Self::Error>;

    /// Copies `host` to `at`.
    ///
    /// # Errors
    /// If the machine fails.
    ///
    /// # Panics
    /// If `host` has not the slot's length.
    fn upload<T: Elem>(&mut self, memory: &mut Self::Memory, at: Slot, host: &[T]) -> Result<(), Self::Error> {
        self.upload_with(memory, at, |x: &mut [T]| x.copy_from_slice(host))
    }

    /// Writes weights w [n, k] to `at` in the order that this machine's products read ([`crate::Op::LinearPacked`]).
    ///
    /// # Errors
    /// If the machine fails.
    ///
    /// # Panics
    /// If `w` has not n k elements, or `at` not the words for them.
    fn upload_weights(
        &mut self,
        memory: &mut Self::Memory,
        at: Slot,
        shape: (usize, usize),
        w: &[bf16],
    ) -> Result<(), Self::Error>;

    /// Copies `at` to `host`.
    ///
    /// # Errors
    /// If the machine fails.
    ///
    /// # Panics
    /// If `host` has not the slot's length.
    fn download<T: Elem>(&self, memory: &Self::Memory, at: Slot, host: &mut [T]) -> Result<(), Self::Error>;

    /// Runs the program once.
    ///
    /// # Errors
    /// If the machine fails.
    fn run(&mut self, memory: &mut Self::Memory, program: &Program) -> Result<(), Self::Error>;

    /// Runs a part of the program: what a host that works between two parts uses.
    ///
    /// # Errors
    /// If the machine fails.
    fn run_range(
        &mut self,
        memory: &mut Self::Memory,
        program: &Program,
        range: Range<usize>,
    ) -> Result<(), Self::Error> {
        range.into_iter().try_for_each(|index| self.run_one(memory, program, index))
    }

    /// Runs instruction `index` alone: what tracing uses.
    ///
    /// # Errors
    /// If the machine fails.
    fn run_one(&mut self, memory: &mut Self::Memory, program: &Program, index: usize) -> Result<(), Self::Error>;
}
