use std::collections::HashMap;

use super::role::Role;
use super::sentences::{
    ADJECTIVES, ANIMALS, MOODS, NAMES, NUMBERS, PRONOUNS, REPLIES, RESTS, SENTENCES, TREASURES, VERBS, WERE,
};

/// The padding after a story shorter than the canvas.
pub(super) const PAD: &str = "<pad>";
/// A position to be filled: no word of the language, so its id is one past the last.
pub(super) const MASK: &str = "<mask>";

/// Words and their ids, the same for every level, so that a model of one can go on with another.
#[derive(Debug, Clone)]
pub(super) struct Vocabulary {
    words: Vec<&'static str>,
    ids: HashMap<&'static str, u32>,
}

impl Vocabulary {
    /// `<pad>` has id 0; the other words follow in the order of the lists.
    pub(super) fn new() -> Self {
        let literals = SENTENCES.iter().flat_map(|variants| variants.iter());
        let literals = literals.flat_map(|(_, text)| text.split_whitespace()).filter(|word| Role::of(word).is_none());
        let mut all = vec![PAD];
        all.extend(literals);
        all.extend(NAMES.iter().chain(&PRONOUNS).chain(&NUMBERS).chain(&WERE));
        all.extend(ANIMALS.iter().flatten());
        all.extend(TREASURES.iter().flat_map(|(forms, _)| forms));
        all.extend(ADJECTIVES.iter().chain(&VERBS).chain(&RESTS).map(|(word, _)| word));
        all.extend(REPLIES.iter().flatten().map(|(word, _)| word));
        all.extend(MOODS.iter().flatten().map(|(word, _)| word));

        let (mut words, mut ids) = (Vec::new(), HashMap::new());
        for word in all {
            ids.entry(word).or_insert_with(|| {
                words.push(word);
                words.len() as u32 - 1
            });
        }
        Self { words, ids }
    }

    pub(super) fn words(&self) -> &[&'static str] {
        &self.words
    }

    pub(super) fn id(&self, word: &str) -> Option<u32> {
        if word == MASK { Some(self.words.len() as u32) } else { self.ids.get(word).copied() }
    }

    pub(super) fn word(&self, id: u32) -> Option<&'static str> {
        if id as usize == self.words.len() { Some(MASK) } else { self.words.get(id as usize).copied() }
    }

    /// The id of a word from the lists above.
    pub(super) fn known(&self, word: &str) -> u32 {
        self.id(word).expect("the vocabulary holds every word of every list and sentence")
    }
}
