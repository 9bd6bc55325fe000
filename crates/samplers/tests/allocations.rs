//! No order allocates after its first step: counted, thread by thread, by an allocator of this test binary's own.

use galatea_processes::{Categorical, Denoiser, Hybrid, Limit};
use galatea_samplers::{
    Ancestral, AncestralOptions, Blocks, Blockwise, BlockwiseOptions, ClassifierFree, Correcting, CorrectingOptions,
    Fill, Filter, Fixed, Gibbs, Idiom, Levels, Output, Pair, Pick, Refining, RefiningOptions, Revise, Rule, Sampler,
    Score, Scored, Selection, Shifted, Unmasking, UnmaskingOptions,
};
use galatea_schedules::{LogLinear, grid};
use ndarray::{Array2, ArrayRef2, ArrayRef3};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::convert::Infallible;

struct Counting;
thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes unchanged to `System`; the counter needs neither a lock nor an allocation.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: as the trait demands of the caller.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise, passed on.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: as the trait demands of the caller.
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const VOCAB: usize = 300;
const LEN: usize = 24;

/// A number in [0, 1) that depends on all of its arguments.
fn mixed(numbers: [usize; 3]) -> f32 {
    let hash = numbers.iter().fold(17u32, |h, &n| (h ^ n as u32).wrapping_mul(0x0100_0193).rotate_left(11));
    (hash >> 8) as f32 / 16_777_216.0
}

struct Arbitrary;

impl Denoiser for Arbitrary {
    type Error = Infallible;
    fn denoise(&mut self, x_t: &ArrayRef2<u32>, _: f64, logits: &mut ArrayRef3<f32>) -> Result<(), Infallible> {
        for ((b, l, v), logit) in logits.indexed_iter_mut() {
            let left = if l > 0 { x_t[[b, l - 1]] as usize } else { VOCAB };
            *logit = 9.0 * mixed([left, l, v]);
        }
        Ok(())
    }
}

/// Takes every step and counts what all but the first allocate.
fn assert_steps_allocate_nothing(mut sampler: impl Sampler<DenoiserError = Infallible>, what: &str) {
    sampler.advance().expect("a first step").expect("infallible");
    let before = ALLOCATIONS.get();
    let mut steps = 1;
    while let Some(step) = sampler.advance() {
        step.expect("infallible");
        steps += 1;
    }
    assert_eq!(ALLOCATIONS.get() - before, 0, "{what}: allocations in {steps} steps");
    assert!(steps > 1, "{what}: one step shows nothing");
}

fn process(limit: Limit) -> Categorical {
    Categorical::new(VOCAB, limit).expect("many ids")
}

#[test]
fn no_order_allocates() {
    let selections = [
        Selection::Quota { passes: 8 },
        Selection::Share { passes: 8, t_min: 1e-3 },
        Selection::Bernoulli { passes: 8, t_min: 1e-3 },
        Selection::Threshold { least: 0.9, slack: 1e-5 },
        Selection::Factor { factor: 0.5 },
        Selection::Hierarchy { high: 0.9, low: Some(0.001) },
        Selection::EntropyBound { gamma: 0.1 },
    ];
    let scores = [Score::Confidence, Score::Margin, Score::Entropy, Score::Random, Score::LeftToRight];
    let filters =
        [Filter::greedy(), Filter { temperature: 0.7, top_p: 0.9, top_k: Some(50), min_p: 0.01, ..Filter::default() }];
    let orders = selections.into_iter().flat_map(|selection| scores.map(|score| (selection, score)));
    for (selection, score) in orders {
        for (filter, scored) in filters.iter().flat_map(|f| [Scored::Model, Scored::Filtered].map(|s| (f, s))) {
            for (idiom, blocks) in [(Idiom::Exact, None), (Idiom::Race, Some(Blocks { first: 4, size: 10 }))] {
                let counted = matches!(selection, Selection::Quota { .. } | Selection::Share { .. });
                let options = UnmaskingOptions {
                    filter: filter.clone(),
                    selection,
                    score,
                    scored,
                    order_temperature: if counted && blocks.is_some() { 0.5 } else { 0.0 },
                    blocks,
                    idiom,
                    ..Default::default()
                };
                let what = format!("{options:?}");
                let mask = process(Limit::Mask(VOCAB as u32 - 1));
                let sampler = Unmasking::new(Arbitrary, mask, Fixed::none(2, LEN), options).expect("sound");
                assert_steps_allocate_nothing(sampler, &what);
            }
        }
    }
}

