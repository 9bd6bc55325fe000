use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use galatea_random::Philox;
use ndarray::ArrayRef2;

use super::exact::{check_evidence, draw, entropy_of};
use super::forest::{Forest, Messages};
use super::role::Role;
use super::template::{Template, forest, templates};
use super::vocabulary::{PAD, Vocabulary};
use super::{Error, ExactModel};

/// The words of a canvas.
pub(super) const LEN: usize = 48;

/// How much the stories vary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Level {
    /// One template of exactly 48 words, numbers up to five: 25.39 bits a story.
    #[default]
    One,
    /// The same template, numbers up to nine: 26.97 bits.
    Two,
    /// 96 templates of 38 to 48 words, padded, numbers up to nine: 32.90 bits.
    Three,
}

impl TryFrom<u8> for Level {
    type Error = Error;

    fn try_from(level: u8) -> Result<Self, Error> {
        match level {
            1 => Ok(Self::One),
            2 => Ok(Self::Two),
            3 => Ok(Self::Three),
            found => Err(Error::Level { found: found.to_string() }),
        }
    }
}

impl FromStr for Level {
    type Err = Error;

    fn from_str(level: &str) -> Result<Self, Error> {
        let number = level.parse::<u8>().map_err(|_| Error::Level { found: level.to_owned() })?;
        Self::try_from(number)
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", *self as u8 + 1)
    }
}

/// A small language of stories in which every word is bound to others, near and far, forwards and backwards.
///
/// > long ago lived a brave mole called rosa . she gathered four acorns . " could you spare three ? " asked hugo .
/// > " gladly ! " answered rosa . then there was one acorn left . hugo felt merry . she dozed in the hole .
///
/// Two names differ and each returns; a name asks for its pronoun, a reply for a mood, an animal for the rhyme 41 words
/// later; what is left is what was there less what was given, with *was* or *were* and the right ending; quotes close.
/// A story is a template (see [`Level`]) whose open positions follow from a few independent choices, so log p, the
/// entropy and every marginal under any evidence are short sums.
///
/// At levels one and two every story has, counting words from 1, its adjective at 5, the animal at 6, the hero at 8, the
/// numbers at 12, 19 and 35, the neighbour at 23, the reply at 26, the mood at 41 and the rhyme at 47.
///
/// Ids: 0 is `<pad>`, `vocab() - 1` the last word. The mask is not in the language: its id is [`mask`](Self::mask) =
/// `vocab()`, one past.
///
/// ```
/// use galatea_text::language::{ExactModel, Level, StoryLanguage};
/// use ndarray::Array2;
///
/// // Which animal sleeps under a tree? Only the words before are asked, only the end is known.
/// let language = StoryLanguage::new(Level::One);
/// let mut evidence = Array2::ones((language.len(), language.vocab()));
/// let [bee, tree] = ["bee", "tree"].map(|word| language.id(word).expect("a word of the language"));
/// evidence.row_mut(46).fill(0.0);
/// evidence[[46, tree as usize]] = 1.0;
/// let mut marginals = Array2::zeros(evidence.dim());
/// let log_p = language.posterior(&evidence, &mut marginals)?;
/// assert!((log_p - (1.0_f64 / 8.0).ln()).abs() < 1e-12);
/// assert!((marginals[[5, bee as usize]] - 1.0).abs() < 1e-12);
/// # Ok::<(), galatea_text::language::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct StoryLanguage {
    pub(super) vocabulary: Vocabulary,
    pub(super) forest: Forest,
    pub(super) templates: Vec<Template>,
}

impl StoryLanguage {
    /// The language of a level; it takes a millisecond or two to build.
    pub fn new(level: Level) -> Self {
        let (variants, most) = match level {
            Level::One => (1, 5),
            Level::Two => (1, 9),
            Level::Three => (usize::MAX, 9),
        };
        let vocabulary = Vocabulary::new();
        let forest = forest(most, &vocabulary);
        let templates = templates(variants, LEN, &forest, &vocabulary);
        Self { vocabulary, forest, templates }
    }

