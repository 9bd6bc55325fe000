//! The rate of the arithmetic alone: multiply-adds from registers to registers, which no kernel exceeds.
//!
//! Measured, not computed from a clock: what a core does in a cycle differs between machines that have the same
//! instructions, and so does the clock that it holds under wide vectors.

use crate::isa::Isa;
use galatea_tensor::DType;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Chains that do not wait for each other: more than two units have in flight at a latency of five cycles, and with their
/// two factors no more than sixteen registers.
const CHAINS: usize = 12;

/// Links of every chain between two looks at the clock, some tens of microseconds: short, so that some of these runs pass
/// while no other program has the core.
const LINKS: usize = 20_000;

/// How long to look for the best run.
const SEARCH: Duration = Duration::from_millis(60);

/// GFLOP/s of one thread in multiply-adds (two operations each) on registers, at a level and with factors of a type. The
/// best of many short runs, since other programs only ever make it smaller.
///
/// A type that the level has no arithmetic for is widened to f32 by the kernels and has the rate of that.
///
/// # Panics
/// If `dtype` is [`DType::U32`], which nothing multiplies.
pub fn register_rate(isa: Isa, dtype: DType) -> f64 {
    let (run, lanes): (fn(Isa) -> f32, usize) = match (dtype, isa) {
        (DType::U32, _) => panic!("nothing multiplies u32"),
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        (DType::Bf16 | DType::I8, Isa::Amx) => {
            use crate::gemm::tiles::{CHAIN, Product, chain};
            // 16 x 16 sums of that many products each.
            let (product, depth) = if dtype == DType::I8 { (Product::Quads, 64) } else { (Product::Pairs, 32) };
            return best(&mut || chain(product)) * (CHAIN * 16 * 16 * depth * 2) as f64;
        }
        // A lane multiplies two.
        (DType::Bf16, Isa::Avx512Bf16) => (multiply_add_pairs, 32),
        // A lane multiplies four.
        (DType::I8, _) if isa.multiplies_bytes() => (multiply_add_quads, 64),
        (DType::F32 | DType::Bf16 | DType::F16 | DType::I8, _) => (multiply_add, lanes(isa)),
    };
    (2 * CHAINS * LINKS * lanes) as f64
        * best(&mut || {
            black_box(run(isa));
        })
}

/// Runs a nanosecond at the best.
fn best(run: &mut dyn FnMut()) -> f64 {
    run();
    let (begin, mut best) = (Instant::now(), Duration::MAX);
    while begin.elapsed() < SEARCH {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed());
    }
    1.0 / best.as_nanos() as f64
}

/// Elements of a register.
fn lanes(isa: Isa) -> usize {
    match isa {
        Isa::Portable => 4,
        Isa::Avx2 => 8,
        Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => 16,
    }
}

fn multiply_add(isa: Isa) -> f32 {
    match isa {
        // SAFETY: an `Isa` above `Portable` exists only where `Isa::best` found its features on this machine.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => unsafe { avx512() },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 => unsafe { avx2() },
        // SAFETY: every x86-64 machine has SSE2.
        #[cfg(target_arch = "x86_64")]
        Isa::Portable => unsafe { sse2() },
        #[cfg(not(target_arch = "x86_64"))]
        Isa::Portable | Isa::Avx2 | Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => portable(),
    }
}

