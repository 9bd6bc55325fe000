//! What the machine can do at most, measured when first asked for.

use crate::Launch;
use galatea_kernels::cpu::Cores;
use galatea_kernels::ops::add::accumulate;
use galatea_kernels::peak::register_rate;
use galatea_kernels::pool::Pool;
use galatea_kernels::{Cost, Isa};
use galatea_tensor::DType;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Bytes of one core that bandwidth is measured for.
const FOOTPRINTS: std::ops::RangeInclusive<u64> = 1 << 14..=1 << 28;

/// Bytes between two looks at the clock: short, so that some of these pieces pass while no other program has the core.
const PIECE: u64 = 1 << 22;

/// The limits of this machine. Each is the best of several measurements: other programs only ever make it smaller.
#[derive(Default)]
pub struct Machine {
    rates: BTreeMap<&'static str, f64>,
    bandwidths: BTreeMap<u64, f64>,
}

/// What a list of launches costs at least.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Floor {
    /// Arithmetic and traffic, summed.
    pub cost: Cost,
    /// The sum over the launches of the larger of the two limits, in nanoseconds.
    pub ns: f64,
    /// The part of it that comes from launches which arithmetic limits.
    pub arithmetic_ns: f64,
}

impl Machine {
    /// Floating-point operations a nanosecond on `threads` cores: as many times what one core does from registers alone.
    pub fn peak(&mut self, threads: usize, dtype: DType) -> f64 {
        threads as f64 * *self.rates.entry(dtype.name()).or_insert_with(|| register_rate(Isa::detect(), dtype))
    }

    /// Bytes a nanosecond on `threads` cores: as many times that of y += x on one core, where x and y take that core's
    /// share of `footprint` together (rounded down to a power of two). What fits a cache is measured in that cache. Many
    /// cores that share one memory have less than this says.
    pub fn bandwidth(&mut self, threads: usize, footprint: u64) -> f64 {
        let share = (footprint / threads as u64).clamp(*FOOTPRINTS.start(), *FOOTPRINTS.end());
        let size = 1 << share.ilog2();
        threads as f64 * *self.bandwidths.entry(size).or_insert_with(|| bandwidth(size))
    }

    /// What `launches` cost at least on `threads` cores.
    pub fn floor(&mut self, threads: usize, launches: &[Launch]) -> Floor {
        let mut floor = Floor::default();
        for launch in launches {
            floor.cost += launch.cost;
            let by_flops = launch.cost.flops as f64 / self.peak(threads, launch.dtype);
            let by_bytes = launch.cost.bytes as f64 / self.bandwidth(threads, launch.footprint);
            floor.ns += by_flops.max(by_bytes);
            floor.arithmetic_ns += if by_flops > by_bytes { by_flops } else { 0.0 };
        }
        floor
    }
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
        let one = machine.peak(1, DType::F32);
        assert!(one > 0.0 && machine.peak(2, DType::F32) == 2.0 * one);
        assert!(machine.bandwidth(1, 0) > 0.0 && machine.bandwidth(1, 1 << 23) > 0.0);
        assert_eq!(machine.bandwidth(2, 0), 2.0 * machine.bandwidth(1, (1 << 15) - 1));
        assert_eq!(machine.bandwidths.len(), 2);
    }

    #[test]
    fn a_floor_is_the_sum_of_the_larger_limits() {
        let mut machine = Machine::default();
        machine.rates.insert("f32", 10.0);
        machine.bandwidths.insert(1 << 14, 2.0);
        let launch = |flops, bytes| Launch { cost: Cost { flops, bytes }, footprint: 1 << 14, dtype: DType::F32 };
        let floor = machine.floor(1, &[launch(1000, 20), launch(10, 400)]);
        assert_eq!((floor.ns, floor.arithmetic_ns), (100.0 + 200.0, 100.0));
        assert_eq!(floor.cost, Cost { flops: 1010, bytes: 420 });
    }
}
