//! The same ops as launches of CUDA kernels.
//!
//! [`launches`] plans an instruction: which kernels run, on what grid, with which arguments. That is plain Rust without a
//! driver, so it is tested where there is no GPU. Two backends walk the plan: `Cuda` (feature `cuda`) hands it to the driver,
//! [`Emulated`] to a function that runs a kernel in host memory, which is how the tests execute the very files that a GPU
//! compiles.

#[cfg(feature = "cuda")]
mod code;
#[cfg(feature = "cuda")]
mod device;
mod emulated;
pub(crate) mod grid;
mod launch;
mod plan;
mod sources;

#[cfg(feature = "cuda")]
pub use code::{
    CompileError, Compiled, Compiler, Cubin, CubinError, Cubins, Damage, Image, Kernel, Log, Misfit, NotAnImage, Note,
    Nvrtc, OPTIONS, Origin, Report, fits, headers,
};
#[cfg(feature = "cuda")]
pub use device::{Cuda, CudaError, CudaMemory, Gpu};
pub use emulated::{Call, Emulated, EmulatedError, EmulatedMap, EmulatedMemory, Operand};
pub use launch::{Arch, Arg, Launch, Launches, Machine, Map, Place, Source, Swizzle};
pub use plan::{Unsupported, launches};
pub use sources::{HEADERS, SOURCES};
