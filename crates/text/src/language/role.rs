/// What the word at one position of a template stands for. In a sentence a role is written in capitals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Role {
    /// The hero's name.
    Name,
    /// he or she, as the hero's name asks.
    Pronoun,
    /// The neighbour's name, another than the hero's.
    Other,
    /// What kind of animal.
    Adjective,
    /// The animal the hero is.
    Animal,
    /// in, on, under or by, as the place of rest asks.
    Preposition,
    /// The place of rest, which rhymes with the animal.
    Rhyme,
    /// How the hero came by the treasure.
    Verb,
    /// The number the hero has.
    Has,
    /// The number the neighbour asks for.
    Asked,
    /// The number left after the reply.
    Left,
    /// was or were, as the number left asks.
    Were,
    /// The treasure when the hero has it (always several).
    Treasure,
    /// The treasure that is left, singular or plural.
    Remainder,
    /// Yes or no, in two words each.
    Reply,
    /// The neighbour's mood, as the reply asks.
    Mood,
    /// How the hero rests.
    Rest,
}

impl Role {
    /// Every role, in the order of its number `role as usize`.
    pub(super) const ALL: [Role; 17] = [
        Role::Name,
        Role::Pronoun,
        Role::Other,
        Role::Adjective,
        Role::Animal,
        Role::Preposition,
        Role::Rhyme,
        Role::Verb,
        Role::Has,
        Role::Asked,
        Role::Left,
        Role::Were,
        Role::Treasure,
        Role::Remainder,
        Role::Reply,
        Role::Mood,
        Role::Rest,
    ];

    /// The role that a word of a sentence stands for, if it is written in capitals.
    pub(super) fn of(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| format!("{role:?}").to_uppercase() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_stand_at_their_number_and_are_found_by_their_capitals() {
        for (k, role) in Role::ALL.into_iter().enumerate() {
            assert_eq!(role as usize, k);
        }
        assert_eq!(Role::of("RHYME"), Some(Role::Rhyme));
        assert_eq!((Role::of("rhyme"), Role::of(".")), (None, None));
    }
}
