//! The calls of the CUDA driver that galatea makes, on host memory and the interpreter of kernels.
//!
//! Handles are numbers behind pointers that nobody follows. Everything is behind one lock: a driver for tests need not be fast.
#![allow(unreachable_pub, reason = "a library of symbols: whoever loads it finds them by name")]
#![allow(non_snake_case, reason = "the names are those of the driver")]
#![allow(clippy::missing_safety_doc, reason = "the contracts are those of the driver's documentation")]

mod control;
mod memory;
mod module;
mod stream;
mod symbols;

use memory::Memory;
use module::Modules;
use std::sync::{Mutex, MutexGuard, PoisonError};
use stream::Streams;

/// An error number of the driver.
pub(crate) type Status = u32;
pub(crate) const SUCCESS: Status = 0;
pub(crate) const INVALID_VALUE: Status = 1;
pub(crate) const OUT_OF_MEMORY: Status = 2;
pub(crate) const INVALID_DEVICE: Status = 101;
pub(crate) const INVALID_IMAGE: Status = 200;
pub(crate) const NO_BINARY_FOR_GPU: Status = 209;
pub(crate) const NOT_FOUND: Status = 500;
pub(crate) const NOT_READY: Status = 600;
pub(crate) const LAUNCH_FAILED: Status = 719;

/// The device that is pretended, and what happened to it.
#[derive(Debug)]
pub(crate) struct Device {
    /// Compute capability.
    pub(crate) capability: (i32, i32),
    pub(crate) processors: i32,
    /// The order of a kernel's threads.
    pub(crate) schedule: u64,
    /// Launches that go well before the device is lost.
    pub(crate) lost_after: u64,
    /// The error that every call has met since one failed.
    pub(crate) sticky: Option<Status>,
    /// What the interpreter said of the kernel that failed.
    pub(crate) failure: String,
    pub(crate) launches: u64,
    pub(crate) graphs: u64,
    pub(crate) copies_in: u64,
}

/// Everything.
pub(crate) struct Driver {
    pub(crate) device: Device,
    pub(crate) memory: Memory,
    pub(crate) modules: Modules,
    pub(crate) streams: Streams,
}

static DRIVER: Mutex<Option<Driver>> = Mutex::new(None);

/// Does something with the driver, as it is when a process starts if nothing was done before.
pub(crate) fn with<R>(f: impl FnOnce(&mut Driver) -> R) -> R {
    let mut guard: MutexGuard<'_, Option<Driver>> = DRIVER.lock().unwrap_or_else(PoisonError::into_inner);
    f(guard.get_or_insert_with(Driver::new))
}

/// A call that fails once the device is lost.
pub(crate) fn call(f: impl FnOnce(&mut Driver) -> Result<(), Status>) -> Status {
    with(|driver| match driver.device.sticky {
        Some(status) => status,
        None => f(driver).err().unwrap_or(SUCCESS),
    })
}

impl Driver {
    fn new() -> Self {
        Self {
            device: Device {
                capability: (9, 0),
                processors: 3,
                schedule: 0,
                lost_after: u64::MAX,
                sticky: None,
                failure: String::new(),
                launches: 0,
                graphs: 0,
                copies_in: 0,
            },
            memory: Memory::new(),
            modules: Modules::default(),
            streams: Streams::default(),
        }
    }
}