    /// The words by id, `<pad>` first; the same for every level.
    pub fn words(&self) -> &[&'static str] {
        self.vocabulary.words()
    }

    /// The word of an id, `<mask>` for the mask, `None` beyond.
    pub fn word(&self, id: u32) -> Option<&'static str> {
        self.vocabulary.word(id)
    }

    /// The id of a word or of `<mask>`, `None` for a word that the language does not know.
    pub fn id(&self, word: &str) -> Option<u32> {
        self.vocabulary.id(word)
    }

    /// The id of the padding.
    pub fn pad(&self) -> u32 {
        self.vocabulary.known(PAD)
    }

    /// The id of the mask: one past the last word.
    pub fn mask(&self) -> u32 {
        self.vocab() as u32
    }

    /// The story as text, words apart by one space, padding left out, `<mask>` for masks and `<?>` for unknown ids.
    pub fn text(&self, x: &[u32]) -> String {
        let shown = x.iter().filter(|&&id| id != self.pad());
        let words: Vec<&str> = shown.map(|&id| self.word(id).unwrap_or("<?>")).collect();
        words.join(" ")
    }

    /// The canvas of a text: the inverse of [`text`](Self::text), padded to 48; `<mask>` stands for a mask.
    ///
    /// # Errors
    /// [`Error::Word`] for an unknown word, [`Error::Long`] beyond 48 words.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        let id = |word: &str| self.id(word).ok_or_else(|| Error::Word { word: word.to_owned() });
        let mut x = text.split_whitespace().map(id).collect::<Result<Vec<u32>, Error>>()?;
        if x.len() > LEN {
            return Err(Error::Long { limit: LEN, found: x.len() });
        }
        x.resize(LEN, self.pad());
        Ok(x)
    }

    /// Whether `x` is a story of the language: log p(x) > -inf.
    pub fn is_grammatical(&self, x: &[u32]) -> bool {
        self.log_prob(x) > f64::NEG_INFINITY
    }

    /// The number of templates: 1 or 96.
    pub fn templates(&self) -> usize {
        self.templates.len()
    }

    /// What stands at each position of a template: its role, or `None` where the word is fixed.
    ///
    /// A template beyond [`templates`](Self::templates) has no positions.
    pub fn roles(&self, template: usize) -> Vec<Option<Role>> {
        let Some(template) = self.templates.get(template) else { return Vec::new() };
        let mut roles = vec![None; LEN];
        for &(position, role) in &template.roles {
            roles[position] = Some(role);
        }
        roles
    }

    /// The words that a role can say, in the order of their ids.
    pub fn words_of(&self, role: Role) -> Vec<u32> {
        let mut words = self.forest.words(role).to_vec();
        words.sort_unstable();
        words.dedup();
        words
    }

    /// log p(template, evidence), with the messages of its choices in `up`.
    fn weigh(&self, template: &Template, log_q: impl Fn(usize, u32) -> f64, up: &mut Messages) -> f64 {
        let literals = template.literals.iter().map(|&(i, word)| log_q(i, word)).sum::<f64>();
        if literals == f64::NEG_INFINITY {
            return literals;
        }
        template.log_p + literals + self.forest.gather(&template.slots, log_q, up)
    }
}

impl ExactModel for StoryLanguage {
    fn vocab(&self) -> usize {
        self.words().len()
    }

    fn len(&self) -> usize {
        LEN
    }

    fn log_prob(&self, x: &[u32]) -> f64 {
        if x.len() != LEN {
            return f64::NEG_INFINITY;
        }
        let log_q = |i: usize, word: u32| if x[i] == word { 0.0 } else { f64::NEG_INFINITY };
        let mut up = Messages::default();
        let weights = self.templates.iter().map(|template| self.weigh(template, log_q, &mut up));
        // No story has two derivations, so the sum over templates has one term.
        weights.fold(f64::NEG_INFINITY, f64::max)
    }

