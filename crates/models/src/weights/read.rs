//! Parameters out of a file, straight to where a session keeps them.

use super::{CHECKSUM, checksum, tensors_of};
use crate::Error;
use galatea_autograd::{Part, Session};
use galatea_kernels::Backend;
use half::{bf16, f16};
use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::num::NonZero;
use std::path::{Path, PathBuf};

/// Where a file comes from, which says whether it must carry a checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Written by [`Weights::write`](super::Weights::write): without its checksum it is damaged.
    Own,
    /// Anybody: a checksum of ours is checked if there is one.
    Any,
}

/// Sets one part of every parameter of a session from the tensors `prefix` + its name of a file. In a file of [`Origin::Any`]
/// a name may stand under `backbone.`, as published checkpoints of the DiT family have it. What no parameter is called (their
/// buffers, which a model here computes) is not read.
///
/// Every float type is widened to f32. Large tensors are read by all threads at once, into the session's own memory where
/// it keeps f32.
///
/// # Errors
/// If the file cannot be read, is not safetensors, lacks a tensor or has it in another shape (then nothing is set), or if its
/// bytes are not the ones that were written: that shows at the end, and the session's values are then of no use.
pub fn load<B: Backend>(
    session: &mut Session<B>,
    part: Part,
    path: &Path,
    prefix: &str,
    origin: Origin,
) -> Result<Result<(), B::Error>, Error> {
    let source = Source::open(path)?;
    let expected = source.checksum(origin)?;
    // What the optimizer never moves has no moments: `export` has written none.
    let state = matches!(part, Part::Grad | Part::Moment1 | Part::Moment2 | Part::Ema);
    let plan = session.plan();
    let read = plan.params().iter().enumerate().filter(|(_, param)| !state || plan.param_slot(param, part).is_some());
    let mut found = Vec::with_capacity(plan.params().len());
    for (index, param) in read {
        let dims: Vec<usize> = param.shape.dims().iter().map(|&d| d as usize).collect();
        let parts = tensors_of(&param.path, &dims);
        let entries = parts.iter().map(|(name, dims)| source.find(prefix, name, dims, origin));
        found.push((index, entries.collect::<Result<Vec<Entry<'_>>, _>>()?));
    }
    let mut sum = 0u64;
    for (index, entries) in &found {
        let mut read = Ok(0);
        if let Err(error) = session.set_param_with(*index, part, |x| read = source.read_all(entries, x)) {
            return Ok(Err(error));
        }
        sum = sum.wrapping_add(read?);
    }
    if let Some(expected) = expected {
        for entry in source
            .entries()?
            .iter()
            .filter(|entry| found.iter().flat_map(|(_, entries)| entries).all(|read| read.name != entry.name))
        {
            sum = sum.wrapping_add(source.read(entry, &mut vec![0.0; entry.elements()])?);
        }
        if sum != expected {
            return Err(source.format("its checksum does not match its contents"));
        }
    }
    Ok(Ok(()))
}

/// A tensor of a file.
struct Entry<'a> {
    name: String,
    info: &'a TensorInfo,
}

impl Entry<'_> {
    fn elements(&self) -> usize {
        self.info.shape.iter().product()
    }
}

/// A file whose header has been read.
struct Source {
    path: PathBuf,
    metadata: Metadata,
    /// Where the tensors begin.
    start: u64,
}

/// From this many elements on, threads share the work.
const SHARED: usize = 4 * checksum::CHUNK;

