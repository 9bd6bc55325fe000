//! Kernels with a mistake, each noticed; most under every schedule, since accesses are ordered or not whatever the schedule.

use crate::common::{always, ampere, call, hopper, noticed, product, whole};
use crate::correct::{count, store};
use galatea_interpreter::{Extent, Failure, Kind};

/// Launches a kernel that keeps to some memory.
macro_rules! within {
    ($entry:expr, $grid:expr, $block:expr, $seed:expr, $memory:expr, $($arg:expr),*) => {{
        let values = &mut [$(crate::common::bytes(&$arg)),*];
        // SAFETY: as for `call`.
        unsafe { crate::common::run_within($entry, $grid, $block, 0, $seed, values, $memory) }
    }};
}

fn softmax(seed: u64, mistake: i32) -> Result<Vec<f32>, Failure> {
    let x: Vec<f32> = (0..400).map(|i| (i * 29 % 17) as f32).collect();
    let mut y = vec![f32::NAN; 400];
    call!("bad_softmax", [2, 1, 1], [256, 1, 1], 0, seed, x.as_ptr(), y.as_mut_ptr(), 200_u32, mistake)?;
    Ok(y)
}

#[test]
fn a_missing_barrier_of_the_block_is_a_race() {
    let right = softmax(0, 0).expect("it is correct");
    assert!(right.chunks(200).all(|row| (row.iter().sum::<f32>() - 1.0).abs() < 1e-5));
    assert!((0..64).all(|seed| softmax(seed, 0).as_ref() == Ok(&right)));
    for mistake in 1..=3 {
        always(Kind::Race, |seed| softmax(seed, mistake).map(drop));
    }
}

#[test]
fn a_race_names_both_threads_and_both_lines() {
    let failure = always(Kind::Race, |seed| softmax(seed, 1).map(drop));
    assert!(failure.block.is_some() && failure.thread.is_some());
    let lines = failure.text.matches("kernels/interpreter/tests/kernels/mistakes.cu:").count();
    assert_eq!(lines, 2, "{failure}");
    assert!(failure.text.contains("nothing orders the two"), "{failure}");
}

#[test]
fn neighbours_of_a_warp_need_a_barrier_too() {
    let exchange = |seed, mistake: i32| {
        let mut y = vec![f32::NAN; 64];
        call!("bad_exchange", [1, 1, 1], [64, 1, 1], 0, seed, y.as_mut_ptr(), mistake).map(|()| y)
    };
    let right: Vec<f32> = (0..64).map(|i| (i ^ 1) as f32).collect();
    for seed in 0..64 {
        assert_eq!(exchange(seed, 0).as_ref(), Ok(&right), "seed {seed}");
        assert_eq!(exchange(seed, 2).as_ref(), Ok(&right), "seed {seed}");
    }
    always(Kind::Race, |seed| exchange(seed, 1).map(drop));
    // A barrier of the warp orders nothing between warps.
    always(Kind::Race, |seed| exchange(seed, 3).map(drop));
}

fn meeting(seed: u64, mistake: i32) -> Result<Vec<u32>, Failure> {
    let mut y = vec![u32::MAX; 32];
    call!("bad_meeting", [1, 1, 1], [64, 1, 1], 0, seed, y.as_mut_ptr(), mistake)?;
    Ok(y)
}

#[test]
fn threads_that_should_meet_and_do_not_are_named() {
    let right: Vec<u32> = (0..32).rev().collect();
    for seed in 0..64 {
        assert_eq!(meeting(seed, 0).as_ref(), Ok(&right), "seed {seed}");
    }
    for (mistake, kind, part) in [
        (1, Kind::Divergence, "meets others at"),
        (2, Kind::Deadlock, "32 threads from (0,0,0) wait at bar_sync, kernels/interpreter/tests/kernels/mistakes.cu:"),
        (3, Kind::Divergence, "reads lane 9, which takes no part"),
        (5, Kind::Deadlock, "64 threads from (0,0,0) wait at bar_sync"),
        (6, Kind::Barrier, "whole warps meet"),
        (7, Kind::Divergence, "barrier 2 is for"),
        (8, Kind::Barrier, "there are 0 to 15"),
        (9, Kind::Divergence, "while lanes of it are in"),
    ] {
        let failure = always(kind, |seed| meeting(seed, mistake).map(drop));
        assert!(failure.text.contains(part), "{failure}");
    }
    // Lane 31 calls a shuffle whose mask leaves it out: seen at once, or as lanes that wait for one another.
    let failures = noticed(&right, |seed| meeting(seed, 4));
    assert_eq!(failures.len(), 8);
    assert!(failures.iter().flatten().any(|failure| failure.text.contains("leaves out the caller's lane 31")));
}

fn access(seed: u64, mistake: i32) -> Result<Vec<f32>, Failure> {
    let mut y = vec![f32::NAN; 4];
    call!("bad_access", [1, 1, 1], [4, 1, 1], 16, seed, y.as_mut_ptr(), 4_u32, mistake)?;
    Ok(y)
}

