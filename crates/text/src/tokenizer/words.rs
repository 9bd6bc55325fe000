//! One token per word or punctuation mark.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{EOS, MASK, Tokenizer, UNK, is_eos};
use crate::Error;

/// What a word outside the vocabulary becomes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unknown {
    /// An error that names it.
    #[default]
    Reject,
    /// The token `<unk>`.
    Replace,
}

/// A vocabulary of whole words: the words, then `<unk>` where asked for, then `<eos>`, then `[MASK]`.
///
/// White space separates and is not kept. A word is a run of letters, digits and `_`, with `'` and `-` inside
/// (`don't`, `twenty-one`) and `.` and `,` between digits (`3.14`). Every other character is a token of its own.
/// Decoding writes single spaces, none before `, . ; : ! ? ) ] }` and none after `( [ {`, and pairs double quotes;
/// encoding what was decoded gives the same ids.
///
/// ```
/// use galatea_text::{Tokenizer, Unknown, Words};
/// let words = Words::new(["the", "cat", "sat", ",", "."], Unknown::Reject)?;
/// let ids = words.encode("the cat ,  sat .")?;
/// assert_eq!(ids, [0, 1, 3, 2, 4]);
/// assert_eq!(words.decode(&ids)?, "the cat, sat.");
/// assert!(words.encode("the dog").unwrap_err().to_string().starts_with("`dog` at byte 4"));
/// # Ok::<(), galatea_text::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Words {
    words: Vec<String>,
    ids: HashMap<String, u32>,
    unknown: Unknown,
}

impl Words {
    /// The vocabulary of these words in this order.
    ///
    /// # Errors
    /// [`Error::Vocabulary`] without a word, with a word twice, or with one that would be split (`"a b"`, `"end."`).
    pub fn new<S: Into<String>>(words: impl IntoIterator<Item = S>, unknown: Unknown) -> Result<Self, Error> {
        let words: Vec<String> = words.into_iter().map(Into::into).collect();
        let refuse = |reason: String| Err(Error::Vocabulary { reason });
        if words.is_empty() {
            return refuse("there are no words; build it from a text that has some".to_owned());
        }
        let mut ids = HashMap::with_capacity(words.len());
        for (id, word) in words.iter().enumerate() {
            if pieces(word).next() != Some((0, word.as_str())) {
                return refuse(format!(
                    "`{}` is not one word but several pieces; list each by itself",
                    word.escape_debug()
                ));
            }
            if ids.insert(word.clone(), id as u32).is_some() {
                return refuse(format!("the word `{word}` occurs twice; list it once"));
            }
        }
        Ok(Self { words, ids, unknown })
    }

    /// The `max_words` most frequent words of `documents`, ties in alphabetical order.
    ///
    /// With [`Unknown::Reject`] a text with a rarer word cannot be encoded.
    ///
    /// # Errors
    /// The first error of `documents`; [`Error::Vocabulary`] without a word; [`Error::Setting`] where `max_words` is 0.
    pub fn from_documents(
        documents: impl IntoIterator<Item = Result<String, Error>>,
        max_words: usize,
        unknown: Unknown,
    ) -> Result<Self, Error> {
        if max_words == 0 {
            return Err(Error::Setting { name: "max_words", expected: "at least 1", found: 0.0 });
        }
        let mut counts: HashMap<String, u64> = HashMap::new();
        for document in documents {
            for (_, word) in pieces(&document?) {
                match counts.get_mut(word) {
                    Some(count) => *count += 1,
                    None => drop(counts.insert(word.to_owned(), 1)),
                }
            }
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_unstable_by(|(a, n), (b, m)| m.cmp(n).then_with(|| a.cmp(b)));
        Self::new(counts.into_iter().take(max_words).map(|(word, _)| word), unknown)
    }

    /// The words: the index is the id.
    pub fn words(&self) -> &[String] {
        &self.words
    }

    /// What a word outside the vocabulary becomes.
    pub fn unknown(&self) -> Unknown {
        self.unknown
    }

    /// The id of `<unk>`, where there is one.
    pub fn unk(&self) -> Option<u32> {
        match self.unknown {
            Unknown::Reject => None,
            Unknown::Replace => Some(self.words.len() as u32),
        }
    }
}

impl Tokenizer for Words {
    fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        pieces(text)
            .map(|(byte, piece)| {
                let id = self.ids.get(piece).copied().or(self.unk());
                id.ok_or_else(|| Error::Unknown { piece: piece.to_owned(), byte, vocab: self.vocab_size() })
            })
            .collect()
    }

