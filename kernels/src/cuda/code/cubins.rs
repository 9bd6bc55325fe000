//! Where machine code comes from: a folder of kernels compiled ahead of time, the cache on disk, the compiler.
//!
//! A file in the folder was put there on purpose, so one that does not fit is an error. The cache is only ever a saving of
//! time: whatever is wrong with it, the kernel is compiled anew and a [`Note`] says why.

use super::compile::{CompileError, Compiled, Compiler, Nvrtc, OPTIONS, headers};
use super::entry::{Damage, Entry, fnv};
use super::image::{Image, NotAnImage};
use crate::cuda::launch::{Arch, Source};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{env, fs, process, thread};

/// Machine code that the driver can load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cubin {
    /// The image.
    pub image: Vec<u8>,
    /// What the compiler said when it made the image; empty for an image that another compiler made.
    pub log: String,
    /// Where it comes from.
    pub origin: Origin,
    /// What went wrong on the way and was got around: to be shown, not to stop for.
    pub notes: Vec<Note>,
}

/// Where an image comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file compiled ahead of time.
    Ahead(PathBuf),
    /// A file of the cache.
    Cache(PathBuf),
    /// The compiler, just now.
    Compiled,
}

/// Something that cost time and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Note {
    /// A file of the cache was broken.
    #[error("{}: {damage}; the kernel was compiled again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        damage: Damage,
    },
    /// A file of the cache holds another kernel, or its image is none for this architecture.
    #[error("{}: holds something else; the kernel was compiled again", path.display())]
    Other {
        /// The file.
        path: PathBuf,
    },
    /// The cache could not be read.
    #[error("{}: could not be read ({reason}); the kernel was compiled again", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        reason: String,
    },
    /// The cache could not be written.
    #[error("{}: could not be written ({reason}); the kernel will be compiled again next time", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        reason: String,
    },
    /// There is no place for a cache.
    #[error("neither XDG_CACHE_HOME nor HOME names a folder; kernels will be compiled again next time")]
    NoCache,
}

/// Why there is no machine code.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CubinError {
    /// The compiler is missing or rejects the kernel.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// A file compiled ahead of time could not be read.
    #[error("{}: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        reason: String,
    },
    /// A file compiled ahead of time is no image.
    #[error("{}: {reason}", path.display())]
    NotAnImage {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        reason: NotAnImage,
    },
    /// A file compiled ahead of time is for another processor.
    #[error("{}: is machine code for sm_{found}, and this is a {}", path.display(), wanted.name())]
    WrongArch {
        /// The file.
        path: PathBuf,
        /// The number of its architecture.
        found: u32,
        /// The architecture here.
        wanted: Arch,
    },
    /// A file compiled ahead of time is broken.
    #[error("{}: {damage}; copy it again, or build it with `cargo xtask kernels build`", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        damage: Damage,
    },
    /// A file compiled ahead of time was made from other texts than this program has.
    #[error("{}: was compiled from another version of {name}.cu; build it with `cargo xtask kernels build`", path.display())]
    Stale {
        /// The file.
        path: PathBuf,
        /// The kernel's file.
        name: &'static str,
    },
}

/// The places, in the order in which they are asked.
#[derive(Clone, Debug)]
pub struct Cubins<C = Nvrtc> {
    ahead: Option<PathBuf>,
    cache: Option<PathBuf>,
    compiler: C,
}

impl Cubins {
    /// The folder that `GALATEA_CUBINS` names; `$XDG_CACHE_HOME/galatea/cubins`, or that under `$HOME/.cache`; NVRTC.
    pub fn from_env() -> Self {
        let folder = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        // A relative path is to be ignored, says the XDG base directory specification.
        let caches = folder("XDG_CACHE_HOME").filter(|path| path.is_absolute());
        let caches = caches.or_else(|| folder("HOME").map(|home| home.join(".cache")));
        Self::new(folder("GALATEA_CUBINS"), caches.map(|caches| caches.join("galatea").join("cubins")), Nvrtc)
    }
}

impl<C: Compiler> Cubins<C> {
    /// Files compiled `ahead` of time, a `cache` that need not exist yet, and what compiles the rest.
    pub fn new(ahead: Option<PathBuf>, cache: Option<PathBuf>, compiler: C) -> Self {
        Self { ahead, cache, compiler }
    }

    /// The machine code of a file of kernels.
    ///
    /// # Errors
    /// If a file compiled ahead of time does not fit, or there is none and the compiler is missing or rejects the kernel.
    pub fn get(&self, source: &Source, arch: Arch) -> Result<Cubin, CubinError> {
        if let Some(found) = self.ahead(source, arch)? {
            return Ok(found);
        }
        let version = self.compiler.version()?;
        let recipe = recipe(source, arch);
        let mut notes = Vec::new();
        let name =
            format!("{}.{}.{:016x}.cubin", source.name, arch.name(), fnv(format!("{version}\n{recipe}").as_bytes()));
        let path = self.cache.as_ref().map(|folder| folder.join(name));
        match path.as_deref().map(|path| cached(path, &version, &recipe, arch)) {
            Some(Ok(Some(Entry { image, log, .. }))) => {
                let origin = Origin::Cache(path.expect("the file that was read"));
                return Ok(Cubin { image, log, origin, notes });
            }
            Some(Err(note)) => notes.push(note),
            Some(Ok(None)) => {}
            None => notes.push(Note::NoCache),
        }
        let Compiled { image, log } = self.compiler.compile(source, arch)?;
        let entry = Entry { image, recipe, compiler: version, log };
        if let Some(path) = path
            && let Err(error) = write(&path, &entry.to_bytes())
        {
            notes.push(Note::Unwritable { path, reason: error.to_string() });
        }
        Ok(Cubin { image: entry.image, log: entry.log, origin: Origin::Compiled, notes })
    }

