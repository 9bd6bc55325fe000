//! Wishes: words that must stand at given places, before the text is written.

use galatea_text::language::{Error, ExactModel, Role, StoryLanguage};
use ndarray::Array2;

/// Words at places.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wish {
    /// What makes it hard.
    pub(super) why: &'static str,
    /// (place, id), the place counted from 0.
    pub(super) words: Vec<(usize, u32)>,
}

impl Wish {
    /// Each word at the last place of its role, in the first template.
    fn new(language: &StoryLanguage, why: &'static str, words: &[(Role, &str)]) -> Option<Self> {
        let roles = language.roles(0);
        let place = |role: Role| roles.iter().rposition(|found| *found == Some(role));
        let words =
            words.iter().map(|&(role, word)| Some((place(role)?, language.id(word)?))).collect::<Option<_>>()?;
        Some(Self { why, words })
    }

    /// What the demonstration asks for.
    pub(super) fn all(language: &StoryLanguage) -> Vec<Self> {
        let brave = (Role::Adjective, "brave");
        let truck = (Role::Rhyme, "truck");
        let four = (Role::Left, "four");
        let wish = |why, words: &[_]| Self::new(language, why, words);
        let wishes = [
            wish("a word near the beginning", &[brave]),
            wish("a rhyme at the end, whose animal stands 41 words before it", &[truck]),
            wish("a result, for which the numbers and the reply before it must agree", &[four]),
            wish("all three at once", &[brave, four, truck]),
        ];
        wishes.into_iter().flatten().collect()
    }

    /// What a sampler is told.
    pub(super) fn fixed(&self, len: usize) -> Vec<Option<u32>> {
        let mut fixed = vec![None; len];
        for &(place, word) in &self.words {
            fixed[place] = Some(word);
        }
        fixed
    }

    /// The exact probability that a story has these words there.
    ///
    /// # Errors
    /// If no story has.
    pub(super) fn probability(&self, language: &StoryLanguage) -> Result<f64, Error> {
        let mut evidence = Array2::ones((language.len(), language.vocab()));
        for &(place, word) in &self.words {
            evidence.row_mut(place).fill(0.0);
            evidence[[place, word as usize]] = 1.0;
        }
        let mut marginals = Array2::zeros(evidence.dim());
        Ok(language.posterior(&evidence, &mut marginals)?.exp())
    }

    /// "word 5 = brave, word 47 = truck", counted from 1.
    pub(super) fn text(&self, language: &StoryLanguage) -> String {
        let word =
            |&(place, id): &(usize, u32)| format!("word {} = {}", place + 1, language.word(id).unwrap_or_default());
        self.words.iter().map(word).collect::<Vec<_>>().join(", ")
    }

    /// The same as arguments of `galatea infill`.
    pub(super) fn flags(&self, language: &StoryLanguage) -> String {
        let flag =
            |&(place, id): &(usize, u32)| format!("--at {}:{}", place + 1, language.word(id).unwrap_or_default());
        self.words.iter().map(flag).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use galatea_random::Philox;
    use galatea_text::language::Level;

    #[test]
    fn wishes_stand_where_the_language_has_their_kind() {
        let language = StoryLanguage::new(Level::One);
        let wishes = Wish::all(&language);
        assert_eq!(wishes.len(), 4);
        let texts: Vec<String> = wishes.iter().map(|wish| wish.text(&language)).collect();
        assert_eq!(texts[0], "word 5 = brave");
        assert_eq!(texts[1], "word 47 = truck");
        assert_eq!(texts[2], "word 35 = four");
        assert_eq!(wishes[3].fixed(48).iter().flatten().count(), 3);
    }

    #[test]
    fn a_wish_comes_true_by_chance_as_often_as_its_probability_says() {
        let language = StoryLanguage::new(Level::One);
        let stories: Vec<Vec<u32>> = (0..4000).map(|row| language.sample(&mut Philox::new(2, 0, 0, row))).collect();
        for wish in Wish::all(&language) {
            let p = wish.probability(&language).expect("a possible wish");
            let hits = stories.iter().filter(|x| wish.words.iter().all(|&(place, word)| x[place] == word)).count();
            let error = (p * (1.0 - p) / 4000.0).sqrt();
            assert!((hits as f64 / 4000.0 - p).abs() < 4.5 * error, "{wish:?}: {hits} of 4000, p = {p}");
        }
    }
}
