//! What is learned, and how it becomes rows.

use serde::{Deserialize, Serialize};

/// How documents become rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LayoutChoice {
    /// Documents one after another, cut in rows of `len`.
    Packed,
    /// One document a row, cut or padded to `len`.
    Padded,
    /// A prompt and its answer a row, padded to `len`: in text a tab stands between them, in .jsonl they are two fields. The
    /// prompt is given and never noised; the padding is part of the answer, so that the model learns to end.
    Pairs,
}

/// Where a document ends in a text file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DocumentChoice {
    /// At every line end.
    Line,
    /// At every blank line.
    Paragraph,
    /// At the end of the file.
    File,
}

/// `[data]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Data {
    /// "language" for the embedded story language, else the path of a .txt or .jsonl file.
    pub source: String,
    /// The language's level, 1 to 3.
    pub level: u8,
    /// How documents become rows.
    pub layout: LayoutChoice,
    /// Tokens a row (the language has its own).
    pub len: usize,
    /// The field of a .jsonl line that holds the text, or the answer of a pair.
    pub field: String,
    /// The field that holds the prompt of a pair.
    pub prompt_field: String,
    /// Tokens at the start of every row that are its prompt, which is given and never noised; pairs have their own.
    pub prompt: usize,
    /// Where a document ends in a text file.
    pub document: DocumentChoice,
    /// The fraction of documents held out.
    pub validation: f64,
}

impl Data {
    /// Whether rows begin with a prompt.
    pub fn prompts(&self) -> bool {
        self.prompt > 0 || self.layout == LayoutChoice::Pairs
    }
}

impl Default for Data {
    fn default() -> Self {
        Self {
            source: "language".into(),
            level: 1,
            layout: LayoutChoice::Packed,
            len: 128,
            field: "text".into(),
            prompt_field: "prompt".into(),
            prompt: 0,
            document: DocumentChoice::Line,
            validation: 0.1,
        }
    }
}
