//! Tokens as people see them.

use galatea_text::AnyTokenizer;
use galatea_text::language::StoryLanguage;
use galatea_train::config::{DocumentChoice, LayoutChoice};
use galatea_train::{Generator, Vocabulary};

/// How the tokens of a model are written, apart from the model, so that it can be watched while it works.
pub(crate) struct Spelling {
    /// Every token as the canvas shows it, with a space before it where tokens are words.
    tokens: Vec<String>,
    /// The token that ends a document, and what is written for it where documents share a row.
    between: Option<(u32, &'static str)>,
}

impl Spelling {
    /// The spelling of a model's tokens.
    pub(crate) fn of(generator: &Generator) -> Self {
        let (vocabulary, config) = (generator.vocabulary(), generator.config());
        let words = matches!(vocabulary, Vocabulary::Language(..) | Vocabulary::Text(AnyTokenizer::Words(_)));
        let end = vocabulary.pad();
        let token = |id: u32| {
            let text = if id == end {
                "·".to_owned()
            } else if words || id as usize == vocabulary.len() {
                vocabulary.token(id)
            } else {
                vocabulary.text(&[id])
            };
            if words { format!(" {text}") } else { text }
        };
        let shared = config.data.layout == LayoutChoice::Packed && language_of(vocabulary).is_none();
        let rule = if config.data.document == DocumentChoice::Paragraph { "\n\n" } else { "\n" };
        Self { tokens: (0..=vocabulary.len() as u32).map(token).collect(), between: shared.then_some((end, rule)) }
    }

    /// One token as the canvas shows it.
    pub(crate) fn token(&self, id: u32) -> String {
        self.tokens.get(id as usize).cloned().unwrap_or_default()
    }

    /// A row as text: documents that share it stand apart, padding is left out.
    pub(crate) fn text(&self, vocabulary: &Vocabulary, row: &[u32]) -> String {
        match self.between {
            None => vocabulary.text(row),
            Some((end, rule)) => {
                let parts: Vec<String> = row.split(|&id| id == end).map(|part| vocabulary.text(part)).collect();
                parts.join(rule)
            }
        }
    }
}

/// The language that a model speaks, if it is the embedded one.
pub(crate) fn language_of(vocabulary: &Vocabulary) -> Option<&StoryLanguage> {
    match vocabulary {
        Vocabulary::Language(language, _) => Some(language),
        Vocabulary::Text(_) => None,
    }
}
