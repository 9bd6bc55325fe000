//! Byte pair encoding, through the `tokenizers` library.

use std::borrow::Cow;
use std::fmt;
use std::path::Path;

use serde_json::Value;
use tokenizers::AddedToken;
use tokenizers::decoders::byte_level::ByteLevel as ByteLevelDecoder;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::{EOS, Fnv, MASK, PAD, Tokenizer, save};
use crate::Error;

/// The names that published vocabularies give to their special tokens, the most explicit first.
const MASKS: [&str; 4] = [MASK, "<mask>", "<|mask|>", "<|mdm_mask|>"];
const ENDS: [&str; 5] = [EOS, "<|endoftext|>", "</s>", "<|end_of_text|>", "[SEP]"];
const PADS: [&str; 4] = [PAD, "[PAD]", "<|pad|>", "<|padding|>"];

/// A vocabulary of merges: trained here on a text, or read from a `tokenizer.json` of the Hugging Face format.
///
/// A loaded file keeps all its ids. Where it has no end token, `<eos>` follows its last id; where it has no mask,
/// `[MASK]` follows that (GPT-2: end 50256, mask 50257, 50258 ids). Truncation, padding and the template of
/// special tokens that a file may ask for are not applied. Files of other models (WordPiece, Unigram) load as well;
/// what they would turn into their unknown token is an error here.
///
/// ```
/// use galatea_text::{Bpe, Tokenizer};
/// let text = "low lower lowest new newer newest";
/// let bpe = Bpe::train([Ok(text.to_owned())], 270)?;
/// let ids = bpe.encode("the newest λ")?;
/// assert_eq!(bpe.decode(&ids)?, "the newest λ");
/// assert!(bpe.encode(text)?.len() < text.len() / 2 && bpe.vocab_size() <= 270);
/// # Ok::<(), galatea_text::Error>(())
/// ```
#[derive(Clone)]
pub struct Bpe {
    inner: tokenizers::Tokenizer,
    vocab: usize,
    eos: u32,
    pad: u32,
    mask: u32,
    /// The ids that decoding leaves out, sorted.
    silent: Vec<u32>,
    loss: Loss,
    fingerprint: u64,
}

/// How a vocabulary could lose a piece of text, and so what encoding has to check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    /// It has a token for every byte.
    Never,
    /// It writes this id.
    Written(u32),
    /// It skips what it does not know: the offsets of the tokens leave a gap.
    Skipped,
    /// A normalizer changes the text on purpose, and nothing says what else is lost.
    Normalized,
}

