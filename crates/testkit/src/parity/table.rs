//! The denoiser of the recorded traces: a table function of the canvas, and the recorded random numbers.

use super::{Case, Fault};
use galatea_processes::Denoiser;
use galatea_samplers::{At, Draws};
use ndarray::{Array2, ArrayRef2, ArrayRef3, Ix2};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// logits\[b, l\] = pos\[l\] + own\[x\[b, l\]\] + left\[x\[b, l - 1\]\] + right\[x\[b, l + 1\]\], in `f32`.
#[derive(Clone)]
pub(super) struct Table {
    pos: Array2<f32>,
    own: Array2<f32>,
    left: Array2<f32>,
    right: Array2<f32>,
    asked: Asked,
}

/// The canvases that a [`Table`] was asked about, which the denoiser inside a sampler goes on writing.
#[derive(Clone, Default)]
pub(super) struct Asked(Arc<Mutex<Vec<Vec<u32>>>>);

impl Asked {
    fn lock(&self) -> MutexGuard<'_, Vec<Vec<u32>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The canvases since the last time.
    pub(super) fn take(&self) -> Vec<Vec<u32>> {
        std::mem::take(&mut *self.lock())
    }

    /// All canvases, one after another.
    pub(super) fn ids(&self) -> Vec<u32> {
        self.lock().concat()
    }
}

impl Table {
    /// The tables `<prefix>table.{pos, own, left, right}`.
    pub(super) fn read(case: &Case, prefix: &str) -> Result<Self, Fault> {
        let table = |name: &str| -> Result<Array2<f32>, Fault> {
            Ok(case.array::<Ix2>(&format!("{prefix}table.{name}"))?.mapv(|x| x as f32))
        };
        let (pos, own, left, right) = (table("pos")?, table("own")?, table("left")?, table("right")?);
        Ok(Self { pos, own, left, right, asked: Asked::default() })
    }

    /// The same table with another log.
    pub(super) fn logged(self, asked: Asked) -> Self {
        Self { asked, ..self }
    }

    /// The log of what it is asked.
    pub(super) fn asked(&self) -> Asked {
        self.asked.clone()
    }
}

impl Denoiser for Table {
    type Error = Infallible;

    fn denoise(&mut self, x_t: &ArrayRef2<u32>, _: f64, logits: &mut ArrayRef3<f32>) -> Result<(), Infallible> {
        self.asked.lock().push(x_t.iter().copied().collect());
        let len = x_t.ncols();
        for ((b, l, v), logit) in logits.indexed_iter_mut() {
            let at = |l: usize| x_t[[b, l]] as usize;
            let mut sum = self.pos[[l, v]] + self.own[[at(l), v]];
            if l > 0 {
                sum += self.left[[at(l - 1), v]];
            }
            if l + 1 < len {
                sum += self.right[[at(l + 1), v]];
            }
            *logit = sum;
        }
        Ok(())
    }
}

/// Recorded random numbers: for every stream a tensor per step, rows of `width` numbers each.
///
/// What was not recorded is answered by NaN, which no comparison passes.
#[derive(Default)]
pub(super) struct Recorded {
    streams: BTreeMap<u32, Vec<(Vec<f64>, usize)>>,
}

impl Recorded {
    /// Appends the tensor of a stream's next step, `width` numbers to the row.
    pub(super) fn push(&mut self, stream: u32, tensor: impl IntoIterator<Item = f64>, width: usize) {
        self.streams.entry(stream).or_default().push((tensor.into_iter().collect(), width.max(1)));
    }

    fn row(&self, stream: u32, at: At) -> Option<&[f64]> {
        let (tensor, width) = self.streams.get(&stream)?.get(at.step as usize)?;
        tensor.get(at.row as usize * width..(at.row as usize + 1) * width)
    }

    fn copy(&self, stream: u32, at: At, out: &mut [f64]) {
        out.fill(f64::NAN);
        if let Some(row) = self.row(stream, at) {
            let count = row.len().min(out.len());
            out[..count].copy_from_slice(&row[..count]);
        }
    }
}

impl Draws for Recorded {
    fn uniforms(&mut self, stream: u32, at: At, out: &mut [f64]) {
        self.copy(stream, at, out);
    }
    /// The whole number recorded.
    fn below(&mut self, stream: u32, at: At, n: usize) -> usize {
        self.row(stream, at).map_or(0, |row| (row[0] as usize).min(n.saturating_sub(1)))
    }
    fn normals(&mut self, stream: u32, at: At, _: Option<f64>, out: &mut [f64]) {
        self.copy(stream, at, out);
    }
}
