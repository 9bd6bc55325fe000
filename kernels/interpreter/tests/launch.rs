//! The interpreter's own kernels, and the mistakes that it must notice.

use galatea_interpreter::{Failure, Kind, launch};
use std::ffi::c_void;

/// Pointers to arguments and their sizes.
macro_rules! call {
    ($entry:expr, $grid:expr, $block:expr, $shared:expr, $seed:expr, $($arg:expr),*) => {{
        let mut args = [$((&raw mut $arg).cast::<c_void>()),*];
        let sizes = [$(size_of_val(&$arg)),*];
        // SAFETY: the arguments are local and the pointers among them are to vectors of the size that the kernel expects.
        unsafe { launch($entry, $grid, $block, $shared, &mut args, &sizes, $seed) }
    }};
}

fn normalize(seed: u64, cols: usize) -> Result<Vec<f32>, Failure> {
    let rows = 3;
    let x: Vec<f32> = (0..rows * cols).map(|i| 1.0 + (i * 7 % 13) as f32).collect();
    let mut y = vec![f32::NAN; rows * cols];
    let (mut from, mut to, mut n) = (x.as_ptr(), y.as_mut_ptr(), cols as u32);
    call!("demo_normalize", [rows as u32, 1, 1], [256, 1, 1], 0, seed, from, to, n)?;
    Ok(y)
}

#[test]
fn a_correct_kernel_passes_under_every_schedule() {
    let first = normalize(0, 300).expect("it is correct");
    for row in first.chunks(300) {
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    }
    for seed in 1..64 {
        assert_eq!(normalize(seed, 300).expect("it is correct"), first, "seed {seed}");
    }
}

#[test]
fn what_the_driver_would_refuse_is_refused() {
    let mut word = 0u32;
    let failure = call!("no_such_kernel", [1, 1, 1], [1, 1, 1], 0, 0, word).expect_err("no such kernel");
    assert_eq!(failure.kind, Kind::UnknownEntry);
    let failure = call!("demo_normalize", [1, 1, 1], [1, 1, 1], 0, 0, word).expect_err("too few arguments");
    assert_eq!((failure.kind, failure.text.as_str()), (Kind::Arguments, "1 arguments, expected 3"));
    let (mut from, mut to) = (std::ptr::null::<f32>(), std::ptr::null_mut::<f32>());
    let mut long = 0u64;
    let failure = call!("demo_normalize", [1, 1, 1], [1, 1, 1], 0, 0, from, to, long).expect_err("a wrong size");
    assert_eq!((failure.kind, failure.text.as_str()), (Kind::Arguments, "argument 2 has 8 bytes, expected 4"));
    let failure = call!("demo_normalize", [1, 1, 1], [1025, 1, 1], 0, 0, from, to, word).expect_err("too large");
    assert_eq!(failure.kind, Kind::Launch);
    let failure = call!("demo_normalize", [1, 1, 1], [32, 1, 1], 240_000, 0, from, to, word).expect_err("too large");
    assert_eq!(failure.kind, Kind::Launch);
}

/// What the interpreter's copy engine reads: a matrix of bf16 and the box that is moved at a time.
#[repr(C, align(64))]
struct Map {
    base: *const u16,
    dims: [u64; 3],
    pitches: [u64; 2],
    boxes: [u32; 3],
    elem_bytes: u32,
    swizzle: u32,
    unused: [u32; 15],
}

impl Map {
    fn new(x: &[u16], rows: usize, cols: usize, boxes: [u32; 2]) -> Self {
        let (dims, pitches) = ([cols as u64, rows as u64, 1], [2 * cols as u64, 2 * (rows * cols) as u64]);
        let boxes = [boxes[0], boxes[1], 1];
        Self { base: x.as_ptr(), dims, pitches, boxes, elem_bytes: 2, swizzle: 128, unused: [0; 15] }
    }
}

/// Small whole numbers in bf16: their products and sums are exact in f32.
fn whole(n: usize, seed: usize) -> Vec<u16> {
    (0..n)
        .map(|i| (((((i * 31 + seed * 17) * 2654435761) >> 7) % 9) as f32 - 4.0).to_bits())
        .map(|x| (x >> 16) as u16)
        .collect()
}

fn f32_of(x: u16) -> f32 {
    f32::from_bits(u32::from(x) << 16)
}

/// a b^T of m x k and n x k; where `mn_major`, of k x m and k x n.
fn product(a: &[u16], b: &[u16], [m, n, k]: [usize; 3], mn_major: bool) -> Vec<f32> {
    let at = |x: &[u16], row: usize, rows: usize, i: usize| {
        f32_of(if mn_major { x[i * rows + row] } else { x[row * k + i] })
    };
    let element = |i: usize| (0..k).map(|p| at(a, i / n, m, p) * at(b, i % n, n, p)).sum();
    (0..m * n).map(element).collect()
}

fn hopper(entry: &str, seed: u64, size: [usize; 3], mn_major: bool) -> Result<Vec<f32>, Failure> {
    let [m, n, k] = size;
    let (a, b) = (whole(m * k, 1), whole(n * k, 2));
    let mut c = vec![f32::NAN; m * n];
    let (mut ma, mut mb) = if mn_major {
        (Map::new(&a, k, m, [64, 64]), Map::new(&b, k, n, [64, 64]))
    } else {
        (Map::new(&a, m, k, [64, 128]), Map::new(&b, n, k, [64, 128]))
    };
    let (mut out, mut m, mut n, mut k) = (c.as_mut_ptr(), m as i32, n as i32, k as i32);
    call!(entry, [2, 1, 1], [384, 1, 1], 3 * 32768 + 48, seed, ma, mb, out, m, n, k)?;
    Ok(c)
}

#[test]
fn a_product_through_the_copy_engine_is_exact_under_every_schedule() {
    let size = [200, 264, 456];
    let want = |mn_major| product(&whole(size[0] * size[2], 1), &whole(size[1] * size[2], 2), size, mn_major);
    for (entry, mn_major) in [("demo_hopper", false), ("demo_hopper_mn", true)] {
        let want = want(mn_major);
        for seed in 0..16 {
            let found = hopper(entry, seed, size, mn_major).unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
            assert_eq!(found, want, "{entry}, seed {seed}");
        }
    }
}

#[test]
fn a_product_of_warps_is_exact_under_every_schedule() {
    let size = [70, 90, 104];
    let [m, n, k] = size;
    let (a, b) = (whole(m * k, 1), whole(n * k, 2));
    for seed in 0..16 {
        let mut c = vec![f32::NAN; m * n];
        let (mut pa, mut pb, mut pc) = (a.as_ptr(), b.as_ptr(), c.as_mut_ptr());
        let (mut mi, mut ni, mut ki) = (m as i32, n as i32, k as i32);
        let done = call!("demo_ampere", [2, 2, 1], [128, 1, 1], 3 * 8192, seed, pa, pb, pc, mi, ni, ki);
        done.unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
        assert_eq!(c, product(&a, &b, size, false), "seed {seed}");
    }
}
