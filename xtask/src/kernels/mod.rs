//! The CUDA kernels without a GPU: fetched compiler, machine code against a budget, instructions, interpreted runs.

mod budget;
mod check;
mod fetch;
mod sass;

pub(crate) use check::check;

use crate::{Outcome, process, usage};
use anyhow::{Context, Result};
use fetch::{Fetched, Toolchain};
use std::path::Path;

/// What `cargo xtask kernels` is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Fetch,
    Check { bless: bool },
    Sass { name: String },
    Run { seeds: u32, asan: bool },
    Build { out: String },
}

impl Command {
    /// Reads the words after `kernels`.
    pub(crate) fn parse(arguments: &[String]) -> Result<Self, String> {
        let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
        match words[..] {
            ["fetch"] => Ok(Self::Fetch),
            ["check"] => Ok(Self::Check { bless: false }),
            ["check", "--bless"] => Ok(Self::Check { bless: true }),
            ["sass", name] if !name.starts_with('-') => Ok(Self::Sass { name: name.to_owned() }),
            ["build", "--out", out] => Ok(Self::Build { out: out.to_owned() }),
            ["run", ref rest @ ..] => Self::parse_run(rest),
            _ => Err(format!(
                "`kernels` takes fetch, check [--bless], sass NAME, run [--seeds N] [--asan] or build --out DIR, found `{}`",
                words.join(" ")
            )),
        }
    }

    fn parse_run(words: &[&str]) -> Result<Self, String> {
        let (mut seeds, mut asan) = (64, false);
        let mut rest = words.iter();
        while let Some(word) = rest.next() {
            match *word {
                "--asan" => asan = true,
                "--seeds" => {
                    let number = rest.next().and_then(|word| word.parse().ok()).filter(|seeds| *seeds > 0);
                    seeds = number.ok_or("`--seeds` wants a number of at least 1")?;
                }
                other => return Err(format!("`kernels run` does not know `{other}`, only --seeds N and --asan")),
            }
        }
        Ok(Self::Run { seeds, asan })
    }
}

/// Runs one of the commands.
pub(crate) fn run(root: &Path, arguments: &[String]) -> Result<Outcome> {
    match Command::parse(arguments) {
        Err(message) => Ok(usage(&message)),
        Ok(Command::Fetch) => fetch(root),
        Ok(Command::Check { bless }) => {
            Ok(if check(root, bless)?.failed() { Outcome::Failed } else { Outcome::Passed })
        }
        Ok(Command::Sass { name }) => with_toolchain(root, |toolchain| sass::run(root, toolchain, &name)),
        Ok(Command::Run { seeds, asan }) => interpret(root, seeds, asan),
        Ok(Command::Build { out }) => with_toolchain(root, |toolchain| build(root, toolchain, &out)),
    }
}

fn fetch(root: &Path) -> Result<Outcome> {
    with_toolchain(root, |toolchain| {
        println!("export LD_LIBRARY_PATH={}", toolchain.libraries().display());
        Ok(Outcome::Passed)
    })
}

/// Runs `work` with the compiler, or says why there is none.
fn with_toolchain(root: &Path, work: impl FnOnce(&Toolchain) -> Result<Outcome>) -> Result<Outcome> {
    match fetch::fetch(&process::target(root)?)? {
        Fetched::Ready(toolchain) => work(&toolchain),
        Fetched::Impossible(reason) => {
            eprintln!("error: no NVRTC: {reason}");
            Ok(Outcome::Failed)
        }
    }
}

/// The program that compiles, with the compiler where its loader looks and a cache of its own.
fn cubins(root: &Path, toolchain: &Toolchain, arguments: &[&str]) -> std::process::Command {
    let cargo = ["run", "--quiet", "--release", "--package", "galatea-kernels", "--features", "cuda"];
    let mut command = process::cargo(root, &cargo);
    command.args(["--example", "cubins", "--"]).args(arguments);
    toolchain.lend(&mut command);
    command
}

/// A command line of the shell that finds the compiler, where it has been fetched.
pub(crate) fn with_compiler(root: &Path, line: &str) -> Result<String> {
    Ok(Toolchain::under(&process::target(root)?).prefix() + line)
}

fn build(root: &Path, toolchain: &Toolchain, out: &str) -> Result<Outcome> {
    let mut files = 0;
    let success = process::watch(cubins(root, toolchain, &["--out", out]), |stream, line| {
        files += usize::from(line.starts_with("file\t"));
        if stream == process::Stream::Err || line.starts_with("error\t") {
            process::pass_on(process::Stream::Err, &line.replace("\\n", "\n"));
        }
    })?;
    println!("{files} files of machine code in {out}; GALATEA_CUBINS={out} makes a program load them");
    Ok(if success { Outcome::Passed } else { Outcome::Failed })
}

/// The kernels in host memory, under more schedules than a usual test run has.
fn interpret(root: &Path, seeds: u32, asan: bool) -> Result<Outcome> {
    let test = "cargo test --release --package galatea-kernels";
    let line = if asan { sanitized(root, test)? } else { format!("{test} --package galatea-interpreter") };
    let line = format!("GALATEA_SCHEDULES={seeds} {line}");
    println!("$ {line}");
    let totals = crate::test::measure(root, &line)?;
    println!("{totals}");
    Ok(if totals.failed == 0 { Outcome::Passed } else { Outcome::Failed })
}

/// A test command with the C++ of the interpreter and of the kernels under the address sanitizer, in a target folder of its
/// own. The sanitizer must come before everything else that a test program loads, so the runner puts it there. It does not
/// follow stacks that the interpreter switches, nor what lives until the end.
fn sanitized(root: &Path, test: &str) -> Result<String> {
    let version = process::output(process::shell(root, "rustc --version --verbose"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc names no host")?;
    let runner = format!("CARGO_TARGET_{}_RUNNER", host.to_uppercase().replace(['-', '.'], "_"));
    Ok(format!(
        "CXXFLAGS='-fsanitize=address -fno-omit-frame-pointer' RUSTFLAGS='-Clink-arg=-lasan' CARGO_TARGET_DIR={}/asan \
         {runner}=\"env LD_PRELOAD=$(gcc -print-file-name=libasan.so) \
         ASAN_OPTIONS=detect_stack_use_after_return=0:detect_leaks=0\" {test} --lib",
        process::target(root)?.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, String> {
        Command::parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn every_command_is_understood() {
        assert_eq!(parse("fetch"), Ok(Command::Fetch));
        assert_eq!(parse("check"), Ok(Command::Check { bless: false }));
        assert_eq!(parse("check --bless"), Ok(Command::Check { bless: true }));
        assert_eq!(parse("sass adamw"), Ok(Command::Sass { name: "adamw".into() }));
        assert_eq!(parse("run"), Ok(Command::Run { seeds: 64, asan: false }));
        assert_eq!(parse("run --asan --seeds 8"), Ok(Command::Run { seeds: 8, asan: true }));
        assert_eq!(parse("build --out x"), Ok(Command::Build { out: "x".into() }));
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        for line in ["", "fetch it", "check --blessed", "sass", "sass --all", "run --seeds", "run --seeds 0", "build"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
