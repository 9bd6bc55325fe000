//! The machine that a user names when a program starts: the CPU or a GPU.

use crate::backend::Backend;
use crate::cpu::{Cpu, CpuError};
#[cfg(feature = "cuda")]
use crate::cuda::{Cuda, CudaError, CudaMemory, Gpu};
use crate::program::Program;
use galatea_tensor::{Elem, Memory, Slot, bf16};
use std::ops::Range;

/// What a user asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The GPU if there is one, else the CPU.
    #[default]
    Auto,
    /// The GPU, or an error that says why there is none.
    Cuda,
    /// The CPU.
    Cpu,
}

/// A backend that is chosen when the program starts. A clone shares a GPU; on the CPU it has threads of its own.
#[non_exhaustive]
pub enum Device {
    /// The CPU.
    Cpu(Cpu),
    /// A GPU.
    #[cfg(feature = "cuda")]
    Cuda(Box<Cuda>),
}

/// Memory of a [`Device`].
#[non_exhaustive]
pub enum DeviceMemory {
    /// In this process.
    Cpu(Memory),
    /// On a GPU.
    #[cfg(feature = "cuda")]
    Cuda(CudaMemory),
}

/// What can go wrong on a [`Device`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// On the CPU.
    #[error(transparent)]
    Cpu(#[from] CpuError),
    /// On a GPU.
    #[cfg(feature = "cuda")]
    #[error(transparent)]
    Cuda(#[from] CudaError),
    /// A GPU was asked for, and this program cannot use one.
    #[error("this galatea was built without CUDA: build it with `--features cuda`, or run on the CPU (--device cpu)")]
    WithoutCuda,
}

impl Device {
    /// The CPU, with all its threads (`GALATEA_THREADS`) at its best level (`GALATEA_ISA`).
    pub fn cpu() -> Self {
        Device::Cpu(Cpu::new())
    }

    /// What was asked for. With [`Choice::Auto`] the second value says why the CPU was taken.
    ///
    /// # Errors
    /// If a GPU was asked for and there is none.
    pub fn open(choice: Choice) -> Result<(Self, Option<DeviceError>), DeviceError> {
        if choice == Choice::Cpu {
            return Ok((Self::cpu(), None));
        }
        match Self::cuda() {
            Ok(cuda) => Ok((cuda, None)),
            Err(why) if choice == Choice::Auto => Ok((Self::cpu(), Some(why))),
            Err(why) => Err(why),
        }
    }

    /// The name of the GPU, if it is one.
    pub fn gpu(&self) -> Option<String> {
        match self {
            Device::Cpu(_) => None,
            #[cfg(feature = "cuda")]
            Device::Cuda(cuda) => Some(cuda.name().unwrap_or_else(|_| "a CUDA device".to_owned())),
        }
    }

    #[cfg(feature = "cuda")]
    fn cuda() -> Result<Self, DeviceError> {
        Ok(Device::Cuda(Box::new(Gpu::find(0).ready()?)))
    }

    #[cfg(not(feature = "cuda"))]
    fn cuda() -> Result<Self, DeviceError> {
        Err(DeviceError::WithoutCuda)
    }
}

impl Clone for Device {
    fn clone(&self) -> Self {
        match self {
            Device::Cpu(cpu) => Device::Cpu(Cpu::with(cpu.cores().pool.threads(), cpu.cores().isa)),
            #[cfg(feature = "cuda")]
            Device::Cuda(cuda) => Device::Cuda(cuda.clone()),
        }
    }
}

/// Hands a call to the backend that a device is, with its own memory.
macro_rules! dispatch {
    ($device:expr, $memory:expr, ($backend:ident, $of:ident) => $call:expr) => {
        match ($device, $memory) {
            (Device::Cpu($backend), DeviceMemory::Cpu($of)) => $call.map_err(DeviceError::from),
            #[cfg(feature = "cuda")]
            (Device::Cuda($backend), DeviceMemory::Cuda($of)) => $call.map_err(DeviceError::from),
            #[cfg(feature = "cuda")]
            (Device::Cpu(_), DeviceMemory::Cuda(_)) | (Device::Cuda(_), DeviceMemory::Cpu(_)) => {
                unreachable!("memory is used with the device that allocated it: `Session` holds both")
            }
        }
    };
}

impl Backend for Device {
    type Memory = DeviceMemory;
    type Error = DeviceError;

    fn allocate(&mut self, program: &Program) -> Result<DeviceMemory, DeviceError> {
        match self {
            Device::Cpu(cpu) => Ok(DeviceMemory::Cpu(cpu.allocate(program)?)),
            #[cfg(feature = "cuda")]
            Device::Cuda(cuda) => Ok(DeviceMemory::Cuda(cuda.allocate(program)?)),
        }
    }

    fn upload_with<T: Elem>(
        &mut self,
        memory: &mut DeviceMemory,
        at: Slot,
        write: impl FnOnce(&mut [T]),
    ) -> Result<(), DeviceError> {
        dispatch!(self, memory, (backend, of) => backend.upload_with(of, at, write))
    }

    fn upload<T: Elem>(&mut self, memory: &mut DeviceMemory, at: Slot, host: &[T]) -> Result<(), DeviceError> {
        dispatch!(self, memory, (backend, of) => backend.upload(of, at, host))
    }

    fn upload_weights(
        &mut self,
        memory: &mut DeviceMemory,
        at: Slot,
        shape: (usize, usize),
        w: &[bf16],
    ) -> Result<(), DeviceError> {
        dispatch!(self, memory, (backend, of) => backend.upload_weights(of, at, shape, w))
    }

    fn download<T: Elem>(&self, memory: &DeviceMemory, at: Slot, host: &mut [T]) -> Result<(), DeviceError> {
        dispatch!(self, memory, (backend, of) => backend.download(of, at, host))
    }

    fn run(&mut self, memory: &mut DeviceMemory, program: &Program) -> Result<(), DeviceError> {
        dispatch!(self, memory, (backend, of) => backend.run(of, program))
    }

    fn run_range(
        &mut self,
        memory: &mut DeviceMemory,
        program: &Program,
        range: Range<usize>,
    ) -> Result<(), DeviceError> {
        dispatch!(self, memory, (backend, of) => backend.run_range(of, program, range))
    }

    fn run_one(&mut self, memory: &mut DeviceMemory, program: &Program, index: usize) -> Result<(), DeviceError> {
        dispatch!(self, memory, (backend, of) => backend.run_one(of, program, index))
    }
}
