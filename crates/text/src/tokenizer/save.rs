//! Files that are either the old one or the new one, never half of each.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Error;

/// Writes `content` under another name in the same folder, waits until it is on the disk, and renames it to `path`.
pub(crate) fn replace(path: &Path, content: &[u8]) -> Result<(), Error> {
    static SAVES: AtomicU64 = AtomicU64::new(0);
    let fail = |action| move |source| Error::Io { action, path: path.to_owned(), source };
    if path.is_dir() {
        return Err(Error::Directory { path: path.to_owned() });
    }
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    // The process and a count make the name our own, whoever else writes to this folder.
    let own = format!(".galatea-{}-{}.tmp", std::process::id(), SAVES.fetch_add(1, Ordering::Relaxed));
    let draft = folder.join(own);
    let written = File::create(&draft).and_then(|mut file| {
        file.write_all(content)?;
        file.sync_all()
    });
    let renamed = written.map_err(fail("write")).and_then(|()| fs::rename(&draft, path).map_err(fail("replace")));
    if renamed.is_err() {
        // What failed is already known; a draft that cannot be removed either adds nothing to it.
        let _ = fs::remove_file(&draft);
        return renamed;
    }
    // The name is safe only with its folder on the disk; where folders cannot be synchronised the rename stands.
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_and_leaves_nothing_else() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("t.json");
        replace(&path, b"old and longer").expect("write");
        replace(&path, b"new").expect("replace");
        assert_eq!(fs::read(&path).expect("read"), b"new");
        assert_eq!(fs::read_dir(folder.path()).expect("list").count(), 1);
    }

    #[test]
    fn a_failure_keeps_the_folder_as_it_was() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let missing = folder.path().join("none").join("t.json");
        assert!(replace(&missing, b"x").expect_err("no folder").to_string().starts_with("cannot write"));
        assert!(matches!(replace(folder.path(), b"x"), Err(Error::Directory { .. })));
        assert_eq!(fs::read_dir(folder.path()).expect("list").count(), 0);
    }
}
