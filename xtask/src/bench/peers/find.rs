//! Which programs are here: ours is built, torch is looked for, candle and burn are built where crates.io answers.

use super::plan::{PEERS, Program};
use crate::bench::row;
use crate::process;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Names the Python whose torch is measured.
const PYTHON: &str = "GALATEA_TORCH_PYTHON";

/// A program that can be started.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) program: Program,
    /// The executable.
    path: PathBuf,
    /// What comes before a command: the script, for an interpreter.
    script: Option<PathBuf>,
    threads: usize,
    /// Where its saved model is.
    weights: PathBuf,
}

impl Found {
    /// The program with `arguments`, on its threads.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command.args(&self.script).args(arguments);
        for name in ["GALATEA_THREADS", "RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "CANDLE_NUM_THREADS"]
        {
            command.env(name, self.threads.to_string());
        }
        command
    }

    /// The program as it answers works.
    pub(super) fn serve(&self) -> Command {
        match self.program {
            Program::Galatea => self.command(&["serve"]),
            Program::Torch | Program::Candle | Program::Burn => self.command(&[]),
        }
    }

    /// The program as it loads its saved model and draws the first token; the model is saved if it is not yet.
    pub(super) fn first(&self) -> Result<Command, String> {
        match self.program {
            Program::Galatea | Program::Torch => {}
            Program::Candle | Program::Burn => return Err("only torch is compared from the start".into()),
        }
        let weights = self.weights.to_str().ok_or("the target folder's name is not UTF-8")?;
        if !self.weights.exists() {
            super::child::lifetime(self.command(&["save", weights]))?;
        }
        Ok(self.command(&["first", weights]))
    }
}

/// The programs among `wanted` peers and ours, and why others are not there.
pub(super) fn all(root: &Path, target: &Path, wanted: &[Program], threads: usize) -> Result<(Vec<Found>, Vec<String>)> {
    let home = target.join("peers");
    std::fs::create_dir_all(&home).with_context(|| format!("could not make {}", home.display()))?;
    let found = |program: Program, path: PathBuf, script: Option<PathBuf>| {
        let extension = if program == Program::Torch { "pt" } else { "safetensors" };
        let weights = home.join(format!("{}.{extension}", program.name()));
        Found { program, path, script, threads, weights }
    };
    let mut all = vec![found(Program::Galatea, row::build(root)?, None)];
    let mut skipped = Vec::new();
    for program in PEERS.into_iter().filter(|peer| wanted.contains(peer)) {
        let here = match program {
            Program::Torch => {
                torch(root, &home).map(|python| found(program, python, Some(root.join("benches/peers/torch/peer.py"))))
            }
            Program::Candle | Program::Burn | Program::Galatea => {
                build(root, &home, program).map(|path| found(program, path, None))
            }
        };
        match here {
            Ok(here) => all.push(here),
            Err(why) => skipped.push(format!("{}: {why}", program.name())),
        }
    }
    Ok((all, skipped))
}

/// A Python that can import torch.
fn torch(root: &Path, home: &Path) -> Result<PathBuf, String> {
    let named = std::env::var_os(PYTHON).map(PathBuf::from);
    let own = Some(home.join("venv/bin/python")).filter(|path| path.exists());
    let python = named.or(own).unwrap_or_else(|| PathBuf::from("python3"));
    let mut command = Command::new(&python);
    let imports = command.current_dir(root).args(["-c", "import torch"]).output();
    if imports.is_ok_and(|output| output.status.success()) {
        return Ok(python);
    }
    let venv = home.join("venv");
    let venv = venv.display();
    Err(format!(
        "{} does not import torch: `python3 -m venv {venv} && {venv}/bin/pip install torch` installs it, or name another \
         Python in {PYTHON}",
        python.display()
    ))
}

/// A peer of our own in Rust, built for this very processor.
fn build(root: &Path, home: &Path, program: Program) -> Result<PathBuf, String> {
    let name = program.name();
    eprintln!("building {name} (minutes, the first time)");
    let manifest = root.join("benches/peers").join(name).join("Cargo.toml");
    let folder = home.join(name);
    let mut command = process::cargo(root, &["build", "--release", "--locked"]);
    command.args(["--config", "build.rustflags=[\"-Ctarget-cpu=native\"]"]);
    command.arg("--manifest-path").arg(manifest).arg("--target-dir").arg(&folder);
    let output = command.output().map_err(|error| format!("cargo does not start: {error}"))?;
    if output.status.success() {
        return Ok(folder.join("release").join(format!("peer-{name}{}", std::env::consts::EXE_SUFFIX)));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let first = said.lines().find(|line| line.starts_with("error")).unwrap_or("cargo gave no reason");
    Err(format!("it does not build: {first}"))
}
