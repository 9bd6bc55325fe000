//! How fast kernels are interpreted: `cargo run --release -p galatea-interpreter --example speed`.

#![allow(clippy::print_stdout)]

#[allow(dead_code)]
#[path = "../tests/suite/common.rs"]
mod common;

use common::call;
use std::time::Instant;

/// Seconds of the fastest of three runs under each of two schedules.
fn best(mut run: impl FnMut(u64)) -> f64 {
    let runs = (0..6).map(|i| {
        let start = Instant::now();
        run(i / 3);
        start.elapsed().as_secs_f64()
    });
    runs.fold(f64::INFINITY, f64::min)
}

fn main() {
    let size = [256, 256, 512];
    let products = size.iter().product::<usize>() as f64;
    let hopper = best(|seed| drop(common::hopper(seed, size, false, 0).expect("it is correct")));
    println!("wgmma {size:?}: {:.1} ms, {:.2e} multiply-adds/s", hopper * 1e3, products / hopper);
    let ampere = best(|seed| drop(common::ampere(seed, size, 0).expect("it is correct")));
    println!("mma.sync {size:?}: {:.1} ms, {:.2e} multiply-adds/s", ampere * 1e3, products / ampere);
    let x = vec![0.5_f32; 256 * 256];
    let mut y = vec![0.0_f32; 256 * 256];
    let out = y.as_mut_ptr();
    let silu = best(|seed| {
        call!("demo_silu", [256, 1, 1], [256, 1, 1], 0, seed, x.as_ptr(), out, 65536_u32).expect("it is correct");
    });
    println!("element-wise 256 x 256: {:.2} ms", silu * 1e3);
    let rows = best(|seed| {
        call!("demo_normalize", [256, 1, 1], [256, 1, 1], 0, seed, x.as_ptr(), out, 256_u32).expect("it is correct");
    });
    println!("row sums 256 x 256: {:.2} ms", rows * 1e3);
}
