//! One token per character of an alphabet.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::{EOS, MASK, Tokenizer, is_eos};
use crate::Error;

/// The vocabulary of an alphabet: its characters sorted by code point, then `<eos>`, then `[MASK]`.
///
/// ```
/// use galatea_text::{Chars, Tokenizer};
/// let chars = Chars::new("banana".chars())?;
/// assert_eq!(chars.encode("nab")?, [2, 0, 1]);
/// assert_eq!((chars.eos(), chars.mask(), chars.vocab_size()), (3, 4, 5));
/// assert!(chars.encode("bad").unwrap_err().to_string().starts_with("`d` at byte 2"));
/// # Ok::<(), galatea_text::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chars {
    alphabet: Vec<char>,
}

impl Chars {
    /// The vocabulary of these characters, in any order and number.
    ///
    /// # Errors
    /// [`Error::Vocabulary`] without a character.
    pub fn new(characters: impl IntoIterator<Item = char>) -> Result<Self, Error> {
        Self::of_set(characters.into_iter().collect())
    }

    /// The vocabulary of all characters in `documents`.
    ///
    /// # Errors
    /// The first error of `documents`; [`Error::Vocabulary`] without a character.
    pub fn from_documents(documents: impl IntoIterator<Item = Result<String, Error>>) -> Result<Self, Error> {
        let mut set = BTreeSet::new();
        for document in documents {
            set.extend(document?.chars());
        }
        Self::of_set(set)
    }

    /// The characters, sorted: the index is the id.
    pub fn alphabet(&self) -> &[char] {
        &self.alphabet
    }

    fn of_set(set: BTreeSet<char>) -> Result<Self, Error> {
        if set.is_empty() {
            let reason =
                "the text has no characters; build it from a text that has all the characters needed".to_owned();
            return Err(Error::Vocabulary { reason });
        }
        Ok(Self { alphabet: set.into_iter().collect() })
    }
}

impl Tokenizer for Chars {
    fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        text.char_indices()
            .map(|(byte, c)| match self.alphabet.binary_search(&c) {
                Ok(id) => Ok(id as u32),
                Err(_) => Err(Error::Unknown { piece: c.to_string(), byte, vocab: self.vocab_size() }),
            })
            .collect()
    }

    fn decode(&self, ids: &[u32]) -> Result<String, Error> {
        let mut text = String::with_capacity(ids.len());
        for &id in ids {
            match self.alphabet.get(id as usize) {
                Some(&c) => text.push(c),
                None if id == self.eos() => {}
                None if id == self.mask() => text.push_str(MASK),
                None => return Err(Error::UnknownId { id, vocab: self.vocab_size() }),
            }
        }
        Ok(text)
    }

    fn vocab_size(&self) -> usize {
        self.alphabet.len() + 2
    }

    fn token(&self, id: u32) -> Option<Cow<'_, str>> {
        match self.alphabet.get(id as usize) {
            Some(c) => Some(c.to_string().into()),
            None if id == self.eos() => Some(EOS.into()),
            None if id == self.mask() => Some(MASK.into()),
            None => None,
        }
    }

    fn id(&self, token: &str) -> Option<u32> {
        let mut chars = token.chars();
        match (chars.next(), chars.next()) {
            (Some(c), None) => self.alphabet.binary_search(&c).ok().map(|id| id as u32),
            _ if is_eos(token) => Some(self.eos()),
            _ if token == MASK => Some(self.mask()),
            _ => None,
        }
    }

    fn eos(&self) -> u32 {
        self.alphabet.len() as u32
    }

    fn mask(&self) -> u32 {
        self.alphabet.len() as u32 + 1
    }
}
