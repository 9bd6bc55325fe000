//! What the stories say: text, constraints, and the infillings that only a model with two eyes can do.

use galatea_random::Philox;
use galatea_text::language::{Constraint, ExactModel, Level, Role, StoryLanguage};
use ndarray::Array2;
use proptest::prelude::*;

const LEVELS: [Level; 3] = [Level::One, Level::Two, Level::Three];

const TALE: &str = "long ago lived a brave mole called rosa . she gathered four acorns . \" could you spare three ? \" asked \
                    hugo . \" gladly ! \" answered rosa . then there was one acorn left . hugo felt merry . she dozed in \
                    the hole .";

fn level() -> impl Strategy<Value = Level> {
    prop::sample::select(&LEVELS[..])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn text_and_tokens_are_one_to_one(level in level(), seed: u64) {
        let language = StoryLanguage::new(level);
        let x = language.sample(&mut Philox::new(seed, 0, 0, 0));
        prop_assert_eq!(language.encode(&language.text(&x)).expect("own words"), x);
    }

    #[test]
    fn a_document_is_grammatical_if_and_only_if_it_keeps_all_constraints(
        level in level(), seed: u64, changes in prop::collection::vec((0usize..48, 0u32..110), 0..4),
        borrow in 0usize..48,
    ) {
        let language = StoryLanguage::new(level);
        let mut rng = Philox::new(seed, 0, 0, 0);
        let (mut x, other) = (language.sample(&mut rng), language.sample(&mut rng));
        prop_assert!(language.check(&x).all() && language.is_grammatical(&x));
        // Words of another story at the right places break constraints while they keep the template.
        x[borrow] = other[borrow];
        prop_assert_eq!(language.check(&x).all(), language.is_grammatical(&x), "{}", language.text(&x));
        changes.into_iter().for_each(|(i, word)| x[i] = word);
        prop_assert_eq!(language.check(&x).all(), language.is_grammatical(&x), "{}", language.text(&x));
        prop_assert!(!language.check(&x[..40]).all());
    }

    #[test]
    fn the_scale_of_an_evidence_row_does_not_matter(level in level(), seed: u64, log_scale in -200.0f64..200.0) {
        let language = StoryLanguage::new(level);
        let mut rng = Philox::new(seed, 0, 0, 0);
        let mut evidence = Array2::from_shape_fn((48, language.vocab()), |_| rng.uniform());
        let [mut a, mut b] = [0; 2].map(|_| Array2::zeros(evidence.dim()));
        let log_p = language.posterior(&evidence, &mut a).expect("positive evidence");
        evidence.row_mut(7).mapv_inplace(|e| e * log_scale.exp());
        let moved = language.posterior(&evidence, &mut b).expect("positive evidence");
        prop_assert!((moved - log_p - log_scale).abs() < 1e-9);
        prop_assert!((a - b).iter().all(|d| d.abs() < 1e-12));
    }
}

/// One word is wrong at a time; exactly the constraints that bind it must fail.
#[test]
fn each_constraint_is_judged_by_itself() {
    use Constraint::{Agreement, Arithmetic, Mood, Names, Pronoun, Quotes, Rhyme, Template};
    let language = StoryLanguage::new(Level::One);
    let cases: &[(&str, &str, &[Constraint])] = &[
        ("in the hole", "in the pail", &[Rhyme]),
        ("in the hole", "on the hole", &[Rhyme]),
        ("felt merry", "felt gloomy", &[Mood]),
        ("\" gladly !", "\" never !", &[Arithmetic, Mood]),
        ("spare three", "spare two", &[Arithmetic]),
        ("one acorn left", "one acorns left", &[Agreement]),
        ("one acorn left", "one berry left", &[Agreement]),
        ("there was", "there were", &[Agreement]),
        ("was one", "was two", &[Arithmetic, Agreement]),
        (". she gathered", ". he gathered", &[Pronoun]),
        ("hugo felt", "rosa felt", &[Names]),
        ("\" asked hugo", ". asked hugo", &[Template, Quotes]),
        ("long ago", "ago long", &[Template]),
        ("a brave mole", "a mole mole", &[Template]),
        ("called rosa", "called acorn", &[Template, Names, Pronoun]),
    ];
    for (from, to, failing) in cases {
        assert!(TALE.contains(from), "{from}");
        let verdict = language.check(&language.encode(&TALE.replacen(from, to, 1)).expect("known words"));
        let failed: Vec<Constraint> = verdict.rows().filter(|(_, holds)| !holds).map(|(row, _)| row).collect();
        assert_eq!(&failed, failing, "{from} -> {to}");
    }
    assert!(!language.check(&[language.mask(); 48]).all());
    assert!(!language.check(&[]).all());
}

