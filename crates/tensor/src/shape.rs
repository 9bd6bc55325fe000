//! Shapes: row-major, contiguous, rank at most four, no strides.

use std::fmt;

/// The extents of a tensor. A transpose is a flag of the matrix product, never a view, so extents are all there is.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [u32; 4],
    rank: u8,
}

impl Shape {
    /// A shape of rank 1 to 4.
    ///
    /// # Panics
    /// If the rank is not 1 to 4 or an extent is zero or beyond `u32`: a recording mistake, caught before anything runs.
    #[track_caller]
    pub fn new(dims: &[usize]) -> Self {
        assert!((1..=4).contains(&dims.len()), "a shape has rank 1 to 4, not {}", dims.len());
        let mut out = [1u32; 4];
        for (to, &from) in out.iter_mut().zip(dims) {
            *to = u32::try_from(from)
                .ok()
                .filter(|&d| d > 0)
                .unwrap_or_else(|| panic!("extents are 1 to 2^32 - 1: {dims:?}"));
        }
        Self { dims: out, rank: dims.len() as u8 }
    }

    /// The extents, outermost first.
    pub fn dims(&self) -> &[u32] {
        &self.dims[..usize::from(self.rank)]
    }

    /// Extent `i`, outermost first.
    ///
    /// # Panics
    /// If `i` is not below the rank.
    #[track_caller]
    pub fn dim(&self, i: usize) -> usize {
        self.dims()[i] as usize
    }

    /// The number of extents.
    pub fn rank(&self) -> usize {
        usize::from(self.rank)
    }

    /// The number of elements.
    #[expect(clippy::len_without_is_empty, reason = "extents are positive: no shape is empty")]
    pub fn len(&self) -> usize {
        self.dims.iter().map(|&d| d as usize).product()
    }

    /// The last extent.
    pub fn cols(&self) -> usize {
        self.dim(self.rank() - 1)
    }

    /// The product of all extents but the last.
    pub fn rows(&self) -> usize {
        self.len() / self.cols()
    }

    /// This shape with another last extent.
    pub fn with_cols(mut self, cols: usize) -> Self {
        self.dims[self.rank() - 1] = u32::try_from(cols).expect("extents fit u32");
        self
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.dims())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::Shape;

    #[test]
    fn rows_times_cols_is_len() {
        let s = Shape::new(&[2, 3, 5]);
        assert_eq!((s.rows(), s.cols(), s.len(), s.rank()), (6, 5, 30, 3));
        assert_eq!(s.with_cols(7), Shape::new(&[2, 3, 7]));
        assert_eq!(format!("{s}"), "[2, 3, 5]");
    }

    #[test]
    #[should_panic(expected = "extents are 1")]
    fn zero_extents_are_refused() {
        Shape::new(&[2, 0]);
    }
}
