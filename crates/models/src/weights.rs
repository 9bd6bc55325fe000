//! Parameters in and out of safetensors files.

use crate::Error;
use galatea_autograd::{Part, Session};
use galatea_kernels::Backend;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::Path;

/// A named tensor: its extents and its elements, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Extents.
    pub dims: Vec<usize>,
    /// Elements.
    pub values: Vec<f32>,
}

/// Named tensors and the file's own notes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights {
    /// The tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// Free text by key.
    pub notes: BTreeMap<String, String>,
}

const CHECKSUM: &str = "galatea.checksum";
/// A note that no file holds: the checksum was there and right.
const CHECKED: &str = "galatea.checked";

impl Weights {
    /// Reads a file. Every float type is widened to f32; a file written by [`Weights::write`] is checked bit by bit.
    ///
    /// # Errors
    /// If the file cannot be read, is not safetensors, or its bytes are not the ones that were written.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let format = |reason: String| Error::Format { path: path.to_owned(), reason };
        let bytes = std::fs::read(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
        let file = SafeTensors::deserialize(&bytes).map_err(|e| format(e.to_string()))?;
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| format(e.to_string()))?;
        let mut notes: BTreeMap<String, String> =
            header.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
        let mut tensors = BTreeMap::new();
        for (name, view) in file.tensors() {
            let values = widen(&view).ok_or_else(|| format(format!("tensor `{name}` has type {:?}", view.dtype())))?;
            tensors.insert(name, Tensor { dims: view.shape().to_vec(), values });
        }
        if let Some(checksum) = notes.remove(CHECKSUM) {
            if checksum != checksum_of(&tensors) {
                return Err(format("its checksum does not match its contents".into()));
            }
            notes.insert(CHECKED.into(), String::new());
        }
        Ok(Self { tensors, notes })
    }

    /// Reads a file that [`Weights::write`] wrote: one without its checksum is damaged too.
    ///
    /// # Errors
    /// As [`Weights::read`], or if there is no checksum.
    pub fn read_own(path: &Path) -> Result<Self, Error> {
        let mut weights = Self::read(path)?;
        match weights.notes.remove(CHECKED) {
            Some(_) => Ok(weights),
            None => Err(Error::Format { path: path.to_owned(), reason: "its checksum is missing".into() }),
        }
    }

    /// Writes a file under a temporary name beside it, then renames: the old file is whole until the new one is.
    ///
    /// # Errors
    /// If the disk refuses; the temporary file is removed and the old file untouched.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let bytes: Vec<(&String, &Tensor, Vec<u8>)> = self
            .tensors
            .iter()
            .map(|(name, t)| (name, t, t.values.iter().flat_map(|x| x.to_le_bytes()).collect()))
            .collect();
        let views = bytes.iter().map(|(name, t, bytes)| {
            let view = TensorView::new(Dtype::F32, t.dims.clone(), bytes).expect("four bytes an element");
            (name.as_str(), view)
        });
        let mut notes: HashMap<String, String> = self.notes.clone().into_iter().collect();
        notes.insert(CHECKSUM.into(), checksum_of(&self.tensors));
        let data = safetensors::serialize(views, Some(notes))
            .map_err(|e| Error::Format { path: path.to_owned(), reason: e.to_string() })?;
        write_atomically(path, &data)
    }

    /// The tensor called `name` with these extents.
    ///
    /// # Errors
    /// If there is none, or it has other extents (`path` is the file to name).
    pub fn get(&self, name: &str, dims: &[usize], path: &Path) -> Result<&Tensor, Error> {
        let Some(tensor) = self.tensors.get(name) else {
            let mut found: Vec<&str> = self.tensors.keys().take(4).map(String::as_str).collect();
            if self.tensors.len() > 4 {
                found.push("...");
            }
            return Err(Error::Missing { path: path.to_owned(), name: name.to_owned(), found: found.join(", ") });
        };
        if tensor.dims != dims {
            let (expected, found) = (dims.to_vec(), tensor.dims.clone());
            return Err(Error::Shape { path: path.to_owned(), name: name.to_owned(), expected, found });
        }
        Ok(tensor)
    }
}

/// Writes `data` to `path` through a temporary name in the same folder, flushed to the disk before the rename.
///
/// # Errors
/// If the disk refuses; the temporary file is removed.
pub fn write_atomically(path: &Path, data: &[u8]) -> Result<(), Error> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let write = || {
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(data)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    write().map_err(|source| {
        let _ = std::fs::remove_file(&temporary);
        Error::Io { path: path.to_owned(), source }
    })
}

/// One part of every parameter of a session, under the parameters' names; empty if the program does not keep it.
///
/// # Errors
/// If the machine fails.
pub fn export<B: Backend>(session: &Session<B>, part: Part) -> Result<BTreeMap<String, Tensor>, B::Error> {
    let mut out = BTreeMap::new();
    for (index, param) in session.plan().params().iter().enumerate() {
        if let Some(values) = session.param(index, part)? {
            let dims = param.shape.dims().iter().map(|&d| d as usize).collect();
            out.insert(param.path.clone(), Tensor { dims, values });
        }
    }
    Ok(out)
}

/// Sets one part of every parameter of a session from `weights`, read from `path`.
///
/// # Errors
/// If a tensor is missing or has another shape; nothing is set then.
pub fn import<B: Backend>(
    session: &mut Session<B>,
    part: Part,
    weights: &Weights,
    path: &Path,
) -> Result<Result<(), B::Error>, Error> {
    let params = session.plan().params().to_vec();
    let mut found = Vec::with_capacity(params.len());
    for param in &params {
        let dims: Vec<usize> = param.shape.dims().iter().map(|&d| d as usize).collect();
        found.push(weights.get(&param.path, &dims, path)?);
    }
    for (index, tensor) in found.into_iter().enumerate() {
        if let Err(error) = session.set_param(index, part, &tensor.values) {
            return Ok(Err(error));
        }
    }
    Ok(Ok(()))
}

fn widen(view: &TensorView<'_>) -> Option<Vec<f32>> {
    let data = view.data();
    Some(match view.dtype() {
        Dtype::F32 => data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().expect("4 bytes"))).collect(),
        Dtype::F64 => data.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().expect("8 bytes")) as f32).collect(),
        Dtype::BF16 => {
            let one = |b: &[u8]| f32::from_bits(u32::from(u16::from_le_bytes(b.try_into().expect("2 bytes"))) << 16);
            data.chunks_exact(2).map(one).collect()
        }
        _ => return None,
    })
}

/// FNV-1a over names, extents and bits: finds a flipped bit, not an adversary.
fn checksum_of(tensors: &BTreeMap<String, Tensor>) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut eat = |word: u64| hash = (hash ^ word).wrapping_mul(0x0100_0000_01b3);
    for (name, tensor) in tensors {
        name.bytes().for_each(|b| eat(u64::from(b)));
        tensor.dims.iter().for_each(|&d| eat(d as u64));
        tensor.values.iter().for_each(|x| eat(u64::from(x.to_bits())));
    }
    format!("{hash:016x}")
}
