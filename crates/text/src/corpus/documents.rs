//! The documents of a file, one at a time.

use std::fmt;
use std::io::BufRead;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{Format, Unit};
use crate::Error;

/// A stream of documents: what [`Corpus::documents`](super::Corpus::documents) gives.
///
/// It holds one document at a time. After an error it ends. A source without a document is an error,
/// [`Error::Empty`], so that nothing is trained on nothing.
pub struct Documents {
    lines: Lines,
    pub(super) path: PathBuf,
    format: Format,
    /// The line that was read last, counted from 1.
    pub(super) number: u64,
    found: bool,
    ended: bool,
}

/// The lines of a reader as UTF-8, with the offset for what is not.
struct Lines {
    reader: Box<dyn BufRead + Send>,
    buffer: Vec<u8>,
    offset: u64,
}

impl Documents {
    /// The documents that `reader` holds in `format`; `path` is the name that errors use.
    ///
    /// ```
    /// use galatea_text::{Documents, Format, Unit};
    /// let text = "first\nstill first\n\n\nsecond\n";
    /// let documents = Documents::new(text.as_bytes(), "standard input", Format::Text(Unit::Paragraph));
    /// assert_eq!(documents.collect::<Result<Vec<_>, _>>()?, ["first\nstill first", "second"]);
    /// # Ok::<(), galatea_text::Error>(())
    /// ```
    pub fn new(reader: impl BufRead + Send + 'static, path: impl AsRef<Path>, format: Format) -> Self {
        let path = path.as_ref().to_owned();
        let lines = Lines { reader: Box::new(reader), buffer: Vec::new(), offset: 0 };
        Self { lines, path, format, number: 0, found: false, ended: false }
    }

    /// The next document; `None` at the end.
    fn read(&mut self) -> Result<Option<String>, Error> {
        let mut document = String::new();
        while let Some(line) = self.lines.next(&self.path)? {
            self.number += 1;
            let bare = line.strip_suffix('\n').map_or(line, |line| line.strip_suffix('\r').unwrap_or(line));
            match &self.format {
                Format::Text(Unit::File) => document.push_str(line),
                Format::Text(Unit::Line) if bare.trim().is_empty() => {}
                Format::Text(Unit::Line) => return Ok(Some(bare.to_owned())),
                Format::Text(Unit::Paragraph) if bare.trim().is_empty() => {
                    if !document.is_empty() {
                        return Ok(Some(document));
                    }
                }
                Format::Text(Unit::Paragraph) => {
                    if !document.is_empty() {
                        document.push('\n');
                    }
                    document.push_str(bare);
                }
                Format::Jsonl(_) if bare.trim().is_empty() => {}
                Format::Jsonl(field) => {
                    let text = take(&mut object(bare, &self.path, self.number)?, field, &self.path, self.number)?;
                    if !text.is_empty() {
                        return Ok(Some(text));
                    }
                }
            }
        }
        Ok(if document.trim().is_empty() { None } else { Some(document) })
    }
}

impl Iterator for Documents {
    type Item = Result<String, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = match self.read() {
            Ok(None) if !self.found => Some(Err(Error::Empty { path: self.path.clone() })),
            next => next.transpose(),
        };
        self.found = true;
        self.ended = !matches!(next, Some(Ok(_)));
        next
    }
}

impl std::iter::FusedIterator for Documents {}

impl fmt::Debug for Documents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, format, number, .. } = self;
        write!(f, "Documents {{ path: {path:?}, format: {format:?}, line: {number} }}")
    }
}

impl Lines {
    /// The next line with its end; `None` at the end of the file.
    fn next(&mut self, path: &Path) -> Result<Option<&str>, Error> {
        self.buffer.clear();
        let read = self.reader.read_until(b'\n', &mut self.buffer);
        let read = read.map_err(|source| Error::Io { action: "read", path: path.to_owned(), source })?;
        if read == 0 {
            return Ok(None);
        }
        let start = self.offset;
        self.offset += read as u64;
        let line = std::str::from_utf8(&self.buffer).map_err(|error| {
            let byte = start + error.valid_up_to() as u64;
            Error::NotUtf8 { path: path.to_owned(), byte }
        })?;
        // A byte order mark tells the encoding; it is no part of the text.
        Ok(Some(if start == 0 { line.strip_prefix('\u{feff}').unwrap_or(line) } else { line }))
    }
}

/// The object that `line` holds.
pub(super) fn object(line: &str, path: &Path, number: u64) -> Result<Map<String, Value>, Error> {
    let refuse = |reason| Err(Error::JsonLine { path: path.to_owned(), line: number, reason });
    match serde_json::from_str(line) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(Value::Array(_)) => refuse("found an array".to_owned()),
        Ok(_) => refuse("found a single value".to_owned()),
        // One line was parsed, so that the line in the library's message is always 1 and says nothing.
        Err(error) => refuse(format!("not JSON at column {}", error.column())),
    }
}

/// Takes the text in `field` out of an object.
pub(super) fn take(object: &mut Map<String, Value>, field: &str, path: &Path, number: u64) -> Result<String, Error> {
    match object.remove(field) {
        Some(Value::String(text)) => Ok(text),
        _ => {
            let there = object.iter().filter(|(_, value)| value.is_string()).map(|(name, _)| name.clone()).collect();
            Err(Error::JsonField { path: path.to_owned(), line: number, field: field.to_owned(), there })
        }
    }
}
