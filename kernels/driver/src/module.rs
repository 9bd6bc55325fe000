//! Images of machine code: read for their kernels and parameters, and never run.

use crate::{Device, INVALID_IMAGE, INVALID_VALUE, NO_BINARY_FOR_GPU, NOT_FOUND, Status};
use galatea_kernels::cuda::{Arch, Image, Kernel};

/// What was loaded. A handle is a place in a list, and one more.
#[derive(Default)]
pub(crate) struct Modules {
    modules: Vec<Image>,
    functions: Vec<Kernel>,
}

impl Modules {
    /// Reads an image of the length that its own header tells.
    ///
    /// # Safety
    /// `image` points at an image.
    pub(crate) unsafe fn load(&mut self, image: *const u8, device: &Device) -> Result<usize, Status> {
        // SAFETY: an ELF header has 64 bytes.
        let header = unsafe { std::slice::from_raw_parts(image, 64) };
        if &header[..4] != b"\x7fELF" {
            return Err(INVALID_IMAGE);
        }
        let long = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
        let short = |at: usize| u64::from(u16::from_le_bytes([header[at], header[at + 1]]));
        // The table of sections, or that of segments, is the last thing in an image.
        let end = |table: usize, size: usize, count: usize| long(table) + short(size) * short(count);
        let len = end(40, 58, 60).max(end(32, 54, 56));
        // SAFETY: an image is as long as its tables say.
        let bytes = unsafe { std::slice::from_raw_parts(image, len as usize) };
        let image = Image::parse(bytes).map_err(|_| INVALID_IMAGE)?;
        let arch = match device.capability {
            (9, 0) => Arch::Sm90a,
            (10, 0) => Arch::Sm100a,
            _ => Arch::Sm80,
        };
        if !image.runs_on(arch) {
            return Err(NO_BINARY_FOR_GPU);
        }
        self.modules.push(image);
        Ok(self.modules.len())
    }

    pub(crate) fn function(&mut self, module: usize, entry: &str) -> Result<usize, Status> {
        let image = self.modules.get(module.wrapping_sub(1)).ok_or(INVALID_VALUE)?;
        let kernel = image.kernels.iter().find(|kernel| kernel.entry == entry).ok_or(NOT_FOUND)?;
        self.functions.push(kernel.clone());
        Ok(self.functions.len())
    }

    pub(crate) fn kernel(&self, function: usize) -> Result<&Kernel, Status> {
        self.functions.get(function.wrapping_sub(1)).ok_or(INVALID_VALUE)
    }
}