    /// Sums over templates; given one, each tree of choices is one sweep up and one down.
    fn posterior_log(&self, log_evidence: &ArrayRef2<f64>, marginals: &mut ArrayRef2<f64>) -> Result<f64, Error> {
        check_evidence([LEN, self.vocab()], log_evidence, marginals)?;
        let log_q = |i: usize, word: u32| log_evidence[[i, word as usize]];
        let mut up = Messages::default();
        // The running sum of the templates' weights is kept as exp(log_scale) total.
        let (mut log_scale, mut total) = (f64::NEG_INFINITY, 0.0);
        marginals.fill(0.0);
        for template in &self.templates {
            let log_weight = self.weigh(template, log_q, &mut up);
            if log_weight > log_scale {
                let shrink = (log_scale - log_weight).exp();
                total *= shrink;
                marginals.mapv_inplace(|p| p * shrink);
                log_scale = log_weight;
            }
            let mass = (log_weight - log_scale).exp();
            if mass > 0.0 {
                total += mass;
                for &(i, word) in &template.literals {
                    marginals[[i, word as usize]] += mass;
                }
                self.forest.scatter(&template.slots, &up, mass, |i, word, p| marginals[[i, word as usize]] += p);
            }
        }
        if log_scale == f64::NEG_INFINITY {
            return Err(Error::Impossible);
        }
        marginals.mapv_inplace(|p| p / total);
        Ok(log_scale + total.ln())
    }

    /// H(template) + sum_t p(t) sum over trees of H(visible words | t): no story has two derivations.
    fn entropy(&self) -> f64 {
        let mut seen = HashMap::new();
        let within = self.templates.iter().map(|template| {
            let visible = Role::ALL.map(|role| template.speaks(role));
            let entropy = seen.entry(visible).or_insert_with(|| self.forest.entropy(|role| visible[role as usize]));
            template.log_p.exp() * *entropy
        });
        let within: f64 = within.sum();
        entropy_of(self.templates.iter().map(|template| template.log_p.exp())) + within
    }

    fn sample(&self, rng: &mut Philox) -> Vec<u32> {
        let template = &self.templates[draw(self.templates.iter().map(|t| t.log_p.exp()), rng)];
        let options = self.forest.sample(rng);
        let mut x = vec![self.pad(); LEN];
        for &(i, word) in &template.literals {
            x[i] = word;
        }
        for &(i, role) in &template.roles {
            x[i] = self.forest.said(role, &options);
        }
        x
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_story_has_two_derivations() {
        let language = StoryLanguage::new(Level::Three);
        let mut up = Messages::default();
        for row in 0..500 {
            let x = language.sample(&mut Philox::new(2, 0, 0, row));
            let log_q = |i: usize, word: u32| if x[i] == word { 0.0 } else { f64::NEG_INFINITY };
            let weights = language.templates.iter().map(|template| language.weigh(template, log_q, &mut up));
            assert_eq!(weights.filter(|weight| weight.is_finite()).count(), 1, "{}", language.text(&x));
        }
    }

    #[test]
    fn templates_are_a_distribution_that_fits_the_canvas() {
        for (level, count) in [(Level::One, 1), (Level::Two, 1), (Level::Three, 96)] {
            let language = StoryLanguage::new(level);
            assert_eq!(language.templates.len(), count);
            let total: f64 = language.templates.iter().map(|t| t.log_p.exp()).sum();
            assert!((total - 1.0).abs() < 1e-12);
            // The full stop that ends every story is on the canvas: no template was cut.
            let stop = language.vocabulary.known(".");
            for template in &language.templates {
                let words = template.literals.iter().filter(|&&(_, word)| word != language.pad());
                assert_eq!(words.max_by_key(|(i, _)| *i).map(|&(_, word)| word), Some(stop));
            }
        }
    }
}
