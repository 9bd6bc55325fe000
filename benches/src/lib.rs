#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a bench reports to a person")]

pub mod crossover;
pub mod decode;
#[cfg(feature = "cuda")]
pub mod gpu;
mod machine;
pub mod row;
pub mod seed;
mod stats;
pub mod work;

pub use machine::{Floor, Machine};

use criterion::{Criterion, SamplingMode};
use galatea_kernels::{Cost, Inst, Isa, Program, cost};
use galatea_random::Philox;
use galatea_tensor::{DType, Slot};
use stats::Spread;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Samples of a bench.
const SAMPLES: usize = 20;

/// One launch of a program: its cost and the bytes of the tensors it touches.
#[derive(Clone, Copy, Debug)]
pub struct Launch {
    /// Arithmetic and traffic.
    pub cost: Cost,
    /// Bytes of its tensors, each once.
    pub footprint: u64,
    /// What it multiplies.
    pub dtype: DType,
}

/// The launches of a program, in order.
pub fn launches(program: &Program) -> Vec<Launch> {
    let footprint = |inst: &Inst| inst.reads.iter().chain(&inst.writes).map(Slot::bytes).sum::<usize>() as u64;
    // The narrowest type of the reads: what is multiplied.
    let dtype = |inst: &Inst| {
        let reads = |dtype: DType| inst.reads.iter().any(|slot| slot.dtype == dtype);
        [DType::I8, DType::Bf16].into_iter().find(|&dtype| reads(dtype)).unwrap_or(DType::F32)
    };
    let launch = |inst: &Inst| Launch { cost: cost(inst), footprint: footprint(inst), dtype: dtype(inst) };
    program.insts().iter().map(launch).collect()
}

/// Standard normals: kernels are never timed on zeros.
pub fn normals(len: usize, row: u32) -> Vec<f32> {
    let mut rng = Philox::new(2026, 0, 0, row);
    (0..len).map(|_| rng.normal() as f32).collect()
}

/// A run of benches: criterion measures, the roofline stands beside.
pub struct Bench {
    criterion: Criterion,
    machine: Machine,
    tokens: Option<u64>,
}

impl Bench {
    /// With the filter and the options of the command line.
    pub fn from_args() -> Self {
        Self { criterion: Criterion::default().configure_from_args(), machine: Machine::default(), tokens: None }
    }

    /// The benches from here on are also told by the token, of which one call makes so many.
    pub fn per_token(&mut self, tokens: u64) {
        self.tokens = Some(tokens);
    }

    /// Times the closure that `setup` returns; `setup` runs only if the filter lets this bench through.
    pub fn run<R: FnMut()>(
        &mut self,
        group: &str,
        name: &str,
        threads: usize,
        launches: &[Launch],
        setup: impl FnOnce() -> R,
    ) {
        let (mut setup, mut routine) = (Some(setup), None);
        let mut samples: Vec<f64> = Vec::new();
        let mut benches = self.criterion.benchmark_group(group);
        benches.sample_size(SAMPLES).sampling_mode(SamplingMode::Flat);
        benches.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
        benches.bench_function(format!("{name}/{threads}"), |bencher| {
            let run = routine.get_or_insert_with(|| setup.take().expect("the routine is made once")());
            bencher.iter_custom(|iterations| {
                let begin = Instant::now();
                (0..iterations).for_each(|_| run());
                let elapsed = begin.elapsed();
                samples.push(elapsed.as_nanos() as f64 / iterations as f64);
                elapsed
            });
        });
        benches.finish();
        // The last calls are the samples; before them come those of the warm-up. A test of the benches runs each once.
        if let Some(from) = samples.len().checked_sub(SAMPLES) {
            samples.drain(..from);
            self.report(&format!("{group}/{name}"), threads, launches, &samples);
        }
    }

    /// Prints the roofline and appends its line of JSON.
    fn report(&mut self, name: &str, threads: usize, launches: &[Launch], samples: &[f64]) {
        let Spread { median, min: best, mad } = Spread::of(samples);
        let Floor { cost: Cost { flops, bytes }, ns: floor, arithmetic_ns } = self.machine.floor(threads, launches);
        let bound = if 2.0 * arithmetic_ns > floor { "flops" } else { "bytes" };
        let share = floor / median;
        println!(
            "{name}/{threads}: median {:.1} us, best {:.1} us, floor {:.1} us ({bound}), share {:.0} % (best {:.0} %), \
             {:.1} GFLOP/s, {:.1} GB/s",
            median / 1e3,
            best / 1e3,
            floor / 1e3,
            100.0 * share,
            100.0 * floor / best,
            flops as f64 / median,
            bytes as f64 / median
        );
        if let Some(tokens) = self.tokens {
            println!("{name}/{threads}: {:.0} ns a token", median / tokens as f64);
        }
        let isa = Isa::detect().name();
        let line = format!(
            r#"{{"name":"{name}","threads":{threads},"isa":"{isa}","median_ns":{median:.0},"best_ns":{best:.0},"mad_ns":{mad:.0},"flops":{flops},"bytes":{bytes},"floor_ns":{floor:.0},"share":{share:.4}}}"#
        );
        let path = results().join("roofline.jsonl");
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&path);
        if let Err(error) = file.and_then(|mut file| writeln!(file, "{line}")) {
            println!("{}: {error}; the line was {line}", path.display());
        }
    }

    /// Ends the run.
    pub fn finish(self) {
        self.criterion.final_summary();
    }
}

/// Criterion's folder, which exists once it has measured: a bench is `target/<profile>/deps/<name>`.
fn results() -> PathBuf {
    let bench = std::env::current_exe().unwrap_or_default();
    let beside = bench.ancestors().nth(3).unwrap_or(&bench).join("criterion");
    std::env::var_os("CRITERION_HOME").map_or(beside, PathBuf::from)
}
