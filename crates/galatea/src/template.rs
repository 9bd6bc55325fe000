//! Texts with gaps, and tokens at positions, as a command line writes them.

use crate::failure::Usage;
use galatea_text::tokenizer::UNK;
use galatea_train::{Error, Vocabulary};

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Text that is given.
    Text(String),
    /// So many tokens that are not.
    Gap(usize),
}

/// The widest gap that one pair of braces makes.
const WIDEST: usize = 1 << 20;

/// Takes a template apart: `___` (three or more underscores) and `[MASK]` are a gap of one token, `{3}` of three.
///
/// # Errors
/// If a gap is wider than any text.
pub(crate) fn parse(template: &str) -> anyhow::Result<Vec<Part>> {
    let mut parts = Vec::new();
    let (mut text, mut rest) = (String::new(), template);
    while let Some(first) = rest.chars().next() {
        match gap(rest)? {
            Some((width, bytes)) => {
                if !text.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut text)));
                }
                if width > 0 {
                    parts.push(Part::Gap(width));
                }
                rest = &rest[bytes..];
            }
            None => {
                text.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    if !text.is_empty() {
        parts.push(Part::Text(text));
    }
    Ok(parts)
}

/// The gap that `text` begins with: its width in tokens and its bytes.
fn gap(text: &str) -> anyhow::Result<Option<(usize, usize)>> {
    let underscores = text.bytes().take_while(|&b| b == b'_').count();
    if underscores >= 3 {
        return Ok(Some((1, underscores)));
    }
    if text.starts_with("[MASK]") {
        return Ok(Some((1, "[MASK]".len())));
    }
    let Some(digits) = text.strip_prefix('{').and_then(|rest| rest.split_once('}')).map(|(digits, _)| digits) else {
        return Ok(None);
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    match digits.parse() {
        Ok(width) if width <= WIDEST => Ok(Some((width, digits.len() + 2))),
        _ => {
            Err(Usage::new(format!("{{{digits}}} is wider than any text"), "write the number of tokens, as in {3}")
                .into())
        }
    }
}

/// The ids of a piece of text, without padding after it.
///
/// # Errors
/// If a piece of it is not in the vocabulary; the error names tokens like it.
pub(crate) fn encode(vocabulary: &Vocabulary, text: &str) -> anyhow::Result<Vec<u32>> {
    let refuse = |message: String, piece: Option<&str>| {
        let hint = piece.map_or("use tokens of the vocabulary".to_owned(), |piece| nearest_hint(vocabulary, piece));
        Usage::new(format!("cannot use `{}`: {message}", text.escape_debug()), hint)
    };
    let ids = vocabulary.encode(text).map_err(|error| match &error {
        Error::Text(galatea_text::Error::Unknown { piece, .. }) => refuse(error.to_string(), Some(piece)),
        other => refuse(other.to_string(), text.split_whitespace().find(|word| vocabulary.id(word).is_none())),
    })?;
    if let Some(word) = replaced(vocabulary, text) {
        return Err(refuse(format!("`{word}` is not one of the {} tokens", vocabulary.len()), Some(word)).into());
    }
    let pad = vocabulary.pad();
    let kept = ids.iter().rposition(|&id| id != pad).map_or(0, |last| last + 1);
    Ok(ids[..kept].to_vec())
}

/// The first word of `text` that the vocabulary would replace by its token of unknown words.
fn replaced<'a>(vocabulary: &Vocabulary, text: &'a str) -> Option<&'a str> {
    let unknown = vocabulary.id(UNK)?;
    let lost = |word: &&str| *word != UNK && vocabulary.encode(word).is_ok_and(|ids| ids.contains(&unknown));
    text.split_whitespace().find(lost)
}

