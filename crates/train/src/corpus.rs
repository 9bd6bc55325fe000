//! Where rows come from: the embedded language, or the user's text.

use crate::Error;
use crate::config::{Config, DocumentChoice, LayoutChoice, TokenizerKind};
use galatea_random::Philox;
use galatea_text::language::{ExactModel, Level, StoryLanguage};
use galatea_text::{
    AnyTokenizer, Bpe, Bytes, Chars, Dataset, Encoded, Format, Layout, Order, Tokenizer, Unit, Unknown, Words,
};
use ndarray::Array2;
use std::path::Path;

/// Streams of the data's own draws.
mod stream {
    pub(super) const LANGUAGE: u32 = 11;
    pub(super) const VALIDATION: u32 = 12;
}

/// What ids mean. The mask is one past the data's ids.
#[derive(Clone)]
pub enum Vocabulary {
    /// Words of the embedded language.
    Language(StoryLanguage, u8),
    /// Tokens of a text.
    Text(AnyTokenizer),
}

impl Vocabulary {
    /// Ids that data can hold; the mask is the next one.
    pub fn len(&self) -> usize {
        match self {
            Vocabulary::Language(language, _) => language.vocab(),
            Vocabulary::Text(tokenizer) => tokenizer.vocab_size() - 1,
        }
    }

    /// Tokens a row, where the source has its own number.
    pub(crate) fn row_len(&self) -> Option<usize> {
        match self {
            Vocabulary::Language(language, _) => Some(language.len()),
            Vocabulary::Text(_) => None,
        }
    }

    /// Never: every vocabulary has an end of document.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The text of ids, padding left out and the mask shown.
    pub fn text(&self, ids: &[u32]) -> String {
        match self {
            Vocabulary::Language(language, _) => language.text(ids),
            Vocabulary::Text(tokenizer) => tokenizer.decode(ids).unwrap_or_else(|error| error.to_string()),
        }
    }

    /// One token as it is shown.
    pub fn token(&self, id: u32) -> String {
        match self {
            Vocabulary::Language(_, _) if id as usize >= self.len() => galatea_text::tokenizer::MASK.to_owned(),
            Vocabulary::Language(language, _) => language.word(id).unwrap_or_default().to_owned(),
            Vocabulary::Text(tokenizer) => tokenizer.token(id).unwrap_or_default().into_owned(),
        }
    }

    /// The id of one token, special ones left out.
    pub fn id(&self, token: &str) -> Option<u32> {
        match self {
            Vocabulary::Language(language, _) => language.id(token),
            Vocabulary::Text(tokenizer) => tokenizer.id(token),
        }
        .filter(|&id| (id as usize) < self.len())
    }

    /// The ids of a text.
    ///
    /// # Errors
    /// If a piece of it has no token.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        match self {
            Vocabulary::Language(language, _) => Ok(language.encode(text)?),
            Vocabulary::Text(tokenizer) => Ok(tokenizer.encode(text)?),
        }
    }

    /// The token that fills the rest of a row.
    pub fn pad(&self) -> u32 {
        match self {
            Vocabulary::Language(language, _) => language.pad(),
            Vocabulary::Text(tokenizer) => tokenizer.pad(),
        }
    }

    /// A number that two vocabularies share only if they mean the same by every id.
    pub fn fingerprint(&self) -> String {
        match self {
            Vocabulary::Language(_, level) => format!("language-{level}"),
            Vocabulary::Text(tokenizer) => format!("{:016x}", tokenizer.fingerprint()),
        }
    }

    pub(crate) fn to_json(&self) -> String {
        match self {
            Vocabulary::Language(_, level) => {
                format!("{{\n  \"galatea_tokenizer\": \"language\",\n  \"level\": {level}\n}}\n")
            }
            Vocabulary::Text(tokenizer) => tokenizer.to_json().expect("a tokenizer that encodes can be written"),
        }
    }

    pub(crate) fn load(config: &Config, path: &Path) -> Result<Self, Error> {
        if config.data.source == "language" {
            return Self::language(config.data.level);
        }
        let tokenizer = AnyTokenizer::load(path)?;
        Self::of(tokenizer)
    }

    fn language(level: u8) -> Result<Self, Error> {
        Ok(Vocabulary::Language(StoryLanguage::new(Level::try_from(level)?), level))
    }

    fn of(tokenizer: AnyTokenizer) -> Result<Self, Error> {
        if tokenizer.mask_is_last() {
            return Ok(Vocabulary::Text(tokenizer));
        }
        let (expected, found) = ("a tokenizer whose last id is [MASK]".into(), format!("{}", tokenizer.mask()));
        Err(Error::Config { field: "tokenizer.path", expected, found })
    }
}

