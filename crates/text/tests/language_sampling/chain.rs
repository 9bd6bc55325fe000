//! Every text of a short Markov chain, counted: the joint law of whole texts against what samplers write.

use crate::noisy::{Growing, Noisy};
use galatea_processes::{Categorical, Denoiser, Hybrid, Limit};
use galatea_samplers::{
    Ancestral, AncestralOptions, Blocks, Blockwise, BlockwiseOptions, Conditioning, Filter, Fixed, Gibbs, Levels,
    NoiseRemoval, Pick, Revise, Rule, Sampler, Score, Selection, Unmasking, UnmaskingOptions,
};
use galatea_schedules::{Linear, Schedule, grid};
use galatea_text::language::{ExactDenoiser, ExactModel, MarkovChain, Reading};
use ndarray::array;

const WORDS: usize = 3;
const MASK: Limit = Limit::Mask(WORDS as u32);

fn chain(len: usize) -> MarkovChain {
    let transition = array![[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.45, 0.1, 0.45]];
    MarkovChain::new(len, array![0.5, 0.2, 0.3], transition).expect("rows that sum to one")
}

fn process(limit: Limit) -> Categorical {
    Categorical::new(WORDS + usize::from(limit != Limit::Uniform), limit).expect("words, and a mask behind them")
}

/// What a sampler wrote, against the law of all texts.
struct Texts {
    law: Vec<f64>,
    counts: Vec<f64>,
}

impl Texts {
    fn of(sampler: impl Sampler<DenoiserError = galatea_text::language::Error>) -> Self {
        let ids = sampler.finish().expect("an exact denoiser does not fail").ids;
        let len = ids.ncols();
        let (model, count) = (chain(len), WORDS.pow(len as u32));
        let digits = |n: usize| -> Vec<u32> { (0..len).map(|i| (n / WORDS.pow(i as u32) % WORDS) as u32).collect() };
        let mut counts = vec![0.0; count];
        for row in ids.outer_iter() {
            counts[row.iter().rev().fold(0, |n, &id| n * WORDS + id as usize)] += 1.0;
        }
        Self { law: (0..count).map(|n| model.log_prob(&digits(n)).exp()).collect(), counts }
    }

    fn n(&self) -> f64 {
        self.counts.iter().sum()
    }

    /// Chi-square over all texts, those expected less than five times in one cell; its quantile is that of 1e-4.
    fn follow(&self, what: &str) {
        let (n, mut rare, mut statistic, mut cells) = (self.n(), [0.0; 2], 0.0, 0);
        for (p, count) in self.law.iter().zip(&self.counts) {
            if n * p < 5.0 {
                rare = [rare[0] + n * p, rare[1] + count];
            } else {
                statistic += (count - n * p).powi(2) / (n * p);
                cells += 1;
            }
        }
        if rare[0] > 0.0 {
            statistic += (rare[1] - rare[0]).powi(2) / rare[0];
            cells += 1;
        }
        let freedom = f64::from(cells - 1);
        let cube = 2.0 / (9.0 * freedom);
        let quantile = freedom * (1.0 - cube + 3.719 * cube.sqrt()).powi(3);
        assert!(statistic < quantile, "{what}: chi-square {statistic:.1} of {freedom} degrees, at most {quantile:.1}");
    }

    /// The total variation between the counts and the law, less what draws of the law itself would have on average.
    fn excess(&self) -> f64 {
        let n = self.n();
        let distance = |(p, count): (&f64, &f64)| (count / n - p).abs();
        let noise = |p: &f64| (2.0 * p * (1.0 - p) / (std::f64::consts::PI * n)).sqrt();
        0.5 * self.law.iter().zip(&self.counts).map(distance).sum::<f64>()
            - 0.5 * self.law.iter().map(noise).sum::<f64>()
    }
}

