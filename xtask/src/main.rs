//! The workspace's own commands. `cargo xtask` prints the usage.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command speaks to the person who ran it")]

mod bench;
mod ci;
mod kernels;
mod miri;
mod process;
mod readme;
mod smoke;
mod test;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <command>

  ci [--only STEP]... [--list]   everything a change must pass, cheapest step first
  tidy                           the rules that no compiler checks: layering, unsafe, wildcards, links
  test                           the README's test command, with the totals and the skips at the end
  bench [FILTER] [ARGUMENT]...   the criterion benches with their rooflines, then the end-to-end rows; what is not ours is
                                 passed on to criterion
        --save NAME              keep this run's times under a name (or in a file)
        --against NAME           say what changed since then, beyond the noise of either run
  bench step | sample | decode [FLAG]...
                                 one row: the seed's training step, its sampling, or its twin's token by token; --json,
                                 --help for the rest
  bench crossover [FLAG]...      diffusion against autoregression, by length, steps and batch: a table and a plot
        --dtype f32 | bf16 --threads N --lens L,.. --steps S,.. --batches B,.. --json
  bench orders [FLAG]...         every order of deciding positions with a perfect network: a table and a plot
  bench --gpu [FLAG]...          the kernels and works on a GPU, beside their floors and PyTorch: --help says more
  bench peers                    the same works in PyTorch, candle and burn, where they are installed
        --rounds N --threads N   how often each runs in turn (9), on how many threads (all)
        --only TEXT --peer NAME  the works whose name contains TEXT; torch, candle or burn alone
  kernels fetch | check | sass | run | build
                                 the CUDA kernels, on a machine without a GPU
        fetch                    the compiler (NVRTC) and the disassembler, as Python wheels, into the target folder
        check [--bless]          every kernel for every architecture: registers, spills and shared memory against
                                 kernels/budget.toml, which --bless rewrites
        sass NAME                the instructions of one file of kernels, and counts of those that matter
        run [--seeds N] [--asan] the kernels in host memory under N schedules (64), or with an address sanitizer
        build --out DIR          machine code for a machine without the compiler
  miri                           galatea-tensor and the pool of the kernels under Miri, where a nightly with Miri is installed
";

/// How a command ended, when nothing kept it from running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It found nothing wrong.
    Passed,
    /// It ran and found something wrong, which it has printed.
    Failed,
    /// It was called in a way it does not understand; the message is printed above the usage.
    Usage,
    /// As [`Outcome::Usage`], and a program that it handed its arguments to has said so.
    Refused,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&root(), &arguments) {
        Ok(Outcome::Passed) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::FAILURE,
        Ok(Outcome::Usage) => {
            eprint!("{USAGE}");
            ExitCode::from(2)
        }
        Ok(Outcome::Refused) => ExitCode::from(2),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(root: &Path, arguments: &[String]) -> anyhow::Result<Outcome> {
    let Some((command, rest)) = arguments.split_first() else { return Ok(Outcome::Usage) };
    match (command.as_str(), rest) {
        ("help" | "--help" | "-h", []) => {
            print!("{USAGE}");
            Ok(Outcome::Passed)
        }
        ("ci", rest) => match ci::Options::parse(rest) {
            Ok(options) => ci::run(root, &options),
            Err(message) => Ok(usage(&message)),
        },
        ("tidy", []) => tidy::run(root),
        ("test", []) => test::run(root),
        ("bench", rest) => bench::run(root, rest),
        ("kernels", rest) => kernels::run(root, rest),
        ("miri", []) => miri::run(root),
        ("tidy" | "test" | "miri" | "help" | "--help" | "-h", [extra, ..]) => {
            Ok(usage(&format!("`{command}` takes no argument, found `{extra}`")))
        }
        (unknown, _) => Ok(usage(&format!("there is no command `{unknown}`"))),
    }
}

pub(crate) fn usage(message: &str) -> Outcome {
    eprintln!("error: {message}\n");
    Outcome::Usage
}

/// The workspace's root: the parent of this package, wherever the command was started.
fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().expect("xtask is a folder of the workspace").to_path_buf()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(arguments: &[&str]) -> Outcome {
        let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        dispatch(Path::new("/nowhere"), &arguments).expect("usage is decided before anything runs")
    }

    #[test]
    fn a_call_that_makes_no_sense_is_a_usage_error() {
        for call in [
            &[][..],
            &["clean"],
            &["tidy", "now"],
            &["ci", "--only"],
            &["ci", "--only", "lunch"],
            &["kernels"],
            &["miri", "x"],
        ] {
            assert_eq!(outcome(call), Outcome::Usage, "{call:?}");
        }
    }

    #[test]
    fn help_and_the_list_of_steps_pass_without_running_anything() {
        assert_eq!(outcome(&["--help"]), Outcome::Passed);
        assert_eq!(outcome(&["ci", "--list"]), Outcome::Passed);
    }
}
