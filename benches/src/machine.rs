//! What the machine can do at most, measured when first asked for.

use galatea_kernels::Isa;
use galatea_kernels::cpu::Cores;
use galatea_kernels::ops::add::accumulate;
use galatea_kernels::pool::Pool;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Bytes of one core that bandwidth is measured for.
const FOOTPRINTS: std::ops::RangeInclusive<u64> = 1 << 14..=1 << 28;

/// Bytes between two looks at the clock: short, so that some of these pieces pass while no other program has the core.
const PIECE: u64 = 1 << 22;

/// The limits of this machine. Each is the best of several measurements: other programs only ever make it smaller.
#[derive(Default)]
pub struct Machine {
    clock: Option<f64>,
    bandwidths: BTreeMap<u64, f64>,
}

impl Machine {
    /// Floating-point operations a nanosecond on `threads` cores: the clock times two vector units of fused multiply-adds.
    /// A core that has one such unit, or runs slower under wide vectors, has a lower peak than this says.
    pub fn peak(&mut self, threads: usize) -> f64 {
        let per_cycle = match Isa::detect() {
            Isa::Avx512 | Isa::Avx512Bf16 | Isa::Amx => 64.0,
            Isa::Avx2 => 32.0,
            // Four lanes, multiplications and additions apart.
            Isa::Portable => 16.0,
        };
        threads as f64 * per_cycle * *self.clock.get_or_insert_with(clock)
    }

    /// Bytes a nanosecond on `threads` cores: as many times that of y += x on one core, where x and y take that core's
    /// share of `footprint` together (rounded down to a power of two). What fits a cache is measured in that cache. Many
    /// cores that share one memory have less than this says.
    pub fn bandwidth(&mut self, threads: usize, footprint: u64) -> f64 {
        let share = (footprint / threads as u64).clamp(*FOOTPRINTS.start(), *FOOTPRINTS.end());
        let size = 1 << share.ilog2();
        threads as f64 * *self.bandwidths.entry(size).or_insert_with(|| bandwidth(size))
    }
}

/// Cycles a nanosecond: a chain of rotations and additions, each of which takes one cycle and waits for the last.
fn clock() -> f64 {
    const LINKS: u32 = 1_000_000;
    let addend = black_box(0x9e37_79b9_7f4a_7c15_u64);
    let chain = || (0..LINKS).fold(black_box(1), |x: u64, _| x.rotate_left(5).wrapping_add(addend));
    f64::from(2 * LINKS)
        / best(Duration::from_millis(200), 1, &mut || {
            black_box(chain());
        })
}

fn bandwidth(size: u64) -> f64 {
    let cores = Cores { pool: Pool::new(1), isa: Isa::detect() };
    let (len, piece) = (size as usize / 8, size.min(PIECE) as usize / 8);
    let (x, mut y, mut at) = (vec![1e-3f32; len], vec![1.0f32; len], 0);
    let mut step = || {
        accumulate(&cores, &x[at..at + piece], &mut y[at..at + piece]);
        at = (at + piece) % len;
    };
    // Two reads and a write of four bytes.
    12.0 * piece as f64 / best(Duration::from_millis(100), (PIECE / size).max(1) as u32, &mut step)
}

/// The least nanoseconds that `run` took, timed `repeats` runs at once, at least three times and for about `time`.
fn best(time: Duration, repeats: u32, run: &mut dyn FnMut()) -> f64 {
    run();
    let (begin, mut least, mut rounds) = (Instant::now(), Duration::MAX, 0);
    while rounds < 3 || begin.elapsed() < time {
        let start = Instant::now();
        (0..repeats).for_each(|_| run());
        least = least.min(start.elapsed());
        rounds += 1;
    }
    least.as_nanos() as f64 / f64::from(repeats)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_positive_and_measured_once() {
        let mut machine = Machine::default();
        assert!(machine.peak(1) > 0.0 && machine.peak(2) == 2.0 * machine.peak(1));
        assert!(machine.bandwidth(1, 0) > 0.0 && machine.bandwidth(1, 1 << 23) > 0.0);
        assert_eq!(machine.bandwidth(2, 0), 2.0 * machine.bandwidth(1, (1 << 15) - 1));
        assert_eq!(machine.bandwidths.len(), 2);
    }
}
