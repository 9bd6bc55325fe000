//! The backend for GPUs against the driver of this package: calls, copies, graphs and faults as on hardware, kernels in the
//! interpreter.

mod faults;
mod loaded;
mod training;
