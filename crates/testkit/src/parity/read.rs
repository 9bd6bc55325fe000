//! From a folder to cases.

use super::{Case, Fault};
use galatea_fixtures::Fixture;
use serde_json::Value;
use std::path::{Path, PathBuf};

fn unreadable(path: &Path, why: impl std::fmt::Display) -> Fault {
    Fault::Read { path: path.to_owned(), why: why.to_string() }
}

/// The entries of a folder, sorted.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Fault> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|e| unreadable(folder, e))? {
        paths.push(entry.map_err(|e| unreadable(folder, e))?.path());
    }
    paths.sort();
    Ok(paths)
}

fn is_fixture(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "safetensors")
}

/// The safetensors files of one folder.
pub(super) fn folder(folder: &Path) -> Result<Vec<PathBuf>, Fault> {
    Ok(entries(folder)?.into_iter().filter(|path| is_fixture(path)).collect())
}

/// The safetensors files of `root`'s folders, and of `root` itself.
pub(super) fn files(root: &Path) -> Result<Vec<PathBuf>, Fault> {
    let mut files = Vec::new();
    for path in entries(root)? {
        if path.is_dir() {
            files.extend(entries(&path)?.into_iter().filter(|path| is_fixture(path)));
        } else if is_fixture(&path) {
            files.push(path);
        }
    }
    Ok(files)
}

/// The names of the folder and of the file without its ending.
pub(super) fn names(path: &Path) -> (String, String) {
    let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let folder = path.canonicalize().ok().and_then(|path| path.parent().map(Path::to_owned)).unwrap_or_default();
    (text(folder.file_name()), text(path.file_stem()))
}

/// One fixture: the file and its entry in the `config.json` beside it, which is the whole of a config that has no entry
/// of that name.
pub(super) fn single(path: &Path) -> Result<Case, Fault> {
    let (family, name) = names(path);
    let folder = path.parent().unwrap_or(Path::new(".")).to_owned();
    let settings = folder.join("config.json");
    let text = std::fs::read_to_string(&settings).map_err(|e| unreadable(&settings, e))?;
    let mut config: Value = serde_json::from_str(&text).map_err(|e| unreadable(&settings, e))?;
    if let Some(entry) = config.get_mut(&name).filter(|entry| entry.is_object()) {
        config = entry.take();
    }
    let tensors = Fixture::open(path).map_err(|e| unreadable(path, e.why))?;
    Ok(Case { family, name, config, tensors, folder })
}
