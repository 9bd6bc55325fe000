//! The compiler of CUDA kernels, from the Python package index into the target folder: no toolkit, no root, no GPU.

use anyhow::{Context, Result};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The versions that the budget was measured with. The disassembler has no wheel before 13.2 and reads older code.
const WHEELS: [&str; 2] = ["nvidia-cuda-nvrtc==13.0.88", "nvidia-cuda-nvdisasm==13.2.86"];

/// The file that says which wheels a folder holds.
const STAMP: &str = "wheels.txt";

/// What became of fetching.
pub(super) enum Fetched {
    Ready(Toolchain),
    /// The network or a package installer is missing; the reason is for a person.
    Impossible(String),
}

/// A folder with the compiler's library and the disassembler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Toolchain {
    folder: PathBuf,
}

impl Toolchain {
    /// The one under a target folder, whether it has been fetched or not.
    pub(super) fn under(target: &Path) -> Self {
        Self { folder: target.join("cuda") }
    }

    /// Where the loader must look.
    pub(super) fn libraries(&self) -> PathBuf {
        self.folder.join("nvidia/cu13/lib")
    }

    /// The disassembler.
    pub(super) fn nvdisasm(&self) -> PathBuf {
        self.folder.join("nvidia/cu13/bin/nvdisasm")
    }

    /// Where compiled kernels of the workspace's own commands lie.
    pub(super) fn cubins(&self) -> PathBuf {
        self.folder.join("cubins")
    }

    /// Makes a program find the compiler, and keep what it compiles beside it.
    pub(super) fn lend(&self, command: &mut Command) {
        let mut paths = vec![self.libraries()];
        paths.extend(env::var_os("LD_LIBRARY_PATH").iter().flat_map(env::split_paths));
        let joined: OsString = env::join_paths(paths).unwrap_or_else(|_| self.libraries().into());
        command.env("LD_LIBRARY_PATH", joined);
        command.env("XDG_CACHE_HOME", self.folder.join("cache")).env_remove("GALATEA_CUBINS");
    }

    /// The same before a command line of the shell.
    pub(super) fn prefix(&self) -> String {
        let (libraries, cache) = (self.libraries(), self.folder.join("cache"));
        format!("LD_LIBRARY_PATH={}:$LD_LIBRARY_PATH XDG_CACHE_HOME={} ", libraries.display(), cache.display())
    }

    fn is_complete(&self) -> bool {
        let stamp = fs::read_to_string(self.folder.join(STAMP)).unwrap_or_default();
        stamp == WHEELS.join("\n") && self.nvdisasm().is_file() && self.libraries().join("libnvrtc.so.13").is_file()
    }
}

/// Fetches into `cuda` under the target folder, unless that has been done.
pub(super) fn fetch(target: &Path) -> Result<Fetched> {
    let toolchain = Toolchain::under(target);
    if toolchain.is_complete() {
        return Ok(Fetched::Ready(toolchain));
    }
    println!("fetching {} into {}", WHEELS.join(" and "), toolchain.folder.display());
    let fresh = target.join(format!("cuda-fetch-{}", std::process::id()));
    let installed = install(&fresh);
    let result = match installed {
        Ok(()) => settle(&fresh, &toolchain).map(|()| Fetched::Ready(toolchain)),
        Err(reason) => Ok(Fetched::Impossible(reason)),
    };
    let _ = fs::remove_dir_all(&fresh);
    result
}

/// Moves what was installed to its place; the stamp comes last, so that half of it is not taken for all.
fn settle(fresh: &Path, toolchain: &Toolchain) -> Result<()> {
    let place = toolchain.folder.join("nvidia");
    fs::create_dir_all(&toolchain.folder).with_context(|| format!("could not make {}", toolchain.folder.display()))?;
    if place.exists() {
        fs::remove_dir_all(&place).with_context(|| format!("could not remove {}", place.display()))?;
    }
    fs::rename(fresh.join("nvidia"), &place).with_context(|| format!("could not make {}", place.display()))?;
    // A second build of the compiler, with another allocator, that no one here asks for: 114 MB.
    for entry in fs::read_dir(toolchain.libraries()).context("the wheel has no folder of libraries")?.flatten() {
        if entry.file_name().to_string_lossy().contains(".alt.") {
            let _ = fs::remove_file(entry.path());
        }
    }
    fs::write(toolchain.folder.join(STAMP), WHEELS.join("\n")).context("could not write which wheels these are")?;
    anyhow::ensure!(toolchain.is_complete(), "the wheels do not hold libnvrtc.so.13 and nvdisasm");
    Ok(())
}

/// Tries the installers that a machine may have until one succeeds; what each said, otherwise.
fn install(fresh: &Path) -> Result<(), String> {
    let wheels = |mut command: Command| said(command.args(["--no-deps", "--target"]).arg(fresh).args(WHEELS));
    // It retries by itself; a wait of 15 s each keeps a machine without a network from standing still.
    let pip = |python: &OsStr| {
        let mut command = Command::new(python);
        command.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--timeout=15"]);
        wheels(command)
    };
    let uv = || {
        let mut command = Command::new("uv");
        command.args(["pip", "install", "--quiet"]);
        wheels(command)
    };
    // A Python without pip may still be able to give one to an environment of its own.
    let venv = || {
        let folder = fresh.join("venv");
        said(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        pip(folder.join("bin/python").as_os_str())
    };
    let both = |first: String, second: String| format!("{first}; {second}");
    pip(OsStr::new("python3"))
        .or_else(|first| uv().map_err(|second| both(first, second)))
        .or_else(|first| venv().map_err(|second| both(first, second)))
}

/// Runs a command; the last line that it complained with, if it failed.
fn said(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{}: {error}", command.get_program().to_string_lossy()))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = text.lines().rev().find(|line| line.to_lowercase().contains("error")).or(text.lines().last());
    Err(line.unwrap_or("it failed without a word").trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process;

    #[test]
    fn half_a_folder_is_not_taken_for_the_compiler() {
        let folder = env::temp_dir().join(format!("galatea-fetch-{}", std::process::id()));
        let toolchain = Toolchain { folder: folder.clone() };
        assert!(!toolchain.is_complete());
        for file in [toolchain.nvdisasm(), toolchain.libraries().join("libnvrtc.so.13"), folder.join(STAMP)] {
            assert!(!toolchain.is_complete(), "before {}", file.display());
            fs::create_dir_all(file.parent().expect("a folder")).expect("the test's own folder");
            fs::write(&file, WHEELS.join("\n")).expect("the test's own folder");
        }
        assert!(toolchain.is_complete());
        fs::write(folder.join(STAMP), "nvidia-cuda-nvrtc==12.0").expect("the test's own folder");
        assert!(!toolchain.is_complete(), "another version is fetched anew");
        fs::remove_dir_all(folder).expect("the test's own folder");
    }

    #[test]
    fn a_failure_is_its_last_error() {
        let mut command = process::shell(Path::new("."), "echo ERROR: no network >&2; echo bye >&2; exit 1");
        assert_eq!(said(&mut command), Err("ERROR: no network".to_owned()));
        assert!(said(&mut Command::new("no-such-program-of-galatea")).is_err());
        assert_eq!(said(&mut process::shell(Path::new("."), "true")), Ok(()));
    }
}
