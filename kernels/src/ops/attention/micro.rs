//! Small products of matrices that lie in cache: C = A B or C + A B, in a register tile of 8 rows by 3 vectors.
//!
//! A product computes whole tiles (rows of C in eights, columns in sixteens), so buffers are padded; only the depth is
//! exact, and what lies in the padding never reaches a true element. The sum over the depth has one order.

use crate::isa::Isa;

/// Rows of the register tile.
pub(super) const ROWS: usize = 8;
/// Columns of a vector of the widest level.
pub(super) const LANES: usize = 16;

/// Rows of a matrix, `stride` elements apart.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    data: &'a [f32],
    stride: usize,
}

impl<'a> Matrix<'a> {
    pub(super) fn new(data: &'a [f32], stride: usize) -> Self {
        Self { data, stride }
    }
}

/// The elements from one row of a padded buffer to the next: whole vectors, and an odd number of them, so that the
/// elements of a column fall into every set of the cache.
pub(super) fn stride(columns: usize) -> usize {
    (columns.div_ceil(LANES) | 1) * LANES
}

/// The register tiles of a product, as they count towards what it brings in meanwhile.
pub(super) fn tiles(m: usize, n: usize) -> usize {
    m.div_ceil(ROWS) * n.div_ceil(3 * LANES)
}

/// C [m, n] = A B, or C + A B if `add`, over `depth`. A is [m, depth], or with `TURNED` [depth, m].
///
/// # Panics
/// If a matrix is shorter than its shape in whole tiles.
pub(super) fn product<const TURNED: bool>(
    isa: Isa,
    shape: (usize, usize, usize),
    a: Matrix<'_>,
    b: Matrix<'_>,
    c: &mut [f32],
    c_stride: usize,
    add: bool,
) {
    product_while::<TURNED>(isa, shape, a, b, c, c_stride, add, &mut || {});
}

/// As [`product`]; `meanwhile` is called before every register tile: it may bring into cache what comes next.
///
/// # Panics
/// If a matrix is shorter than its shape in whole tiles.
#[expect(clippy::too_many_arguments, reason = "the product's own parameters")]
pub(super) fn product_while<const TURNED: bool>(
    isa: Isa,
    (m, n, depth): (usize, usize, usize),
    a: Matrix<'_>,
    b: Matrix<'_>,
    c: &mut [f32],
    c_stride: usize,
    add: bool,
    meanwhile: &mut dyn FnMut(),
) {
    let (rows, cols) = (m.next_multiple_of(ROWS), n.next_multiple_of(LANES));
    let (lines, width) = if TURNED { (depth, rows) } else { (rows, depth) };
    assert!(m > 0 && n > 0 && depth > 0, "an empty product");
    assert!(a.data.len() >= (lines - 1) * a.stride + width, "a is too short for {m}x{n}x{depth}");
    assert!(b.data.len() >= (depth - 1) * b.stride + cols, "b is too short for {m}x{n}x{depth}");
    assert!(c.len() >= (rows - 1) * c_stride + cols, "c is too short for {m}x{n}x{depth}");
    let mut col = 0;
    while col < cols {
        let vectors = match (cols - col) / LANES {
            // Two pairs rather than three and one.
            4 => 2,
            left => left.min(3),
        };
        let mut panel = Panel {
            rows,
            depth,
            a: a.data.as_ptr(),
            a_row: if TURNED { 1 } else { a.stride },
            a_depth: if TURNED { a.stride } else { 1 },
            b: b.data[col..].as_ptr(),
            b_stride: b.stride,
            c: c[col..].as_mut_ptr(),
            c_stride,
            add,
            meanwhile: &mut *meanwhile,
        };
        // SAFETY: a, b and c hold every element of a product of whole tiles (asserted above), and the panel's columns
        // `col .. col + vectors LANES` are among them; an `Isa` exists only where `Isa::best` found its features.
        unsafe {
            match (isa, vectors) {
                #[cfg(target_arch = "x86_64")]
                (Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx, 3) => panel.avx512::<3, TURNED>(),
                #[cfg(target_arch = "x86_64")]
                (Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx, 2) => panel.avx512::<2, TURNED>(),
                #[cfg(target_arch = "x86_64")]
                (Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx, _) => panel.avx512::<1, TURNED>(),
                #[cfg(target_arch = "x86_64")]
                (Isa::Avx2, _) => panel.avx2(vectors),
                #[cfg(not(target_arch = "x86_64"))]
                (Isa::Avx2 | Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx, _) => panel.portable(vectors),
                (Isa::Portable, _) => panel.portable(vectors),
            }
        }
        col += vectors * LANES;
    }
}

