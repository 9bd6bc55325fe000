//! The buffers behind the slots.

use crate::{Elem, Region, Slot, pages};
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// A zeroed, aligned block of bytes that never moves.
#[derive(Debug)]
struct Arena {
    start: NonNull<u8>,
    bytes: usize,
}

impl Arena {
    /// The block's layout: whole pages of the larger kind where there is at least one, so that a walk over hundreds of
    /// megabytes needs few translations of addresses.
    fn layout(bytes: usize) -> Layout {
        let align = if bytes >= pages::LARGE { pages::LARGE } else { Slot::ALIGN };
        Layout::from_size_align(bytes.max(1), align).expect("an arena is smaller than the address space")
    }

    fn new(bytes: usize) -> Self {
        let layout = Self::layout(bytes);
        let start = if bytes >= pages::LARGE { pages::zeroed(layout) } else { allocated(layout) };
        Self { start: start.unwrap_or_else(|| handle_alloc_error(layout)), bytes }
    }
}

/// Zeroed bytes from the allocator.
fn allocated(layout: Layout) -> Option<NonNull<u8>> {
    // SAFETY: the layout's size is at least one byte (`Arena::layout`).
    NonNull::new(unsafe { alloc_zeroed(layout) })
}

impl Drop for Arena {
    fn drop(&mut self) {
        let layout = Self::layout(self.bytes);
        if self.bytes >= pages::LARGE {
            pages::free(self.start, layout);
        } else {
            // SAFETY: `start` came from `alloc_zeroed` with this same layout in `Arena::new` and is freed once, here.
            unsafe { dealloc(self.start.as_ptr(), layout) }
        }
    }
}

/// One arena a region: everything a program touches on the CPU.
#[derive(Debug)]
pub struct Memory {
    arenas: [Arena; 5],
}

// SAFETY: an `Arena` owns its bytes alone; a reference to `Memory` gives safe code only copies made under `&self` or
// `&mut self`, and the callers of the two unsafe functions promise disjoint writes.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Zeroed regions of the given sizes in bytes, in the order of [`Region::ALL`].
    pub fn new(bytes: [usize; 5]) -> Self {
        Self { arenas: bytes.map(Arena::new) }
    }

    /// Bytes of a region.
    pub fn bytes(&self, region: Region) -> usize {
        self.arenas[region.index()].bytes
    }

    /// Checks that a slot lies inside its region, on its alignment, with the element type `T`.
    #[track_caller]
    fn pointer<T: Elem>(&self, slot: &Slot) -> *mut T {
        let arena = &self.arenas[slot.region.index()];
        assert!(slot.end() <= arena.bytes, "{slot:?} ends beyond its region of {} bytes", arena.bytes);
        assert!(slot.offset.is_multiple_of(Slot::ALIGN), "{slot:?} is not aligned");
        assert_eq!(slot.dtype, T::DTYPE, "{slot:?} read as {}", T::DTYPE.name());
        // SAFETY: the offset is inside the allocation (asserted above).
        unsafe { arena.start.as_ptr().add(slot.offset).cast() }
    }

    /// The elements of `slot`, while an instruction runs.
    ///
    /// # Safety
    /// Nothing writes a byte of `slot` while the slice lives. `Program` establishes it: its constructor refuses an
    /// instruction whose writes overlap its reads or each other, and a backend runs one instruction at a time.
    pub unsafe fn read<T: Elem>(&self, slot: &Slot) -> &[T] {
        let pointer = self.pointer(slot);
        // SAFETY: in bounds and aligned (`pointer`), initialised (zeroed at birth, `T` is plain data), not written (caller).
        unsafe { std::slice::from_raw_parts(pointer, slot.shape.len()) }
    }

    /// The elements of `slot`, to write, while an instruction runs.
    ///
    /// # Safety
    /// Nothing else reads or writes a byte of `slot` while the slice lives (established as for [`Memory::read`]).
    #[expect(
        clippy::mut_from_ref,
        reason = "disjointness is the caller's promise; a program writes several slots at once"
    )]
    pub unsafe fn write<T: Elem>(&self, slot: &Slot) -> &mut [T] {
        let pointer = self.pointer(slot);
        // SAFETY: in bounds and aligned (`pointer`), initialised, exclusive (caller).
        unsafe { std::slice::from_raw_parts_mut(pointer, slot.shape.len()) }
    }

    /// The elements of `slot`, between runs.
    pub fn get<T: Elem>(&self, slot: &Slot) -> &[T] {
        // SAFETY: writers outside an instruction need `&mut self`, which the borrow of `self` excludes.
        unsafe { self.read(slot) }
    }

    /// The elements of `slot`, to write between runs.
    pub fn get_mut<T: Elem>(&mut self, slot: &Slot) -> &mut [T] {
        // SAFETY: `&mut self` is exclusive.
        unsafe { self.write(slot) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Shape};

    fn slot(offset: usize, len: usize) -> Slot {
        Slot { region: Region::Work, offset, shape: Shape::new(&[len]), dtype: DType::F32 }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut memory = Memory::new([0, 0, 0, 256, 0]);
        let (a, b) = (slot(0, 16), slot(64, 3));
        memory.get_mut::<f32>(&a).fill(2.0);
        assert_eq!(memory.get::<f32>(&b), [0.0; 3]);
        // SAFETY: the slots do not overlap and nothing else uses the memory.
        let (read, write) = unsafe { (memory.read::<f32>(&a), memory.write::<f32>(&b)) };
        write.copy_from_slice(&read[..3]);
        assert_eq!(memory.get::<f32>(&b), [2.0; 3]);
    }

    #[test]
    #[should_panic(expected = "beyond its region")]
    fn a_slot_outside_its_region_is_refused() {
        Memory::new([0, 0, 0, 64, 0]).get::<f32>(&slot(0, 17));
    }

    #[test]
    #[should_panic(expected = "read as u32")]
    fn a_wrong_element_type_is_refused() {
        Memory::new([0, 0, 0, 64, 0]).get::<u32>(&slot(0, 4));
    }
}
