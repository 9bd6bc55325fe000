#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

pub mod corpus;
pub mod error;
pub mod language;
pub mod tokenizer;

pub use corpus::{
    Corpus, Dataset, Documents, Encoded, Format, Layout, Lengths, Order, Pair, PairFields, Pairs, Summary, Unit,
};
pub use error::Error;
pub use tokenizer::{AnyTokenizer, Bpe, Bytes, Chars, Tokenizer, Unknown, Words};