#[test]
fn a_broken_story_is_read_against_its_own_template() {
    let language = StoryLanguage::new(Level::Three);
    assert_eq!(language.templates(), 96);
    for seed in 0..50 {
        let mut rng = Philox::new(seed, 1, 0, 0);
        let mut x = language.sample(&mut rng);
        let verdict = language.check(&x);
        assert_eq!(verdict.matched(), 48);
        // The last word but one of every template is the rhyme.
        let rhyme = x.iter().rposition(|&word| word != language.pad()).expect("a story has words") - 1;
        assert_eq!(language.roles(verdict.template())[rhyme], Some(Role::Rhyme));
        x[rhyme] = language.id("acorn").expect("a word");
        let broken = language.check(&x);
        assert_eq!((broken.template(), broken.matched()), (verdict.template(), 47));
        assert!(!broken.holds(Constraint::Rhyme) && broken.holds(Constraint::Mood));
    }
}

#[test]
fn stories_have_the_promised_shape() {
    for (level, shortest) in [(Level::One, 48), (Level::Two, 48), (Level::Three, 38)] {
        let language = StoryLanguage::new(level);
        assert_eq!((language.len(), language.word(language.mask())), (48, Some("<mask>")));
        assert_eq!(language.id("<mask>"), Some(language.vocab() as u32));
        let lengths = (0..2000).map(|row| {
            let x = language.sample(&mut Philox::new(7, 0, 0, row));
            let length = x.iter().filter(|&&word| word != language.pad()).count();
            assert!(x[length..].iter().all(|&word| word == language.pad()), "padding comes last");
            length
        });
        let lengths: Vec<usize> = lengths.collect();
        assert_eq!((lengths.iter().min(), lengths.iter().max()), (Some(&shortest), Some(&48)));
    }
    let bits = LEVELS.map(|level| StoryLanguage::new(level).entropy() / std::f64::consts::LN_2);
    assert!(bits[0] > 25.0 && bits[0] < 26.0 && bits[0] < bits[1] && bits[1] < bits[2], "{bits:?}");
    // Ids are shared, so that a model of one level can go on with the next.
    assert_eq!(StoryLanguage::new(Level::One).words(), StoryLanguage::new(Level::Three).words());
}

/// A fixed fifth word, a fixed rhyme 41 words after its animal, and a fixed result: the rest is drawn to fit.
#[test]
fn infilling_from_both_ends_keeps_every_constraint() {
    let language = StoryLanguage::new(Level::One);
    let mut rng = Philox::new(31, 0, 0, 0);
    let fixed = [(4, "brave"), (46, "hole"), (34, "one")];
    let mut evidence = Array2::ones((48, language.vocab()));
    let mut marginals = Array2::zeros(evidence.dim());
    let know = |evidence: &mut Array2<f64>, i: usize, word: u32| {
        evidence.row_mut(i).fill(0.0);
        evidence[[i, word as usize]] = 1.0;
    };
    for (i, word) in fixed {
        know(&mut evidence, i, language.id(word).expect("a word"));
    }
    let log_p = language.posterior(&evidence, &mut marginals).expect("the demo's constraints are possible");
    // P(brave) P(mole) P(one left): of four numbers, one of `has` askers leaves one after a yes; a no never does.
    let one_left: f64 = 0.6 * (1.0 / 2.0 + 1.0 / 3.0 + 1.0 / 4.0 + 1.0 / 5.0) / 4.0;
    assert!((log_p - (one_left * 6.0 / 36.0 / 8.0).ln()).abs() < 1e-12);
    for i in (0..48).rev() {
        language.posterior(&evidence, &mut marginals).expect("every prefix of choices is possible");
        let mut u = rng.uniform();
        let word = marginals.row(i).iter().position(|p| {
            u -= p;
            u < 0.0
        });
        know(&mut evidence, i, word.expect("rows sum to one") as u32);
    }
    let x: Vec<u32> =
        evidence.outer_iter().map(|row| row.iter().position(|&e| e > 0.0).expect("known") as u32).collect();
    assert!(language.check(&x).all(), "{}", language.text(&x));
    for (i, word) in fixed {
        assert_eq!(language.word(x[i]), Some(word));
    }
    assert_eq!([5, 33].map(|i| language.word(x[i])), [Some("mole"), Some("was")]);
}