/// Some whole vectors of columns of a product: element (row, k) of A is `a[row a_row + k a_depth]`.
struct Panel<'a> {
    rows: usize,
    depth: usize,
    a: *const f32,
    a_row: usize,
    a_depth: usize,
    b: *const f32,
    b_stride: usize,
    c: *mut f32,
    c_stride: usize,
    add: bool,
    meanwhile: &'a mut dyn FnMut(),
}

impl Panel<'_> {
    /// `V` vectors of columns.
    ///
    /// # Safety
    /// The machine has AVX-512F; A, B and C hold `rows` (a multiple of ROWS), `depth` and `V LANES` columns.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f")]
    unsafe fn avx512<const V: usize, const TURNED: bool>(&mut self) {
        use std::arch::x86_64::*;
        for row in (0..self.rows).step_by(ROWS) {
            (self.meanwhile)();
            // SAFETY: all of these lie within the panel (the caller's promise).
            unsafe {
                let c = self.c.add(row * self.c_stride);
                let a = self.a.add(row * self.a_row);
                // Rows of A, or one run of ROWS that moves by a row of A: constants either way.
                let from: [*const f32; ROWS] = std::array::from_fn(|r| a.wrapping_add(r * self.a_row));
                let mut sums = [[_mm512_setzero_ps(); V]; ROWS];
                if self.add {
                    for (r, sums) in sums.iter_mut().enumerate() {
                        for (v, sum) in sums.iter_mut().enumerate() {
                            *sum = _mm512_loadu_ps(c.add(r * self.c_stride + v * LANES));
                        }
                    }
                }
                let mut b = self.b;
                let mut a = a;
                for k in 0..self.depth {
                    let mut x = [_mm512_setzero_ps(); V];
                    for (v, x) in x.iter_mut().enumerate() {
                        *x = _mm512_loadu_ps(b.add(v * LANES));
                    }
                    for (r, sums) in sums.iter_mut().enumerate() {
                        let w = _mm512_set1_ps(if TURNED { *a.add(r) } else { *from[r].add(k) });
                        for (sum, x) in sums.iter_mut().zip(x) {
                            *sum = _mm512_fmadd_ps(w, x, *sum);
                        }
                    }
                    b = b.wrapping_add(self.b_stride);
                    a = a.wrapping_add(self.a_depth);
                }
                for (r, sums) in sums.into_iter().enumerate() {
                    for (v, sum) in sums.into_iter().enumerate() {
                        _mm512_storeu_ps(c.add(r * self.c_stride + v * LANES), sum);
                    }
                }
            }
        }
    }

    /// `vectors` times LANES columns, in corners of 4 rows by 16 columns: eight of sixteen registers.
    ///
    /// # Safety
    /// The machine has AVX2 and FMA; A, B and C hold `rows` (a multiple of ROWS), `depth` and the columns.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    unsafe fn avx2(&self, vectors: usize) {
        use std::arch::x86_64::*;
        const QUAD: usize = 4;
        for col in (0..vectors * LANES).step_by(LANES) {
            for row in (0..self.rows).step_by(QUAD) {
                // SAFETY: all of these lie within the panel (the caller's promise).
                unsafe {
                    let (a, c) = (self.a.add(row * self.a_row), self.c.add(row * self.c_stride + col));
                    let mut sums = [[_mm256_setzero_ps(); 2]; QUAD];
                    if self.add {
                        for (r, [low, high]) in sums.iter_mut().enumerate() {
                            *low = _mm256_loadu_ps(c.add(r * self.c_stride));
                            *high = _mm256_loadu_ps(c.add(r * self.c_stride + 8));
                        }
                    }
                    for k in 0..self.depth {
                        let b = self.b.add(k * self.b_stride + col);
                        let x = [_mm256_loadu_ps(b), _mm256_loadu_ps(b.add(8))];
                        for (r, [low, high]) in sums.iter_mut().enumerate() {
                            let w = _mm256_set1_ps(*a.add(r * self.a_row + k * self.a_depth));
                            *low = _mm256_fmadd_ps(w, x[0], *low);
                            *high = _mm256_fmadd_ps(w, x[1], *high);
                        }
                    }
                    for (r, [low, high]) in sums.into_iter().enumerate() {
                        _mm256_storeu_ps(c.add(r * self.c_stride), low);
                        _mm256_storeu_ps(c.add(r * self.c_stride + 8), high);
                    }
                }
            }
        }
    }

    /// `vectors` times LANES columns, a row of LANES at a time.
    ///
    /// # Safety
    /// A, B and C hold `rows`, `depth` and the columns.
    unsafe fn portable(&self, vectors: usize) {
        for col in (0..vectors * LANES).step_by(LANES) {
            for row in 0..self.rows {
                // SAFETY: all of these lie within the panel (the caller's promise).
                unsafe {
                    let c = &mut *self.c.add(row * self.c_stride + col).cast::<[f32; LANES]>();
                    let mut sums = if self.add { *c } else { [0.0; LANES] };
                    for k in 0..self.depth {
                        let w = *self.a.add(row * self.a_row + k * self.a_depth);
                        let x = &*self.b.add(k * self.b_stride + col).cast::<[f32; LANES]>();
                        for (sum, x) in sums.iter_mut().zip(x) {
                            *sum += w * x;
                        }
                    }
                    *c = sums;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::Host;

    #[test]
    fn every_shape_and_level_equals_the_f64_product() {
        for isa in Isa::available() {
            for (m, n, depth) in
                [(1usize, 1usize, 1usize), (8, 16, 3), (9, 33, 20), (16, 48, 100), (23, 64, 31), (40, 130, 7)]
            {
                let (rows, cols) = (m.next_multiple_of(ROWS), n.next_multiple_of(LANES));
                let f32s = |dims: &[usize], row| Host::normal(dims, row).f64();
                let (a, b) = (f32s(&[rows, depth], 1), f32s(&[depth, cols], 2));
                let turned: Vec<f32> = (0..depth * rows).map(|e| a[e % rows * depth + e / rows] as f32).collect();
                let [a32, b32] = [&a, &b].map(|x| x.iter().map(|&x| x as f32).collect::<Vec<f32>>());
                let b32 = Matrix::new(&b32, cols);
                let mut c = vec![f32::NAN; rows * cols];
                product::<false>(isa, (m, n, depth), Matrix::new(&a32, depth), b32, &mut c, cols, false);
                product::<true>(isa, (m, n, depth), Matrix::new(&turned, rows), b32, &mut c, cols, true);
                for (e, c) in c.iter().enumerate() {
                    let truth = 2.0 * (0..depth).map(|k| a[e / cols * depth + k] * b[k * cols + e % cols]).sum::<f64>();
                    // Rounding of a sum of `depth` products grows with the root of the depth.
                    let bound = 1e-6 * (depth as f64).sqrt() * 8.0;
                    assert!((f64::from(*c) - truth).abs() < bound, "{isa:?} {m}x{n}x{depth}: element {e}");
                }
            }
        }
    }
}
