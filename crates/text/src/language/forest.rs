//! Independent trees of choices: the hidden values that the words of a story follow from.
//!
//! A choice picks one of its options; which options it has may depend on the *class* of its parent's option (the moods
//! of a no, the neighbours of a hero). A role says one word per option of its choice. Because a position depends on one
//! role, sums over all stories factor into sums over options: one sweep from the leaves to the roots, one back.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

use galatea_random::Philox;

use super::exact::{draw, entropy_of, log_sum_exp};
use super::role::Role;

/// Options in classes; option numbers run through all classes.
#[derive(Debug, Clone)]
struct Choice {
    /// The options of each class.
    classes: Vec<Range<usize>>,
    /// log p(option | its class).
    log_p: Vec<f64>,
    /// The parent, and the class that each of its options selects.
    parent: Option<(usize, Vec<usize>)>,
    children: Vec<usize>,
}

/// The choice a role speaks for and its word for each option.
#[derive(Debug, Clone)]
struct Voice {
    choice: usize,
    words: Vec<u32>,
}

/// Where the roles of one template stand: for each choice, (position, role).
pub(super) type Slots = Vec<Vec<(usize, Role)>>;

/// Choices, parents before children, and the roles that speak for them.
#[derive(Debug, Clone, Default)]
pub(super) struct Forest {
    choices: Vec<Choice>,
    voices: HashMap<Role, Voice>,
}

/// The upward messages of one template.
#[derive(Debug, Default)]
pub(super) struct Messages {
    /// For each choice and option, log p(option, evidence at and below it | class).
    options: Vec<Vec<f64>>,
    /// For each choice and class, the log-sum of its options.
    classes: Vec<Vec<f64>>,
}

impl Forest {
    /// Adds a root whose options have these weights (normalised here); returns its number.
    pub(super) fn root(&mut self, weights: impl IntoIterator<Item = f64>) -> usize {
        self.add(None, vec![weights.into_iter().collect()])
    }

    /// Adds a choice below `parent`: the parent's option k selects the class `class[k]` of `weights`.
    pub(super) fn below(&mut self, parent: usize, class: Vec<usize>, weights: Vec<Vec<f64>>) -> usize {
        let child = self.add(Some((parent, class)), weights);
        self.choices[parent].children.push(child);
        child
    }

    fn add(&mut self, parent: Option<(usize, Vec<usize>)>, weights: Vec<Vec<f64>>) -> usize {
        let (mut classes, mut log_p) = (Vec::new(), Vec::new());
        for class in weights {
            let sum: f64 = class.iter().sum();
            classes.push(log_p.len()..log_p.len() + class.len());
            log_p.extend(class.iter().map(|weight| (weight / sum).ln()));
        }
        self.choices.push(Choice { classes, log_p, parent, children: Vec::new() });
        self.choices.len() - 1
    }

    /// Lets `role` say `words[k]` for option k of `choice`.
    pub(super) fn say(&mut self, role: Role, choice: usize, words: impl IntoIterator<Item = u32>) {
        self.voices.insert(role, Voice { choice, words: words.into_iter().collect() });
    }

    fn voice(&self, role: Role) -> &Voice {
        self.voices.get(&role).expect("the language gives every role a voice when it is built")
    }

    /// The words a role can say, one per option of its choice.
    pub(super) fn words(&self, role: Role) -> &[u32] {
        &self.voice(role).words
    }

    /// Groups the positions of a template by the choice they speak for.
    pub(super) fn slots(&self, roles: impl IntoIterator<Item = (usize, Role)>) -> Slots {
        let mut slots = vec![Vec::new(); self.choices.len()];
        for (position, role) in roles {
            slots[self.voice(role).choice].push((position, role));
        }
        slots
    }

    /// log sum over all options of p(options) prod_slots exp(log_q(position, word)): the sweep to the roots.
    pub(super) fn gather(&self, slots: &Slots, log_q: impl Fn(usize, u32) -> f64, up: &mut Messages) -> f64 {
        up.options.resize_with(self.choices.len(), Vec::new);
        up.classes.resize_with(self.choices.len(), Vec::new);
        let mut log_sum = 0.0;
        for (c, choice) in self.choices.iter().enumerate().rev() {
            let mut scores = std::mem::take(&mut up.options[c]);
            scores.clone_from(&choice.log_p);
            for &(position, role) in &slots[c] {
                for (score, &word) in scores.iter_mut().zip(self.words(role)) {
                    *score += log_q(position, word);
                }
            }
            for &child in &choice.children {
                for (score, &class) in scores.iter_mut().zip(self.class_from_parent(child)) {
                    *score += up.classes[child][class];
                }
            }
            up.classes[c].clear();
            up.classes[c].extend(choice.classes.iter().map(|class| log_sum_exp(&scores[class.clone()])));
            up.options[c] = scores;
            if choice.parent.is_none() {
                log_sum += up.classes[c][0];
                if log_sum == f64::NEG_INFINITY {
                    break;
                }
            }
        }
        log_sum
    }