#[test]
fn accesses_that_cannot_be_are_refused() {
    assert_eq!(access(0, 0), Ok(vec![0.0, 1.0, 2.0, 3.0]));
    for (mistake, kind, part) in [
        (1, Kind::OutOfBounds, "byte 64 of 16 of shared memory"),
        (2, Kind::OutOfBounds, "beyond a local array"),
        (3, Kind::Misaligned, "not aligned for its type"),
        (4, Kind::OutOfBounds, "a division by zero"),
    ] {
        let failure = always(kind, |seed| access(seed, mistake).map(drop));
        let first = failure.text.contains(part) || mistake == 1;
        assert!(first && failure.text.contains("kernels/"), "{failure}");
    }
}

#[test]
fn a_kernel_keeps_to_the_memory_that_its_launch_names() {
    // 100 of 128 elements: what lies beyond is ours, so that a mistake does no harm.
    let x = vec![1.0_f32; 128];
    let run = |seed, mistake: i32, writable: bool| {
        let y = vec![0.0_f32; 128];
        let memory = [
            Extent { start: x.as_ptr().cast(), bytes: 400, writable: false },
            Extent { start: y.as_ptr().cast(), bytes: 400, writable },
        ];
        within!("bad_bounds", [2, 1, 1], [64, 1, 1], seed, &memory, x.as_ptr(), y.as_ptr().cast_mut(), 100_u32, mistake)
    };
    for seed in 0..64 {
        assert_eq!(run(seed, 0, true), Ok(()), "seed {seed}");
    }
    let read = always(Kind::OutOfBounds, |seed| run(seed, 1, true));
    assert!(read.text.starts_with("reads 4 bytes") && read.text.contains("mistakes.cu:"), "{read}");
    let write = always(Kind::OutOfBounds, |seed| run(seed, 2, true));
    assert!(write.text.starts_with("writes 4 bytes"), "{write}");
    always(Kind::OutOfBounds, |seed| run(seed, 0, false));
    // 64 threads write one element.
    let race = always(Kind::Race, |seed| run(seed, 3, true));
    assert!(race.text.contains("of extent 1"), "{race}");
}

#[test]
fn a_thread_that_spins_is_stopped() {
    let never = [0_u32];
    let failure = call!("bad_spin", [1, 1, 1], [1, 1, 1], 0, 0, never.as_ptr()).expect_err("it never ends");
    assert_eq!(failure.kind, Kind::Deadlock);
    assert!(failure.text.contains("in one turn") && failure.text.contains("mistakes.cu:"), "{failure}");
}

#[test]
fn a_sum_that_should_be_atomic_is_a_race() {
    always(Kind::Race, |seed| count(seed, 1).map(drop));
    always(Kind::Race, |seed| count(seed, 2).map(drop));
}

#[test]
fn copies_that_nobody_waits_for_are_races() {
    let size = [70, 90, 104];
    always(Kind::Race, |seed| ampere(seed, size, 1).map(drop));
    always(Kind::Race, |seed| ampere(seed, size, 2).map(drop));
    always(Kind::Misaligned, |seed| ampere(seed, size, 3).map(drop));
    always(Kind::OutOfBounds, |seed| ampere(seed, size, 4).map(drop));
}

#[test]
fn mistakes_with_the_copy_engine_and_its_barriers_are_noticed() {
    let size = [136, 264, 328];
    let [m, n, k] = size;
    let right = product(&whole(m * k, 1), &whole(n * k, 2), size, false);
    for (mistake, name, kinds) in [
        (1, "wrong parity", &[Kind::Deadlock, Kind::Race][..]),
        (2, "a stage released while it is read", &[Kind::Race]),
        (3, "too few expected bytes", &[Kind::Barrier, Kind::Deadlock, Kind::Race]),
        (4, "too many expected bytes", &[Kind::Deadlock]),
        (5, "no fence behind the initialisation", &[Kind::Barrier]),
        (6, "no barrier behind the initialisation", &[Kind::Race, Kind::Barrier]),
        (8, "one arrival for a warpgroup", &[Kind::Race, Kind::Deadlock]),
        (9, "more arrivals than the barrier has", &[Kind::Race, Kind::Barrier, Kind::Deadlock]),
        (7, "sums read before they are there", &[Kind::Race]),
        (10, "no wait for the bytes", &[Kind::Race]),
        (11, "half a warp", &[Kind::Divergence]),
    ] {
        let found = noticed(&right, |seed| hopper(seed, size, false, mistake));
        assert!(!found.is_empty(), "{name}: not noticed");
        for failure in found.iter().flatten() {
            assert!(kinds.contains(&failure.kind), "{name}: {failure}");
        }
    }
}

#[test]
fn a_deadlock_tells_what_the_barrier_lacks() {
    let failure = always(Kind::Deadlock, |seed| hopper(seed, [128, 128, 64], false, 4).map(drop));
    assert!(failure.text.contains("lacks 0 arrivals and 32768 bytes"), "{failure}");
    assert!(failure.text.contains("256 threads from (128,0,0) wait at mbar_wait"), "{failure}");
}

#[test]
fn stores_of_the_copy_engine_need_a_fence_and_a_wait() {
    let x = whole(64 * 64, 3);
    for mistake in 1..=3 {
        always(Kind::Race, |seed| store(seed, &x, mistake).map(drop));
    }
}
