//! What a product takes: matrices as they lie in memory, in each type.

use super::pack::Word;
use galatea_tensor::bf16;

/// How a factor lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// As written: A is [m, k], B is [k, n].
    Normal,
    /// Transposed: A is [k, m], B is [n, k].
    Transposed,
}

/// Elements of a matrix.
#[derive(Clone, Copy, Debug)]
pub enum Elements<'a> {
    /// In f32.
    F32(&'a [f32]),
    /// In bf16.
    Bf16(&'a [bf16]),
    /// In int8, which is multiplied by int8 alone.
    I8(&'a [i8]),
}

/// Elements of a matrix to write.
#[derive(Debug)]
pub enum ElementsMut<'a> {
    /// In f32.
    F32(&'a mut [f32]),
    /// In bf16.
    Bf16(&'a mut [bf16]),
}

impl<'a> From<&'a [f32]> for Elements<'a> {
    fn from(x: &'a [f32]) -> Self {
        Elements::F32(x)
    }
}

impl<'a> From<&'a [bf16]> for Elements<'a> {
    fn from(x: &'a [bf16]) -> Self {
        Elements::Bf16(x)
    }
}

impl<'a> From<&'a [i8]> for Elements<'a> {
    fn from(x: &'a [i8]) -> Self {
        Elements::I8(x)
    }
}

impl<'a> From<&'a mut [f32]> for ElementsMut<'a> {
    fn from(x: &'a mut [f32]) -> Self {
        ElementsMut::F32(x)
    }
}

impl<'a> From<&'a mut [bf16]> for ElementsMut<'a> {
    fn from(x: &'a mut [bf16]) -> Self {
        ElementsMut::Bf16(x)
    }
}

impl Elements<'_> {
    /// The number of elements.
    pub(crate) fn len(&self) -> usize {
        match self {
            Elements::F32(x) => x.len(),
            Elements::Bf16(x) => x.len(),
            Elements::I8(x) => x.len(),
        }
    }

    /// What a product with this factor is made of, where the factor decides.
    pub(crate) fn precision(&self) -> Precision {
        match self {
            Elements::F32(_) => Precision::F32,
            Elements::Bf16(_) => Precision::Bf16,
            Elements::I8(_) => Precision::Int8,
        }
    }

    /// The elements from `at` on as words, or `None` if a word holds something else.
    pub(super) fn words(&self, at: usize, word: Word) -> Option<*const u32> {
        match (self, word) {
            (Elements::F32(x), Word::Single) => Some(x[at..].as_ptr().cast()),
            (Elements::Bf16(x), Word::Pair) => Some(x[at..].as_ptr().cast()),
            // The lowest byte first, as packing has it.
            (Elements::I8(x), Word::Quad) if cfg!(target_endian = "little") => Some(x[at..].as_ptr().cast()),
            (
                Elements::F32(_) | Elements::Bf16(_) | Elements::I8(_),
                Word::Single | Word::Rounded | Word::Pair | Word::Quad | Word::Lifted,
            ) => None,
        }
    }
}

impl ElementsMut<'_> {
    pub(super) fn len(&self) -> usize {
        match self {
            ElementsMut::F32(x) => x.len(),
            ElementsMut::Bf16(x) => x.len(),
        }
    }
}

/// A factor of a product, row-major with `stride` elements between rows.
#[derive(Clone, Copy, Debug)]
pub struct Factor<'a> {
    /// The elements.
    pub data: Elements<'a>,
    /// Elements from one row to the next.
    pub stride: usize,
    /// How it lies in memory.
    pub layout: Layout,
}

impl<'a> Factor<'a> {
    /// A dense factor with rows of `cols` elements as they lie in memory.
    pub fn new(data: impl Into<Elements<'a>>, cols: usize, layout: Layout) -> Self {
        Self { data: data.into(), stride: cols, layout }
    }

    /// The factor that begins `at` elements later.
    pub(super) fn after(self, at: usize) -> Self {
        let data = match self.data {
            Elements::F32(x) => Elements::F32(&x[at..]),
            Elements::Bf16(x) => Elements::Bf16(&x[at..]),
            Elements::I8(x) => Elements::I8(&x[at..]),
        };
        Self { data, ..self }
    }

    #[track_caller]
    pub(super) fn check(&self, rows: usize, cols: usize) {
        let (rows, cols) = if self.layout == Layout::Normal { (rows, cols) } else { (cols, rows) };
        let len = self.data.len();
        assert!(
            self.stride >= cols && len >= (rows - 1) * self.stride + cols,
            "a factor of {len} elements is too short for {rows} rows of {cols}, {} apart",
            self.stride
        );
    }
}

/// What is multiplied; sums are f32, or i32 of int8.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// f32.
    F32,
    /// bf16: a factor in f32 is rounded first.
    Bf16,
    /// int8, both factors: tiles are i32 in the bits of f32 ([`super::int8`]).
    Int8,
}
