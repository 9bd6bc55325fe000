//! Documents as token ids.

use super::{Dataset, Layout, Lengths, Pair, Summary};
use crate::Error;
use crate::tokenizer::{Fnv, Tokenizer};

/// The token ids of a corpus, document after document, without special tokens.
///
/// ```
/// use galatea_text::{Bytes, Encoded, Layout};
/// let text = ["one", "two", "three"].map(|word| Ok(word.to_owned()));
/// let encoded = Encoded::read(text, &Bytes)?;
/// assert_eq!((encoded.documents(), encoded.tokens().len()), (3, 11));
/// let rows = encoded.rows(Layout::Packed, 7)?;
/// assert_eq!(rows.shape(), [2, 7]);
/// assert_eq!(rows.row(0)[..4], [111, 110, 101, 256]);
/// # Ok::<(), galatea_text::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    pub(super) tokens: Vec<u32>,
    pub(super) parts: Vec<Part>,
    pub(super) specials: Specials,
}

/// One document of an [`Encoded`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// One past its last token.
    pub(super) end: usize,
    /// A hash of its text: documents of the same text have the same.
    pub(super) hash: u64,
    pub(super) characters: usize,
    pub(super) bytes: usize,
    /// Tokens at its start that are a prompt.
    pub(super) prompt: usize,
}

/// What laying out rows needs to know of the tokenizer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Specials {
    pub(super) eos: u32,
    pub(super) pad: u32,
    pub(super) vocab: usize,
}

impl Encoded {
    /// Encodes `documents` one by one; those without a token are left out.
    ///
    /// # Errors
    /// The first error of `documents`; [`Error::Document`] with the number of the one that cannot be encoded and why;
    /// [`Error::UnknownId`] where the tokenizer breaks its promise that ids are below its `vocab_size`;
    /// [`Error::TooShort`] where there is not one token.
    pub fn read<T: Tokenizer + ?Sized>(
        documents: impl IntoIterator<Item = Result<String, Error>>,
        tokenizer: &T,
    ) -> Result<Self, Error> {
        let mut encoded = Self::of(tokenizer);
        for (index, document) in documents.into_iter().enumerate() {
            let text = document?;
            let ids = encoded.encode(tokenizer, &text, index)?;
            encoded.add(&ids, 0, [&text, ""]);
        }
        encoded.filled()
    }

    /// Encodes `pairs` one by one, each a document of its prompt and its answer, which are encoded apart: [`Layout::Padded`]
    /// gives each a row and says how long its prompt is.
    ///
    /// # Errors
    /// As [`Encoded::read`].
    pub fn read_pairs<T: Tokenizer + ?Sized>(
        pairs: impl IntoIterator<Item = Result<Pair, Error>>,
        tokenizer: &T,
    ) -> Result<Self, Error> {
        let mut encoded = Self::of(tokenizer);
        for (index, pair) in pairs.into_iter().enumerate() {
            let Pair { prompt, answer } = pair?;
            let mut ids = encoded.encode(tokenizer, &prompt, index)?;
            let length = ids.len();
            ids.extend(encoded.encode(tokenizer, &answer, index)?);
            encoded.add(&ids, length, [&prompt, &answer]);
        }
        encoded.filled()
    }

    fn of<T: Tokenizer + ?Sized>(tokenizer: &T) -> Self {
        let specials = Specials { eos: tokenizer.eos(), pad: tokenizer.pad(), vocab: tokenizer.vocab_size() };
        Self { tokens: Vec::new(), parts: Vec::new(), specials }
    }

    fn encode<T: Tokenizer + ?Sized>(&self, tokenizer: &T, text: &str, index: usize) -> Result<Vec<u32>, Error> {
        let ids =
            tokenizer.encode(text).map_err(|error| Error::Document { document: index + 1, source: Box::new(error) })?;
        match ids.iter().find(|&&id| id as usize >= self.specials.vocab) {
            Some(&id) => Err(Error::UnknownId { id, vocab: self.specials.vocab }),
            None => Ok(ids),
        }
    }

    /// A document of the given texts one after the other.
    fn add(&mut self, ids: &[u32], prompt: usize, texts: [&str; 2]) {
        let mut hash = Fnv::new();
        texts.iter().for_each(|text| hash.bytes(text.as_bytes()));
        let (characters, bytes) = texts.iter().fold((0, 0), |(c, b), text| (c + text.chars().count(), b + text.len()));
        self.push(ids, Part { end: 0, hash: hash.finish(), characters, bytes, prompt });
    }

    fn filled(self) -> Result<Self, Error> {
        if self.tokens.is_empty() {
            return Err(Error::TooShort { part: "the text", found: 0, len: 1, needed: 1, total: 0 });
        }
        Ok(self)
    }

    /// Appends a document with what is known of it but its end.
    pub(super) fn push(&mut self, ids: &[u32], part: Part) {
        if !ids.is_empty() {
            self.tokens.extend_from_slice(ids);
            self.parts.push(Part { end: self.tokens.len(), ..part });
        }
    }

    /// The number of documents.
    pub fn documents(&self) -> usize {
        self.parts.len()
    }

    /// The tokens of all documents.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The tokens of document `index`, `None` beyond the last.
    pub fn document(&self, index: usize) -> Option<&[u32]> {
        let start = if index == 0 { 0 } else { self.parts.get(index - 1)?.end };
        self.tokens.get(start..self.parts.get(index)?.end)
    }

    /// The tokens of each document.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u32]> {
        let mut start = 0;
        self.parts.iter().map(move |part| &self.tokens[std::mem::replace(&mut start, part.end)..part.end])
    }

    /// The Unicode characters of all documents: what bits per character are counted over.
    pub fn characters(&self) -> usize {
        self.parts.iter().map(|part| part.characters).sum()
    }

    /// The UTF-8 bytes of all documents: what bits per byte are counted over.
    pub fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    /// Rows of `len` tokens.
    ///
    /// # Errors
    /// [`Error::Setting`] where `len` is 0; [`Error::TooShort`] where the documents do not fill one packed row.
    pub fn rows(&self, layout: Layout, len: usize) -> Result<Dataset, Error> {
        Dataset::of(self, layout, len)
    }

    /// What there is to learn from, and what rows of `len` tokens make of it.
    ///
    /// # Errors
    /// [`Error::Setting`] where `len` is 0.
    pub fn inspect(&self, layout: Layout, len: usize) -> Result<Summary, Error> {
        super::dataset::check_len(len)?;
        let mut seen = vec![false; self.specials.vocab];
        for &id in &self.tokens {
            seen[id as usize] = true;
        }
        let mut lengths: Vec<usize> = self.iter().map(<[u32]>::len).collect();
        lengths.sort_unstable();
        let over = |length: &&usize| layout == Layout::Padded && **length > len;
        Ok(Summary {
            documents: self.documents(),
            tokens: self.tokens.len(),
            characters: self.characters(),
            bytes: self.bytes(),
            vocab: self.specials.vocab,
            distinct: seen.iter().filter(|&&seen| seen).count(),
            rows: match layout {
                Layout::Packed => (self.tokens.len() + self.documents()).div_ceil(len),
                Layout::Padded => self.documents(),
            },
            len,
            cut_documents: lengths.iter().filter(over).count(),
            cut_tokens: lengths.iter().filter(over).map(|length| length - len).sum(),
            lengths: Lengths::of_sorted(&lengths),
        })
    }
}
