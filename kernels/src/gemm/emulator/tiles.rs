//! The tiles of one thread and what instructions do to them, after the operation sections of Intel's manual (volume 2).

use super::decode::Product;
use crate::isa::{Isa, multiversion};

/// Rows of a tile, at most.
const ROWS: usize = 16;
/// Bytes of a row, at most.
const ROW_BYTES: usize = 64;
/// Words of a row, at most.
const WORDS: usize = ROW_BYTES / 4;
/// Palette 1 has eight.
const TILES: usize = 8;

/// Why an instruction would have raised an exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Palettes 0 and 1 exist.
    Palette,
    /// A reserved byte of the configuration is not zero.
    Reserved,
    /// A tile has more than 16 rows of 64 bytes, or rows without bytes, or bytes without rows.
    Extent,
    /// No configuration is loaded, or the tile has no rows in it.
    NotConfigured,
    /// The three tiles of a product are not three.
    Shared,
    /// Rows or columns of a product's tiles do not fit.
    Shapes,
}

impl Fault {
    /// For the last words of a process.
    pub(super) fn says(self) -> &'static str {
        match self {
            Fault::Palette => "an unknown palette\n",
            Fault::Reserved => "a reserved byte of the tile configuration is not zero\n",
            Fault::Extent => "a tile that is too large or half empty\n",
            Fault::NotConfigured => "a tile that is not configured\n",
            Fault::Shared => "a product whose tiles are not three\n",
            Fault::Shapes => "a product of tiles that do not fit\n",
        }
    }
}

/// Rows and bytes of a row that a tile is configured for; neither is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Extent {
    rows: usize,
    bytes: usize,
}

type Tile = [[u8; ROW_BYTES]; ROWS];

/// Eight tiles with their configuration.
pub(super) struct Tiles {
    extents: [Option<Extent>; TILES],
    /// Where an interrupted load or store goes on.
    start_row: usize,
    data: [Tile; TILES],
}

impl Tiles {
    /// As a thread finds them: no configuration.
    pub(super) const fn new() -> Self {
        Self { extents: [None; TILES], start_row: 0, data: [[[0; ROW_BYTES]; ROWS]; TILES] }
    }

    /// `tilerelease`.
    pub(super) fn release(&mut self) {
        *self = Self::new();
    }

    /// `ldtilecfg`.
    pub(super) fn configure(&mut self, bytes: &[u8; 64]) -> Result<(), Fault> {
        match bytes[0] {
            0 => {
                self.release();
                return Ok(());
            }
            1 => {}
            _ => return Err(Fault::Palette),
        }
        if bytes[2..16].iter().chain(&bytes[32..48]).chain(&bytes[56..]).any(|&byte| byte != 0) {
            return Err(Fault::Reserved);
        }
        let mut extents = [None; TILES];
        for (tile, extent) in extents.iter_mut().enumerate() {
            let wide = u16::from_le_bytes([bytes[16 + 2 * tile], bytes[17 + 2 * tile]]);
            *extent = match (usize::from(bytes[48 + tile]), usize::from(wide)) {
                (0, 0) => None,
                (rows @ 1..=ROWS, bytes @ 1..=ROW_BYTES) => Some(Extent { rows, bytes }),
                _ => return Err(Fault::Extent),
            };
        }
        self.release();
        (self.extents, self.start_row) = (extents, usize::from(bytes[1]));
        Ok(())
    }

    fn extent(&self, tile: u8) -> Result<Extent, Fault> {
        self.extents[usize::from(tile)].ok_or(Fault::NotConfigured)
    }

    /// `tilezero`.
    pub(super) fn zero(&mut self, tile: u8) -> Result<(), Fault> {
        self.extent(tile)?;
        (self.data[usize::from(tile)], self.start_row) = ([[0; ROW_BYTES]; ROWS], 0);
        Ok(())
    }

    /// `tileloadd`: the tile's rows, `stride` bytes apart; what lies beyond its extent becomes zero.
    ///
    /// # Safety
    /// The rows of the tile's extent are there to be read.
    pub(super) unsafe fn load(&mut self, tile: u8, from: *const u8, stride: isize) -> Result<(), Fault> {
        let Extent { rows, bytes } = self.extent(tile)?;
        let data = &mut self.data[usize::from(tile)];
        for (r, row) in data.iter_mut().enumerate().take(rows).skip(self.start_row) {
            let from = from.wrapping_offset(r as isize * stride);
            // SAFETY: the row is there (caller), and no longer than the tile's (`configure`).
            unsafe { std::ptr::copy_nonoverlapping(from, row.as_mut_ptr(), bytes) };
            row[bytes..].fill(0);
        }
        data[rows..].fill([0; ROW_BYTES]);
        self.start_row = 0;
        Ok(())
    }