/// Rows to train on and rows to measure.
pub struct Corpus {
    vocabulary: Vocabulary,
    len: usize,
    /// Tokens of every row's prompt, where rows have none of their own.
    prompt: usize,
    source: Source,
}

enum Source {
    /// Drawn anew for every step: the language has no end.
    Language,
    Text {
        train: Box<Dataset>,
        validation: Box<Dataset>,
        order: Order,
    },
}

/// Seed of the split: a property of the data, not of the run, so that runs are measured on the same rows.
const SPLIT_SEED: u64 = 0;

impl Corpus {
    /// Opens what the configuration names, building its tokenizer.
    ///
    /// # Errors
    /// If the data cannot be read or is too short, or the tokenizer cannot be built.
    pub fn open(config: &Config) -> Result<Self, Error> {
        let vocabulary = match (config.data.source.as_str(), &config.tokenizer.path) {
            ("language", _) => Vocabulary::language(config.data.level)?,
            (_, Some(path)) => Vocabulary::of(AnyTokenizer::load(path)?)?,
            (source, None) => Vocabulary::of(build(config, source)?)?,
        };
        Self::open_with(config, vocabulary)
    }

    /// Opens what the configuration names with a given vocabulary.
    ///
    /// # Errors
    /// As [`Corpus::open`].
    pub fn open_with(config: &Config, vocabulary: Vocabulary) -> Result<Self, Error> {
        let (len, prompt) = (vocabulary.row_len().unwrap_or(config.data.len), config.data.prompt);
        if prompt >= len {
            let expected = format!("fewer than the {len} tokens of a row");
            return Err(Error::Config { field: "data.prompt", expected, found: prompt.to_string() });
        }
        match &vocabulary {
            Vocabulary::Language(..) => Ok(Self { vocabulary, len, prompt, source: Source::Language }),
            Vocabulary::Text(tokenizer) => {
                let corpus = text_corpus(config, &config.data.source)?;
                let (encoded, layout) = match config.data.layout {
                    LayoutChoice::Packed => (Encoded::read(corpus.documents()?, tokenizer)?, Layout::Packed),
                    LayoutChoice::Padded => (Encoded::read(corpus.documents()?, tokenizer)?, Layout::Padded),
                    LayoutChoice::Pairs => {
                        (Encoded::read_pairs(corpus.pairs(&config.data.prompt_field)?, tokenizer)?, Layout::Padded)
                    }
                };
                let fraction = config.data.validation;
                let (train, validation) = encoded.split_rows(layout, len, fraction, SPLIT_SEED)?;
                let (train, validation) = (Box::new(train), Box::new(validation));
                let order = Order::new(config.training.seed, train.rows())?;
                Ok(Self { vocabulary, len, prompt, source: Source::Text { train, validation, order } })
            }
        }
    }

    /// What ids mean.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// Ids that rows can hold.
    pub fn vocab(&self) -> usize {
        self.vocabulary.len()
    }

    /// Tokens a row.
    #[expect(clippy::len_without_is_empty, reason = "rows have tokens")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// The exact entropy of a row in bits, if the source has one.
    pub fn entropy_bits(&self) -> Option<f64> {
        match &self.vocabulary {
            Vocabulary::Language(language, _) => Some(language.entropy() / std::f64::consts::LN_2),
            Vocabulary::Text(_) => None,
        }
    }

    /// -log p(answer | prompt) of every row in nats, if the source knows it.
    pub(crate) fn surprise(&self, rows: &[u32], prompts: &[usize]) -> Option<Vec<f64>> {
        let Vocabulary::Language(language, _) = &self.vocabulary else { return None };
        let shape = (language.len(), ExactModel::vocab(language));
        let mut marginals = Array2::zeros(shape);
        let mut log_prompt = |prompt: &[u32]| {
            if prompt.is_empty() {
                return 0.0;
            }
            // All zeros says nothing of a word, -inf excludes it.
            let given = |(position, word): (usize, usize)| match prompt.get(position) {
                Some(&id) if id as usize != word => f64::NEG_INFINITY,
                _ => 0.0,
            };
            let evidence = Array2::from_shape_fn(shape, given);
            language.posterior_log(&evidence, &mut marginals).expect("a story begins as itself")
        };
        let rows = rows.chunks(self.len).zip(prompts);
        Some(rows.map(|(row, &prompt)| log_prompt(&row[..prompt]) - language.log_prob(row)).collect())
    }

