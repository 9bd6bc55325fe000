//! One row of our own work, as a process: what `cargo xtask bench step`, `sample`, `decode` and `peers` run.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command speaks to the one who ran it")]

use clap::{Args, Parser, Subcommand};
use galatea_autograd::DType;
use galatea_benches::crossover::{self, Settings};
use galatea_benches::row::{Row, peak_rss_mib};
use galatea_benches::seed::{LEN, Sampling, cpu};
use galatea_benches::work::{self, Run, Work};
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Times one work of the seed's model: 79 M parameters, vocabulary 30000, width 768, 6 layers, 8 heads, feed-forward 2048.
///
/// Prints the median, the best and the noise of some runs after a warm-up, the peak memory of the process, and the floor:
/// what the arithmetic or the traffic alone would take on this machine, whichever is more, summed over the work's ops.
#[derive(Parser)]
#[command(name = "row", bin_name = "cargo xtask bench", disable_version_flag = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A training step: forward, backward, AdamW; Gaussian noise on the embeddings, dropout 0.1.
    Step {
        /// Rows.
        #[arg(long, default_value_t = 2, value_parser = positive)]
        batch: usize,
        /// Tokens of a row.
        #[arg(long, default_value_t = LEN, value_parser = positive)]
        len: usize,
        #[command(flatten)]
        common: Common,
    },
    /// Masked sampling: from masks alone, the most confident positions first, the same number at every step.
    Sample {
        /// Texts.
        #[arg(long, default_value_t = 1, value_parser = positive)]
        batch: usize,
        /// Tokens of a text.
        #[arg(long, default_value_t = LEN, value_parser = positive)]
        len: usize,
        /// Denoising steps, at most as many as there are tokens.
        #[arg(long, default_value_t = 32, value_parser = positive)]
        steps: usize,
        #[command(flatten)]
        common: Common,
    },
    /// Autoregressive decoding: the same backbone, causal, one drawn token a step, with a cache of keys and values.
    Decode {
        /// Texts.
        #[arg(long, default_value_t = 1, value_parser = positive)]
        batch: usize,
        /// Tokens of a text.
        #[arg(long, default_value_t = LEN, value_parser = positive)]
        len: usize,
        #[command(flatten)]
        common: Common,
    },
    /// Diffusion against autoregression: texts of several lengths in several numbers of steps against token by token.
    ///
    /// Times single steps and adds them up: a denoising step with one, half and all positions masked, a decoding step after
    /// none of the text and at the end of every length. Prints one JSON object; `cargo xtask bench crossover` draws it.
    Crossover {
        /// Tokens of a text.
        #[arg(long, value_delimiter = ',', default_value = "64,128,256,512,1024", value_parser = positive)]
        lens: Vec<usize>,
        /// Denoising steps; more than a text has tokens are left out.
        #[arg(long, value_delimiter = ',', default_value = "8,16,32,64", value_parser = positive)]
        steps: Vec<usize>,
        /// Texts at once.
        #[arg(long, value_delimiter = ',', default_value = "1,16", value_parser = positive)]
        batches: Vec<usize>,
        /// The arithmetic: f32 or bf16.
        #[arg(long, default_value = "f32", value_parser = work::dtype)]
        dtype: DType,
        /// Threads.
        #[arg(long, env = "GALATEA_THREADS", default_value_t = all_threads(), value_parser = positive)]
        threads: usize,
        /// How often each step is timed.
        #[arg(long, default_value_t = 5, value_parser = positive)]
        samples: usize,
        /// Seconds after which a step is not timed again.
        #[arg(long, default_value_t = 2, value_parser = positive)]
        budget: usize,
        /// The default, and there is no other: one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// The kernels and the works on a GPU, each beside its floor, and in PyTorch where a python has it.
    ///
    /// This program needs nothing else on that machine but the driver, and NVRTC or cubins (`cargo xtask kernels build`).
    #[cfg(feature = "cuda")]
    Gpu {
        /// Rows whose names contain this.
        #[arg(long, default_value = "")]
        only: String,
        /// Runs that are timed.
        #[arg(long, default_value_t = 30, value_parser = positive)]
        runs: usize,
        /// A python with PyTorch for the same rows; none is needed.
        #[arg(long, value_name = "PYTHON")]
        torch: Option<PathBuf>,
        /// One JSON object on standard output; the rows go to standard error.
        #[arg(long)]
        json: bool,
    },
    /// One matrix product, C [m, n] = A [m, k] B [k, n].
    Gemm {
        /// Rows of C.
        #[arg(long, value_parser = positive)]
        m: usize,
        /// The extent that is summed over.
        #[arg(long, value_parser = positive)]
        k: usize,
        /// Columns of C.
        #[arg(long, value_parser = positive)]
        n: usize,
        #[command(flatten)]
        common: Common,
    },
    /// Answers works on standard input with times, line by line (the protocol of benches/peers).
    #[command(hide = true)]
    Serve {
        #[arg(long, env = "GALATEA_THREADS", default_value_t = all_threads(), value_parser = positive)]
        threads: usize,
    },
    /// Writes a model to FILE.
    #[command(hide = true)]
    Save { file: PathBuf },
    /// Loads the model in FILE and draws the first tokens.
    #[command(hide = true)]
    First {
        file: PathBuf,
        #[arg(long, default_value = "f32", value_parser = work::dtype)]
        dtype: DType,
        #[arg(long, env = "GALATEA_THREADS", default_value_t = all_threads(), value_parser = positive)]
        threads: usize,
    },
}