    /// `tilestored`: the tile's rows, `stride` bytes apart.
    ///
    /// # Safety
    /// The rows of the tile's extent are there to be written.
    pub(super) unsafe fn store(&mut self, tile: u8, to: *mut u8, stride: isize) -> Result<(), Fault> {
        let Extent { rows, bytes } = self.extent(tile)?;
        for (r, row) in self.data[usize::from(tile)].iter().enumerate().take(rows).skip(self.start_row) {
            // SAFETY: as for `load`.
            unsafe { std::ptr::copy_nonoverlapping(row.as_ptr(), to.wrapping_offset(r as isize * stride), bytes) };
        }
        self.start_row = 0;
        Ok(())
    }

    /// C += A B of four bytes or two halves a word: A has rows of words, B has a row for each of them.
    pub(super) fn multiply(&mut self, isa: Isa, product: Product, c: u8, a: u8, b: u8) -> Result<(), Fault> {
        if a == b || a == c || b == c {
            return Err(Fault::Shared);
        }
        let (of_c, of_a, of_b) = (self.extent(c)?, self.extent(a)?, self.extent(b)?);
        let whole = [of_a, of_b, of_c].iter().all(|extent| extent.bytes.is_multiple_of(4));
        if !whole || of_c.rows != of_a.rows || of_a.bytes != 4 * of_b.rows || of_c.bytes != of_b.bytes {
            return Err(Fault::Shapes);
        }
        let (a, b) = (self.data[usize::from(a)], self.data[usize::from(b)]);
        for (row, a) in self.data[usize::from(c)].iter_mut().zip(&a).take(of_c.rows) {
            let sums = match product {
                Product::Halves => halves(isa, words(row), words(a), &b),
                Product::Bytes { a_signed, b_signed } => bytes(isa, words(row), words(a), &b, (a_signed, b_signed)),
            };
            let columns = row.as_chunks_mut().0.iter_mut().take(of_c.bytes / 4);
            columns.zip(sums).for_each(|(to, sum)| *to = u32::to_le_bytes(sum));
        }
        self.start_row = 0;
        Ok(())
    }
}

fn words(row: &[u8; ROW_BYTES]) -> [u32; WORDS] {
    std::array::from_fn(|i| u32::from_le_bytes([row[4 * i], row[4 * i + 1], row[4 * i + 2], row[4 * i + 3]]))
}

/// A subnormal number is zero, going in and coming out.
#[inline(always)]
fn flushed(x: f32) -> f32 {
    if x.abs() < f32::MIN_POSITIVE { 0.0f32.copysign(x) } else { x }
}

multiversion! {
    /// A row of C plus a row of A times B: the products of lower halves are summed for themselves, those of upper halves too, each
    /// from zero on by fused multiply-adds; then one sum of both, then that and C.
    fn halves(c: [u32; WORDS], a: [u32; WORDS], b: &Tile) -> [u32; WORDS] {
        let split = |word: u32| (flushed(f32::from_bits(word << 16)), flushed(f32::from_bits(word & 0xffff_0000)));
        let (mut lower, mut upper) = ([0.0f32; WORDS], [0.0f32; WORDS]);
        for (a, b) in a.into_iter().zip(b) {
            let (a, b) = (split(a), words(b).map(split));
            for n in 0..WORDS {
                lower[n] = flushed(a.0.mul_add(b[n].0, lower[n]));
                upper[n] = flushed(a.1.mul_add(b[n].1, upper[n]));
            }
        }
        std::array::from_fn(|n| flushed(flushed(f32::from_bits(c[n])) + flushed(lower[n] + upper[n])).to_bits())
    }
}

