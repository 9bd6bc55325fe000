//! Launching, and what the tests launch with.

use galatea_interpreter::{Extent, Failure, Kind};
use std::ffi::c_void;

/// Launches a kernel with the given values as arguments.
macro_rules! call {
    ($entry:expr, $grid:expr, $block:expr, $shared:expr, $seed:expr, $($arg:expr),*) => {{
        // SAFETY: the pointers among the arguments are to vectors of the size that the kernel expects, alive in the caller.
        unsafe { crate::common::run($entry, $grid, $block, $shared, $seed, &mut [$(crate::common::bytes(&$arg)),*]) }
    }};
}
pub(crate) use call;

/// The bytes of an argument, at an address that is aligned for any.
pub(crate) fn bytes<T: Copy>(value: &T) -> (Box<[Line]>, usize) {
    let size = size_of::<T>();
    let mut copy = vec![Line([0; 64]); size.div_ceil(64)].into_boxed_slice();
    // SAFETY: the copy has at least the value's bytes, which are read as bytes of which none is interpreted.
    unsafe { std::ptr::from_ref(value).cast::<u8>().copy_to_nonoverlapping(copy.as_mut_ptr().cast(), size) };
    (copy, size)
}

/// As many bytes as the most aligned argument wants.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Line([u8; 64]);

/// # Safety
/// As for `galatea_interpreter::launch`.
pub(crate) unsafe fn run(
    entry: &str,
    grid: [u32; 3],
    block: [u32; 3],
    shared: u32,
    seed: u64,
    values: &mut [(Box<[Line]>, usize)],
) -> Result<(), Failure> {
    // SAFETY: the caller's promise is the same.
    unsafe { run_within(entry, grid, block, shared, seed, values, &[]) }
}

/// # Safety
/// As for `galatea_interpreter::launch_within`.
pub(crate) unsafe fn run_within(
    entry: &str,
    grid: [u32; 3],
    block: [u32; 3],
    shared: u32,
    seed: u64,
    values: &mut [(Box<[Line]>, usize)],
    memory: &[Extent],
) -> Result<(), Failure> {
    let sizes: Vec<usize> = values.iter().map(|value| value.1).collect();
    let mut args: Vec<*mut c_void> = values.iter_mut().map(|value| value.0.as_mut_ptr().cast()).collect();
    // SAFETY: every argument has as many bytes as told; the caller answers for pointers.
    unsafe { galatea_interpreter::launch_within(entry, grid, block, shared, &mut args, &sizes, seed, memory) }
}

/// What the interpreter's copy engine reads: a matrix and the box that is moved at a time.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Map {
    base: *const u8,
    dims: [u64; 3],
    pitches: [u64; 2],
    boxes: [u32; 3],
    elem_bytes: u32,
    swizzle: u32,
    unused: [u32; 15],
}

impl Map {
    pub(crate) fn new<T>(x: &[T], rows: usize, cols: usize, [box_cols, box_rows]: [u32; 2]) -> Self {
        let size = size_of::<T>();
        Self {
            base: x.as_ptr().cast(),
            dims: [cols as u64, rows as u64, 1],
            pitches: [(size * cols) as u64, (size * rows * cols) as u64],
            boxes: [box_cols, box_rows, 1],
            elem_bytes: size as u32,
            swizzle: 128,
            unused: [0; 15],
        }
    }

    /// Of `depth` matrices, moved `box_depth` at a time.
    pub(crate) fn of(mut self, depth: u64, box_depth: u32, swizzle: u32) -> Self {
        self.dims[2] = depth;
        self.boxes[2] = box_depth;
        self.swizzle = swizzle;
        self
    }

    /// Of two matrices, moved one at a time.
    pub(crate) fn of_two(self, swizzle: u32) -> Self {
        self.of(2, 1, swizzle)
    }
}

/// Small whole numbers in bf16: their products and sums are exact in f32.
pub(crate) fn whole(n: usize, seed: usize) -> Vec<u16> {
    let number = |i: usize| ((((i * 31 + seed * 17) * 2_654_435_761) >> 7) % 9) as f32 - 4.0;
    (0..n).map(|i| (number(i).to_bits() >> 16) as u16).collect()
}

pub(crate) fn f32_of(x: u16) -> f32 {
    f32::from_bits(u32::from(x) << 16)
}

/// a b^T of m x k and n x k; where `mn_major`, of k x m and k x n.
pub(crate) fn product(a: &[u16], b: &[u16], [m, n, k]: [usize; 3], mn_major: bool) -> Vec<f32> {
    let at = |x: &[u16], row: usize, rows: usize, i: usize| {
        f32_of(if mn_major { x[i * rows + row] } else { x[row * k + i] })
    };
    let element = |i: usize| (0..k).map(|p| at(a, i / n, m, p) * at(b, i % n, n, p)).sum();
    (0..m * n).map(element).collect()
}

/// A product through the copy engine; `mistake` as in tests/kernels/hopper.cu.
pub(crate) fn hopper(seed: u64, size: [usize; 3], mn_major: bool, mistake: i32) -> Result<Vec<f32>, Failure> {
    let [m, n, k] = size;
    let (a, b) = (whole(m * k, 1), whole(n * k, 2));
    let mut c = vec![f32::NAN; m * n];
    let (entry, ma, mb) = if mn_major {
        ("demo_hopper_mn", Map::new(&a, k, m, [64, 64]), Map::new(&b, k, n, [64, 64]))
    } else {
        ("demo_hopper", Map::new(&a, m, k, [64, 128]), Map::new(&b, n, k, [64, 128]))
    };
    let (grid, block, shared) = ([2, 1, 1], [384, 1, 1], 3 * 32768 + 48);
    call!(entry, grid, block, shared, seed, ma, mb, c.as_mut_ptr(), m as i32, n as i32, k as i32, mistake)?;
    Ok(c)
}

/// A product of warps; `mistake` as in tests/kernels/ampere.cu.
pub(crate) fn ampere(seed: u64, size: [usize; 3], mistake: i32) -> Result<Vec<f32>, Failure> {
    let [m, n, k] = size;
    let (a, b) = (whole(m * k, 1), whole(n * k, 2));
    let mut c = vec![f32::NAN; m * n];
    let (grid, block) = ([n.div_ceil(64) as u32, m.div_ceil(64) as u32, 1], [128, 1, 1]);
    let (pa, pb, pc) = (a.as_ptr(), b.as_ptr(), c.as_mut_ptr());
    call!("demo_ampere", grid, block, 3 * 8192, seed, pa, pb, pc, m as i32, n as i32, k as i32, mistake)?;
    Ok(c)
}

/// What happened under 8 schedules: every failure and every wrong answer.
pub(crate) fn noticed<T: PartialEq>(right: &T, run: impl Fn(u64) -> Result<T, Failure>) -> Vec<Option<Failure>> {
    let outcomes = (0..8).filter_map(|seed| match run(seed) {
        Ok(answer) => (answer != *right).then_some(None),
        Err(failure) => Some(Some(failure)),
    });
    outcomes.collect()
}

/// Asserts that every schedule fails with `kind`.
pub(crate) fn always(kind: Kind, run: impl Fn(u64) -> Result<(), Failure>) -> Failure {
    let mut last = None;
    for seed in 0..8 {
        let failure = run(seed).expect_err("the mistake must be noticed");
        assert_eq!(failure.kind, kind, "seed {seed}: {failure}");
        last = Some(failure);
    }
    last.expect("eight schedules ran")
}
