use super::StoryLanguage;
use super::forest::Messages;
use super::role::Role;
use super::story::LEN;
use super::template::Template;

/// What a story must keep, each judged by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Constraint {
    /// Every fixed word stands where its template has it, every other word is one of its kind.
    Template,
    /// The hero keeps one name, the neighbour another.
    Names,
    /// he or she fits the hero's name.
    Pronoun,
    /// Quotes stand where the template opens and closes them, and nowhere else.
    Quotes,
    /// What is left follows from what was there, what was asked and the reply.
    Arithmetic,
    /// The treasure stays the same, its ending and was or were fit the number left.
    Agreement,
    /// The neighbour's mood fits the reply.
    Mood,
    /// The place of rest and its preposition fit the animal.
    Rhyme,
}

impl Constraint {
    /// All constraints, in the order of a [`Verdict`]'s rows.
    pub const ALL: [Constraint; 8] = [
        Constraint::Template,
        Constraint::Names,
        Constraint::Pronoun,
        Constraint::Quotes,
        Constraint::Arithmetic,
        Constraint::Agreement,
        Constraint::Mood,
        Constraint::Rhyme,
    ];

    /// A lower-case name for tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Template => "template",
            Self::Names => "names",
            Self::Pronoun => "pronoun",
            Self::Quotes => "quotes",
            Self::Arithmetic => "arithmetic",
            Self::Agreement => "agreement",
            Self::Mood => "mood",
            Self::Rhyme => "rhyme",
        }
    }
}

/// Which constraints a document keeps, read against its best matching template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    template: usize,
    matched: usize,
    holds: [bool; Constraint::ALL.len()],
}

impl Verdict {
    /// The template it was read against: the one with most positions matched.
    pub fn template(&self) -> usize {
        self.template
    }

    /// At how many of the 48 positions the word is the template's, or one of the kind it asks for.
    pub fn matched(&self) -> usize {
        self.matched
    }

    /// Whether one constraint holds.
    pub fn holds(&self, constraint: Constraint) -> bool {
        self.holds[constraint as usize]
    }

    /// Whether all hold, which is the same as being a story of the language.
    pub fn all(&self) -> bool {
        self.holds.iter().all(|&holds| holds)
    }

    /// The rows of the table.
    pub fn rows(&self) -> impl Iterator<Item = (Constraint, bool)> {
        Constraint::ALL.into_iter().zip(self.holds)
    }
}

impl StoryLanguage {
    /// Judges any document, story or not, constraint by constraint.
    ///
    /// A constraint binds a few roles. It holds if some story of the template has just these words at the positions of
    /// these roles, whatever stands elsewhere. So a wrong number costs the arithmetic, not the rhyme.
    pub fn check(&self, x: &[u32]) -> Verdict {
        let matches = self.templates.iter().map(|template| self.matches(template, x)).enumerate();
        // The first of equals, so that a verdict does not depend on how ties are broken elsewhere.
        let (template, matched) = matches.fold((0, 0), |best, next| if next.1 > best.1 { next } else { best });
        let story = &self.templates[template];
        let possible = |roles: &[Role]| self.possible(story, x, roles);
        let holds = Constraint::ALL.map(|constraint| match constraint {
            Constraint::Template => x.len() == LEN && matched == LEN,
            Constraint::Names => possible(&[Role::Name, Role::Other]),
            Constraint::Pronoun => possible(&[Role::Name, Role::Pronoun]),
            Constraint::Quotes => self.quotes_stand(story, x),
            Constraint::Arithmetic => possible(&[Role::Has, Role::Asked, Role::Reply, Role::Left]),
            Constraint::Agreement => possible(&[Role::Left, Role::Were, Role::Treasure, Role::Remainder]),
            Constraint::Mood => possible(&[Role::Reply, Role::Mood]),
            Constraint::Rhyme => possible(&[Role::Animal, Role::Preposition, Role::Rhyme]),
        });
        Verdict { template, matched, holds }
    }

    /// How many words are the template's own or of the kind it asks for.
    fn matches(&self, template: &Template, x: &[u32]) -> usize {
        let literals = template.literals.iter().filter(|&&(i, word)| x.get(i) == Some(&word)).count();
        let in_role =
            |&&(i, role): &&(usize, Role)| x.get(i).is_some_and(|word| self.forest.words(role).contains(word));
        literals + template.roles.iter().filter(in_role).count()
    }

    /// Whether the words at the positions of `roles` occur together in a story of the template.
    fn possible(&self, template: &Template, x: &[u32], roles: &[Role]) -> bool {
        let bound = template.roles.iter().copied().filter(|(_, role)| roles.contains(role));
        let slots = self.forest.slots(bound);
        let log_q = |i: usize, word: u32| if x.get(i) == Some(&word) { 0.0 } else { f64::NEG_INFINITY };
        self.forest.gather(&slots, log_q, &mut Messages::default()) > f64::NEG_INFINITY
    }

    fn quotes_stand(&self, template: &Template, x: &[u32]) -> bool {
        let quote = self.vocabulary.known("\"");
        let expected = template.literals.iter().filter(|&&(_, word)| word == quote).map(|&(i, _)| i);
        let found = (0..x.len()).filter(|&i| x[i] == quote);
        expected.eq(found)
    }
}
