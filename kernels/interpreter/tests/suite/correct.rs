//! Kernels that are right, under 64 schedules, against exact answers.

use crate::common::{Map, ampere, call, f32_of, hopper, product, whole};
use galatea_interpreter::{Failure, Kind};
use galatea_random::{block, normal_pair_f32, unit_f32};

fn normalize(seed: u64, cols: usize) -> Result<Vec<f32>, Failure> {
    let rows = 3;
    let x: Vec<f32> = (0..rows * cols).map(|i| 1.0 + (i * 7 % 13) as f32).collect();
    let mut y = vec![f32::NAN; rows * cols];
    call!("demo_normalize", [rows as u32, 1, 1], [256, 1, 1], 0, seed, x.as_ptr(), y.as_mut_ptr(), cols as u32)?;
    Ok(y)
}

fn passes<T: PartialEq + std::fmt::Debug>(right: &T, schedules: u64, run: impl Fn(u64) -> Result<T, Failure>) {
    for seed in 0..schedules {
        let found = run(seed).unwrap_or_else(|failure| panic!("seed {seed}: {failure}"));
        assert!(found == *right, "seed {seed}");
    }
}

#[test]
fn reductions_of_a_block_have_the_same_bits_under_every_schedule() {
    let first = normalize(0, 300).expect("it is correct");
    for row in first.chunks(300) {
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
    }
    passes(&first, 64, |seed| normalize(seed, 300));
}

#[test]
fn a_product_through_the_copy_engine_is_exact() {
    let size = [200, 136, 264];
    let [m, n, k] = size;
    for mn_major in [false, true] {
        let right = product(&whole(m * k, 1), &whole(n * k, 2), size, mn_major);
        passes(&right, 64, |seed| hopper(seed, size, mn_major, 0));
    }
}

#[test]
fn a_product_of_warps_is_exact() {
    let size = [70, 90, 104];
    let [m, n, k] = size;
    let right = product(&whole(m * k, 1), &whole(n * k, 2), size, false);
    passes(&right, 64, |seed| ampere(seed, size, 0));
}

#[test]
fn a_tile_goes_through_registers_and_out_by_the_copy_engine() {
    let x = whole(64 * 64, 3);
    // x x, of which the left half is also added to ones.
    let element = |i: usize| (0..64).map(|k| f32_of(x[i / 64 * 64 + k]) * f32_of(x[k * 64 + i % 64])).sum::<f32>();
    let square: Vec<f32> = (0..64 * 64).map(element).collect();
    let left: Vec<f32> = (0..64 * 32).map(|i| 1.0 + square[i / 32 * 64 + i % 32]).collect();
    passes(&(square, left), 64, |seed| store(seed, &x, 0));
}

/// The square of a tile of bf16, and its left half added to ones; `mistake` as in tests/kernels/hopper.cu.
pub(crate) fn store(seed: u64, x: &[u16], mistake: i32) -> Result<(Vec<f32>, Vec<f32>), Failure> {
    let (y, sum) = (vec![0xffff_u16; 64 * 64], vec![1.0_f32; 64 * 32]);
    let maps = (Map::new(x, 64, 64, [64, 64]), Map::new(&y, 64, 64, [64, 64]), Map::new(&sum, 64, 32, [32, 64]));
    call!("demo_store", [1, 1, 1], [128, 1, 1], 3 * 8192 + 8, seed, maps.0, maps.1, maps.2, mistake)?;
    Ok((y.iter().map(|&y| f32_of(y)).collect(), sum))
}

#[test]
fn signed_bytes_multiply_exactly() {
    let byte = |i: usize, seed: usize| ((((i + seed) * 2_654_435_761) >> 9) & 0xff) as u8 as i8;
    let a: Vec<i8> = (0..16 * 32).map(|i| byte(i, 1)).collect();
    let b: Vec<i8> = (0..8 * 32).map(|i| byte(i, 1000)).collect();
    let mut d = vec![0_i32; 16 * 8];
    call!("demo_s8", [1, 1, 1], [32, 1, 1], 0, 0, a.as_ptr(), b.as_ptr(), d.as_mut_ptr()).expect("it is correct");
    for (i, &found) in d.iter().enumerate() {
        let want: i32 = (0..32).map(|k| i32::from(a[i / 8 * 32 + k]) * i32::from(b[i % 8 * 32 + k])).sum();
        assert_eq!(found, want, "{i}");
    }
}

#[test]
fn matrices_are_transposed_on_their_way_into_registers() {
    let x: Vec<u16> = (0..256).collect();
    let mut y = vec![0_u32; 128];
    call!("demo_transpose", [1, 1, 1], [32, 1, 1], 0, 5, x.as_ptr(), y.as_mut_ptr()).expect("it is correct");
    for (i, &pair) in y.iter().enumerate() {
        let (matrix, lane) = (i / 32, i % 32);
        let (row, col) = (2 * (lane % 4), lane / 4);
        let element = |row: usize| x[matrix * 64 + row * 8 + col] as u32;
        assert_eq!(pair, element(row) | (element(row + 1) << 16), "{i}");
    }
}

