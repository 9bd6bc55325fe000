//! What a run should do with a text when nobody has said: decided by looking at the text.

use crate::settings::Settings;
use anyhow::Context;
use galatea_text::{AnyTokenizer, Bpe, Bytes, Chars, Corpus, Encoded, Format, Unit, Unknown, Words};
use galatea_train::Config;
use galatea_train::config::{Data, DocumentChoice, LayoutChoice, TokenizerChoice, TokenizerKind};
use std::path::Path;

/// The longest document that a padded row is made for without being asked.
const SHORT: usize = 64;
/// Fewer documents than this are one text, whatever their length.
const MANY: usize = 50;
/// The usual length of a packed row.
const PACKED: usize = 128;

/// How documents stand in a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Documents, lines where nobody has said what one is.
    pub(crate) documents: usize,
    /// The longest one, in tokens.
    pub(crate) longest: usize,
    /// All tokens.
    pub(crate) tokens: usize,
    /// Paragraphs of more than one line, if documents are lines.
    pub(crate) paragraphs: usize,
}

/// What was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) layout: &'static str,
    pub(crate) len: usize,
    pub(crate) document: &'static str,
}

/// One short line a row where the text is a list of them; else a stream of paragraphs or lines, in rows of which the held-out
/// part, a fraction `held_out` of the text, has a few.
pub(crate) fn choose(shape: Shape, held_out: f64) -> Choice {
    let Shape { documents, longest, tokens, paragraphs } = shape;
    if documents >= MANY && longest <= SHORT && paragraphs * 20 < documents {
        return Choice { layout: "padded", len: longest.next_multiple_of(8), document: "line" };
    }
    let fits = |len: &usize| (tokens as f64 * held_out) as usize >= 4 * len;
    let len = [PACKED, 64, 32, 16].into_iter().find(fits).unwrap_or(8);
    Choice { layout: "packed", len, document: if paragraphs >= 20 { "paragraph" } else { "line" } }
}

/// Completes the settings for a text, and says what it chose.
///
/// # Errors
/// If the text cannot be read.
pub(crate) fn complete(settings: &mut Settings) -> anyhow::Result<Option<String>> {
    let config = settings.config()?;
    if config.data.source == "language" || (settings.says("data.layout") && settings.says("data.len")) {
        return Ok(None);
    }
    let jsonl = matches!(Format::of(&config.data.source), Format::Jsonl(_));
    let free = !jsonl && !settings.says("data.document");
    let mut shape = measure(&config, if free { DocumentChoice::Line } else { config.data.document })?;
    if free {
        shape.paragraphs = blocks(Path::new(&config.data.source))?;
    }
    let mut choice = choose(shape, config.data.validation);
    if settings.says("data.layout") {
        choice.layout = match config.data.layout {
            LayoutChoice::Packed => "packed",
            LayoutChoice::Padded => "padded",
            LayoutChoice::Pairs => "pairs",
        };
        if config.data.layout != LayoutChoice::Packed {
            // The longest pair has room for its end.
            let end = usize::from(config.data.layout == LayoutChoice::Pairs);
            choice.len = (shape.longest + end).clamp(1, PACKED).next_multiple_of(8);
        }
    }
    let len = if settings.says("data.len") { config.data.len } else { choice.len };
    settings.set("data.layout", choice.layout);
    settings.set("data.len", len as i64);
    if free {
        settings.set("data.document", choice.document);
    }
    let Choice { layout, document, .. } = choice;
    let unit = if free {
        document
    } else if jsonl {
        "jsonl object"
    } else {
        "document"
    };
    Ok(Some(match layout {
        "pairs" => format!("a prompt and its answer a row of {len} tokens (the longest two have {})", shape.longest),
        "padded" => format!("one {unit} a row of {len} tokens (the longest has {})", shape.longest),
        _ => format!("{unit}s one after another in rows of {len} tokens"),
    }))
}

/// A text file and what one document of it is, as a configuration says it.
///
/// # Errors
/// If there is no such file, or it is empty.
pub(crate) fn corpus(config: &Config, document: DocumentChoice) -> anyhow::Result<Corpus> {
    let corpus = Corpus::open(&config.data.source)?;
    let format = match corpus.format() {
        Format::Jsonl(_) => Format::Jsonl(config.data.field.clone()),
        Format::Text(_) => Format::Text(match document {
            DocumentChoice::Line => Unit::Line,
            DocumentChoice::Paragraph => Unit::Paragraph,
            DocumentChoice::File => Unit::File,
        }),
    };
    Ok(corpus.with_format(format))
}

