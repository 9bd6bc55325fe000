//! What can go wrong between a file of text and rows of token ids.

use std::path::PathBuf;

/// Why a text, a tokenizer or a data set could not be read, built or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such file.
    #[error("no file at `{}`: check the spelling; a relative path starts at the folder the program was started in", path.display())]
    Missing {
        /// The path that was given.
        path: PathBuf,
    },
    /// The path names a folder.
    #[error("`{}` is a folder, expected one text or jsonl file: name a file in it, or join its files into one", path.display())]
    Directory {
        /// The path that was given.
        path: PathBuf,
    },
    /// The file holds no document.
    #[error("`{}` holds no text: every line is empty or blank, expected at least one document", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The file is not UTF-8.
    #[error("`{}` is not UTF-8 text at byte {byte}: is this a binary or compressed file? Unpack it, or convert it (as in `iconv -t utf-8`)", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// The offset of the first wrong byte in the file.
        byte: u64,
    },
    /// The operating system refused.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line of a jsonl file is not a JSON object.
    #[error("`{}` line {line}: {reason}; expected one JSON object a line, as in {{\"text\": \"...\"}}", path.display())]
    JsonLine {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// An object of a jsonl file has no text in the field asked for.
    #[error("`{}` line {line}: no text in a field `{field}`; the text fields there are: {}; name one of them as the field to read",
        path.display(), if there.is_empty() { "none".to_owned() } else { there.join(", ") })]
    JsonField {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
        /// The field that was asked for.
        field: String,
        /// The fields of the object that hold text.
        there: Vec<String>,
    },
    /// A line that should hold a prompt and an answer.
    #[error("`{}` line {line}: no tab; expected a prompt, a tab and an answer", path.display())]
    NoTab {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1.
        line: u64,
    },
    /// A prompt that leaves no room for an answer.
    #[error(
        "pair {pair}: its prompt has {prompt} tokens, which leaves no room for an answer in rows of {len}: use longer rows, or leave it out"
    )]
    LongPrompt {
        /// The pair, counted from 1 in its part of a split.
        pair: usize,
        /// Tokens of its prompt.
        prompt: usize,
        /// The length of a row.
        len: usize,
    },
    /// A piece of text that the vocabulary has no token for.
    #[error("`{}` at byte {byte} is not in the vocabulary of {vocab} tokens: leave it out, or build the tokenizer from a text that has it", piece.escape_debug())]
    Unknown {
        /// The piece: a character or a word.
        piece: String,
        /// Where it starts in the text.
        byte: usize,
        /// How many tokens the vocabulary has.
        vocab: usize,
    },
    /// An id beyond the vocabulary.
    #[error("token id {id} does not exist: the vocabulary has ids 0 to {}; was this text encoded with another tokenizer?", vocab - 1)]
    UnknownId {
        /// The id.
        id: u32,
        /// How many tokens the vocabulary has.
        vocab: usize,
    },
    /// An error inside one document of a corpus.
    #[error("document {document}: {source}")]
    Document {
        /// The document, counted from 1.
        document: usize,
        /// What is wrong in it.
        source: Box<Error>,
    },
    /// A vocabulary that cannot be one.
    #[error("cannot build a vocabulary: {reason}")]
    Vocabulary {
        /// What is wrong and what to do.
        reason: String,
    },
    /// A tokenizer file that cannot be read.
    #[error("{}: {reason}", path.as_ref().map_or("not a tokenizer.json".to_owned(), |path| format!("`{}` is not a tokenizer.json", path.display())))]
    TokenizerFile {
        /// The file, where there is one.
        path: Option<PathBuf>,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The tokenizers library reported a failure.
    #[error("the tokenizers library cannot {action}: {reason}")]
    Library {
        /// What was tried, as a verb.
        action: &'static str,
        /// What the library said.
        reason: String,
    },
    /// Too few tokens for one row.
    #[error(
        "{part} has {found} tokens, fewer than one row of {len}: use a text of at least about {needed} tokens (this one has {total}), or shorter rows"
    )]
    TooShort {
        /// Which text: all of it, or a part of a split.
        part: &'static str,
        /// The tokens there are in this part.
        found: usize,
        /// The length of a row.
        len: usize,
        /// The tokens that the whole text should have.
        needed: usize,
        /// The tokens of the whole text.
        total: usize,
    },
    /// A text that cannot be split without the same text on both sides.
    #[error(
        "cannot split: all {documents} documents are the same text, so training would see every validation document; use more text"
    )]
    Indivisible {
        /// How many documents there are.
        documents: usize,
    },
    /// A setting out of range.
    #[error("{name} must be {expected}, found {found}")]
    Setting {
        /// The setting's name.
        name: &'static str,
        /// The range that it must lie in, in words.
        expected: &'static str,
        /// The value that was given.
        found: f64,
    },
}