/// A position, from 1, and the id of its token, from "5:blue".
///
/// # Errors
/// If it is not of that form, or no token is called that.
pub(crate) fn at(vocabulary: &Vocabulary, text: &str) -> anyhow::Result<(usize, u32)> {
    let form = || {
        Usage::new(format!("--at {text}: expected POSITION:TOKEN"), "for example --at 5:blue; positions count from 1")
    };
    let (position, token) = text.split_once(':').ok_or_else(form)?;
    let position: usize = position.trim().parse().map_err(|_| form())?;
    if position == 0 || token.is_empty() {
        return Err(form().into());
    }
    match vocabulary.id(token) {
        Some(id) => Ok((position, id)),
        None => match vocabulary.encode(token).as_deref() {
            // A word of a language of pieces, say " blue" of a byte-pair vocabulary.
            Ok([id]) if replaced(vocabulary, token).is_none() => Ok((position, *id)),
            Ok(several) if several.iter().filter(|&&id| id != vocabulary.pad()).count() > 1 => {
                let pieces: Vec<String> =
                    several.iter().map(|&id| format!("`{}`", vocabulary.token(id).escape_debug())).take(8).collect();
                let message = format!("--at {text}: `{token}` is not one token but {}", pieces.join(" "));
                Err(Usage::new(message, "give every token its own --at, or use a template").into())
            }
            _ => {
                let message =
                    format!("--at {text}: `{}` is not one of the {} tokens", token.escape_debug(), vocabulary.len());
                Err(Usage::new(message, nearest_hint(vocabulary, token)).into())
            }
        },
    }
}

fn nearest_hint(vocabulary: &Vocabulary, word: &str) -> String {
    let tokens: Vec<String> = (0..vocabulary.len() as u32).map(|id| vocabulary.token(id)).collect();
    let near = nearest(word, &tokens);
    if near.is_empty() { "no token is like it".to_owned() } else { format!("tokens like it: {}", near.join(", ")) }
}

/// The tokens that few edits make of `word`, the nearest first.
fn nearest<'a>(word: &str, tokens: &'a [String]) -> Vec<&'a str> {
    let word: Vec<char> = word.chars().take(64).collect();
    let most = (word.len() / 2).clamp(1, 3);
    let mut near: Vec<(usize, &str)> = tokens
        .iter()
        .filter(|token| !token.is_empty() && token.chars().count().abs_diff(word.len()) <= most)
        .map(|token| (distance(&word, &token.chars().collect::<Vec<_>>()), token.as_str()))
        .filter(|(edits, token)| *edits <= most && *edits < word.len().max(token.chars().count()))
        .collect();
    near.sort();
    near.into_iter().take(5).map(|(_, token)| token).collect()
}

/// Insertions, deletions and replacements between two words.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Part {
        Part::Text(text.to_owned())
    }

    #[test]
    fn every_kind_of_gap_is_found() -> anyhow::Result<()> {
        let parts = parse("the ___ sat{3}on [MASK]_____.")?;
        assert_eq!(
            parts,
            [
                text("the "),
                Part::Gap(1),
                text(" sat"),
                Part::Gap(3),
                text("on "),
                Part::Gap(1),
                Part::Gap(1),
                text(".")
            ]
        );
        assert_eq!(parse("{12}")?, [Part::Gap(12)]);
        assert_eq!(parse("")?, []);
        Ok(())
    }

    #[test]
    fn what_only_looks_like_a_gap_is_text() -> anyhow::Result<()> {
        for plain in ["a_b __init__ {x} {} { 3 } [mask] {", "né _"] {
            assert_eq!(parse(plain)?, [text(plain)], "{plain}");
        }
        assert!(parse("{99999999999999999999}").is_err());
        Ok(())
    }

    #[test]
    fn edits_are_counted() {
        let count = |a: &str, b: &str| distance(&a.chars().collect::<Vec<_>>(), &b.chars().collect::<Vec<_>>());
        assert_eq!(
            [count("kitten", "sitting"), count("", "abc"), count("blue", "blue"), count("ab", "ba")],
            [3, 3, 0, 2]
        );
    }

    #[test]
    fn the_nearest_token_comes_first_and_strangers_do_not_come() {
        let tokens: Vec<String> = ["brave", "blue", "grave", "hungry", "a"].map(String::from).to_vec();
        assert_eq!(nearest("brve", &tokens), ["brave", "blue", "grave"]);
        assert!(nearest("q", &tokens).is_empty());
    }
}
