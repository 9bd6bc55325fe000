//! How many texts keep the grammar, and which of its rules the others break.

use galatea_text::language::{Constraint, StoryLanguage};

/// A count of texts by what they keep.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tally {
    /// Texts judged.
    pub(super) texts: usize,
    /// Texts that are stories of the language.
    pub(super) whole: usize,
    /// Texts that differ from each other.
    pub(super) distinct: usize,
    kept: [usize; Constraint::ALL.len()],
}

impl Tally {
    /// Judges `texts`.
    pub(super) fn of(language: &StoryLanguage, texts: &[Vec<u32>]) -> Self {
        let (mut whole, mut kept) = (0, [0; Constraint::ALL.len()]);
        for text in texts {
            let verdict = language.check(text);
            whole += usize::from(verdict.all());
            for (kept, (_, holds)) in kept.iter_mut().zip(verdict.rows()) {
                *kept += usize::from(holds);
            }
        }
        let distinct = texts.iter().collect::<std::collections::HashSet<_>>().len();
        Self { texts: texts.len(), whole, distinct, kept }
    }

    /// The share of stories.
    pub(super) fn share(&self) -> f64 {
        self.whole as f64 / self.texts.max(1) as f64
    }

    /// The standard error of a share among these texts.
    pub(super) fn error(&self, share: f64) -> f64 {
        (share * (1.0 - share) / self.texts.max(1) as f64).sqrt()
    }

    /// Each rule with the share of texts that keep it.
    pub(super) fn rows(&self) -> impl Iterator<Item = (Constraint, f64)> {
        let texts = self.texts.max(1) as f64;
        Constraint::ALL.into_iter().zip(self.kept).map(move |(constraint, kept)| (constraint, kept as f64 / texts))
    }
}

/// The rules that a text breaks, in words: "keeps the grammar", "breaks arithmetic, mood" or "breaks 6 of 8 rules".
pub(super) fn verdict(language: &StoryLanguage, text: &[u32]) -> String {
    let verdict = language.check(text);
    let broken: Vec<&str> = verdict.rows().filter(|(_, holds)| !holds).map(|(c, _)| c.name()).collect();
    match broken.len() {
        0 => "keeps the grammar".to_owned(),
        1..=3 => format!("breaks {}", broken.join(", ")),
        many => format!("breaks {many} of {} rules", Constraint::ALL.len()),
    }
}

/// What each rule asks, for the reader of a table.
pub(super) fn meaning(constraint: Constraint) -> &'static str {
    match constraint {
        Constraint::Template => "every word of the kind that stands there",
        Constraint::Names => "one name for the hero, another for the neighbour",
        Constraint::Pronoun => "he or she, as the name asks",
        Constraint::Quotes => "quotes open and close",
        Constraint::Arithmetic => "what is left = what was there - what was given",
        Constraint::Agreement => "was or were, one or many of the same treasure",
        Constraint::Mood => "the mood fits the reply",
        Constraint::Rhyme => "the place rhymes with the animal, 41 words before",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use galatea_random::Philox;
    use galatea_text::language::{ExactModel, Level};

    #[test]
    fn stories_keep_everything_and_a_wrong_word_costs_its_rule() {
        let language = StoryLanguage::new(Level::One);
        let mut texts: Vec<Vec<u32>> = (0..10).map(|row| language.sample(&mut Philox::new(1, 0, 0, row))).collect();
        let tally = Tally::of(&language, &texts);
        assert_eq!((tally.texts, tally.whole), (10, 10));
        assert!(tally.rows().all(|(_, share)| share == 1.0) && tally.error(tally.share()) == 0.0);
        // Another place than the animal's.
        let other = texts.iter().find(|text| text[46] != texts[0][46]).expect("eight places in ten stories")[46];
        texts[0][46] = other;
        let tally = Tally::of(&language, &texts);
        assert_eq!(tally.whole, 9);
        for (constraint, share) in tally.rows() {
            assert_eq!(share, if constraint == Constraint::Rhyme { 0.9 } else { 1.0 }, "{}", constraint.name());
        }
        assert_eq!(verdict(&language, &texts[0]), "breaks rhyme");
        assert_eq!(verdict(&language, &texts[1]), "keeps the grammar");
        assert_eq!(verdict(&language, &[language.mask(); 48]), "breaks 8 of 8 rules");
    }

    #[test]
    fn every_rule_is_explained() {
        assert!(Constraint::ALL.into_iter().all(|constraint| !meaning(constraint).is_empty()));
    }
}
