//! Rows of equal length.

use ndarray::ArrayView2;
use serde::{Deserialize, Serialize};

use super::Encoded;
use crate::Error;
use crate::tokenizer::Fnv;

/// How documents become rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// Every document followed by the end token, all in one stream, cut into rows: no token is lost, none is wasted
    /// but in the last row, which is filled.
    #[default]
    Packed,
    /// One document a row, or one pair: what is too long is cut, what is short is ended and filled.
    Padded,
}

/// Token ids of shape \[rows, len\], row-major, and how much of each row is text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    tokens: Vec<u32>,
    lengths: Vec<u32>,
    prompts: Vec<u32>,
    len: usize,
    pad: u32,
    layout: Layout,
}

impl Dataset {
    pub(super) fn of(encoded: &Encoded, layout: Layout, len: usize) -> Result<Self, Error> {
        check_len(len)?;
        let (eos, pad) = (encoded.specials.eos, encoded.specials.pad);
        let (mut tokens, mut lengths, mut prompts) = (Vec::new(), Vec::new(), Vec::new());
        match layout {
            Layout::Packed => {
                let total = encoded.tokens.len() + encoded.documents();
                if total < len {
                    return Err(Error::TooShort { part: "the text", found: total, len, needed: len, total });
                }
                tokens.reserve_exact(total.next_multiple_of(len));
                for document in encoded.iter() {
                    tokens.extend_from_slice(document);
                    tokens.push(eos);
                }
                tokens.resize(total.next_multiple_of(len), pad);
                lengths.resize(total / len, len as u32);
                lengths.extend(Some((total % len) as u32).filter(|&rest| rest > 0));
                prompts.resize(lengths.len(), 0);
            }
            Layout::Padded => {
                tokens.reserve_exact(encoded.documents() * len);
                for (index, (document, part)) in encoded.iter().zip(&encoded.parts).enumerate() {
                    if part.prompt >= len {
                        return Err(Error::LongPrompt { pair: index + 1, prompt: part.prompt, len });
                    }
                    let text = &document[..document.len().min(len)];
                    tokens.extend_from_slice(text);
                    prompts.push(part.prompt as u32);
                    lengths.push(text.len() as u32);
                    if text.len() < len {
                        tokens.push(eos);
                        tokens.resize(lengths.len() * len, pad);
                    }
                }
            }
        }
        Ok(Self { tokens, lengths, prompts, len, pad, layout })
    }

    /// The number of rows, at least 1.
    pub fn rows(&self) -> usize {
        self.lengths.len()
    }

    /// \[rows, len\].
    pub fn shape(&self) -> [usize; 2] {
        [self.rows(), self.len]
    }

    /// How the rows were made.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The id that fills rows.
    pub fn pad(&self) -> u32 {
        self.pad
    }

    /// The ids of row `index`.
    ///
    /// # Panics
    /// Where `index` is not below [`Dataset::rows`], as indexing a slice does.
    pub fn row(&self, index: usize) -> &[u32] {
        &self.tokens[index * self.len..][..self.len]
    }

    /// How many ids at the start of row `index` are of documents: end tokens between packed documents count, the end
    /// and the filling of a padded row do not.
    ///
    /// # Panics
    /// Where `index` is not below [`Dataset::rows`], as indexing a slice does.
    pub fn length(&self, index: usize) -> usize {
        self.lengths[index] as usize
    }

    /// The lengths of all rows, as in [`Dataset::length`].
    pub fn lengths(&self) -> &[u32] {
        &self.lengths
    }

    /// How many ids at the start of row `index` are a prompt; the rest, end and filling included, is the answer.
    ///
    /// # Panics
    /// Where `index` is not below [`Dataset::rows`], as indexing a slice does.
    pub fn prompt(&self, index: usize) -> usize {
        self.prompts[index] as usize
    }

    /// All ids, row after row.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// All ids as an array of shape \[rows, len\].
    pub fn view(&self) -> ArrayView2<'_, u32> {
        ArrayView2::from_shape(self.shape(), &self.tokens).expect("every row was filled to its length")
    }

    /// Writes the rows `rows` into `batch` one after the other: x_0 of a training step.
    ///
    /// # Shapes
    /// `batch`: \[rows, len\], row-major.
    ///
    /// # Panics
    /// Where `batch` is not as long as the rows together, or a row does not exist.
    pub fn fill(&self, rows: impl IntoIterator<Item = usize>, batch: &mut [u32]) {
        let mut places = batch.chunks_exact_mut(self.len);
        for row in rows {
            let place = places.next().expect("batch has room for every row");
            place.copy_from_slice(self.row(row));
        }
        assert!(
            places.next().is_none() && places.into_remainder().is_empty(),
            "batch has room for more rows than given"
        );
    }

    /// A number that changes with any token or the length: a checkpoint keeps it to notice another data set.
    pub fn fingerprint(&self) -> u64 {
        let mut hash = Fnv::new();
        hash.bytes(&(self.len as u64).to_le_bytes());
        for id in &self.tokens {
            hash.bytes(&id.to_le_bytes());
        }
        hash.finish()
    }
}

pub(super) fn check_len(len: usize) -> Result<(), Error> {
    match u32::try_from(len) {
        Ok(1..) => Ok(()),
        _ => Err(Error::Setting {
            name: "the length of a row",
            expected: "at least 1 and below 2^32",
            found: len as f64,
        }),
    }
}
