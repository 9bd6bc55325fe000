//! Files of text to rows of token ids, and the order in which training reads them.
//!
//! ```text
//! Corpus --documents()--> Documents --Encoded::read--> Encoded --split, rows--> Dataset <--Order-- step number
//! a file and its format   a stream of texts            token ids per document   [rows, len]
//! ```
//!
//! Reading streams: one document at a time is in memory as text. What is kept is four bytes a token.

mod dataset;
mod documents;
mod encoded;
mod order;
mod pairs;
mod split;
mod summary;

pub use dataset::{Dataset, Layout};
pub use documents::Documents;
pub use encoded::Encoded;
pub use order::Order;
pub use pairs::{Pair, PairFields, Pairs};
pub use summary::{Lengths, Summary};

use std::fs::{self, File};
use std::io::{BufReader, ErrorKind};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Error;

/// What one document of a text file is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// A line, without its end. Blank lines are skipped.
    Line,
    /// What stands between blank lines, the line ends inside it included.
    #[default]
    Paragraph,
    /// The whole file, to the last byte.
    File,
}

/// How a file holds its documents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// UTF-8 text.
    Text(Unit),
    /// One JSON object a line, with the text in the field of this name. Blank lines and empty texts are skipped.
    Jsonl(String),
}

impl Format {
    /// The format that a file's extension tells: `.jsonl`, `.ndjson` and `.json` are objects with a field `text`,
    /// everything else is text in paragraphs.
    pub fn of(path: impl AsRef<Path>) -> Self {
        let extension = path.as_ref().extension().unwrap_or_default();
        if ["jsonl", "ndjson", "json"].iter().any(|known| extension.eq_ignore_ascii_case(known)) {
            Self::Jsonl("text".to_owned())
        } else {
            Self::Text(Unit::default())
        }
    }
}

/// A file of documents that is there and not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Corpus {
    path: PathBuf,
    format: Format,
}

impl Corpus {
    /// The file at `path`, in the format that its extension tells.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Directory`], [`Error::Empty`], [`Error::Io`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        // A pipe has no size to look at; what it lacks shows when it is read.
        let found = check_file(&path)?;
        if found.is_file() && found.len() == 0 {
            return Err(Error::Empty { path });
        }
        let format = Format::of(&path);
        Ok(Self { path, format })
    }

    /// The same file read as `format`.
    pub fn with_format(self, format: Format) -> Self {
        Self { format, ..self }
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How the file is read.
    pub fn format(&self) -> &Format {
        &self.format
    }

    /// Its documents from the start, read as they are asked for.
    ///
    /// # Errors
    /// [`Error::Io`] where the file cannot be opened; later errors come from the iterator.
    pub fn documents(&self) -> Result<Documents, Error> {
        Ok(Documents::new(self.reader()?, &self.path, self.format.clone()))
    }

    /// Its prompts and answers from the start: of JSON objects the texts in the field `prompt` and in the format's own, of text
    /// the parts of a line before and after its first tab.
    ///
    /// # Errors
    /// [`Error::Io`] where the file cannot be opened; later errors come from the iterator.
    pub fn pairs(&self, prompt: &str) -> Result<Pairs, Error> {
        let fields = match &self.format {
            Format::Jsonl(answer) => Some(PairFields { prompt: prompt.to_owned(), answer: answer.clone() }),
            Format::Text(_) => None,
        };
        Ok(Pairs::new(self.reader()?, &self.path, fields))
    }

    fn reader(&self) -> Result<BufReader<File>, Error> {
        let file =
            File::open(&self.path).map_err(|source| Error::Io { action: "open", path: self.path.clone(), source })?;
        Ok(BufReader::with_capacity(1 << 16, file))
    }
}

/// Whether there is something to read at `path`.
pub(crate) fn check_file(path: &Path) -> Result<fs::Metadata, Error> {
    let path_buf = || path.to_owned();
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(Error::Directory { path: path_buf() }),
        Ok(found) => Ok(found),
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Error::Missing { path: path_buf() }),
        Err(source) => Err(Error::Io { action: "look at", path: path_buf(), source }),
    }
}

#[cfg(test)]
mod laws;
