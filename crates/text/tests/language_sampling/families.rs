//! The samplers of every family on whole stories: what is exact follows the law, what is not is told apart from it.

use crate::noisy::Noisy;
use crate::{Sample, assert_chi_square, process, words};
use galatea_processes::{Hybrid, Limit};
use galatea_random::Philox;
use galatea_samplers::{
    Ancestral, AncestralOptions, Blockwise, BlockwiseOptions, Correcting, CorrectingOptions, Filter, Fixed, Gibbs,
    Levels, Pick, Refining, RefiningOptions, Revise, Rule, Sampler, Score, Selection, TimeDependence, Unmasking,
    UnmaskingOptions,
};
use galatea_schedules::{Linear, grid};
use galatea_text::language::{Contradiction, ExactDenoiser, ExactModel, Level, Reading, StoryLanguage};
use ndarray::Array2;
use std::collections::HashMap;

fn all_at_once<S: Sampler>(sampler: S) -> Sample
where
    S::DenoiserError: std::fmt::Debug,
{
    let canvas = sampler.finish().expect("an exact denoiser does not fail");
    Sample { documents: canvas.ids.outer_iter().map(|row| row.to_vec()).collect(), calls: canvas.calls as f64 }
}

/// How many it has, how many are asked for, what is replied and how many are left: four words, far apart, of one law.
fn numbers() -> HashMap<Vec<&'static str>, f64> {
    let numbers = ["zero", "one", "two", "three", "four", "five"];
    let mut law = HashMap::new();
    for has in 2..=5 {
        for asked in 1..=has {
            for (reply, p, given) in
                [("never", 0.25, 0), ("sorry", 0.15, 0), ("gladly", 0.4, asked), ("surely", 0.2, asked)]
            {
                let cell = vec![numbers[has], numbers[asked], reply, numbers[has - given]];
                *law.entry(cell).or_insert(0.0) += p / 4.0 / has as f64;
            }
        }
    }
    law
}

/// All texts belong to the language, and the numbers in them have its law.
pub(crate) fn assert_exact(language: &StoryLanguage, sample: &Sample) {
    assert_eq!(sample.valid(language), 1.0);
    assert_chi_square(&numbers(), sample.documents.iter().map(|x| words(language, x, &[12, 19, 26, 35])));
}

/// The animal at the beginning and its home at the end, eight pairs alike, in the texts that belong to the language.
pub(crate) fn assert_animals(language: &StoryLanguage, sample: &Sample) {
    let pairs =
        ["mole hole", "snail pail", "lamb pram", "moth cloth", "deer pier", "duck truck", "bee tree", "toad road"];
    let law = pairs.iter().map(|pair| (pair.split(' ').collect(), 0.125)).collect();
    let whole = sample.documents.iter().filter(|x| language.is_grammatical(x));
    assert_chi_square(&law, whole.map(|x| words(language, x, &[6, 47])));
}

#[test]
fn one_word_per_pass_is_exact_in_every_order_that_looks_at_distributions() {
    let language = StoryLanguage::new(Level::One);
    let each = Selection::Quota { passes: 48 };
    let bound = Selection::EntropyBound { gamma: 0.0 };
    for (selection, score) in
        [(each, Score::Entropy), (each, Score::Margin), (each, Score::LeftToRight), (bound, Score::Entropy)]
    {
        let options = UnmaskingOptions { seed: 1, filter: Filter::default(), selection, score, ..Default::default() };
        let limit = Limit::Mask(language.mask());
        let denoiser = ExactDenoiser::masked(&language);
        let sampler = Unmasking::new(denoiser, process(&language, limit), Fixed::none(600, 48), options);
        assert_exact(&language, &all_at_once(sampler.expect("sound")));
    }
}

#[test]
fn first_hitting_is_exact() {
    let language = StoryLanguage::new(Level::One);
    let options = BlockwiseOptions { seed: 2, ..BlockwiseOptions::new(48) };
    let process = process(&language, Limit::Mask(language.mask()));
    let sampler = Blockwise::new(ExactDenoiser::masked(&language), process, Fixed::none(600, 48), options);
    let sample = all_at_once(sampler.expect("sound"));
    assert_eq!(sample.calls, 48.0);
    assert_exact(&language, &sample);
}

fn stepwise(language: &StoryLanguage, limit: Limit, steps: usize, n: usize, options: AncestralOptions) -> Sample {
    let times: Vec<f64> = grid::with_floor(steps, 1e-4).iter().map(|t| t * 0.999).collect();
    let levels = Levels::new(&Linear, &times).expect("descends");
    let denoiser = ExactDenoiser::new(language, limit, Linear).on_contradiction(Contradiction::Prior);
    let process = process(language, limit);
    all_at_once(Ancestral::new(denoiser, process, levels, Fixed::none(n, 48), options).expect("sound"))
}