/// x = x factor + addend over and over: it stays near addend / (1 - factor), far from numbers that cores are slow with.
fn factors() -> (f32, f32) {
    (black_box(0.75), black_box(0.25))
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn avx512() -> f32 {
    use std::arch::x86_64::{_mm512_add_ps, _mm512_fmadd_ps, _mm512_reduce_add_ps, _mm512_set1_ps};
    let (factor, addend) = factors();
    let (factor, addend) = (_mm512_set1_ps(factor), _mm512_set1_ps(addend));
    let mut chains: [_; CHAINS] = std::array::from_fn(|i| _mm512_set1_ps(i as f32));
    for _ in 0..LINKS {
        for x in &mut chains {
            *x = _mm512_fmadd_ps(*x, factor, addend);
        }
    }
    _mm512_reduce_add_ps(chains.into_iter().fold(_mm512_set1_ps(0.0), |sum, x| _mm512_add_ps(sum, x)))
}

/// Pairs of bf16 into f32 sums, at the level that has them.
fn multiply_add_pairs(isa: Isa) -> f32 {
    match isa {
        // SAFETY: the level exists only where `Isa::best` found AVX-512 BF16.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512Bf16 => unsafe { avx512_pairs() },
        _ => multiply_add(isa),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
fn avx512_pairs() -> f32 {
    use std::arch::x86_64::{
        _mm512_add_ps, _mm512_cvtne2ps_pbh, _mm512_dpbf16_ps, _mm512_reduce_add_ps, _mm512_set1_ps,
    };
    let (factor, addend) = factors();
    let pair = _mm512_cvtne2ps_pbh(_mm512_set1_ps(factor), _mm512_set1_ps(addend));
    let mut chains: [_; CHAINS] = std::array::from_fn(|i| _mm512_set1_ps(i as f32));
    for _ in 0..LINKS {
        for x in &mut chains {
            *x = _mm512_dpbf16_ps(*x, pair, pair);
        }
    }
    _mm512_reduce_add_ps(chains.into_iter().fold(_mm512_set1_ps(0.0), |sum, x| _mm512_add_ps(sum, x)))
}

/// Four products of bytes into i32 sums, at a level that has them.
fn multiply_add_quads(isa: Isa) -> f32 {
    match isa {
        // SAFETY: asked for where `Isa::multiplies_bytes` found AVX-512 VNNI.
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx if isa.multiplies_bytes() => unsafe { avx512_quads() },
        _ => multiply_add(isa),
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
#[target_feature(enable = "avx512f,avx512vnni")]
fn avx512_quads() -> f32 {
    use std::arch::x86_64::{
        _mm512_add_epi32, _mm512_dpbusd_epi32, _mm512_reduce_add_epi32, _mm512_set1_epi32, _mm512_setzero_si512,
    };
    let quad = _mm512_set1_epi32(black_box(0x4f31_7f23));
    let mut chains: [_; CHAINS] = std::array::from_fn(|i| _mm512_set1_epi32(i as i32));
    for _ in 0..LINKS {
        for x in &mut chains {
            *x = _mm512_dpbusd_epi32(*x, quad, quad);
        }
    }
    let sum = chains.into_iter().fold(_mm512_setzero_si512(), |sum, x| _mm512_add_epi32(sum, x));
    _mm512_reduce_add_epi32(sum) as f32
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2() -> f32 {
    use std::arch::x86_64::{_mm256_add_ps, _mm256_cvtss_f32, _mm256_fmadd_ps, _mm256_set1_ps};
    let (factor, addend) = factors();
    let (factor, addend) = (_mm256_set1_ps(factor), _mm256_set1_ps(addend));
    let mut chains: [_; CHAINS] = std::array::from_fn(|i| _mm256_set1_ps(i as f32));
    for _ in 0..LINKS {
        for x in &mut chains {
            *x = _mm256_fmadd_ps(*x, factor, addend);
        }
    }
    _mm256_cvtss_f32(chains.into_iter().fold(_mm256_set1_ps(0.0), |sum, x| _mm256_add_ps(sum, x)))
}

/// The baseline of x86-64 has no fused multiply-add: a product and a sum.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "sse2")]
fn sse2() -> f32 {
    use std::arch::x86_64::{_mm_add_ps, _mm_cvtss_f32, _mm_mul_ps, _mm_set1_ps};
    let (factor, addend) = factors();
    let (factor, addend) = (_mm_set1_ps(factor), _mm_set1_ps(addend));
    let mut chains: [_; CHAINS] = std::array::from_fn(|i| _mm_set1_ps(i as f32));
    for _ in 0..LINKS {
        for x in &mut chains {
            *x = _mm_add_ps(_mm_mul_ps(*x, factor), addend);
        }
    }
    _mm_cvtss_f32(chains.into_iter().fold(_mm_set1_ps(0.0), |sum, x| _mm_add_ps(sum, x)))
}

/// As the compiler vectorises it.
#[cfg(not(target_arch = "x86_64"))]
fn portable() -> f32 {
    let (factor, addend) = factors();
    let mut chains: [[f32; 4]; CHAINS] = std::array::from_fn(|i| [i as f32; 4]);
    for _ in 0..LINKS {
        for chain in &mut chains {
            *chain = chain.map(|x| x * factor + addend);
        }
    }
    chains.iter().flatten().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_has_a_rate_and_its_chains_stay_finite() {
        for isa in Isa::available() {
            assert!(multiply_add(isa).is_finite(), "{}", isa.name());
            for dtype in [DType::F32, DType::Bf16, DType::I8] {
                let rate = register_rate(isa, dtype);
                // No time is asserted, only that the chains were run: no core does 1e5 operations a nanosecond.
                assert!(rate > 0.0 && rate < 1e5, "{} {}: {rate}", isa.name(), dtype.name());
            }
        }
    }
}
