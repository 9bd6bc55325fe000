//! One fixture as a check reads it: settings and tensors, each missing one a fault with its name.

use super::Fault;
use galatea_fixtures::Fixture;
use ndarray::{Array, ArrayD, Dimension};
use serde_json::Value;
use std::path::PathBuf;

/// One fixture: a safetensors file and its entry in the folder's `config.json`.
pub struct Case {
    /// The folder's name, which says what kind of fixture this is.
    pub family: String,
    /// The file's name without its ending. It says nothing: settings are in `config`.
    pub name: String,
    /// The settings.
    pub config: Value,
    pub(super) tensors: Fixture,
    pub(super) folder: PathBuf,
}

impl Case {
    /// The tensor called `name`.
    pub fn tensor(&self, name: &str) -> Result<&ArrayD<f64>, Fault> {
        self.tensors.find(name).ok_or_else(|| Fault::Tensor { name: name.to_owned() })
    }

    /// The tensor called `name` with the given number of axes.
    pub fn array<D: Dimension>(&self, name: &str) -> Result<Array<f64, D>, Fault> {
        let tensor = self.tensor(name)?;
        let found = tensor.shape().to_vec();
        let axes = D::NDIM.unwrap_or(found.len());
        tensor.clone().into_dimensionality().map_err(|_| Fault::Axes { name: name.to_owned(), expected: axes, found })
    }

    /// The sizes of the tensor called `name`, as many as asked for.
    pub fn shape<const N: usize>(&self, name: &str) -> Result<[usize; N], Fault> {
        let shape = self.tensor(name)?.shape();
        let fault = || Fault::Axes { name: name.to_owned(), expected: N, found: shape.to_vec() };
        shape.try_into().map_err(|_| fault())
    }

    /// The numbers of a tensor in row-major order.
    pub fn vec(&self, name: &str) -> Result<Vec<f64>, Fault> {
        Ok(self.tensor(name)?.iter().copied().collect())
    }

    /// The numbers of a tensor in the original's precision.
    pub fn vec_f32(&self, name: &str) -> Result<Vec<f32>, Fault> {
        Ok(self.tensor(name)?.iter().map(|&x| x as f32).collect())
    }

    /// The only number of a tensor.
    pub fn scalar(&self, name: &str) -> Result<f64, Fault> {
        let tensor = self.tensor(name)?;
        let found = tensor.shape().to_vec();
        tensor.iter().copied().next().ok_or_else(|| Fault::Axes { name: name.to_owned(), expected: 0, found })
    }

    /// A tensor as token ids.
    pub fn ids(&self, name: &str) -> Result<Vec<u32>, Fault> {
        Ok(self.tensor(name)?.iter().map(|&x| x as u32).collect())
    }

    /// A tensor as token ids with the given number of axes.
    pub fn id_array<D: Dimension>(&self, name: &str) -> Result<Array<u32, D>, Fault> {
        Ok(self.array::<D>(name)?.mapv(|x| x as u32))
    }

    /// Whether there is a tensor called `name`.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.has(name)
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.names()
    }

    /// The random numbers recorded at place `index` under `prefix` ("" or "sample_", say): the tensor
    /// `<prefix>rnd.<index>.<kind>`, whatever its kind.
    pub fn recorded(&self, prefix: &str, index: usize) -> Result<&ArrayD<f64>, Fault> {
        let start = format!("{prefix}rnd.{index:03}.");
        let name = self.names().find(|name| name.starts_with(&start)).map(str::to_owned);
        self.tensor(&name.unwrap_or(start))
    }

    /// A setting, if it is there and not null.
    pub fn setting(&self, key: &str) -> Option<&Value> {
        self.config.get(key).filter(|value| !value.is_null())
    }

    /// A number among the settings.
    pub fn number(&self, key: &str) -> Result<f64, Fault> {
        self.typed(key, "a number", Value::as_f64)
    }

    /// A count among the settings.
    pub fn count(&self, key: &str) -> Result<usize, Fault> {
        self.typed(key, "a whole number", |value| value.as_u64().map(|n| n as usize))
    }

    /// A word among the settings.
    pub fn text(&self, key: &str) -> Result<&str, Fault> {
        self.typed(key, "a text", Value::as_str)
    }

    /// A switch among the settings; one that is not there is off.
    pub fn flag(&self, key: &str) -> Result<bool, Fault> {
        if self.setting(key).is_none() { Ok(false) } else { self.typed(key, "true or false", Value::as_bool) }
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<T, Fault> {
        let found = self.config.get(key);
        found.and_then(read).ok_or_else(|| Fault::Setting {
            key: key.to_owned(),
            expected: expected.to_owned(),
            found: found.map_or("nothing".to_owned(), Value::to_string),
        })
    }

    /// That the setting `key` has a value that no check knows.
    pub fn unsupported(&self, key: &str, expected: &str) -> Fault {
        let found = self.config.get(key).map_or("nothing".to_owned(), Value::to_string);
        Fault::Setting { key: key.to_owned(), expected: expected.to_owned(), found }
    }

    /// Another fixture, by its path relative to this one's folder: "../diffusion_lm/diffusion_lm.safetensors", say.
    pub fn sibling(&self, relative: &str) -> Result<Case, Fault> {
        let path = self.folder.join(relative);
        super::read::single(&path)
    }

    /// The fixtures of this one's folder, itself among them: weights may stand beside what was made with them.
    pub fn siblings(&self) -> Result<Vec<Case>, Fault> {
        super::read::folder(&self.folder)?.iter().map(|path| super::read::single(path)).collect()
    }
}