    fn decode(&self, ids: &[u32]) -> Result<String, Error> {
        let mut text = String::new();
        let (mut glued, mut quoted) = (true, false);
        for &id in ids {
            if id == self.eos() {
                continue;
            }
            let token = self.token(id).ok_or(Error::UnknownId { id, vocab: self.vocab_size() })?;
            let (before, after) = match token.as_ref() {
                "," | "." | ";" | ":" | "!" | "?" | ")" | "]" | "}" => (true, false),
                "(" | "[" | "{" => (false, true),
                "\"" => {
                    quoted = !quoted;
                    (!quoted, quoted)
                }
                _ => (false, false),
            };
            if !glued && !before {
                text.push(' ');
            }
            text.push_str(&token);
            glued = after;
        }
        Ok(text)
    }

    fn vocab_size(&self) -> usize {
        self.mask() as usize + 1
    }

    fn token(&self, id: u32) -> Option<Cow<'_, str>> {
        match self.words.get(id as usize) {
            Some(word) => Some(word.as_str().into()),
            None if Some(id) == self.unk() => Some(UNK.into()),
            None if id == self.eos() => Some(EOS.into()),
            None if id == self.mask() => Some(MASK.into()),
            None => None,
        }
    }

    fn id(&self, token: &str) -> Option<u32> {
        match token {
            _ if is_eos(token) => Some(self.eos()),
            MASK => Some(self.mask()),
            UNK => self.unk(),
            word => self.ids.get(word).copied(),
        }
    }

    fn eos(&self) -> u32 {
        self.words.len() as u32 + u32::from(self.unknown == Unknown::Replace)
    }

    fn mask(&self) -> u32 {
        self.eos() + 1
    }
}

/// The words and marks of `text`, each with the byte where it starts.
fn pieces(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        at += text[at..].find(|c: char| !c.is_whitespace())?;
        let start = at;
        at += piece_len(&text[start..]);
        Some((start, &text[start..at]))
    })
}

/// The bytes of the piece that `text`, which starts with no white space, starts with.
fn piece_len(text: &str) -> usize {
    let mut chars = text.char_indices().peekable();
    let Some((_, first)) = chars.next() else { return 0 };
    let (mut end, mut last) = (first.len_utf8(), first);
    if !in_word(first) {
        return end;
    }
    while let Some((at, c)) = chars.next() {
        let next = chars.peek().map(|&(_, next)| next);
        if !in_word(c) && !next.is_some_and(|next| joins(last, c, next)) {
            break;
        }
        (end, last) = (at + c.len_utf8(), c);
    }
    end
}

fn in_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether the mark `c` belongs to the word on both of its sides.
fn joins(last: char, c: char, next: char) -> bool {
    match c {
        '\'' | '’' | '-' => in_word(last) && in_word(next),
        '.' | ',' => last.is_ascii_digit() && next.is_ascii_digit(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_a_sentence() {
        let text = "\"Don't!\" said twenty-one 's of 3.14, a--b e.g. x_1.";
        let found: Vec<&str> = pieces(text).map(|(_, piece)| piece).collect();
        let expected = [
            "\"",
            "Don't",
            "!",
            "\"",
            "said",
            "twenty-one",
            "'",
            "s",
            "of",
            "3.14",
            ",",
            "a",
            "-",
            "-",
            "b",
            "e",
            ".",
            "g",
            ".",
            "x_1",
            ".",
        ];
        assert_eq!(found, expected);
        assert!(pieces(text).all(|(at, piece)| text[at..].starts_with(piece)));
    }

    #[test]
    fn decoding_reads_well() {
        let words = Words::from_documents([Ok("said , \" ( ) why not ? . Mia - '".to_owned())], 99, Unknown::Reject);
        let words = words.expect("a vocabulary");
        let ids = words.encode("Mia said , \" why ( not ) ? \" .").expect("known words");
        assert_eq!(words.decode(&ids).expect("known ids"), "Mia said, \"why (not)?\".");
    }

    #[test]
    fn frequency_orders_the_vocabulary_and_ties_are_alphabetical() {
        let build = |n, unknown| Words::from_documents([Ok("b a b c a d".to_owned())], n, unknown);
        assert_eq!(build(3, Unknown::Replace).expect("words").words(), ["a", "b", "c"]);
        let words = build(2, Unknown::Replace).expect("words");
        assert_eq!(words.encode("a c b").expect("with <unk>"), [0, 2, 1]);
        assert_eq!(words.decode(&[0, 2, 4, 3]).expect("ids"), "a <unk> [MASK]");
        assert!(build(2, Unknown::Reject).expect("words").encode("a c").is_err());
    }

    #[test]
    fn a_word_is_one_piece_and_occurs_once() {
        for bad in [vec![], vec!["a", "a"], vec!["a b"], vec!["end."], vec![""], vec!["<eos>"], vec![" a"]] {
            assert!(matches!(Words::new(bad.clone(), Unknown::Reject), Err(Error::Vocabulary { .. })), "{bad:?}");
        }
    }
}
