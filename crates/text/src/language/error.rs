/// What can go wrong when an exact source is built or asked.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An array has another shape than the source.
    #[error("expected {what} of shape {expected:?}, found {found:?}: size it by the model's len() and vocab()")]
    Shape {
        /// Which argument.
        what: &'static str,
        /// The shape the source asks for.
        expected: Vec<usize>,
        /// The shape that came.
        found: Vec<usize>,
    },
    /// A likelihood is negative or not a number.
    #[error("expected likelihoods in [0, inf), found {value} in row {row}: pass q(observation | x = v), or its log")]
    Likelihood {
        /// The position whose row is wrong.
        row: usize,
        /// The offending number (a log-likelihood where logs were passed).
        value: f64,
    },
    /// A token that is neither a word nor the mask.
    #[error(
        "expected a token below {vocab} or the mask at position {position}, found {token}: use the model's own ids"
    )]
    Token {
        /// Where it stands.
        position: usize,
        /// The token.
        token: u32,
        /// The number of words.
        vocab: usize,
    },
    /// No sequence of the source explains the evidence.
    #[error("the evidence has probability zero: no sequence of the source explains it; relax a fixed position")]
    Impossible,
    /// A probability vector does not sum to one or holds a negative number.
    #[error("expected {what} to be probabilities that sum to 1, found the sum {sum}: normalise the row first")]
    Distribution {
        /// Which row.
        what: String,
        /// Its sum (NaN if an entry is negative or not finite).
        sum: f64,
    },
    /// A word is not in the vocabulary.
    #[error("'{word}' is not a word of the language: see StoryLanguage::words for those that are")]
    Word {
        /// The unknown word.
        word: String,
    },
    /// A text has more words than the canvas.
    #[error("expected at most {limit} words, found {found}: shorten the text")]
    Long {
        /// The length of the canvas.
        limit: usize,
        /// How many words came.
        found: usize,
    },
    /// A level outside 1 to 3.
    #[error("expected a level of 1, 2 or 3, found '{found}'")]
    Level {
        /// What came.
        found: String,
    },
}
