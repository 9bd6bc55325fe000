//! What the sentences say: templates of literal words and roles, and the forest of choices behind the roles.

use super::forest::{Forest, Slots};
use super::role::Role;
use super::sentences::{
    ADJECTIVES, AGREED, ANIMALS, MOODS, NAMES, NUMBERS, PRONOUNS, REPLIES, RESTS, SENTENCES, TREASURES, VERBS, WERE,
};
use super::vocabulary::{PAD, Vocabulary};

/// One variant of each sentence, on a canvas of fixed length.
#[derive(Debug, Clone)]
pub(super) struct Template {
    pub(super) log_p: f64,
    /// Positions whose word is fixed, padding included.
    pub(super) literals: Vec<(usize, u32)>,
    /// Positions whose word follows from a choice.
    pub(super) roles: Vec<(usize, Role)>,
    /// `roles` by choice.
    pub(super) slots: Slots,
}

impl Template {
    pub(super) fn speaks(&self, role: Role) -> bool {
        self.roles.iter().any(|&(_, other)| other == role)
    }
}

/// The templates from the first `variants` of every sentence, padded to `len`.
pub(super) fn templates(variants: usize, len: usize, forest: &Forest, vocabulary: &Vocabulary) -> Vec<Template> {
    let mut texts = vec![(1.0, Vec::new())];
    for sentence in SENTENCES {
        let sentence = &sentence[..variants.min(sentence.len())];
        let total: f64 = sentence.iter().map(|(p, _)| p).sum();
        let join = |(p, words): &(f64, Vec<&'static str>), (q, text): &(f64, &'static str)| {
            (p * q / total, words.iter().copied().chain(text.split_whitespace()).collect())
        };
        texts = texts.iter().flat_map(|start| sentence.iter().map(move |end| join(start, end))).collect();
    }
    let template = |(p, words): (f64, Vec<&str>)| {
        let padded = words.into_iter().chain(std::iter::repeat(PAD)).take(len);
        let (mut literals, mut roles) = (Vec::new(), Vec::new());
        for (position, word) in padded.enumerate() {
            match Role::of(word) {
                Some(role) => roles.push((position, role)),
                None => literals.push((position, vocabulary.known(word))),
            }
        }
        let slots = forest.slots(roles.iter().copied());
        Template { log_p: p.ln(), literals, roles, slots }
    };
    texts.into_iter().map(template).collect()
}

/// What the hero and the neighbour agree on.
struct Deal {
    has: usize,
    asked: usize,
    agreed: bool,
}

impl Deal {
    fn left(&self) -> usize {
        if self.agreed { self.has - self.asked } else { self.has }
    }

    /// `has` is uniform in 2..=most, `asked` uniform in 1..=has; then comes the reply.
    fn all(most: usize) -> impl Iterator<Item = (Self, f64)> {
        let pairs = (2..=most).flat_map(|has| (1..=has).map(move |asked| (has, asked)));
        pairs.flat_map(|(has, asked)| {
            [false, true].map(|agreed| (Self { has, asked, agreed }, AGREED[usize::from(agreed)] / has as f64))
        })
    }
}

/// The choices of a story whose numbers reach `most`.
pub(super) fn forest(most: usize, vocabulary: &Vocabulary) -> Forest {
    let id = |word: &str| vocabulary.known(word);
    let mut forest = Forest::default();

    // Zipf's law among the six names of each gender; the neighbour has the same law without the hero's name.
    let gender = |name: usize| name / 6;
    let zipf = |name: usize| 1.0 / (name % 6 + 2) as f64;
    let name = forest.root((0..12).map(zipf));
    forest.say(Role::Name, name, NAMES.map(id));
    forest.say(Role::Pronoun, name, (0..12).map(|n| id(PRONOUNS[gender(n)])));
    let others = |n: usize| (0..12).filter(move |&other| other != n);
    let weights = (0..12).map(|n| others(n).map(zipf).collect()).collect();
    let other = forest.below(name, (0..12).collect(), weights);
    forest.say(Role::Other, other, (0..12).flat_map(others).map(|n| id(NAMES[n])));

    let animal = forest.root([1.0; 8]);
    forest.say(Role::Animal, animal, ANIMALS.map(|[animal, _, _]| id(animal)));
    forest.say(Role::Preposition, animal, ANIMALS.map(|[_, preposition, _]| id(preposition)));
    forest.say(Role::Rhyme, animal, ANIMALS.map(|[_, _, rhyme]| id(rhyme)));

    for (role, words) in [(Role::Adjective, &ADJECTIVES[..]), (Role::Verb, &VERBS), (Role::Rest, &RESTS)] {
        let choice = forest.root(words.iter().map(|(_, weight)| *weight));
        forest.say(role, choice, words.iter().map(|(word, _)| id(word)));
    }

    let (deals, weights): (Vec<Deal>, Vec<f64>) = Deal::all(most).unzip();
    let deal = forest.root(weights);
    forest.say(Role::Has, deal, deals.iter().map(|deal| id(NUMBERS[deal.has])));
    forest.say(Role::Asked, deal, deals.iter().map(|deal| id(NUMBERS[deal.asked])));
    forest.say(Role::Left, deal, deals.iter().map(|deal| id(NUMBERS[deal.left()])));
    let single = |deal: &Deal| usize::from(deal.left() == 1);
    forest.say(Role::Were, deal, deals.iter().map(|deal| id(WERE[single(deal)])));

    let agreed: Vec<usize> = deals.iter().map(|deal| usize::from(deal.agreed)).collect();
    let reply = forest.below(deal, agreed.clone(), weights_of(&REPLIES));
    forest.say(Role::Reply, reply, REPLIES.iter().flatten().map(|(word, _)| id(word)));
    let mood = forest.below(deal, agreed, weights_of(&MOODS));
    forest.say(Role::Mood, mood, MOODS.iter().flatten().map(|(word, _)| id(word)));

    // The same treasures in two classes: several are left, or one is.
    let law: Vec<f64> = TREASURES.iter().map(|(_, weight)| *weight).collect();
    let treasure = forest.below(deal, deals.iter().map(single).collect(), vec![law.clone(), law]);
    let forms =
        |many: usize, one: usize| [many, one].into_iter().flat_map(|form| TREASURES.map(|(word, _)| id(word[form])));
    forest.say(Role::Treasure, treasure, forms(0, 0));
    forest.say(Role::Remainder, treasure, forms(0, 1));
    forest
}

fn weights_of<const N: usize>(classes: &[[(&str, f64); N]]) -> Vec<Vec<f64>> {
    classes.iter().map(|class| class.iter().map(|(_, weight)| *weight).collect()).collect()
}
