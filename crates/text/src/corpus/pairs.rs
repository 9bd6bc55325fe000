//! Prompts and the answers to them, one pair a line.

use std::io::BufRead;
use std::path::Path;

use super::documents::{object, take};
use super::{Documents, Format, Unit};
use crate::Error;

/// A prompt and the answer to it: what a model is fine-tuned on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// What is given.
    pub prompt: String,
    /// What is learned.
    pub answer: String,
}

/// The fields of a .jsonl line that hold a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairFields {
    /// The prompt's.
    pub prompt: String,
    /// The answer's.
    pub answer: String,
}

/// A stream of pairs: what [`Corpus::pairs`](super::Corpus::pairs) gives. After an error it ends.
#[derive(Debug)]
pub struct Pairs {
    lines: Documents,
    fields: Option<PairFields>,
    ended: bool,
}

impl Pairs {
    /// The pairs that `reader` holds: JSON objects with the `fields`, or where there are none, lines of prompt, tab and answer.
    /// Blank lines are skipped; `path` is the name that errors use.
    ///
    /// ```
    /// use galatea_text::Pairs;
    /// let lines = "two and two\tfour\n\nthree and one\tfour as well\n";
    /// let pairs = Pairs::new(lines.as_bytes(), "standard input", None).collect::<Result<Vec<_>, _>>()?;
    /// assert_eq!((pairs.len(), &*pairs[1].prompt, &*pairs[1].answer), (2, "three and one", "four as well"));
    /// # Ok::<(), galatea_text::Error>(())
    /// ```
    pub fn new(reader: impl BufRead + Send + 'static, path: impl AsRef<Path>, fields: Option<PairFields>) -> Self {
        Self { lines: Documents::new(reader, path, Format::Text(Unit::Line)), fields, ended: false }
    }

    /// Prompts and answers as texts of their own: what a vocabulary is built from.
    pub fn texts(self) -> impl Iterator<Item = Result<String, Error>> {
        self.flat_map(|pair| match pair {
            Ok(Pair { prompt, answer }) => vec![Ok(prompt), Ok(answer)],
            Err(error) => vec![Err(error)],
        })
    }

    fn pair(&self, line: &str) -> Result<Pair, Error> {
        let (path, number) = (&self.lines.path, self.lines.number);
        match &self.fields {
            Some(PairFields { prompt, answer }) => {
                let mut object = object(line, path, number)?;
                let prompt = take(&mut object, prompt, path, number)?;
                Ok(Pair { prompt, answer: take(&mut object, answer, path, number)? })
            }
            None => match line.split_once('\t') {
                Some((prompt, answer)) => Ok(Pair { prompt: prompt.to_owned(), answer: answer.to_owned() }),
                None => Err(Error::NoTab { path: path.clone(), line: number }),
            },
        }
    }
}

impl Iterator for Pairs {
    type Item = Result<Pair, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let next = self.lines.next()?.and_then(|line| self.pair(&line));
        self.ended = next.is_err();
        Some(next)
    }
}

impl std::iter::FusedIterator for Pairs {}
