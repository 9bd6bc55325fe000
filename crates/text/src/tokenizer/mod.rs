//! Text to token ids and back.
//!
//! | tokenizer | token | vocabulary | text it takes |
//! |---|---|---|---|
//! | [`Bytes`] | a byte | 256 and two | any |
//! | [`Chars`] | a character | those of a corpus, sorted, and two | over its alphabet |
//! | [`Words`] | a word or a punctuation mark | the most frequent, and two or three | over its words, or any with `<unk>` |
//! | [`Bpe`] | a byte pair merge | trained here, or a `tokenizer.json` | any, where it is byte-level |
//!
//! **Special ids.** Every tokenizer owns a token that ends a document (`<eos>`, which also fills the rest of a row: `pad`
//! is the same id unless a loaded file has its own) and the absorbing token `[MASK]`. They are the last two ids, and the mask
//! is the very last, so that a masked process works on `vocab_size()` ids and a uniform process on the first
//! `vocab_size() - 1`. Only a loaded `tokenizer.json` that brings its own mask keeps it where its checkpoint expects it:
//! [`Tokenizer::mask_is_last`] tells.
//!
//! **Text never becomes a special id.** The characters `[MASK]` in a text are encoded as text. A caller who means the
//! token asks for [`Tokenizer::mask`].
//!
//! **What is unknown is an error** that names the piece and its place. Nothing is replaced in silence; [`Words`] can be
//! told to write `<unk>`.

mod any;
mod bpe;
mod bytes;
mod chars;
mod fingerprint;
mod save;
mod words;

pub use any::AnyTokenizer;
pub use bpe::Bpe;
pub use bytes::Bytes;
pub use chars::Chars;
pub use words::{Unknown, Words};

pub(crate) use fingerprint::Fnv;

use std::borrow::Cow;

use crate::Error;

/// The token that ends a document and fills the rest of its row.
pub const EOS: &str = "<eos>";
/// Another name of [`EOS`] that [`Tokenizer::id`] understands.
pub const PAD: &str = "<pad>";
/// The absorbing token of a masked process.
pub const MASK: &str = "[MASK]";
/// The token of unknown words, where a vocabulary has one.
pub const UNK: &str = "<unk>";

/// A vocabulary with a way to write text in it.
pub trait Tokenizer: Send + Sync {
    /// The ids of `text`, never special ones.
    ///
    /// # Errors
    /// [`Error::Unknown`] with the first piece that has no token.
    fn encode(&self, text: &str) -> Result<Vec<u32>, Error>;

    /// The text of `ids`: end and padding are left out, the mask is written `[MASK]`.
    ///
    /// Bytes that are not UTF-8 (a model of bytes can write some) come out as U+FFFD.
    ///
    /// # Errors
    /// [`Error::UnknownId`] with the first id beyond the vocabulary.
    fn decode(&self, ids: &[u32]) -> Result<String, Error>;

    /// The number of ids, special ones included: every id is below it.
    fn vocab_size(&self) -> usize;

    /// One token as it is shown, `None` beyond the vocabulary.
    fn token(&self, id: u32) -> Option<Cow<'_, str>>;

    /// The id of a token as [`Tokenizer::token`] shows it.
    fn id(&self, token: &str) -> Option<u32>;

    /// The token that ends a document.
    fn eos(&self) -> u32;

    /// The token that fills a row: that which ends a document, unless a loaded file has its own.
    fn pad(&self) -> u32 {
        self.eos()
    }

    /// The absorbing token.
    fn mask(&self) -> u32;

    /// Whether the mask is the last id, so that the ids below it are what a uniform process draws from.
    fn mask_is_last(&self) -> bool {
        self.mask() as usize + 1 == self.vocab_size()
    }

    /// Whether `id` is the end, the padding or the mask.
    fn is_special(&self, id: u32) -> bool {
        id == self.eos() || id == self.pad() || id == self.mask()
    }

    /// A number that two tokenizers share only if they mean the same by every id: a checkpoint keeps it.
    ///
    /// It is the same on every machine and in every run, unlike a `std::hash::Hash`.
    fn fingerprint(&self) -> u64 {
        let mut hash = Fnv::new();
        for id in 0..self.vocab_size() as u32 {
            hash.text(self.token(id).as_deref().unwrap_or(""));
        }
        for id in [self.eos(), self.pad(), self.mask()] {
            hash.bytes(&id.to_le_bytes());
        }
        hash.finish()
    }
}

/// Both names of the end token of the tokenizers that are built here.
fn is_eos(token: &str) -> bool {
    token == EOS || token == PAD
}

#[cfg(test)]
mod laws;