impl Bpe {
    /// Learns a byte-level vocabulary of at most `vocab` ids, special ones included, from `documents`.
    ///
    /// Every byte has a token, so that every text can be encoded. A short text has fewer pairs to merge and gives a
    /// smaller vocabulary. The same documents give the same vocabulary.
    ///
    /// # Errors
    /// [`Error::Setting`] below 258 ids (256 bytes and two special tokens); the first error of `documents`.
    ///
    /// # Source
    /// Sennrich, Haddow, Birch (2016), "Neural machine translation of rare words with subword units", section 3.2;
    /// Radford et al. (2019), "Language models are unsupervised multitask learners", section 2.2 (bytes).
    pub fn train<I>(documents: I, vocab: usize) -> Result<Self, Error>
    where
        I: IntoIterator<Item = Result<String, Error>>,
        I::IntoIter: Send,
    {
        if vocab < 258 {
            let expected = "at least 258 (256 bytes, <eos> and [MASK])";
            return Err(Error::Setting { name: "the vocabulary size", expected, found: vocab as f64 });
        }
        let mut inner = tokenizers::Tokenizer::new(BPE::default());
        inner.with_pre_tokenizer(Some(ByteLevel::new(false, false, true)));
        inner.with_decoder(Some(ByteLevelDecoder::default()));
        let trainer = BpeTrainer::builder()
            .vocab_size(vocab - 2)
            .min_frequency(2)
            .show_progress(false)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build();
        // The library wants plain text: the first failure ends the reading and is returned afterwards.
        let mut failure = None;
        let texts = documents.into_iter().map_while(|document| document.map_err(|error| failure = Some(error)).ok());
        let trained = inner.train(&mut TrainerWrapper::from(trainer), texts).map(drop);
        if let Some(error) = failure {
            return Err(error);
        }
        trained.map_err(|error| library("train a vocabulary", &error))?;
        Self::of(inner)
    }

    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Missing`], [`Error::Directory`], [`Error::Io`]; [`Error::TokenizerFile`] where it is something else.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Error> {
        super::any::in_file(path.as_ref(), Self::from_json_str)
    }

    /// Reads the content of a `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::TokenizerFile`] where it is something else.
    pub fn from_json_str(json: &str) -> Result<Self, Error> {
        let inner = json.parse().map_err(|error: tokenizers::Error| {
            let reason = format!("{error}; expected the `tokenizer.json` of a fast tokenizer");
            Error::TokenizerFile { path: None, reason }
        })?;
        Self::of(inner)
    }

    /// The content of its `tokenizer.json`, special tokens included.
    ///
    /// # Errors
    /// [`Error::Library`] where the library fails to write it.
    pub fn to_json(&self) -> Result<String, Error> {
        self.inner.to_string(true).map_err(|error| library("write a vocabulary", &error))
    }

    /// Writes a `tokenizer.json` that other tools read too; an interruption leaves the old file whole.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Directory`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        save::replace(path.as_ref(), self.to_json()?.as_bytes())
    }

    /// Finds or adds the special tokens, and what the vocabulary cannot encode.
    fn of(mut inner: tokenizers::Tokenizer) -> Result<Self, Error> {
        let lib = |error: tokenizers::Error| library("set up a vocabulary", &error);
        inner.with_truncation(None).map_err(lib)?;
        inner.with_padding(None);
        let eos = find_or_add(&mut inner, &ENDS)?;
        let pad = PADS.iter().find_map(|name| inner.token_to_id(name)).unwrap_or(eos);
        let mask = find_or_add(&mut inner, &MASKS)?;
        inner.set_encode_special_tokens(true);

        let json = inner.to_string(false).map_err(lib)?;
        let json: Value = serde_json::from_str(&json).map_err(|error| library("set up a vocabulary", &error))?;
        let mut hash = Fnv::new();
        for part in ["normalizer", "pre_tokenizer", "decoder", "model", "added_tokens"] {
            hash.json(&json[part]);
        }
        for id in [eos, pad, mask] {
            hash.bytes(&id.to_le_bytes());
        }
        let mut silent: Vec<u32> = inner
            .get_added_tokens_decoder()
            .iter()
            .filter_map(|(&id, token)| (token.special && id != mask).then_some(id))
            .chain([eos, pad])
            .collect();
        silent.sort_unstable();
        let vocab = inner.get_vocab(true).values().max().map_or(0, |&id| id as usize + 1);
        let loss = Loss::of(&inner, &json);
        Ok(Self { inner, vocab, eos, pad, mask, silent, loss, fingerprint: hash.finish() })
    }
}

impl Loss {
    fn of(inner: &tokenizers::Tokenizer, json: &Value) -> Self {
        let model = &json["model"];
        let byte_level = mentions(&json["pre_tokenizer"], "ByteLevel") || mentions(&json["normalizer"], "ByteLevel");
        let every_byte =
            ByteLevel::alphabet().into_iter().all(|c| inner.token_to_id(c.encode_utf8(&mut [0; 4])).is_some());
        let unknown = match &model["unk_token"] {
            Value::String(token) => inner.token_to_id(token),
            _ => model["unk_id"].as_u64().and_then(|id| u32::try_from(id).ok()),
        };
        match unknown {
            _ if byte_level && every_byte => Self::Never,
            Some(id) => Self::Written(id),
            None if model["byte_fallback"] == true || !json["normalizer"].is_null() => Self::Normalized,
            None => Self::Skipped,
        }
    }
}

impl Bpe {
    /// Where the first character stands that has no token by itself. The library's offsets tell that a word lost a
    /// character, but those after the lost one are shifted.
    fn first_unknown(&self, text: &str) -> Option<(usize, usize)> {
        let lost = |c: char| {
            let alone = self.inner.encode_fast(c.encode_utf8(&mut [0; 4]) as &str, false);
            !c.is_whitespace() && alone.is_ok_and(|encoding| encoding.get_ids().is_empty())
        };
        text.char_indices().find(|&(_, c)| lost(c)).map(|(at, c)| (at, at + c.len_utf8()))
    }
}