    /// The rows that step `step` (from 0) learns from, and the lengths of their prompts: a function of (seed, step) alone.
    pub(crate) fn fill(&self, seed: u64, step: u32, x_0: &mut [u32], prompts: &mut [usize]) {
        prompts.fill(self.prompt);
        match &self.source {
            Source::Language => self.stories(seed, stream::LANGUAGE, step, x_0),
            Source::Text { train, order, .. } => {
                let rows = || order.batch(u64::from(step), prompts.len());
                train.fill(rows(), x_0);
                let own: Vec<usize> = rows().map(|row| train.prompt(row)).collect();
                prompts.iter_mut().zip(own).for_each(|(prompt, own)| *prompt = own.max(*prompt));
            }
        }
    }

    /// The lengths of the prompts of the first `count` rows of the validation split, fewer if it has fewer.
    pub fn validation_prompts(&self, count: usize) -> Vec<usize> {
        match &self.source {
            Source::Language => vec![self.prompt; count],
            Source::Text { validation, .. } => {
                (0..count.min(validation.rows())).map(|row| validation.prompt(row).max(self.prompt)).collect()
            }
        }
    }

    /// The first `count` rows of the validation split, fewer if it has fewer.
    pub fn validation(&self, count: usize) -> Vec<u32> {
        match &self.source {
            Source::Language => {
                let mut rows = vec![0; count * self.len];
                self.stories(SPLIT_SEED, stream::VALIDATION, 0, &mut rows);
                rows
            }
            Source::Text { validation, .. } => {
                let tokens = validation.tokens();
                tokens[..tokens.len().min(count * self.len)].to_vec()
            }
        }
    }

    fn stories(&self, seed: u64, stream: u32, step: u32, rows: &mut [u32]) {
        let Vocabulary::Language(language, _) = &self.vocabulary else {
            unreachable!("only the language is drawn from");
        };
        for (row, out) in rows.chunks_mut(self.len).enumerate() {
            out.copy_from_slice(&language.sample(&mut Philox::new(seed, stream, step, row as u32)));
        }
    }

    /// Characters of the text of the rows' answers, the end of a document counted as one.
    pub(crate) fn characters(&self, rows: &[u32], prompts: &[usize]) -> usize {
        let pad = self.vocabulary.pad();
        let ends = |row: &[u32]| (0..row.len()).filter(|&i| row[i] == pad && (i == 0 || row[i - 1] != pad)).count();
        let answers = rows.chunks(self.len).zip(prompts).map(|(row, &prompt)| &row[prompt..]);
        answers.map(|answer| self.vocabulary.text(answer).chars().count() + ends(answer)).sum()
    }

    /// The data in a line.
    pub fn summary(&self) -> String {
        let (vocab, len) = (self.vocab(), self.len);
        match &self.source {
            Source::Language => {
                let bits = self.entropy_bits().unwrap_or_default();
                format!(
                    "the embedded language: rows of {len} words, {vocab} words, exact entropy {bits:.3} bits a story"
                )
            }
            Source::Text { train, validation, .. } => {
                let (rows, held_out) = (train.rows(), validation.rows());
                format!("{rows} training rows and {held_out} held out, {len} tokens each, {vocab} different tokens")
            }
        }
    }
}

fn text_corpus(config: &Config, source: &str) -> Result<galatea_text::Corpus, Error> {
    let corpus = galatea_text::Corpus::open(source)?;
    let format = match Format::of(source) {
        Format::Jsonl(_) => Format::Jsonl(config.data.field.clone()),
        Format::Text(_) => Format::Text(match config.data.document {
            DocumentChoice::Line => Unit::Line,
            DocumentChoice::Paragraph => Unit::Paragraph,
            DocumentChoice::File => Unit::File,
        }),
    };
    Ok(corpus.with_format(format))
}

fn build(config: &Config, source: &str) -> Result<AnyTokenizer, Error> {
    let corpus = text_corpus(config, source)?;
    let texts: Box<dyn Iterator<Item = Result<String, galatea_text::Error>>> = match config.data.layout {
        LayoutChoice::Packed | LayoutChoice::Padded => Box::new(corpus.documents()?),
        LayoutChoice::Pairs => Box::new(corpus.pairs(&config.data.prompt_field)?.texts()),
    };
    Ok(match config.tokenizer.kind {
        TokenizerKind::Bytes => Bytes.into(),
        TokenizerKind::Chars => Chars::from_documents(texts)?.into(),
        TokenizerKind::Words => Words::from_documents(texts, config.tokenizer.vocab, Unknown::Replace)?.into(),
        TokenizerKind::Bpe => {
            let documents = texts.collect::<Result<Vec<String>, _>>()?;
            Bpe::train(documents.into_iter().map(Ok), config.tokenizer.vocab)?.into()
        }
    })
}
