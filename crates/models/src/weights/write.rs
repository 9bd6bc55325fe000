//! Parameters into a file.

use super::{CHECKSUM, checksum, tensors_of};
use crate::Error;
use galatea_autograd::{Part, Session};
use galatea_kernels::Backend;
use safetensors::tensor::{Dtype, TensorView};
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

impl Weights {
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
        let sums = self.tensors.iter().map(|(name, t)| checksum::tensor(name, &t.dims, &t.values));
        let sum = sums.fold(0, u64::wrapping_add);
        let mut notes: HashMap<String, String> = self.notes.clone().into_iter().collect();
        notes.insert(CHECKSUM.into(), format!("{sum:016x}"));
        let data = safetensors::serialize(views, Some(notes))
            .map_err(|e| Error::Format { path: path.to_owned(), reason: e.to_string() })?;
        write_atomically(path, &data)
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

/// One part of every parameter of a session, under the names of its tensors; empty if the program does not keep it.
///
/// # Errors
/// If the machine fails.
pub fn export<B: Backend>(session: &Session<B>, part: Part) -> Result<BTreeMap<String, Tensor>, B::Error> {
    let mut out = BTreeMap::new();
    for (index, param) in session.plan().params().iter().enumerate() {
        if let Some(values) = session.param(index, part)? {
            let dims: Vec<usize> = param.shape.dims().iter().map(|&d| d as usize).collect();
            let mut rest = values.as_slice();
            for (name, dims) in tensors_of(&param.path, &dims) {
                let (values, after) = rest.split_at(dims.iter().product());
                out.insert(name, Tensor { dims, values: values.to_vec() });
                rest = after;
            }
        }
    }
    Ok(out)
}