#[derive(Args)]
struct Common {
    /// The arithmetic: f32, bf16, or int8 weights in a bf16 program (not for `step`).
    #[arg(long, default_value = "f32", value_parser = work::dtype)]
    dtype: DType,
    /// Threads.
    #[arg(long, env = "GALATEA_THREADS", default_value_t = all_threads(), value_parser = positive)]
    threads: usize,
    /// Runs that are timed.
    #[arg(long, default_value_t = 9, value_parser = positive)]
    samples: usize,
    /// Runs before those.
    #[arg(long, default_value_t = 2)]
    warm_up: usize,
    /// One JSON object on standard output and nothing else.
    #[arg(long)]
    json: bool,
}

fn all_threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&n| n > 0).ok_or_else(|| "expected a number of at least 1".into())
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), String> {
    match command {
        Command::Step { batch, len, common } => measure(Work::Step { batch, len, dtype: common.dtype }, &common),
        Command::Sample { batch, len, steps, common } => {
            measure(Work::Sample { batch, len, steps, dtype: common.dtype }, &common)
        }
        Command::Decode { batch, len, common } => measure(Work::Decode { batch, len, dtype: common.dtype }, &common),
        Command::Gemm { m, k, n, common } => measure(Work::Gemm { m, k, n, dtype: common.dtype }, &common),
        Command::Crossover { lens, steps, batches, dtype, threads, samples, budget, json: _ } => {
            let budget = Duration::from_secs(budget as u64);
            let settings = Settings { dtype, threads, lens, steps, batches, samples, budget };
            let found = crossover::measure(&settings, &mut |line| eprintln!("{line}"))?;
            println!("{}", serde_json::to_string(&found).map_err(|e| e.to_string())?);
            Ok(())
        }
        #[cfg(feature = "cuda")]
        Command::Gpu { only, runs, torch, json } => gpu(&only, runs, torch.as_deref(), json),
        Command::Serve { threads } => {
            serve(threads);
            Ok(())
        }
        Command::Save { file } => Sampling::new([1, LEN, 1], DType::F32, cpu(all_threads()), None)?.save(&file),
        Command::First { file, dtype, threads } => {
            let (position, token) = Sampling::new([1, LEN, LEN], dtype, cpu(threads), Some(&file))?.first();
            println!(r#"{{"position":{position},"token":{token}}}"#);
            Ok(())
        }
    }
}

/// Our rows, then PyTorch's with the ratio to ours.
#[cfg(feature = "cuda")]
fn gpu(only: &str, runs: usize, torch: Option<&std::path::Path>, json: bool) -> Result<(), String> {
    let mut say = |line: &str| if json { eprintln!("{line}") } else { println!("{line}") };
    let report = galatea_benches::gpu::measure(only, runs, &mut say)?;
    let copy = report.ceilings.copy / 1e9;
    say(&format!(
        "{}: {copy:.0} GB/s; products are held against {:.0} TFLOP/s",
        report.device,
        report.ceilings.bf16 / 1e12
    ));
    let peers = torch.map(|python| peer(python, only, runs)).transpose()?.unwrap_or_default();
    for peer in &peers {
        let (name, ms) = (peer["name"].as_str().unwrap_or_default(), peer["median_ms"].as_f64().unwrap_or(f64::NAN));
        let ours = report.rows.iter().find(|row| row.name == name.trim_end_matches(" compiled"));
        let ratio = ours.map(|row| format!(", {:.2} times ours", ms / row.median_ms)).unwrap_or_default();
        say(&format!("PyTorch {name:<36} median {ms:>9.4} ms{ratio}"));
    }
    if json {
        let mut report = serde_json::to_value(&report).map_err(|e| e.to_string())?;
        report["torch"] = peers.into();
        println!("{report}");
    }
    Ok(())
}

/// The rows of gpu.py, which this program carries.
#[cfg(feature = "cuda")]
fn peer(python: &std::path::Path, only: &str, runs: usize) -> Result<Vec<serde_json::Value>, String> {
    let script = include_str!("../../peers/torch/gpu.py");
    let mut command = std::process::Command::new(python);
    command.args(["-c", script, &runs.to_string(), only]).stderr(std::process::Stdio::inherit());
    let output = command.output().map_err(|e| format!("{}: {e}", python.display()))?;
    if !output.status.success() {
        return Err(format!("{}: PyTorch's rows failed; see above", python.display()));
    }
    let lines = String::from_utf8_lossy(&output.stdout);
    lines.lines().map(|line| serde_json::from_str(line).map_err(|e| format!("{line}: {e}"))).collect()
}

fn measure(work: Work, common: &Common) -> Result<(), String> {
    let row = Row::measure(work, common.threads, common.samples, common.warm_up)?;
    if common.json {
        println!("{}", serde_json::to_string(&row).map_err(|e| e.to_string())?);
    } else {
        println!("{row}");
    }
    Ok(())
}

/// Until standard input ends.
fn serve(threads: usize) {
    say(&format!(r#"{{"ready":"galatea {}","threads":{threads}}}"#, env!("CARGO_PKG_VERSION")));
    let mut current: Option<(String, Run)> = None;
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let answer = if line == "rss" {
            peak_rss_mib().map(|mib| format!(r#""mib":{mib}"#)).ok_or_else(|| "this system has no /proc".to_owned())
        } else {
            ready(&line, &mut current, threads).map(|run| format!(r#""ms":{:.4}"#, run().as_secs_f64() * 1e3))
        };
        let answer = answer.unwrap_or_else(|why| format!(r#""unsupported":{}"#, serde_json::Value::from(why)));
        say(&format!(r#"{{"work":{},{answer}}}"#, serde_json::Value::from(line)));
    }
}

/// The work of `line`, set up and run once when it is not the one before.
fn ready<'a>(line: &str, current: &'a mut Option<(String, Run)>, threads: usize) -> Result<&'a mut Run, String> {
    if current.as_ref().is_none_or(|(known, _)| known != line) {
        // First the memory of the work before.
        *current = None;
        let mut run = line.parse::<Work>()?.set_up(threads)?;
        run();
        *current = Some((line.to_owned(), run));
    }
    current.as_mut().map(|(_, run)| run).ok_or_else(|| "a work is set up above".into())
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // The one who asked may be gone; then nobody asks again either.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
