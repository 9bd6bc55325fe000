//! What a corpus holds, in numbers.

use std::fmt;

/// What [`Encoded::inspect`](super::Encoded::inspect) found. Its `Display` is a table of a dozen lines.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Summary {
    /// Documents.
    pub documents: usize,
    /// Tokens of all documents, without special ones.
    pub tokens: usize,
    /// Unicode characters.
    pub characters: usize,
    /// UTF-8 bytes.
    pub bytes: usize,
    /// Ids of the vocabulary, special ones included.
    pub vocab: usize,
    /// Ids that occur.
    pub distinct: usize,
    /// Rows that the layout makes.
    pub rows: usize,
    /// The length of a row.
    pub len: usize,
    /// Documents longer than a padded row.
    pub cut_documents: usize,
    /// Tokens that padded rows have no room for.
    pub cut_tokens: usize,
    /// How long documents are, in tokens.
    pub lengths: Lengths,
}

impl Summary {
    /// Characters that a token stands for, on average.
    pub fn characters_per_token(&self) -> f64 {
        self.characters as f64 / self.tokens as f64
    }
}

/// How a set of lengths is spread.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Lengths {
    /// The shortest.
    pub min: usize,
    /// A tenth are at most this long.
    pub p10: usize,
    /// Half are at most this long.
    pub median: usize,
    /// Nine tenths are at most this long.
    pub p90: usize,
    /// 99 of 100 are at most this long.
    pub p99: usize,
    /// The longest.
    pub max: usize,
    /// The mean.
    pub mean: f64,
}

impl Lengths {
    /// By nearest rank: the smallest length that at least that share does not exceed. All zero without a length.
    pub(super) fn of_sorted(lengths: &[usize]) -> Self {
        let Some(last) = lengths.len().checked_sub(1) else { return Self::default() };
        let at = |percent: usize| lengths[(lengths.len() * percent).div_ceil(100).saturating_sub(1)];
        Self {
            min: lengths[0],
            p10: at(10),
            median: at(50),
            p90: at(90),
            p99: at(99),
            max: lengths[last],
            mean: lengths.iter().sum::<usize>() as f64 / lengths.len() as f64,
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Lengths { min, p10, median, p90, p99, max, mean } = self.lengths;
        writeln!(f, "documents    {}", self.documents)?;
        writeln!(f, "tokens       {}", self.tokens)?;
        writeln!(f, "characters   {} ({:.2} a token)", self.characters, self.characters_per_token())?;
        writeln!(f, "bytes        {}", self.bytes)?;
        writeln!(f, "vocabulary   {} of {} ids occur", self.distinct, self.vocab)?;
        writeln!(f, "rows         {} of {} tokens", self.rows, self.len)?;
        if self.cut_documents > 0 {
            writeln!(f, "cut          {} tokens of {} documents", self.cut_tokens, self.cut_documents)?;
        }
        writeln!(
            f,
            "length       mean {mean:.1}; min {min}, 10 % {p10}, median {median}, 90 % {p90}, 99 % {p99}, max {max}"
        )
    }
}
