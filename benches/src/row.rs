//! One row of a table: a work, its times, its memory and its floor.

use crate::Machine;
use crate::stats::Spread;
use crate::work::Work;
use galatea_kernels::Isa;
use serde::Serialize;
use std::fmt;

/// What was measured. Times are of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// [`Work::name`].
    pub name: String,
    /// The work's sizes: what does not apply is left out.
    #[serde(flatten)]
    pub sizes: Sizes,
    /// The arithmetic.
    pub dtype: &'static str,
    /// Threads.
    pub threads: usize,
    /// The instruction level.
    pub isa: &'static str,
    /// Half of the runs took less.
    pub median_ms: f64,
    /// The quietest run.
    pub min_ms: f64,
    /// The median distance from the median: the row's own noise.
    pub mad_ms: f64,
    /// Runs.
    pub samples: usize,
    /// The most memory the process held, where the system tells.
    pub peak_rss_mib: Option<f64>,
    /// What the arithmetic or the traffic alone takes on this machine.
    pub floor_ms: f64,
    /// Floating-point operations.
    pub flops: u64,
    /// Bytes that must move.
    pub bytes: u64,
}

/// The sizes of a work.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Sizes {
    /// Rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<usize>,
    /// Tokens of a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub len: Option<usize>,
    /// Denoising steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
}

impl Row {
    /// Runs `work` until it has been timed `samples` times after `warm_up` runs that do not count.
    ///
    /// # Errors
    /// If the work cannot be set up.
    pub fn measure(work: Work, threads: usize, samples: usize, warm_up: usize) -> Result<Self, String> {
        let launches = work.launches()?;
        let mut run = work.set_up(threads)?;
        for _ in 0..warm_up {
            run();
        }
        let times: Vec<f64> = (0..samples.max(1)).map(|_| run().as_secs_f64() * 1e3).collect();
        drop(run);
        // Before the floor is measured, which takes memory of its own.
        let peak_rss_mib = peak_rss_mib();
        let floor = Machine::default().floor(threads, &launches);
        let Spread { median, min, mad } = Spread::of(&times);
        let sizes = match work {
            Work::Step { batch, len, .. } => Sizes { batch: Some(batch), len: Some(len), steps: None },
            Work::Sample { batch, len, steps, .. } => Sizes { batch: Some(batch), len: Some(len), steps: Some(steps) },
            Work::Decode { batch, len, .. } => Sizes { batch: Some(batch), len: Some(len), steps: None },
            Work::Gemm { .. } => Sizes::default(),
        };
        Ok(Self {
            name: work.name(),
            sizes,
            dtype: work.dtype().name(),
            threads,
            isa: Isa::detect().name(),
            median_ms: rounded(median),
            min_ms: rounded(min),
            mad_ms: rounded(mad),
            samples: times.len(),
            peak_rss_mib,
            floor_ms: rounded(floor.ns / 1e6),
            flops: floor.cost.flops,
            bytes: floor.cost.bytes,
        })
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, threads, isa, median_ms, min_ms, mad_ms, samples, floor_ms, .. } = self;
        let (gflop_s, gb_s) = (self.flops as f64 / median_ms / 1e6, self.bytes as f64 / median_ms / 1e6);
        write!(f, "{name} on {threads} threads ({isa}): median {median_ms:.2} ms, best {min_ms:.2} ms, ")?;
        write!(f, "noise {mad_ms:.2} ms over {samples} runs; floor {floor_ms:.2} ms, ")?;
        write!(f, "share {:.0} %; {gflop_s:.0} GFLOP/s, {gb_s:.1} GB/s", 100.0 * floor_ms / median_ms)?;
        match self.peak_rss_mib {
            Some(mib) => write!(f, "; peak memory {mib:.0} MiB"),
            None => Ok(()),
        }
    }
}

/// To a tenth of a microsecond: what a clock says beyond that is not a measurement.
pub(crate) fn rounded(ms: f64) -> f64 {
    (ms * 1e4).round() / 1e4
}

/// The most memory this process has held, where the system tells.
pub fn peak_rss_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some((kib / 102.4).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use galatea_autograd::DType;

    #[test]
    fn a_row_holds_every_number_that_a_reader_asks_for() {
        let work = Work::Gemm { m: 16, k: 16, n: 16, dtype: DType::F32 };
        let row = Row::measure(work, 1, 5, 0).expect("f32");
        let json = serde_json::to_value(&row).expect("numbers and strings");
        for key in ["median_ms", "min_ms", "mad_ms", "floor_ms", "samples", "threads", "flops", "bytes"] {
            assert!(json[key].as_f64().is_some_and(|number| number >= 0.0), "{key} of {json}");
        }
        assert!(row.min_ms <= row.median_ms && row.samples == 5);
        assert!(row.to_string().starts_with("gemm/16x16x16/f32 on 1 threads"));
        assert_eq!(json.get("batch"), None);
    }
}