multiversion! {
    /// The same of bytes, in integers of 32 bits that wrap.
    fn bytes(c: [u32; WORDS], a: [u32; WORDS], b: &Tile, signed: (bool, bool)) -> [u32; WORDS] {
        let wide = |byte: u8, signed: bool| if signed { i32::from(byte as i8) } else { i32::from(byte) };
        let mut sums = c.map(|c| c as i32);
        for (a, b) in a.into_iter().zip(b) {
            let (a, b) = (a.to_le_bytes(), words(b));
            for (n, sum) in sums.iter_mut().enumerate() {
                for (a, b) in a.into_iter().zip(b[n].to_le_bytes()) {
                    *sum = sum.wrapping_add(wide(a, signed.0) * wide(b, signed.1));
                }
            }
        }
        sums.map(|sum| sum as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A configuration of tiles of the given (rows, bytes), the others unused.
    fn configuration(tiles: &[(u8, u16)]) -> [u8; 64] {
        let mut bytes = [0; 64];
        bytes[0] = 1;
        for (tile, (rows, wide)) in tiles.iter().enumerate() {
            bytes[16 + 2 * tile..][..2].copy_from_slice(&wide.to_le_bytes());
            bytes[48 + tile] = *rows;
        }
        bytes
    }

    fn configured(tiles: &[(u8, u16)]) -> Tiles {
        let mut all = Tiles::new();
        all.configure(&configuration(tiles)).expect("a configuration");
        all
    }

    #[test]
    fn a_configuration_that_the_processor_refuses_is_refused() {
        let with = |at: usize, byte: u8| {
            let mut bytes = configuration(&[(16, 64), (3, 8)]);
            bytes[at] = byte;
            Tiles::new().configure(&bytes)
        };
        assert_eq!(with(0, 1), Ok(()));
        assert_eq!(with(0, 2), Err(Fault::Palette));
        for reserved in (2..16).chain(32..48).chain(56..64) {
            assert_eq!(with(reserved, 1), Err(Fault::Reserved), "byte {reserved}");
        }
        // 17 rows; 65 bytes; 256 + 64 bytes; bytes without rows; rows without bytes.
        for (at, byte) in [(48, 17), (16, 65), (17, 1), (49, 0), (18, 0), (50, 1), (20, 1)] {
            assert_eq!(with(at, byte), Err(Fault::Extent), "byte {at} = {byte}");
        }
    }

    #[test]
    fn palette_zero_and_a_release_leave_no_tile() {
        let mut tiles = configured(&[(1, 4)]);
        assert_eq!(tiles.zero(0), Ok(()));
        assert_eq!(tiles.zero(1), Err(Fault::NotConfigured));
        assert_eq!(tiles.configure(&[0; 64]), Ok(()));
        assert_eq!(tiles.zero(0), Err(Fault::NotConfigured));
        let mut tiles = configured(&[(1, 4)]);
        tiles.release();
        assert_eq!(tiles.zero(0), Err(Fault::NotConfigured));
    }

    #[test]
    fn a_product_of_tiles_that_do_not_fit_is_refused() {
        let multiply =
            |tiles: &[(u8, u16)], c, a, b| configured(tiles).multiply(Isa::Portable, Product::Halves, c, a, b);
        // C [5 x 3], A [5 x 7 words], B [7 x 3].
        assert_eq!(multiply(&[(5, 12), (5, 28), (7, 12)], 0, 1, 2), Ok(()));
        for (c, a, b) in [(0, 0, 2), (0, 1, 0), (0, 1, 1)] {
            assert_eq!(multiply(&[(16, 64), (16, 64), (16, 64)], c, a, b), Err(Fault::Shared), "{c} {a} {b}");
        }
        for wrong in [
            [(6, 12), (5, 28), (7, 12)],
            [(5, 12), (5, 24), (7, 12)],
            [(5, 16), (5, 28), (7, 12)],
            [(5, 13), (5, 28), (7, 13)],
        ] {
            assert_eq!(multiply(&wrong, 0, 1, 2), Err(Fault::Shapes), "{wrong:?}");
        }
        assert_eq!(multiply(&[(5, 12), (5, 28)], 0, 1, 2), Err(Fault::NotConfigured));
    }

    #[test]
    fn an_interrupted_load_goes_on_at_its_row() {
        let mut bytes = configuration(&[(4, 8)]);
        bytes[1] = 2;
        let mut tiles = Tiles::new();
        tiles.configure(&bytes).expect("a configuration");
        let source: [u8; 32] = std::array::from_fn(|i| i as u8 + 1);
        let mut out = [0u8; 32];
        // SAFETY: four rows of eight bytes on both sides.
        unsafe {
            tiles.load(0, source.as_ptr(), 8).expect("a tile");
            tiles.store(0, out.as_mut_ptr(), 8).expect("a tile");
        }
        assert_eq!((&out[..16], &out[16..]), (&[0; 16][..], &source[16..]));
    }
}
