//! Zeroed memory in large pages where the system has them.
//!
//! A page is zeroed and mapped when it is first touched, and every access looks its page up. In pages of 4 KiB a training step
//! of 80 million parameters touches a quarter of a million of them; in pages of 2 MiB, some five hundred.

use std::alloc::Layout;
use std::ptr::NonNull;

/// The size of a large page.
pub(crate) const LARGE: usize = 2 << 20;

#[cfg(all(target_os = "linux", not(miri)))]
mod system {
    use super::{LARGE, Layout, NonNull};

    /// The bytes of the mapping behind a layout: whole large pages.
    fn mapped(layout: Layout) -> usize {
        layout.size().next_multiple_of(LARGE)
    }

    pub(crate) fn zeroed(layout: Layout) -> Option<NonNull<u8>> {
        let bytes = mapped(layout);
        // One page more than asked for, so that an aligned run of `bytes` lies inside; the rest goes back at once.
        let whole = bytes + LARGE;
        let (protection, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
        // SAFETY: a fresh anonymous mapping at an address of the system's choice touches no memory of ours.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), whole, protection, kind, -1, 0) };
        if start == libc::MAP_FAILED {
            return None;
        }
        let before = start.addr().next_multiple_of(LARGE) - start.addr();
        // SAFETY: `before` is less than a page and `whole` is a page more than `bytes`: all three parts lie in the mapping. The
        // two that are given back are whole small pages that nobody has seen; the advice changes no content.
        unsafe {
            let aligned = start.byte_add(before);
            if before > 0 {
                libc::munmap(start, before);
            }
            libc::munmap(aligned.byte_add(bytes), LARGE - before);
            // A system without large pages refuses, and small ones serve.
            libc::madvise(aligned, bytes, libc::MADV_HUGEPAGE);
            NonNull::new(aligned.cast())
        }
    }

    pub(crate) fn free(start: NonNull<u8>, layout: Layout) {
        // SAFETY: `start` came from `zeroed` with this layout and is freed once, by the arena that owns it.
        unsafe { libc::munmap(start.as_ptr().cast(), mapped(layout)) };
    }
}

#[cfg(not(all(target_os = "linux", not(miri))))]
mod system {
    use super::{Layout, NonNull};

    pub(crate) fn zeroed(layout: Layout) -> Option<NonNull<u8>> {
        // SAFETY: the layout is that of at least one large page.
        NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) })
    }

    pub(crate) fn free(start: NonNull<u8>, layout: Layout) {
        // SAFETY: `start` came from `zeroed` with this layout and is freed once, by the arena that owns it.
        unsafe { std::alloc::dealloc(start.as_ptr(), layout) }
    }
}

pub(crate) use system::{free, zeroed};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_zeroed_aligned_and_ours_to_the_last_byte() {
        for bytes in [LARGE, LARGE + 1, 3 * LARGE - 7] {
            let layout = Layout::from_size_align(bytes, LARGE).expect("a layout");
            let start = zeroed(layout).expect("memory");
            assert!(start.as_ptr().addr().is_multiple_of(LARGE));
            // SAFETY: the pages are `bytes` long, zeroed, and nobody else's.
            let all = unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), bytes) };
            assert!(all.iter().all(|&byte| byte == 0));
            all.fill(7);
            assert_eq!(all[bytes - 1], 7);
            free(start, layout);
        }
    }
}