/// One position a pass, in whatever order that looks at distributions only: the law of the source, text by text.
#[test]
fn one_position_a_pass_has_the_law_of_every_text() {
    let (n, len, model) = (4000, 5, chain(5));
    let each = Selection::Quota { passes: len };
    for (selection, score) in [
        (each, Score::Random),
        (each, Score::Entropy),
        (each, Score::Margin),
        (each, Score::LeftToRight),
        (Selection::EntropyBound { gamma: 0.0 }, Score::Entropy),
        (Selection::Threshold { least: 2.0, slack: 0.0 }, Score::Margin),
    ] {
        let options = UnmaskingOptions { seed: 3, filter: Filter::default(), selection, score, ..Default::default() };
        let denoiser = ExactDenoiser::masked(&model);
        let sampler = Unmasking::new(denoiser, process(MASK), Fixed::none(n, len), options).expect("sound");
        Texts::of(sampler).follow(&format!("{selection:?} by {score:?}"));
    }
    // Blocks from left to right, each position by position.
    let blocks = Some(Blocks { first: 0, size: 2 });
    let selection = Selection::EntropyBound { gamma: 0.0 };
    let options = UnmaskingOptions { seed: 4, filter: Filter::default(), selection, blocks, ..Default::default() };
    let denoiser = ExactDenoiser::masked(&model);
    let sampler = Unmasking::new(denoiser, process(MASK), Fixed::none(n, len), options).expect("sound");
    Texts::of(sampler).follow("blocks of two");
}

#[test]
fn first_hitting_has_the_law_of_every_text() {
    let (n, len, model) = (4000, 5, chain(5));
    for size in [1, 2, 5] {
        let denoiser = Growing { denoiser: ExactDenoiser::masked(&model), len, mask: WORDS as u32 };
        let options = BlockwiseOptions { seed: 5, ..BlockwiseOptions::new(size) };
        let sampler = Blockwise::new(denoiser, process(MASK), Fixed::none(n, len), options).expect("sound");
        Texts::of(sampler).follow(&format!("first hitting in blocks of {size}"));
    }
}

fn ancestral(limit: Limit, reading: Reading, levels: Levels, options: AncestralOptions) -> Texts {
    const LEN: usize = 4;
    let denoiser = ExactDenoiser::new(chain(LEN), limit, Linear).reading(reading);
    Texts::of(Ancestral::new(denoiser, process(limit), levels, Fixed::none(4000, LEN), options).expect("sound"))
}

/// Almost all noise to almost none: rates need some signal to begin with.
fn levels(steps: usize) -> Levels {
    let times: Vec<f64> = grid::with_floor(steps, 1e-4).iter().map(|t| t * 0.999).collect();
    Levels::new(&Linear, &times).expect("descends")
}

/// Every rule, every revision that keeps marginals, in either reading: far from the law in a few steps, at it in many.
#[test]
fn total_variation_goes_to_zero_with_the_steps() {
    let plain = AncestralOptions { seed: 6, ..AncestralOptions::default() };
    let mut cases = Vec::new();
    for limit in [MASK, Limit::Uniform] {
        let flow = |divergence_free| Rule::Flow { divergence_free };
        for rule in [Rule::Posterior, Rule::Sampled, Rule::Tweedie, Rule::Euler, flow(0.0), flow(0.3)] {
            cases.push((limit, Reading::LeaveOneOut, AncestralOptions { rule, ..plain.clone() }));
        }
        for revise in [Revise::cap(0.03), Revise::rescale(0.03), Revise::Renoise { kappa: 0.97 }] {
            cases.push((limit, Reading::LeaveOneOut, AncestralOptions { revise, ..plain.clone() }));
        }
    }
    let all = AncestralOptions { conditioning: Conditioning::All, ..plain };
    cases.push((Limit::Uniform, Reading::Posterior, all));
    for (limit, reading, options) in cases {
        let run = |steps| ancestral(limit, reading, levels(steps), options.clone()).excess();
        let (few, many) = (run(2), run(96));
        assert!(few > 0.05 && many < 0.015, "{limit:?} {options:?}: {few:.3} above the noise, then {many:.3}");
    }
}

