//! Device memory: one arena a region, scratch, and a pinned mirror of what the host writes before a run.

use super::MIRRORED;
use super::error::{CudaError, is_out_of_memory};
use super::replay::Prepared;
use crate::cuda::launch::Place;
use cudarc::driver::{CudaContext, CudaEvent, CudaGraph, CudaStream, DriverError, result, sys};
use galatea_tensor::{Elem, Region, Slot};
use std::ops::Range;
use std::sync::Arc;

/// Device addresses of the regions and of the scratch memory.
pub(super) struct Arenas {
    regions: [sys::CUdeviceptr; 5],
    scratch: sys::CUdeviceptr,
}

impl Arenas {
    pub(super) fn address(&self, place: &Place) -> sys::CUdeviceptr {
        match place {
            Place::Slot(slot) => self.regions[slot.region.index()] + slot.offset as u64,
            Place::Scratch(offset) => self.scratch + *offset as u64,
        }
    }
}

/// The memory of one program on a GPU, with its launches and, after the first run, their graph.
pub struct CudaMemory {
    // Dropped first: it refers to the addresses below.
    pub(super) graph: Option<CudaGraph>,
    pub(super) launches: Vec<Prepared>,
    pub(super) arenas: Arenas,
    bytes: [usize; 5],
    mirror: Mirror,
    context: Arc<CudaContext>,
    stream: Arc<CudaStream>,
}

// SAFETY: device addresses are numbers; the graph and the mirror are used through `&mut self` alone, the mirror's bytes are read
// through `&self` without being written; every call binds the context to its thread first.
unsafe impl Send for CudaMemory {}

/// What the host wrote to the step region and has not sent yet, in memory that the copy engine reads by itself.
struct Mirror {
    start: *mut u8,
    bytes: usize,
    /// Ranges to send, ascending, with gaps between them.
    dirty: Vec<Range<usize>>,
    /// When the last copy from the mirror is over.
    sent: CudaEvent,
}

impl CudaMemory {
    /// Zeroed regions.
    pub(super) fn new(
        context: &Arc<CudaContext>,
        stream: &Arc<CudaStream>,
        bytes: [usize; 5],
    ) -> Result<Self, CudaError> {
        context.bind_to_thread().map_err(CudaError::driver("binding the device"))?;
        let mirrored = bytes[MIRRORED.index()].max(1);
        let sent = context.new_event(None).map_err(CudaError::driver("making an event"))?;
        // SAFETY: a plain allocation of pinned memory, freed in `drop`.
        let pinned = unsafe { result::malloc_host(mirrored, 0) };
        let start = pinned.map_err(CudaError::driver("allocating pinned host memory"))?.cast::<u8>();
        // SAFETY: the block has that many bytes.
        unsafe { start.write_bytes(0, mirrored) };
        let mirror = Mirror { start, bytes: mirrored, dirty: Vec::with_capacity(16), sent };
        let arenas = Arenas { regions: [0; 5], scratch: 0 };
        let (context, stream) = (context.clone(), stream.clone());
        // From here on `drop` frees whatever was allocated.
        let mut memory = Self { graph: None, launches: Vec::new(), arenas, bytes, mirror, context, stream };
        for region in Region::ALL {
            memory.arenas.regions[region.index()] = memory.zeroed(bytes[region.index()])?;
        }
        Ok(memory)
    }

    /// Room for the instruction that asks for most.
    pub(super) fn reserve_scratch(&mut self, bytes: usize) -> Result<(), CudaError> {
        self.arenas.scratch = self.zeroed(bytes)?;
        Ok(())
    }

    /// Zeroed device memory: at least one byte, so that every address is one.
    fn zeroed(&self, bytes: usize) -> Result<sys::CUdeviceptr, CudaError> {
        let bytes = bytes.max(1);
        // SAFETY: a plain allocation, freed in `drop`; the memory set is the block's.
        let allocated = unsafe {
            result::malloc_sync(bytes).and_then(|address| {
                result::memset_d8_async(address, 0, bytes, self.stream.cu_stream()).map(|()| address)
            })
        };
        allocated.map_err(|error| match is_out_of_memory(error) {
            true => {
                let (free, total) = result::mem_get_info().unwrap_or((0, 0));
                let held: usize =
                    self.bytes.iter().zip(self.arenas.regions).filter(|(_, at)| *at != 0).map(|(b, _)| b).sum();
                CudaError::OutOfMemory { needed: self.bytes.iter().sum::<usize>().max(bytes), free: free + held, total }
            }
            false => CudaError::driver("allocating device memory")(error),
        })
    }

    /// The number of the first launch that belongs to instruction `index` or a later one.
    pub(super) fn first_of(&self, index: usize) -> usize {
        self.launches.partition_point(|launch| launch.index < index)
    }

    /// Whether a slot may be copied to and from a host slice.
    #[track_caller]
    fn check<T: Elem>(&self, slot: &Slot, host: usize) {
        assert_eq!(slot.dtype, T::DTYPE, "{slot:?} used as {}", T::DTYPE.name());
        assert_eq!(slot.shape.len(), host, "{slot:?} and a host slice of another length");
        assert!(slot.end() <= self.bytes[slot.region.index()], "{slot:?} ends beyond its region");
    }