#[test]
fn random_words_are_those_of_galatea_random() {
    let (seed, stream, step, rows) = (0x0123_4567_89ab_cdef_u64, 7_u32, 9_u32, 64);
    let (mut words, mut uniform, mut normal) = (vec![0_u32; 4 * rows], vec![0.0_f32; rows], vec![0.0_f32; 2 * rows]);
    let mut rounded = vec![0_u16; rows];
    let out = (words.as_mut_ptr(), uniform.as_mut_ptr(), normal.as_mut_ptr(), rounded.as_mut_ptr());
    call!("demo_words", [2, 1, 1], [32, 1, 1], 0, 3, seed, stream, step, out.0, out.1, out.2, out.3).expect("correct");
    for row in 0..rows {
        let want = block(seed, stream, step, row as u32, 3);
        assert_eq!(words[4 * row..4 * row + 4], want);
        assert_eq!(uniform[row], unit_f32(want[0]));
        let pair = normal_pair_f32([want[0], want[1]]);
        assert!((0..2).all(|i| (normal[2 * row + i] - pair[i]).abs() < 1e-6 * (1.0 + pair[i].abs())));
        // Nearest even: at most half a unit of the last of 8 bits.
        assert!((f32_of(rounded[row]) - normal[2 * row]).abs() <= normal[2 * row].abs() / 256.0);
    }
}

#[test]
fn lanes_shuffle_vote_and_reduce() {
    let mut y = vec![0_u32; 32 * 8];
    call!("demo_lanes", [1, 1, 1], [32, 1, 1], 0, 1, y.as_mut_ptr()).expect("it is correct");
    for lane in 0..32_usize {
        let n = lane as u32;
        let up = if lane % 8 >= 3 { n - 3 } else { n };
        let down = if lane % 16 + 3 < 16 { n + 3 } else { n };
        let votes = (0..32).filter(|l| l % 3 == 0).fold(0_u32, |all, l| all | (1 << l));
        let bytes = [-128_i32, 127, -1, 1].iter().map(|b| b * lane as i32).sum::<i32>() - 7;
        let xor = (0..32_u32).fold(0, |all, l| all ^ (l * l));
        let want = [up, down, n ^ 5, votes, -26_i32 as u32, bytes as u32, 3, xor];
        assert_eq!(y[8 * lane..8 * lane + 8], want, "lane {lane}");
    }
}

#[test]
fn the_last_block_sums_what_the_others_counted() {
    passes(&300, 64, |seed| count(seed, 0));
}

/// Words below 3 of 1000 that are 0 to 9; `mistake` as in tests/kernels/mistakes.cu.
pub(crate) fn count(seed: u64, mistake: i32) -> Result<u32, Failure> {
    let words: Vec<u32> = (0..1000).map(|i| i * 7 % 10).collect();
    let (mut parts, mut finished, mut total) = (vec![0_u32; 16], [0_u32], [0_u32]);
    let out = (parts.as_mut_ptr(), finished.as_mut_ptr(), total.as_mut_ptr());
    call!("bad_count", [16, 1, 1], [64, 1, 1], 0, seed, words.as_ptr(), 1000_u32, 3_u32, out.0, out.1, out.2, mistake)?;
    Ok(total[0])
}

#[test]
fn threads_of_the_program_run_kernels_side_by_side() {
    let right = normalize(0, 1000).expect("it is correct");
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let right = &right;
            scope.spawn(move || {
                for round in 0..8 {
                    assert!(normalize(seed * 8 + round, 1000).as_ref() == Ok(right), "seed {}", seed * 8 + round);
                }
            });
        }
    });
}

#[test]
fn what_the_driver_would_refuse_is_refused() {
    let (from, to) = (std::ptr::null::<f32>(), std::ptr::null_mut::<f32>());
    let failure = call!("no_such_kernel", [1, 1, 1], [1, 1, 1], 0, 0, 1_u32).expect_err("no such kernel");
    assert_eq!(failure.kind, Kind::UnknownEntry);
    let normalize = |grid, block, shared, error: &str| {
        let failure = call!("demo_normalize", grid, block, shared, 0, from, to, 1_u32).expect_err(error);
        assert_eq!((failure.kind, failure.block), (Kind::Launch, None), "{failure}");
    };
    normalize([1, 1, 1], [1025, 1, 1], 0, "a block of more than 1024 threads");
    normalize([1, 1, 1], [0, 1, 1], 0, "a block without threads");
    normalize([0, 1, 1], [32, 1, 1], 0, "no block");
    normalize([1, 1, 1], [32, 1, 1], 227 * 1024 + 1, "more shared memory than there is");
    let failure = call!("demo_normalize", [1, 1, 1], [1, 1, 1], 0, 0, from).expect_err("too few arguments");
    assert_eq!((failure.kind, failure.text.as_str()), (Kind::Arguments, "1 arguments, expected 3"));
    let failure = call!("demo_normalize", [1, 1, 1], [1, 1, 1], 0, 0, from, to, 1_u64).expect_err("a wrong size");
    assert_eq!((failure.kind, failure.text.as_str()), (Kind::Arguments, "argument 2 has 8 bytes, expected 4"));
}

#[test]
fn the_kernels_of_the_tests_are_none_of_the_package() {
    assert!(galatea_interpreter::entries().all(|name| !name.starts_with("demo_") && !name.starts_with("bad_")));
}