#[test]
fn guidance_and_refining_allocate_nothing() {
    let guided = ClassifierFree::new(Pair { given: Arbitrary, dropped: Shifted(Arbitrary) }, 2.0).expect("finite");
    let options = UnmaskingOptions { selection: Selection::Quota { passes: 6 }, ..Default::default() };
    let mask = process(Limit::Mask(0));
    let sampler = Unmasking::new(guided, mask, Fixed::none(2, LEN), options).expect("sound");
    assert_steps_allocate_nothing(sampler, "classifier-free guidance");
    let options = RefiningOptions { steps: 12, ..Default::default() };
    let sampler = Refining::new(Arbitrary, process(Limit::Uniform), Fixed::none(2, LEN), options).expect("sound");
    assert_steps_allocate_nothing(sampler, "refining");
}

#[test]
fn stepwise_samplers_allocate_nothing() {
    let levels = || Levels::new(&LogLinear::default(), &grid::with_floor(8, 1e-3)).expect("descends");
    let uniform = || process(Limit::Uniform);
    let masked = || process(Limit::Mask(VOCAB as u32 - 1));
    let options = AncestralOptions::default;
    let gibbs = |pick| Some(Gibbs { sweeps: 2, positions: 3, pick });
    let cases = [
        (masked(), options()),
        (uniform(), options()),
        (masked(), AncestralOptions { idiom: Idiom::Guarded32, revise: Revise::cap(0.1), ..options() }),
        (masked(), AncestralOptions { revise: Revise::Confidence { scale: 0.5 }, ..options() }),
        (uniform(), AncestralOptions { revise: Revise::Renoise { kappa: 0.5 }, ..options() }),
        (uniform(), AncestralOptions { rule: Rule::Euler, output: Output::Score, ..options() }),
        (masked(), AncestralOptions { rule: Rule::Tweedie, ..options() }),
        (uniform(), AncestralOptions { rule: Rule::Sampled, ..options() }),
        (uniform(), AncestralOptions { rule: Rule::Flow { divergence_free: 0.5 }, idiom: Idiom::Race, ..options() }),
        (uniform(), AncestralOptions { corrector: gibbs(Pick::Random), ..options() }),
        (uniform(), AncestralOptions { corrector: gibbs(Pick::Margin { temperature: 1.0 }), ..options() }),
    ];
    for (process, options) in cases {
        let what = format!("{options:?}");
        let sampler = Ancestral::new(Arbitrary, process, levels(), Fixed::none(2, LEN), options).expect("sound");
        assert_steps_allocate_nothing(sampler, &what);
    }
    let sampler = Ancestral::new(Arbitrary, uniform(), levels(), Fixed::none(2, LEN), options()).expect("sound");
    assert_steps_allocate_nothing(sampler.guided(Arbitrary, 2.0).expect("finite"), "mixed posteriors");
    let hybrid = Hybrid::new(VOCAB, 0, 0.1, 1.0).expect("sound");
    let sampler = Ancestral::of(Arbitrary, hybrid, &grid::with_floor(8, 1e-3), Fixed::none(2, LEN), options());
    assert_steps_allocate_nothing(sampler.expect("sound"), "hybrid noise");
    // The canvas grows with every block, so one block is what can be held to it.
    for fill in [Fill::FirstHitting, Fill::Ancestral(levels().into())] {
        let options = BlockwiseOptions { fill, ..BlockwiseOptions::new(LEN) };
        let sampler = Blockwise::new(Arbitrary, masked(), Fixed::none(2, LEN), options).expect("sound");
        assert_steps_allocate_nothing(sampler, "a block");
    }
    let texts = Array2::zeros((2, LEN));
    let options = CorrectingOptions { positions: 2, passes: 9, ..Default::default() };
    let sampler = Correcting::new(Arbitrary, VOCAB, &texts, Fixed::none(2, LEN), options).expect("sound");
    assert_steps_allocate_nothing(sampler, "self-correction");
}