/// The tokenizer that a configuration asks for, built from the text unless it is loaded.
///
/// # Errors
/// If the file cannot be read or the vocabulary not be built.
pub(crate) fn tokenizer(choice: &TokenizerChoice, data: &Data, corpus: &Corpus) -> anyhow::Result<AnyTokenizer> {
    if let Some(path) = &choice.path {
        return Ok(AnyTokenizer::load(path)?);
    }
    let texts: Vec<Result<String, galatea_text::Error>> = match data.layout {
        LayoutChoice::Packed | LayoutChoice::Padded => corpus.documents()?.collect(),
        LayoutChoice::Pairs => corpus.pairs(&data.prompt_field)?.texts().collect(),
    };
    Ok(match choice.kind {
        TokenizerKind::Bytes => Bytes.into(),
        TokenizerKind::Chars => Chars::from_documents(texts)?.into(),
        TokenizerKind::Words => Words::from_documents(texts, choice.vocab, Unknown::Replace)?.into(),
        TokenizerKind::Bpe => Bpe::train(texts, choice.vocab)?.into(),
    })
}

/// The tokens of a text, or of its pairs.
///
/// # Errors
/// If it cannot be read, or a piece of it has no token.
pub(crate) fn encode(data: &Data, corpus: &Corpus, tokenizer: &AnyTokenizer) -> anyhow::Result<Encoded> {
    Ok(match data.layout {
        LayoutChoice::Packed | LayoutChoice::Padded => Encoded::read(corpus.documents()?, tokenizer)?,
        LayoutChoice::Pairs => Encoded::read_pairs(corpus.pairs(&data.prompt_field)?, tokenizer)?,
    })
}

fn measure(config: &Config, document: DocumentChoice) -> anyhow::Result<Shape> {
    let corpus = corpus(config, document)?;
    let mut choice = config.tokenizer.clone();
    if choice.kind == TokenizerKind::Bpe && choice.path.is_none() {
        // Learning merges takes a while and is done once, later; bytes bound their number from above.
        choice.kind = TokenizerKind::Bytes;
    }
    let encoded = encode(&config.data, &corpus, &tokenizer(&choice, &config.data, &corpus)?)?;
    let longest = encoded.iter().map(<[u32]>::len).max().unwrap_or(0);
    Ok(Shape { documents: encoded.documents(), longest, tokens: encoded.tokens().len(), paragraphs: 0 })
}

/// Paragraphs of more than one line.
fn blocks(path: &Path) -> anyhow::Result<usize> {
    let corpus = Corpus::open(path)?.with_format(Format::Text(Unit::Paragraph));
    let mut found = 0;
    for paragraph in corpus.documents().with_context(|| format!("cannot read {}", path.display()))? {
        found += usize::from(paragraph?.contains('\n'));
    }
    // A list without blank lines is one paragraph, and a list with a few is still a list.
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_names_is_padded_to_the_next_multiple_of_eight() {
        let names = Shape { documents: 32_000, longest: 15, tokens: 200_000, paragraphs: 1 };
        assert_eq!(choose(names, 0.1), Choice { layout: "padded", len: 16, document: "line" });
    }

    #[test]
    fn a_play_is_packed_by_paragraphs_and_a_wall_of_text_by_lines() {
        let play = Shape { documents: 32_777, longest: 63, tokens: 1_000_000, paragraphs: 7_000 };
        assert_eq!(choose(play, 0.1), Choice { layout: "packed", len: 128, document: "paragraph" });
        let wall = Shape { documents: 1, longest: 3_000_000, tokens: 3_000_000, paragraphs: 0 };
        assert_eq!(choose(wall, 0.1), Choice { layout: "packed", len: 128, document: "line" });
    }

    #[test]
    fn a_short_text_gets_short_rows() {
        let note = Shape { documents: 9, longest: 200, tokens: 1_000, paragraphs: 0 };
        assert_eq!(choose(note, 0.1).len, 16);
        assert_eq!(choose(Shape { tokens: 20, ..note }, 0.1).len, 8);
    }
}
