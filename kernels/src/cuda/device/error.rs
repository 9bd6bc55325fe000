//! What can go wrong on a GPU, in words that say what to do.

use crate::cuda::code::CubinError;
use crate::cuda::plan::Unsupported;
use cudarc::driver::DriverError;
use cudarc::driver::sys::CUresult;

/// Why a program does not run on a GPU, or stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    /// The machine has no driver.
    #[error(
        "no NVIDIA driver on this machine (libcuda.so was not found): install one, or run on the CPU (--device cpu)"
    )]
    NoDriver,
    /// The driver has no device.
    #[error("no CUDA device ({reason}): check nvidia-smi and CUDA_VISIBLE_DEVICES, or run on the CPU (--device cpu)")]
    NoDevice {
        /// What the driver said.
        reason: String,
    },
    /// The device is one that kernels are not compiled for.
    #[error(
        "{name} has compute capability {}.{}; kernels are compiled for 8.x, 9.0 and 10.0: run on the CPU (--device cpu)",
        capability.0,
        capability.1
    )]
    NoKernels {
        /// Its name.
        name: String,
        /// What it can do.
        capability: (i32, i32),
    },
    /// The program does not fit.
    #[error(
        "the program needs {needed} bytes of device memory; {free} of {total} are free: use a smaller batch, bf16, or checkpointing"
    )]
    OutOfMemory {
        /// What it needs.
        needed: usize,
        /// What is free.
        free: usize,
        /// What there is.
        total: usize,
    },
    /// An op without a kernel.
    #[error("instruction {index}: {source}")]
    Unsupported {
        /// Which instruction.
        index: usize,
        /// The op.
        source: Unsupported,
    },
    /// A kernel could not be had.
    #[error("instruction {index} ({op}), kernel {entry}: {source}")]
    Kernel {
        /// Which instruction.
        index: usize,
        /// Its op.
        op: &'static str,
        /// The kernel.
        entry: &'static str,
        /// Why.
        source: CubinError,
    },
    /// The driver refused machine code.
    #[error(
        "instruction {index} ({op}), kernel {entry}: the driver refused its machine code ({reason}); clear the folders of cubins (GALATEA_CUBINS, the cache) if they are another machine's"
    )]
    Load {
        /// Which instruction.
        index: usize,
        /// Its op.
        op: &'static str,
        /// The kernel.
        entry: &'static str,
        /// What the driver said.
        reason: String,
    },
    /// A launch failed.
    #[error("instruction {index} ({op}), kernel {entry}: {reason}")]
    Launch {
        /// Which instruction.
        index: usize,
        /// Its op.
        op: &'static str,
        /// The kernel.
        entry: &'static str,
        /// What the driver said.
        reason: String,
    },
    /// The device failed while a program ran.
    #[error(
        "the device failed while a program ran ({reason}); what it held is lost, files are not; GALATEA_CUDA_STEPWISE=1 names the instruction"
    )]
    Lost {
        /// What the driver said.
        reason: String,
    },
    /// Another call of the driver failed.
    #[error("{during}: {reason}")]
    Driver {
        /// What was being done.
        during: &'static str,
        /// What the driver said.
        reason: String,
    },
}

impl CudaError {
    /// For `map_err`: a call of the driver that failed.
    pub(super) fn driver(during: &'static str) -> impl FnOnce(DriverError) -> Self {
        move |error| CudaError::Driver { during, reason: describe(error) }
    }

    /// For `map_err`: something that was started failed.
    pub(super) fn lost(error: DriverError) -> Self {
        CudaError::Lost { reason: describe(error) }
    }
}

/// The driver's name of an error, and what it says of it.
pub(super) fn describe(error: DriverError) -> String {
    let text = |c: Result<&std::ffi::CStr, DriverError>| c.ok().map(|c| c.to_string_lossy().into_owned());
    match (text(error.error_name()), text(error.error_string())) {
        (Some(name), Some(what)) => format!("{name}: {what}"),
        _ => format!("error {}", error.0 as u32),
    }
}

/// Whether the driver has no memory left.
pub(super) fn is_out_of_memory(error: DriverError) -> bool {
    error.0 == CUresult::CUDA_ERROR_OUT_OF_MEMORY
}
