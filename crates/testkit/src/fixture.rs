//! Golden data made by the original implementations.

use ndarray::{ArrayD, IxDyn};
use safetensors::{Dtype, SafeTensors};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The tensors of one safetensors file, widened to `f64` (integers included; exact below 2^53).
pub struct Fixture {
    tensors: BTreeMap<String, ArrayD<f64>>,
}

impl Fixture {
    /// Reads a file that must exist: a small fixture kept in the crate's `tests/fixtures`.
    pub fn read(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref();
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("fixture {}: {e}", path.display()));
        let file = SafeTensors::deserialize(&bytes).unwrap_or_else(|e| panic!("fixture {}: {e}", path.display()));
        let tensors = file.tensors().into_iter().map(|(name, view)| {
            let data: Vec<f64> = match view.dtype() {
                Dtype::F32 => view
                    .data()
                    .chunks_exact(4)
                    .map(|b| f64::from(f32::from_le_bytes(b.try_into().expect("4 bytes"))))
                    .collect(),
                Dtype::F64 => {
                    view.data().chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().expect("8 bytes"))).collect()
                }
                Dtype::I32 => view
                    .data()
                    .chunks_exact(4)
                    .map(|b| f64::from(i32::from_le_bytes(b.try_into().expect("4 bytes"))))
                    .collect(),
                Dtype::I64 => view
                    .data()
                    .chunks_exact(8)
                    .map(|b| i64::from_le_bytes(b.try_into().expect("8 bytes")) as f64)
                    .collect(),
                Dtype::BOOL | Dtype::U8 => view.data().iter().map(|&b| f64::from(b)).collect(),
                other => panic!("fixture {}: {name} is {other:?}", path.display()),
            };
            let array = ArrayD::from_shape_vec(IxDyn(view.shape()), data).expect("safetensors checked the size");
            (name, array)
        });
        Self { tensors: tensors.collect() }
    }

    /// The tensor called `name`; panics with the names there are.
    pub fn get(&self, name: &str) -> &ArrayD<f64> {
        self.tensors
            .get(name)
            .unwrap_or_else(|| panic!("no tensor {name} among {:?}", self.names().collect::<Vec<_>>()))
    }

    /// The tensor's numbers in row-major order.
    pub fn vec(&self, name: &str) -> Vec<f64> {
        self.get(name).iter().copied().collect()
    }

    /// The tensor as `f32`, the original's precision.
    pub fn vec_f32(&self, name: &str) -> Vec<f32> {
        self.get(name).iter().map(|&x| x as f32).collect()
    }

    /// The tensor as token ids.
    pub fn ids(&self, name: &str) -> Vec<u32> {
        self.get(name).iter().map(|&x| x as u32).collect()
    }

    /// Whether there is a tensor called `name`.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// All names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }
}

/// A large golden outside the repository: `shared/goldens/<relative>` beside the checkout, or `None` with a line
/// `skipped: ...` on standard error that `cargo xtask test` counts.
pub fn golden(relative: &str) -> Option<Fixture> {
    let root = std::env::var_os("GALATEA_GOLDENS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/goldens"), PathBuf::from);
    let path = root.join(relative);
    if path.exists() {
        return Some(Fixture::read(path));
    }
    skipped(&format!("no golden {relative} (set GALATEA_GOLDENS to the folder that holds it)"));
    None
}

/// Says on the real standard error (which the test runner does not swallow) that a test checked nothing and why.
pub fn skipped(why: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("skipped: {why}\n").as_bytes());
}