/// Every rule of a step, masks and uniform noise: more and more texts are whole, and the whole ones have the law.
#[test]
fn every_rule_writes_stories() {
    let language = StoryLanguage::new(Level::One);
    let rules = [Rule::Sampled, Rule::Tweedie, Rule::Euler, Rule::Flow { divergence_free: 0.0 }];
    for (limit, rule) in [Limit::Mask(language.mask()), Limit::Uniform].into_iter().flat_map(|l| rules.map(|r| (l, r)))
    {
        let time = if limit == Limit::Uniform { TimeDependence::Conditioned } else { TimeDependence::Free };
        let run = |steps, n| {
            let options = AncestralOptions { seed: 3, rule, time, ..AncestralOptions::default() };
            stepwise(&language, limit, steps, n, options)
        };
        let (few, many) = (run(6, 60), run(96, 200));
        let valid = [few.valid(&language), many.valid(&language)];
        // Under uniform noise six steps do already.
        let most = if limit == Limit::Uniform { 1.0 } else { 0.6 };
        assert!(valid[1] > 0.9 && valid[0] < most && valid[0] < valid[1], "{limit:?} {rule:?}: {valid:?}");
        assert_animals(&language, &many);
    }
}

/// GIDD's noise.
#[test]
fn hybrid_noise_writes_stories() {
    let language = StoryLanguage::new(Level::One);
    let process = Hybrid::new(language.vocab() + 1, language.mask(), 0.2, 1.0).expect("sound");
    let options = AncestralOptions { seed: 4, ..AncestralOptions::default() };
    let denoiser = Noisy { model: &language, process };
    let grid = grid::with_floor(64, 1e-3);
    let sample = all_at_once(Ancestral::of(denoiser, process, &grid, Fixed::none(200, 48), options).expect("sound"));
    assert!(sample.valid(&language) > 0.9, "{}", sample.valid(&language));
    assert_animals(&language, &sample);
}

/// What a step takes back keeps the law, and under uniform noise a corrector makes the texts of few steps whole.
#[test]
fn revisions_and_correctors_keep_the_law() {
    let language = StoryLanguage::new(Level::One);
    let mask = Limit::Mask(language.mask());
    for revise in [Revise::cap(0.01), Revise::rescale(0.02)] {
        let time = TimeDependence::Free;
        let options = AncestralOptions { seed: 5, revise, time, ..AncestralOptions::default() };
        let sample = stepwise(&language, mask, 96, 200, options);
        assert!(sample.valid(&language) > 0.6, "{}", sample.valid(&language));
        assert_animals(&language, &sample);
    }
    let valid = [0, 8].map(|sweeps| {
        let corrector = (sweeps > 0).then_some(Gibbs { sweeps, positions: 4, pick: Pick::Random });
        let options = AncestralOptions { seed: 6, corrector, ..AncestralOptions::default() };
        let sample = stepwise(&language, Limit::Uniform, 8, 150, options);
        assert_animals(&language, &sample);
        sample.valid(&language)
    });
    assert!(valid[1] > valid[0], "{valid:?}");
}

/// Refining keeps what it has accepted among new noise and asks again: it needs a network that has seen the position's own
/// token, the minimiser of the cross-entropy. Its texts are whole in fewer steps than words, and no law is promised.
#[test]
fn refined_stories_are_whole_if_the_network_trusts_what_stands() {
    let language = StoryLanguage::new(Level::One);
    let run = |reading| {
        let options = RefiningOptions { seed: 7, ..RefiningOptions::default() };
        let denoiser = ExactDenoiser::new(&language, Limit::Uniform, Linear).reading(reading);
        let process = process(&language, Limit::Uniform);
        all_at_once(Refining::new(denoiser, process, Fixed::none(60, 48), options).expect("sound"))
    };
    let [posterior, without] = [Reading::Posterior, Reading::LeaveOneOut].map(run);
    assert!(posterior.valid(&language) > 0.9 && posterior.calls < 48.0, "{}", posterior.valid(&language));
    assert!(without.valid(&language) < 0.1, "{}", without.valid(&language));
}

/// Self-correction finds three wrong words of 48.
#[test]
fn correcting_repairs_stories() {
    let language = StoryLanguage::new(Level::One);
    let (n, vocab) = (60, language.vocab());
    let mut broken = Array2::zeros((n, 48));
    for (row, mut text) in broken.outer_iter_mut().enumerate() {
        let mut rng = Philox::new(8, 0, 0, row as u32);
        text.iter_mut().zip(language.sample(&mut rng)).for_each(|(x, token)| *x = token);
        (0..3).for_each(|_| text[rng.below(48)] = rng.below(vocab) as u32);
    }
    let before = broken.outer_iter().filter(|x| language.is_grammatical(&x.to_vec())).count();
    let denoiser = ExactDenoiser::new(&language, Limit::Uniform, Linear).reading(Reading::Posterior);
    let options = CorrectingOptions { seed: 9, t: 0.1, ..CorrectingOptions::default() };
    let sampler = Correcting::new(denoiser, vocab, &broken, Fixed::none(n, 48), options).expect("sound");
    let sample = all_at_once(sampler);
    assert!(before < n / 10 && sample.valid(&language) > 0.95, "{before} of {n}, then {}", sample.valid(&language));
}