/// A corrector puts right at a level what two steps have spoilt on the way to it.
#[test]
fn gibbs_sweeps_take_total_variation_away() {
    let run = |sweeps| {
        let corrector = (sweeps > 0).then_some(Gibbs { sweeps, positions: 1, pick: Pick::Random });
        let options = AncestralOptions { seed: 7, corrector, ..AncestralOptions::default() };
        let levels = Levels::new(&Linear, &[1.0, 0.6, 0.4, 0.25, 0.15, 0.1, 0.06, 0.03]).expect("descends");
        ancestral(Limit::Uniform, Reading::LeaveOneOut, levels, options).excess()
    };
    let found = [0, 4, 24].map(run);
    assert!(found[0] > found[1] && found[2] < 0.012, "{found:?}");
}

/// With one position nothing is lost by drawing positions alone: whatever is taken back on the way, the canvas at every
/// level is a draw of q(x_s).
#[test]
fn revisions_keep_the_marginal_of_every_level() {
    let n = 4000;
    let (model, p) = (chain(1), [0.5, 0.2, 0.3]);
    let every = [
        Revise::Never,
        Revise::Renoise { kappa: 0.4 },
        Revise::Profile(vec![0.9, 0.1, 0.5, 1.0, 0.0, 0.3]),
        Revise::cap(0.2),
        Revise::rescale(0.7),
        Revise::Loop { sigma: 0.15, t_on: 0.7, t_off: 0.3 },
        Revise::ForwardBackward,
    ];
    for (limit, revise) in [MASK, Limit::Uniform].into_iter().flat_map(|l| every.clone().map(|r| (l, r))) {
        let what = format!("{limit:?} {revise:?}");
        let levels = Levels::new(&Linear, &[1.0, 0.85, 0.7, 0.55, 0.45, 0.35, 0.25]).expect("descends");
        let noise_removal = NoiseRemoval::Off;
        let options = AncestralOptions { seed: 8, revise, noise_removal, ..AncestralOptions::default() };
        let denoiser = ExactDenoiser::new(&model, limit, Linear);
        let process = process(limit);
        for canvas in Ancestral::new(denoiser, process, levels, Fixed::none(n, 1), options).expect("sound") {
            let canvas = canvas.expect("an exact denoiser does not fail");
            let mut texts = Texts { law: vec![0.0; process.vocab()], counts: vec![0.0; process.vocab()] };
            for (x_0, p) in p.iter().enumerate() {
                let q = process.marginal(x_0 as u32, Linear.alpha_bar(canvas.t));
                texts.law.iter_mut().zip(q).for_each(|(law, q)| *law += p * q);
            }
            canvas.ids.iter().for_each(|&id| texts.counts[id as usize] += 1.0);
            texts.follow(&format!("{what} at {}", canvas.t));
        }
    }
}

/// GIDD's noise, masks and other words together, comes to the law of every text.
#[test]
fn hybrid_noise_comes_to_the_law_of_every_text() {
    fn texts<D: Denoiser<Error = galatea_text::language::Error>>(denoiser: D, process: Hybrid, steps: usize) -> Texts {
        let options = AncestralOptions { seed: 9, ..AncestralOptions::default() };
        let grid = grid::with_floor(steps, 1e-3);
        Texts::of(Ancestral::of(denoiser, process, &grid, Fixed::none(4000, 4), options).expect("sound"))
    }
    for p_uniform in [0.0, 0.2] {
        let process = Hybrid::new(WORDS + 1, WORDS as u32, p_uniform, 1.0).expect("sound");
        let run = |steps| texts(Noisy { model: chain(4), process }, process, steps).excess();
        let (few, many) = (run(2), run(96));
        assert!(few > 0.05 && many < 0.015, "{p_uniform}: {few:.3} above the noise, then {many:.3}");
    }
}

/// The distance has teeth: a temperature of 0.8 is seen.
#[test]
fn a_sharper_law_is_another() {
    let model = chain(4);
    let filter = Filter { temperature: 0.8, ..Filter::default() };
    let selection = Selection::Quota { passes: 4 };
    let options = UnmaskingOptions { seed: 3, filter, selection, score: Score::Random, ..Default::default() };
    let sampler = Unmasking::new(ExactDenoiser::masked(&model), process(MASK), Fixed::none(4000, 4), options);
    let excess = Texts::of(sampler.expect("sound")).excess();
    assert!(excess > 0.05, "{excess}");
}
