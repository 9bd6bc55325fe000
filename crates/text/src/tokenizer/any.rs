//! A tokenizer whose kind is known at run time, and its file.

use std::borrow::Cow;
use std::fs;
use std::path::Path;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::{Bpe, Bytes, Chars, Tokenizer, Unknown, Words, save};
use crate::Error;

/// Any of the tokenizers, read from and written to a `tokenizer.json`.
///
/// [`Bpe`] is written in the Hugging Face format; the others as a small object such as
/// `{"galatea_tokenizer": "chars", "alphabet": " abc"}`.
///
/// ```
/// use galatea_text::{AnyTokenizer, Chars, Tokenizer};
/// let chars = AnyTokenizer::from(Chars::new("ab c".chars())?);
/// let again = AnyTokenizer::from_json_str(&chars.to_json()?)?;
/// assert_eq!(again.fingerprint(), chars.fingerprint());
/// # Ok::<(), galatea_text::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum AnyTokenizer {
    /// One token per byte.
    Bytes(Bytes),
    /// One token per character.
    Chars(Chars),
    /// One token per word or punctuation mark.
    Words(Words),
    /// Merges of bytes, or what a Hugging Face file asks for. Boxed: it is large.
    Bpe(Box<Bpe>),
}

/// What the files of our own tokenizers hold.
#[derive(Serialize, Deserialize)]
#[serde(tag = "galatea_tokenizer", rename_all = "lowercase", deny_unknown_fields)]
enum Form<'a> {
    Bytes,
    Chars { alphabet: String },
    Words { words: Cow<'a, [String]>, unknown: Unknown },
}

/// The fields that tell whose format a file has.
#[derive(Deserialize)]
struct Head {
    galatea_tokenizer: Option<IgnoredAny>,
    model: Option<IgnoredAny>,
}

impl AnyTokenizer {
    /// Reads a `tokenizer.json` of either format.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Directory`], [`Error::Io`]; [`Error::TokenizerFile`] where it is something else.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Error> {
        in_file(path.as_ref(), Self::from_json_str)
    }

    /// Writes its `tokenizer.json`; an interruption leaves the old file whole.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Directory`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        save::replace(path.as_ref(), self.to_json()?.as_bytes())
    }

    /// Reads the content of a `tokenizer.json` of either format.
    ///
    /// # Errors
    /// [`Error::TokenizerFile`] where it is something else.
    pub fn from_json_str(json: &str) -> Result<Self, Error> {
        let refuse = |reason| Error::TokenizerFile { path: None, reason };
        // A struct may also be read from an array: what is not an object stops here.
        if !json.trim_start().starts_with('{') {
            return Err(refuse("expected a JSON object".to_owned()));
        }
        let head: Head = serde_json::from_str(json).map_err(|error| refuse(format!("not JSON ({error})")))?;
        if head.galatea_tokenizer.is_none() {
            if head.model.is_none() {
                let fields = "a field `galatea_tokenizer` (bytes, chars or words) or `model` (Hugging Face format)";
                return Err(refuse(format!("expected {fields}, found neither")));
            }
            return Ok(Bpe::from_json_str(json)?.into());
        }
        match serde_json::from_str(json).map_err(|error| refuse(error.to_string()))? {
            Form::Bytes => Ok(Bytes.into()),
            Form::Chars { alphabet } => Ok(Chars::new(alphabet.chars())?.into()),
            Form::Words { words, unknown } => Ok(Words::new(words.into_owned(), unknown)?.into()),
        }
    }

    /// The content of its `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Library`] where it cannot be written as JSON.
    pub fn to_json(&self) -> Result<String, Error> {
        let form = match self {
            Self::Bytes(Bytes) => Form::Bytes,
            Self::Chars(chars) => Form::Chars { alphabet: chars.alphabet().iter().collect() },
            Self::Words(words) => Form::Words { words: words.words().into(), unknown: words.unknown() },
            Self::Bpe(bpe) => return bpe.to_json(),
        };
        let failed = |error: serde_json::Error| Error::Library { action: "write JSON", reason: error.to_string() };
        serde_json::to_string_pretty(&form).map_err(failed)
    }

    /// The name of its kind: `bytes`, `chars`, `words` or `bpe`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Bytes(_) => "bytes",
            Self::Chars(_) => "chars",
            Self::Words(_) => "words",
            Self::Bpe(_) => "bpe",
        }
    }

    fn inner(&self) -> &dyn Tokenizer {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Chars(chars) => chars,
            Self::Words(words) => words,
            Self::Bpe(bpe) => bpe.as_ref(),
        }
    }
}

impl Tokenizer for AnyTokenizer {
    fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        self.inner().encode(text)
    }

    fn decode(&self, ids: &[u32]) -> Result<String, Error> {
        self.inner().decode(ids)
    }

    fn vocab_size(&self) -> usize {
        self.inner().vocab_size()
    }

    fn token(&self, id: u32) -> Option<Cow<'_, str>> {
        self.inner().token(id)
    }

    fn id(&self, token: &str) -> Option<u32> {
        self.inner().id(token)
    }

    fn eos(&self) -> u32 {
        self.inner().eos()
    }

    fn pad(&self) -> u32 {
        self.inner().pad()
    }

    fn mask(&self) -> u32 {
        self.inner().mask()
    }

    fn fingerprint(&self) -> u64 {
        self.inner().fingerprint()
    }
}

impl From<Bytes> for AnyTokenizer {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<Chars> for AnyTokenizer {
    fn from(chars: Chars) -> Self {
        Self::Chars(chars)
    }
}

impl From<Words> for AnyTokenizer {
    fn from(words: Words) -> Self {
        Self::Words(words)
    }
}

impl From<Bpe> for AnyTokenizer {
    fn from(bpe: Bpe) -> Self {
        Self::Bpe(Box::new(bpe))
    }
}

/// Reads a file with `parse`, and puts the file's name into what is wrong with it.
pub(super) fn in_file<T>(path: &Path, parse: impl FnOnce(&str) -> Result<T, Error>) -> Result<T, Error> {
    crate::corpus::check_file(path)?;
    let bytes = fs::read(path).map_err(|source| Error::Io { action: "read", path: path.to_owned(), source })?;
    let json = std::str::from_utf8(&bytes)
        .map_err(|error| Error::NotUtf8 { path: path.to_owned(), byte: error.valid_up_to() as u64 })?;
    parse(json).map_err(|error| match error {
        Error::TokenizerFile { reason, .. } => Error::TokenizerFile { path: Some(path.to_owned()), reason },
        other => other,
    })
}