    /// The machine code of many files, compiled on `threads` threads, in their order.
    pub fn get_all(&self, wanted: &[(&Source, Arch)], threads: usize) -> Vec<Result<Cubin, CubinError>>
    where
        C: Sync,
    {
        let next = AtomicUsize::new(0);
        let work = || {
            let mut done = Vec::new();
            while let i = next.fetch_add(1, Ordering::Relaxed)
                && let Some(&(source, arch)) = wanted.get(i)
            {
                done.push((i, self.get(source, arch)));
            }
            done
        };
        let mut all: Vec<(usize, Result<Cubin, CubinError>)> = thread::scope(|scope| {
            let workers: Vec<_> = (1..threads.min(wanted.len())).map(|_| scope.spawn(work)).collect();
            let own = work();
            let others =
                workers.into_iter().flat_map(|worker| worker.join().expect("a compiler's thread does not panic"));
            own.into_iter().chain(others).collect()
        });
        all.sort_by_key(|(i, _)| *i);
        all.into_iter().map(|(_, result)| result).collect()
    }

    /// Compiles a file into a folder, as [`Cubins::get`] finds it there; the file's path.
    ///
    /// # Errors
    /// If there is no machine code, or the file cannot be written.
    pub fn build(&self, source: &Source, arch: Arch, folder: &Path) -> Result<PathBuf, CubinError> {
        let Cubin { image, log, .. } = self.get(source, arch)?;
        let entry = Entry { image, recipe: recipe(source, arch), compiler: self.compiler.version()?, log };
        let path = folder.join(file_name(source, arch));
        match write(&path, &entry.to_bytes()) {
            Ok(()) => Ok(path),
            Err(error) => Err(CubinError::Unreadable { path, reason: error.to_string() }),
        }
    }

    /// The file compiled ahead of time, if there is one.
    fn ahead(&self, source: &Source, arch: Arch) -> Result<Option<Cubin>, CubinError> {
        let Some(path) = self.ahead.as_ref().map(|folder| folder.join(file_name(source, arch))) else {
            return Ok(None);
        };
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(CubinError::Unreadable { path, reason: error.to_string() }),
        };
        match Image::parse(&bytes) {
            Err(reason) => return Err(CubinError::NotAnImage { path, reason }),
            Ok(image) if !image.runs_on(arch) => {
                return Err(CubinError::WrongArch { path, found: image.processor, wanted: arch });
            }
            Ok(_) => {}
        }
        let entry = match Entry::from_bytes(&bytes) {
            Ok(entry) => entry,
            Err(damage) => return Err(CubinError::Damaged { path, damage }),
        };
        if entry.recipe != recipe(source, arch) {
            return Err(CubinError::Stale { path, name: source.name });
        }
        Ok(Some(Cubin { image: entry.image, log: entry.log, origin: Origin::Ahead(path), notes: Vec::new() }))
    }
}

/// What a file compiled ahead of time is called.
fn file_name(source: &Source, arch: Arch) -> String {
    format!("{}.{}.cubin", source.name, arch.name())
}

/// Everything that decides the machine code, beside the compiler's version.
fn recipe(source: &Source, arch: Arch) -> String {
    let mut recipe = format!("{} {}\n{}.cu\n{}\n", arch.name(), OPTIONS.join(" "), source.name, source.text);
    for (name, text) in headers(source.text) {
        recipe += &format!("{name}\n{text}\n");
    }
    recipe
}

/// A file of the cache, if it is there and is what its name says.
fn cached(path: &Path, version: &str, recipe: &str, arch: Arch) -> Result<Option<Entry>, Note> {
    let path = path.to_owned();
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Note::Unreadable { path, reason: error.to_string() }),
    };
    let entry = match Entry::from_bytes(&bytes) {
        Ok(entry) => entry,
        Err(damage) => return Err(Note::Damaged { path, damage }),
    };
    let fits = Image::parse(&entry.image).is_ok_and(|image| image.runs_on(arch));
    if fits && entry.compiler == version && entry.recipe == recipe {
        Ok(Some(entry))
    } else {
        Err(Note::Other { path })
    }
}

/// Writes a file that is there whole or not at all, whoever writes or reads it at the same time.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    static WRITTEN: AtomicUsize = AtomicUsize::new(0);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.{number}.tmp", process::id()));
    let temporary = PathBuf::from(temporary);
    let all = || {
        let mut file = fs::File::create(&temporary)?;
        file.write_all(bytes)?;
        // Before the name: after a crash there is the old file or the whole new one.
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    all().inspect_err(|_| {
        let _ = fs::remove_file(&temporary);
    })
}

#[cfg(test)]
mod tests;