impl Source {
    fn open(path: &Path) -> Result<Self, Error> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        let format = |reason: String| Error::Format { path: path.to_owned(), reason };
        let mut file = File::open(path).map_err(io)?;
        let bytes = file.metadata().map_err(io)?.len();
        let mut size = [0; 8];
        let short = |_| format("it ends within its header".into());
        file.read_exact(&mut size).map_err(short)?;
        let header = u64::from_le_bytes(size);
        if header > bytes.saturating_sub(8) {
            return Err(format(format_args!("a header of {header} bytes in a file of {bytes}").to_string()));
        }
        let mut text = vec![0; header as usize];
        file.read_exact(&mut text).map_err(short)?;
        let metadata: Metadata = serde_json::from_slice(&text).map_err(|e| format(e.to_string()))?;
        let (start, expected) = (8 + header, metadata.data_len() as u64);
        if bytes != start + expected {
            return Err(format(format!("{} bytes of tensors where its header promises {expected}", bytes - start)));
        }
        Ok(Self { path: path.to_owned(), metadata, start })
    }

    fn format(&self, reason: impl Into<String>) -> Error {
        Error::Format { path: self.path.clone(), reason: reason.into() }
    }

    fn checksum(&self, origin: Origin) -> Result<Option<u64>, Error> {
        let note = self.metadata.metadata().as_ref().and_then(|notes| notes.get(CHECKSUM));
        match (note, origin) {
            (None, Origin::Any) => Ok(None),
            (None, Origin::Own) => Err(self.format("its checksum is missing")),
            (Some(note), Origin::Any | Origin::Own) => {
                u64::from_str_radix(note, 16).map(Some).map_err(|_| self.format("its checksum is not a number"))
            }
        }
    }

    /// Every tensor.
    fn entries(&self) -> Result<Vec<Entry<'_>>, Error> {
        let entry = |name: String| {
            let info = self.metadata.info(&name).ok_or_else(|| self.format(format!("no place for `{name}`")))?;
            Ok(Entry { name, info })
        };
        self.metadata.offset_keys().into_iter().map(entry).collect()
    }

    /// The tensor called `prefix` + `name`; in a file of anybody's its name may begin with `backbone.`.
    fn find(&self, prefix: &str, name: &str, dims: &[usize], origin: Origin) -> Result<Entry<'_>, Error> {
        let plain = self.entry(&format!("{prefix}{name}"), dims);
        match (plain, origin) {
            (Err(missing @ Error::Missing { .. }), Origin::Any) => {
                let wrapped = self.entry(&format!("{prefix}backbone.{name}"), dims);
                wrapped.map_err(|error| if matches!(error, Error::Missing { .. }) { missing } else { error })
            }
            (plain, Origin::Any | Origin::Own) => plain,
        }
    }

    /// Reads tensors one after another into `out` and returns the sum of their checksums.
    fn read_all(&self, entries: &[Entry<'_>], out: &mut [f32]) -> Result<u64, Error> {
        let (mut rest, mut sum) = (out, 0u64);
        for entry in entries {
            let (part, after) = rest.split_at_mut(entry.elements());
            sum = sum.wrapping_add(self.read(entry, part)?);
            rest = after;
        }
        Ok(sum)
    }

    /// The tensor called `name` with these extents.
    fn entry(&self, name: &str, dims: &[usize]) -> Result<Entry<'_>, Error> {
        let path = self.path.clone();
        let Some(info) = self.metadata.info(name) else {
            let mut names = self.metadata.offset_keys();
            let more = names.len() > 4;
            names.sort();
            names.truncate(4);
            names.extend(more.then(|| "...".to_owned()));
            return Err(Error::Missing { path, name: name.to_owned(), found: names.join(", ") });
        };
        if info.shape != dims {
            let (expected, found) = (dims.to_vec(), info.shape.clone());
            return Err(Error::Shape { path, name: name.to_owned(), expected, found });
        }
        width(info.dtype).ok_or_else(|| self.format(format!("tensor `{name}` has type {:?}", info.dtype)))?;
        Ok(Entry { name: name.to_owned(), info })
    }

    /// Reads a tensor into `out` and returns its checksum.
    fn read(&self, entry: &Entry<'_>, out: &mut [f32]) -> Result<u64, Error> {
        let head = checksum::head(&entry.name, &entry.info.shape);
        let threads = if out.len() < SHARED { 1 } else { std::thread::available_parallelism().map_or(1, NonZero::get) };
        let share = out.len().div_ceil(threads).next_multiple_of(checksum::CHUNK);
        let read = |(k, part): (usize, &mut [f32])| self.read_part(entry, head, k * share, part);
        if threads == 1 {
            return Ok(head.wrapping_add(read((0, out))?));
        }
        let sums: Vec<Result<u64, Error>> = std::thread::scope(|scope| {
            let parts = out.chunks_mut(share).enumerate();
            let handles: Vec<_> = parts.map(|part| scope.spawn(move || read(part))).collect();
            handles.into_iter().map(|handle| handle.join().expect("reading does not panic")).collect()
        });
        sums.into_iter().try_fold(head, |sum, part| Ok(sum.wrapping_add(part?)))
    }

    /// Reads the elements from `from` on, a whole number of chunks from the tensor's start.
    fn read_part(&self, entry: &Entry<'_>, head: u64, from: usize, out: &mut [f32]) -> Result<u64, Error> {
        let io = |source| Error::Io { path: self.path.clone(), source };
        let Some(width) = width(entry.info.dtype) else {
            return Err(self.format(format!("tensor `{}` has type {:?}", entry.name, entry.info.dtype)));
        };
        let mut file = File::open(&self.path).map_err(io)?;
        let at = self.start + (entry.info.data_offsets.0 + from * width) as u64;
        file.seek(SeekFrom::Start(at)).map_err(io)?;
        let (mut sum, mut buffer) = (0u64, Vec::new());
        for (k, chunk) in out.chunks_mut(checksum::CHUNK).enumerate() {
            if entry.info.dtype == Dtype::F32 && cfg!(target_endian = "little") {
                file.read_exact(bytemuck::cast_slice_mut(chunk)).map_err(io)?;
            } else {
                buffer.resize(chunk.len() * width, 0);
                file.read_exact(&mut buffer).map_err(io)?;
                widen(entry.info.dtype, &buffer, chunk);
            }
            sum = sum.wrapping_add(checksum::chunk(head, from / checksum::CHUNK + k, chunk));
        }
        Ok(sum)
    }
}

/// Bytes of an element, for the types that are read.
fn width(dtype: Dtype) -> Option<usize> {
    match dtype {
        Dtype::F64 => Some(8),
        Dtype::F32 => Some(4),
        Dtype::BF16 | Dtype::F16 => Some(2),
        _ => None,
    }
}

fn widen(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    fn each<const N: usize>(bytes: &[u8], out: &mut [f32], value: impl Fn([u8; N]) -> f32) {
        for (x, b) in out.iter_mut().zip(bytes.chunks_exact(N)) {
            *x = value(b.try_into().expect("a chunk has N bytes"));
        }
    }
    match dtype {
        Dtype::F64 => each(bytes, out, |b| f64::from_le_bytes(b) as f32),
        Dtype::F32 => each(bytes, out, f32::from_le_bytes),
        Dtype::BF16 => each(bytes, out, |b| bf16::from_le_bytes(b).to_f32()),
        Dtype::F16 => each(bytes, out, |b| f16::from_le_bytes(b).to_f32()),
        _ => {}
    }
}
