//! Lines of memory that are asked for before they are needed.

use super::Elements;
use super::pack::Part;
use galatea_tensor::bf16;

/// Asks for the cache line at an address, which may be any.
#[inline(always)]
pub(crate) fn prefetch(address: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a prefetch never faults and changes nothing that a program can see.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(address.cast());
    }
    #[cfg(any(not(target_arch = "x86_64"), miri))]
    let _ = address;
}

/// The lines of a part that is packed next, asked for one by one while the panel before it is multiplied: a packing that
/// waits for memory takes a quarter of a product.
pub(super) struct Ahead {
    first: *const u8,
    /// Bytes between rows, rows, and lines of a row.
    stride: usize,
    rows: usize,
    lines: usize,
    row: usize,
    line: usize,
}

impl Ahead {
    /// Nothing to ask for.
    pub(super) fn nothing() -> Self {
        Self { first: std::ptr::null(), stride: 0, rows: 0, lines: 0, row: 0, line: 0 }
    }

    pub(super) fn new(part: &Part<'_>) -> Self {
        let (first, size) = match part.factor.data {
            Elements::F32(x) => (x.as_ptr().cast::<u8>(), size_of::<f32>()),
            Elements::Bf16(x) => (x.as_ptr().cast::<u8>(), size_of::<bf16>()),
            Elements::I8(x) => (x.as_ptr().cast::<u8>(), size_of::<i8>()),
        };
        let (rows, cols) = if part.along_k { (part.span, part.ks) } else { (part.ks, part.span) };
        let first = first.wrapping_add((rows.0 * part.factor.stride + cols.0) * size);
        // A row that does not begin on a line touches one more.
        let lines = ((cols.1 - cols.0) * size).div_ceil(64) + 1;
        Self { first, stride: part.factor.stride * size, rows: rows.1 - rows.0, lines, row: 0, line: 0 }
    }

    /// The first `count` of words that lie one after another.
    pub(super) fn of_words(words: &[u32], count: usize) -> Self {
        let lines = (4 * count.min(words.len())).div_ceil(64);
        Self { first: words.as_ptr().cast(), stride: 0, rows: 1, lines, row: 0, line: 0 }
    }

    /// Asks for the next line, if there is one.
    #[inline(always)]
    pub(super) fn next(&mut self) {
        if self.row < self.rows {
            prefetch(self.first.wrapping_add(self.row * self.stride + self.line * 64));
            self.line += 1;
            if self.line == self.lines {
                (self.line, self.row) = (0, self.row + 1);
            }
        }
    }
}