    /// Copies host elements to a slot: at once, or with the next run for the step region.
    pub(super) fn upload<T: Elem>(&mut self, at: Slot, host: &[T]) -> Result<(), CudaError> {
        self.check::<T>(&at, host.len());
        self.context.bind_to_thread().map_err(CudaError::driver("binding the device"))?;
        if at.region == MIRRORED {
            return self.mirror.write(at.offset, bytemuck::cast_slice(host)).map_err(CudaError::lost);
        }
        let address = self.arenas.address(&Place::Slot(at));
        // SAFETY: the slot lies in its arena (checked); the host's elements outlive the copy, which is awaited.
        let copied = unsafe { result::memcpy_htod_async(address, host, self.stream.cu_stream()) };
        copied.and_then(|()| self.stream.synchronize()).map_err(CudaError::lost)
    }

    /// Copies a slot to the host, after everything that was started.
    pub(super) fn download<T: Elem>(&self, at: Slot, host: &mut [T]) -> Result<(), CudaError> {
        self.check::<T>(&at, host.len());
        self.context.bind_to_thread().map_err(CudaError::driver("binding the device"))?;
        if at.region == MIRRORED && self.mirror.holds(at.offset..at.end()) {
            bytemuck::cast_slice_mut(host).copy_from_slice(self.mirror.read(at.offset..at.end()));
            return Ok(());
        }
        let address = self.arenas.address(&Place::Slot(at));
        // SAFETY: the slot lies in its arena (checked); the host's elements outlive the copy, which is awaited.
        let copied = unsafe { result::memcpy_dtoh_async(host, address, self.stream.cu_stream()) };
        copied.and_then(|()| self.stream.synchronize()).map_err(CudaError::lost)
    }

    /// Starts the copies of what the host wrote since the last run: one, where the inputs lie side by side.
    pub(super) fn flush(&mut self) -> Result<(), CudaError> {
        self.context.bind_to_thread().map_err(CudaError::driver("binding the device"))?;
        let base = self.arenas.regions[MIRRORED.index()];
        self.mirror.send(base, &self.stream).map_err(CudaError::lost)
    }
}

impl Mirror {
    fn read(&self, range: Range<usize>) -> &[u8] {
        assert!(range.end <= self.bytes, "beyond the mirror");
        // SAFETY: inside the block (asserted); nothing writes it while `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.start.add(range.start), range.len()) }
    }

    /// Whether all of `range` waits to be sent.
    fn holds(&self, range: Range<usize>) -> bool {
        self.dirty.iter().any(|dirty| dirty.start <= range.start && range.end <= dirty.end)
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), DriverError> {
        assert!(offset + bytes.len() <= self.bytes, "beyond the mirror");
        // The copy engine may still be reading what was sent last.
        self.sent.synchronize()?;
        // SAFETY: inside the block (asserted), and nothing reads it (awaited).
        unsafe { self.start.add(offset).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        mark(&mut self.dirty, offset..offset + bytes.len());
        Ok(())
    }

    fn send(&mut self, base: sys::CUdeviceptr, stream: &CudaStream) -> Result<(), DriverError> {
        if self.dirty.is_empty() {
            return Ok(());
        }
        for range in &self.dirty {
            // SAFETY: the range lies in the mirror and in the arena (`check`); the mirror is not written before `sent`.
            unsafe {
                result::memcpy_htod_async(base + range.start as u64, self.read(range.clone()), stream.cu_stream())?
            };
        }
        self.sent.record(stream)?;
        self.dirty.clear();
        Ok(())
    }
}

/// Adds a range to ascending ones, joining what touches but for the padding of a slot.
fn mark(dirty: &mut Vec<Range<usize>>, range: Range<usize>) {
    let first = dirty.partition_point(|d| d.end.next_multiple_of(Slot::ALIGN) < range.start);
    let end = dirty.partition_point(|d| d.start <= range.end.next_multiple_of(Slot::ALIGN));
    let joined = dirty[first..end.max(first)].iter().fold(range, |sum, d| sum.start.min(d.start)..sum.end.max(d.end));
    dirty.splice(first..end.max(first), [joined]);
}

impl Drop for CudaMemory {
    fn drop(&mut self) {
        self.graph = None;
        // Errors have nowhere to go: a device that failed has nothing left to free.
        let _ = self.context.bind_to_thread();
        let _ = self.stream.synchronize();
        for address in self.arenas.regions.into_iter().chain([self.arenas.scratch]).filter(|&address| address != 0) {
            // SAFETY: allocated in `zeroed`, freed once; nothing runs any more.
            let _ = unsafe { result::free_sync(address) };
        }
        // SAFETY: allocated in `new`, freed once; no copy reads it any more.
        let _ = unsafe { result::free_host(self.mirror.start.cast()) };
    }
}

#[cfg(test)]
mod tests {
    use super::mark;
    use std::ops::Range;

    fn marked(ranges: &[Range<usize>]) -> Vec<Range<usize>> {
        let mut dirty = Vec::new();
        ranges.iter().for_each(|range| mark(&mut dirty, range.clone()));
        dirty
    }

    fn once(range: Range<usize>) -> Vec<Range<usize>> {
        vec![range]
    }

    #[test]
    fn slots_side_by_side_are_one_copy_and_others_are_not() {
        assert_eq!(marked(&[0..4, 64..100, 128..130]), once(0..130));
        assert_eq!(marked(&[128..130, 0..4]), [0..4, 128..130]);
        assert_eq!(marked(&[128..130, 0..4, 64..70]), once(0..130));
        assert_eq!(marked(&[0..64, 0..64, 256..320, 256..260]), [0..64, 256..320]);
        assert_eq!(marked(&[640..644, 0..4, 320..330, 0..700]), once(0..700));
    }
}