    /// Calls `visit(position, word, mass p(word at position | evidence))`: the sweep back to the leaves.
    pub(super) fn scatter(&self, slots: &Slots, up: &Messages, mass: f64, mut visit: impl FnMut(usize, u32, f64)) {
        let mut options: Vec<Vec<f64>> = Vec::with_capacity(self.choices.len());
        for (c, choice) in self.choices.iter().enumerate() {
            let mut classes = vec![0.0; choice.classes.len()];
            match &choice.parent {
                None => classes[0] = mass,
                Some((parent, class)) => {
                    for (p, &class) in options[*parent].iter().zip(class) {
                        classes[class] += p;
                    }
                }
            }
            let mut p = vec![0.0; choice.log_p.len()];
            for (class, range) in choice.classes.iter().enumerate().filter(|(class, _)| classes[*class] > 0.0) {
                for k in range.clone() {
                    p[k] = classes[class] * (up.options[c][k] - up.classes[c][class]).exp();
                }
            }
            for &(position, role) in &slots[c] {
                for (p, &word) in p.iter().zip(self.words(role)) {
                    visit(position, word, *p);
                }
            }
            options.push(p);
        }
    }

    /// Draws an option of every choice.
    pub(super) fn sample(&self, rng: &mut Philox) -> Vec<usize> {
        let mut options: Vec<usize> = Vec::with_capacity(self.choices.len());
        for choice in &self.choices {
            let class = choice.parent.as_ref().map_or(0, |(parent, class)| class[options[*parent]]);
            let range = choice.classes[class].clone();
            options.push(range.start + draw(choice.log_p[range].iter().map(|log_p| log_p.exp()), rng));
        }
        options
    }

    /// The word a role says under these options.
    pub(super) fn said(&self, role: Role, options: &[usize]) -> u32 {
        let voice = self.voice(role);
        voice.words[options[voice.choice]]
    }

    /// The entropy in nats of the words that the visible roles say.
    pub(super) fn entropy(&self, visible: impl Fn(Role) -> bool) -> f64 {
        let roots = (0..self.choices.len()).filter(|&c| self.choices[c].parent.is_none());
        roots.map(|root| entropy_of(self.law(root, 0, &visible).into_values())).sum()
    }

    /// The distribution of the visible words of a choice and those below it, given the class.
    fn law(&self, c: usize, class: usize, visible: &impl Fn(Role) -> bool) -> BTreeMap<Vec<u32>, f64> {
        let choice = &self.choices[c];
        let mut roles: Vec<Role> = Role::ALL.into_iter().filter(|&role| visible(role)).collect();
        roles.retain(|&role| self.voice(role).choice == c);
        let children = choice.children.iter().map(|&child| {
            let classes = 0..self.choices[child].classes.len();
            (child, classes.map(|class| self.law(child, class, visible)).collect::<Vec<_>>())
        });
        let children: Vec<_> = children.collect();

        let mut law = BTreeMap::new();
        for k in choice.classes[class].clone() {
            let own = roles.iter().map(|&role| self.words(role)[k]).collect::<Vec<u32>>();
            let mut outcomes = vec![(own, choice.log_p[k].exp())];
            for (child, laws) in &children {
                let below = &laws[self.class_from_parent(*child)[k]];
                let join =
                    |(words, p): &(Vec<u32>, f64), (more, q): (&Vec<u32>, &f64)| ([&words[..], more].concat(), p * q);
                outcomes = outcomes.iter().flat_map(|o| below.iter().map(move |b| join(o, b))).collect();
            }
            for (words, p) in outcomes {
                *law.entry(words).or_insert(0.0) += p;
            }
        }
        law
    }

    fn class_from_parent(&self, child: usize) -> &[usize] {
        let (_, class) = self.choices[child].parent.as_ref().expect("only children are listed as children");
        class
    }
}