impl Tokenizer for Bpe {
    fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        let fail = |error: tokenizers::Error| library("encode a text", &error);
        if matches!(self.loss, Loss::Never | Loss::Normalized) {
            return Ok(self.inner.encode_fast(text, false).map_err(fail)?.get_ids().to_vec());
        }
        let encoding = self.inner.encode(text, false).map_err(fail)?;
        let lost = match self.loss {
            Loss::Written(unknown) => {
                let at = encoding.get_ids().iter().position(|&id| id == unknown);
                at.map(|at| encoding.get_offsets()[at])
            }
            _ => gap(text, encoding.get_offsets()).map(|gap| self.first_unknown(text).unwrap_or(gap)),
        };
        match lost {
            None => Ok(encoding.get_ids().to_vec()),
            Some((start, end)) => {
                let piece = text.get(start..end).unwrap_or_default().to_owned();
                Err(Error::Unknown { piece, byte: start, vocab: self.vocab })
            }
        }
    }

    fn decode(&self, ids: &[u32]) -> Result<String, Error> {
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= self.vocab) {
            return Err(Error::UnknownId { id, vocab: self.vocab });
        }
        let heard: Vec<u32> = ids.iter().copied().filter(|id| self.silent.binary_search(id).is_err()).collect();
        self.inner.decode(&heard, false).map_err(|error| library("decode ids", &error))
    }

    fn vocab_size(&self) -> usize {
        self.vocab
    }

    fn token(&self, id: u32) -> Option<Cow<'_, str>> {
        self.inner.id_to_token(id).map(Cow::Owned)
    }

    fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token).or(match token {
            EOS => Some(self.eos),
            PAD => Some(self.pad),
            MASK => Some(self.mask),
            _ => None,
        })
    }

    fn eos(&self) -> u32 {
        self.eos
    }

    fn pad(&self) -> u32 {
        self.pad
    }

    fn mask(&self) -> u32 {
        self.mask
    }

    fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

impl fmt::Debug for Bpe {
    /// The numbers that identify it: the vocabulary itself fills a screen many times.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { vocab, eos, pad, mask, fingerprint, .. } = self;
        write!(f, "Bpe {{ vocab: {vocab}, eos: {eos}, pad: {pad}, mask: {mask}, fingerprint: {fingerprint:#018x} }}")
    }
}

impl PartialEq for Bpe {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

/// The id of the first of `names` that there is; without one, the first name is added after the last id.
fn find_or_add(inner: &mut tokenizers::Tokenizer, names: &[&str]) -> Result<u32, Error> {
    let fail = |error: tokenizers::Error| library("add a special token", &error);
    let name = match names.iter().find(|name| inner.token_to_id(name).is_some()) {
        Some(name) => *name,
        None => names[0],
    };
    // Adding a token that the model has already keeps its id and marks it as special.
    inner.add_special_tokens([AddedToken::from(name, true).normalized(false)]).map_err(fail)?;
    let id = inner.token_to_id(name);
    id.ok_or_else(|| Error::Library { action: "add a special token", reason: format!("`{name}` got no id") })
}

/// The first character of `text` that is neither white space nor inside a token.
fn gap(text: &str, offsets: &[(usize, usize)]) -> Option<(usize, usize)> {
    let mut covered = 0;
    for (start, end) in offsets.iter().copied().chain([(text.len(), text.len())]) {
        let hole = text.get(covered..start).unwrap_or_default();
        if let Some((at, c)) = hole.char_indices().find(|(_, c)| !c.is_whitespace()) {
            return Some((covered + at, covered + at + c.len_utf8()));
        }
        covered = covered.max(end);
    }
    None
}

/// Whether a part of a `tokenizer.json` is, or contains, one of type `name`.
fn mentions(part: &Value, name: &str) -> bool {
    match part {
        Value::Object(fields) => {
            fields.get("type").is_some_and(|kind| kind == name) || fields.values().any(|value| mentions(value, name))
        }
        Value::Array(items) => items.iter().any(|item| mentions(item, name)),
        _ => false,
    }
}

fn library(action: &'static str, error: &dyn fmt::Display) -> Error {
    Error::Library { action, reason: error.to_string() }
}
