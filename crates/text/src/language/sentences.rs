//! The text of the story language: seven sentences, and the words that may fill them.
//!
//! Each sentence has one to three variants with their probabilities; capitals are [roles](super::role::Role). A template
//! is one variant of each: 3 x 1 x 2 x 2 x 2 x 2 x 2 = 96 of them, 38 to 48 words long. The first variants together are
//! the template of levels 1 and 2.

/// The variants of each sentence with their probabilities, the longest first.
pub(super) const SENTENCES: [&[(f64, &str)]; 7] = [
    &[
        (0.45, "long ago lived a ADJECTIVE ANIMAL called NAME ."),
        (0.30, "here lived a ADJECTIVE ANIMAL called NAME ."),
        (0.25, "NAME was a ADJECTIVE ANIMAL ."),
    ],
    &[(1.0, "PRONOUN VERB HAS TREASURE .")],
    &[(0.6, "\" could you spare ASKED ? \" asked OTHER ."), (0.4, "OTHER whispered : \" just ASKED ? \"")],
    &[(0.5, "\" REPLY ! \" answered NAME ."), (0.5, "NAME replied : \" REPLY ! \"")],
    &[(0.6, "then there WERE LEFT REMAINDER left ."), (0.4, "so NAME kept LEFT REMAINDER .")],
    &[(0.7, "OTHER felt MOOD ."), (0.3, "")],
    &[(0.5, "PRONOUN REST PREPOSITION the RHYME ."), (0.5, "NAME REST PREPOSITION the RHYME .")],
];

/// Six heroes called "he", then six called "she"; within each, the k-th has weight 1 / (k + 1).
pub(super) const NAMES: [&str; 12] =
    ["finn", "hugo", "otto", "emil", "jonah", "rufus", "rosa", "clara", "greta", "nell", "wanda", "edith"];
pub(super) const PRONOUNS: [&str; 2] = ["he", "she"];

pub(super) const ADJECTIVES: [(&str, f64); 8] = [
    ("tiny", 8.0),
    ("plump", 7.0),
    ("brave", 6.0),
    ("drowsy", 5.0),
    ("gentle", 4.0),
    ("grumpy", 3.0),
    ("lonely", 2.0),
    ("spotted", 1.0),
];

/// An animal, the preposition and the place it rests at; all eight are equally likely.
pub(super) const ANIMALS: [[&str; 3]; 8] = [
    ["mole", "in", "hole"],
    ["snail", "in", "pail"],
    ["lamb", "in", "pram"],
    ["moth", "on", "cloth"],
    ["deer", "on", "pier"],
    ["duck", "under", "truck"],
    ["bee", "under", "tree"],
    ["toad", "by", "road"],
];

pub(super) const VERBS: [(&str, f64); 4] = [("gathered", 4.0), ("found", 3.0), ("carried", 2.0), ("hid", 1.0)];

pub(super) const NUMBERS: [&str; 10] = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];

pub(super) const WERE: [&str; 2] = ["were", "was"];

/// Several and one of each treasure.
pub(super) const TREASURES: [([&str; 2], f64); 6] = [
    (["acorns", "acorn"], 6.0),
    (["berries", "berry"], 4.0),
    (["feathers", "feather"], 4.0),
    (["shells", "shell"], 3.0),
    (["buttons", "button"], 2.0),
    (["cherries", "cherry"], 1.0),
];

/// No and yes, with the words and the moods that follow.
pub(super) const AGREED: [f64; 2] = [0.4, 0.6];
pub(super) const REPLIES: [[(&str, f64); 2]; 2] =
    [[("never", 5.0), ("sorry", 3.0)], [("gladly", 2.0), ("surely", 1.0)]];
pub(super) const MOODS: [[(&str, f64); 3]; 2] =
    [[("gloomy", 3.0), ("cross", 2.0), ("hurt", 1.0)], [("merry", 3.0), ("thankful", 2.0), ("proud", 1.0)]];

pub(super) const RESTS: [(&str, f64); 3] = [("dozed", 5.0), ("sat", 3.0), ("hummed", 2.0)];
