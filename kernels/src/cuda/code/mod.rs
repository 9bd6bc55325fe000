//! Machine code: compiled from the embedded texts, cached on disk, or carried along.

mod compile;
mod cubins;
mod entry;
mod fits;
mod image;
mod report;

pub use compile::{CompileError, Compiled, Compiler, Nvrtc, OPTIONS, headers};
pub use cubins::{Cubin, CubinError, Cubins, Note, Origin};
pub use entry::Damage;
pub use fits::{Misfit, fits};
pub use image::{Image, Kernel, NotAnImage};
pub use report::{Log, Report};
