//! Device memory and pinned memory: blocks of this process.

use crate::{INVALID_VALUE, OUT_OF_MEMORY, Status};
use std::alloc::{Layout, alloc, dealloc};
use std::collections::BTreeMap;

/// What every block is aligned to.
const ALIGN: usize = 256;
/// What fresh memory holds: NaN, so that nobody relies on zeros.
const POISON: u8 = 0xff;

/// Blocks by their first address.
pub(crate) struct Memory {
    device: BTreeMap<usize, usize>,
    pinned: BTreeMap<usize, usize>,
    /// Bytes of the device.
    pub(crate) total: usize,
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self { device: BTreeMap::new(), pinned: BTreeMap::new(), total: 1 << 30 }
    }

    /// Bytes that are free.
    pub(crate) fn free_bytes(&self) -> usize {
        self.total.saturating_sub(self.device.values().sum())
    }

    /// A block of the device.
    pub(crate) fn allocate(&mut self, bytes: usize) -> Result<usize, Status> {
        if bytes > self.free_bytes() {
            return Err(OUT_OF_MEMORY);
        }
        let start = block(bytes)?;
        self.device.insert(start, bytes);
        Ok(start)
    }

    /// A block of the host that copies read and write by themselves.
    pub(crate) fn pin(&mut self, bytes: usize) -> Result<usize, Status> {
        let start = block(bytes)?;
        self.pinned.insert(start, bytes);
        Ok(start)
    }

    pub(crate) fn free(&mut self, start: usize) -> Result<(), Status> {
        release(&mut self.device, start)
    }

    pub(crate) fn unpin(&mut self, start: usize) -> Result<(), Status> {
        release(&mut self.pinned, start)
    }

    /// Whether `bytes` from `start` lie in one block of the device.
    pub(crate) fn check(&self, start: usize, bytes: usize) -> Result<(), Status> {
        if holds(&self.device, start, bytes) { Ok(()) } else { Err(INVALID_VALUE) }
    }

    /// Whether `bytes` from `start` are pinned.
    pub(crate) fn is_pinned(&self, start: usize, bytes: usize) -> bool {
        holds(&self.pinned, start, bytes)
    }
}

fn layout(bytes: usize) -> Result<Layout, Status> {
    Layout::from_size_align(bytes.max(1), ALIGN).map_err(|_| OUT_OF_MEMORY)
}

fn block(bytes: usize) -> Result<usize, Status> {
    let layout = layout(bytes)?;
    // SAFETY: the layout is not empty; the block has its bytes.
    unsafe {
        let start = alloc(layout);
        if start.is_null() {
            return Err(OUT_OF_MEMORY);
        }
        start.write_bytes(POISON, layout.size());
        Ok(start as usize)
    }
}

fn release(blocks: &mut BTreeMap<usize, usize>, start: usize) -> Result<(), Status> {
    let bytes = blocks.remove(&start).ok_or(INVALID_VALUE)?;
    // SAFETY: `block` allocated it with this layout, and it is no longer listed.
    unsafe { dealloc(start as *mut u8, layout(bytes)?) };
    Ok(())
}

fn holds(blocks: &BTreeMap<usize, usize>, start: usize, bytes: usize) -> bool {
    let below = blocks.range(..=start).next_back();
    below.is_some_and(|(first, len)| start + bytes <= first + len)
}
