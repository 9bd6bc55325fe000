//! What holds for every denoiser, whatever it says: properties of the canvases.

use crate::source::{MASK, TOKENS, levels, process, table};
use crate::*;
use galatea_processes::{Denoiser, EmbeddingDenoiser, Limit, Variance};
use galatea_random::Philox;
use galatea_schedules::{Linear, grid};
use ndarray::{Array2, ArrayRef2, ArrayRef3};
use proptest::prelude::*;
use std::convert::Infallible;

/// A denoiser without sense: logits and embeddings that depend on everything in sight.
#[derive(Clone)]
struct Arbitrary(u64, TimeDependence);

impl Arbitrary {
    fn key(&self, t: f64) -> u64 {
        match self.1 {
            TimeDependence::Free => self.0,
            TimeDependence::Conditioned => self.0 ^ t.to_bits(),
        }
    }
}

impl Denoiser for Arbitrary {
    type Error = Infallible;
    fn denoise(&mut self, x_t: &ArrayRef2<u32>, t: f64, logits: &mut ArrayRef3<f32>) -> Result<(), Infallible> {
        for (text, mut logits) in x_t.rows().into_iter().zip(logits.outer_iter_mut()) {
            let hash = text.iter().fold(17u64, |h, &id| h.wrapping_mul(0x100_0000_01b3) ^ u64::from(id));
            let mut rng = Philox::new(self.key(t) ^ hash, 0, 0, 0);
            logits.iter_mut().for_each(|l| *l = 3.0 * rng.normal() as f32);
        }
        Ok(())
    }
}

impl EmbeddingDenoiser for Arbitrary {
    type Error = Infallible;
    fn denoise(&mut self, z_t: &ArrayRef3<f32>, t: f64, x_0_hat: &mut ArrayRef3<f32>) -> Result<(), Infallible> {
        for (z, mut x_0_hat) in z_t.outer_iter().zip(x_0_hat.outer_iter_mut()) {
            let hash = z.iter().fold(17u64, |h, x| h.wrapping_mul(0x100_0000_01b3) ^ u64::from(x.to_bits()));
            let mut rng = Philox::new(self.key(t) ^ hash, 0, 0, 0);
            x_0_hat.iter_mut().for_each(|x| *x = 2.0 * rng.normal() as f32);
        }
        Ok(())
    }
}

fn fixed_tokens() -> impl Strategy<Value = Fixed> {
    let token = proptest::option::weighted(0.4, 0..TOKENS as u32);
    ((1usize..4, 1usize..7), proptest::collection::vec(token, 18)).prop_map(|((batch, len), tokens)| {
        Fixed::from(Array2::from_shape_fn((batch, len), |(row, position)| tokens[row * len + position]))
    })
}

fn filter_options() -> impl Strategy<Value = Filter> {
    let nucleus = prop_oneof![Just(Nucleus::Reaching), Just(Nucleus::Within)];
    let (temperature, top_p) = (prop_oneof![Just(0.0), Just(1.0), 0.2f64..2.0], prop_oneof![Just(1.0), 0.1f64..1.0]);
    (temperature, top_p, nucleus, proptest::option::of(1usize..5), 0.0f64..0.9).prop_map(
        |(temperature, top_p, nucleus, top_k, min_p)| Filter {
            temperature,
            top_p,
            nucleus,
            top_k,
            min_p,
            ..Filter::default()
        },
    )
}

fn selections() -> impl Strategy<Value = Selection> {
    prop_oneof![
        (1usize..9).prop_map(|passes| Selection::Quota { passes }),
        (1usize..9, 0.0f64..0.1).prop_map(|(passes, t_min)| Selection::Share { passes, t_min }),
        (1usize..9, 0.0f64..0.1).prop_map(|(passes, t_min)| Selection::Bernoulli { passes, t_min }),
        (0.0f64..1.2, 0.0f64..0.1).prop_map(|(least, slack)| Selection::Threshold { least, slack }),
        (0.0f64..3.0).prop_map(|factor| Selection::Factor { factor }),
        (0.0f64..1.0, proptest::option::of(0.0f64..1.0)).prop_map(|(high, low)| Selection::Hierarchy { high, low }),
        (0.0f64..3.0).prop_map(|gamma| Selection::EntropyBound { gamma }),
    ]
}

fn scores() -> impl Strategy<Value = Score> {
    use Score::{Confidence, Entropy, LeftToRight, Margin, Random};
    prop_oneof![Just(Confidence), Just(Margin), Just(Entropy), Just(Random), Just(LeftToRight)]
}

fn unmasking_options() -> impl Strategy<Value = UnmaskingOptions> {
    let blocks = proptest::option::of((0usize..4, 1usize..4).prop_map(|(first, size)| Blocks { first, size }));
    let scored = prop_oneof![Just(Scored::Model), Just(Scored::Filtered)];
    let ranking = (selections(), scores(), scored, prop_oneof![Just(0.0), 0.1f64..3.0]);
    (any::<u64>(), filter_options(), ranking, blocks).prop_map(
        |(seed, filter, (selection, score, scored, temperature), blocks)| UnmaskingOptions {
            seed,
            filter,
            selection,
            score,
            scored,
            order_temperature: match selection {
                Selection::Quota { .. } | Selection::Share { .. } => temperature,
                _ => 0.0,
            },
            blocks,
            ..Default::default()
        },
    )
}

fn embedding_options() -> impl Strategy<Value = EmbeddingOptions> {
    let method = prop_oneof![
        Just(Method::Ddpm(Variance::Small)),
        Just(Method::Ddpm(Variance::Large)),
        (0.0f64..1.0).prop_map(|eta| Method::Ddim { eta }),
        any::<bool>().prop_map(|lower_order_final| Method::Multistep { lower_order_final }),
    ];
    let clamp = prop_oneof![Just(Clamp::Never), Just(Clamp::Nearest)];
    let known = prop_oneof![Just(Known::Noised), Just(Known::Clean)];
    (any::<u64>(), method, clamp, known, proptest::option::of(0.5f64..2.0), 1usize..4).prop_map(
        |(seed, method, clamp, known, noise_bound, resampling)| EmbeddingOptions {
            seed,
            method,
            clamp,
            known,
            resampling: if matches!(method, Method::Multistep { .. }) { 1 } else { resampling },
            noise_bound,
            ..Default::default()
        },
    )
}

/// Walks a sampler and checks every canvas, the first one included; returns the last.
fn watch<S: Sampler<DenoiserError = Infallible>>(mut sampler: S, fixed: &Fixed, mask: Option<u32>) -> Canvas {
    let mut before = sampler.canvas().clone();
    loop {
        let canvas = sampler.canvas().clone();
        for ((row, position), &id) in canvas.ids.indexed_iter() {
            let at = (row, position);
            if let Some(token) = fixed.get(row, position) {
                assert_eq!((id, canvas.decided[at]), (token, true), "fixed tokens never change");
            }
            if let Some(mask) = mask {
                assert_eq!(canvas.decided[at], id != mask);
                assert!(before.ids[at] == mask || before.ids[at] == id, "committed tokens never change");
            }
            if canvas.step > 0 {
                assert_eq!(canvas.changed.contains(&at), before.ids[at] != id);
            }
        }
        match sampler.next() {
            None => return canvas,
            Some(next) => {
                let next = next.expect("infallible");
                assert_eq!(next.step, canvas.step + 1);
                assert!(next.t <= canvas.t && next.calls <= canvas.calls + 1);
                before = canvas;
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn fixed_and_committed_tokens_never_change_in_ancestral_sampling(
        fixed in fixed_tokens(), filter in filter_options(), seed: u64, steps in 1usize..8, mask: bool,
        noise_removal in prop_oneof![Just(NoiseRemoval::Sample), Just(NoiseRemoval::Argmax), Just(NoiseRemoval::Greedy)], floor in prop_oneof![Just(0.0), Just(0.1)],
    ) {
        let limit = if mask { MASK } else { Limit::Uniform };
        let levels = Levels::new(&Linear, &grid::with_floor(steps, floor)).expect("descends");
        let options = AncestralOptions { seed, filter, noise_removal, ..Default::default() };
        let denoiser = Arbitrary(seed, TimeDependence::Conditioned);
        let sampler = Ancestral::new(denoiser, process(limit), levels, fixed.clone(), options).expect("sound");
        let canvas = watch(sampler, &fixed, mask.then_some(TOKENS as u32));
        prop_assert!(canvas.decided.iter().all(|d| *d));
        prop_assert!(canvas.ids.iter().all(|&id| (id as usize) < TOKENS));
    }

    #[test]
    fn fixed_and_committed_tokens_never_change_in_unmasking(fixed in fixed_tokens(), options in unmasking_options()) {
        let denoiser = Arbitrary(options.seed, TimeDependence::Conditioned);
        let sampler = Unmasking::new(denoiser, process(MASK), fixed.clone(), options.clone()).expect("sound");
        let canvas = watch(sampler, &fixed, Some(TOKENS as u32));
        prop_assert!(canvas.decided.iter().all(|d| *d) && canvas.t == 0.0);
        prop_assert!(canvas.ids.iter().all(|&id| (id as usize) < TOKENS));
        let confidence = canvas.confidence.expect("unmasking ranks");
        prop_assert!(confidence.iter().all(|&c| c > 0.0 && c <= 1.0 + 1e-6));
        // A pass writes at least one token of some row, but where a schedule of few tokens has it write none.
        let scheduled = match options.selection {
            Selection::Share { passes, .. } | Selection::Bernoulli { passes, .. } => passes * fixed.dim().1,
            _ => 0,
        };
        prop_assert!(canvas.calls <= fixed.free().max(1) + scheduled);
    }

    #[test]
    fn fixed_tokens_never_change_in_embedding_sampling(
        fixed in fixed_tokens(), options in embedding_options(), steps in 1usize..6,
    ) {
        let (known, denoiser) = (options.known, Arbitrary(options.seed, TimeDependence::Conditioned));
        let mut sampler = Embedding::new(denoiser, &table(), levels(steps), fixed.clone(), options).expect("sound");
        let canvas = loop {
            let Some(canvas) = sampler.next() else { break sampler.canvas().clone() };
            let canvas = canvas.expect("infallible");
            for ((row, position), &id) in canvas.ids.indexed_iter() {
                if let Some(token) = fixed.get(row, position) {
                    prop_assert_eq!(id, token);
                    let z = sampler.z();
                    let clean = (0..2).all(|k| z[[row, position, k]] == table()[[token as usize, k]]);
                    prop_assert_eq!(clean, known == Known::Clean || canvas.t == 0.0);
                }
            }
        };
        prop_assert!(canvas.decided.iter().all(|d| *d));
    }

    /// The same seed gives the same text, and a sample does not depend on the batch around it.
    #[test]
    fn batches_do_not_matter(fixed in fixed_tokens(), seed: u64, mask: bool, unmasking in unmasking_options(), embedding in embedding_options()) {
        let (batch, len) = fixed.dim();
        let limit = if mask { MASK } else { Limit::Uniform };
        let whole = |fixed: Fixed, first_sample: u32| {
            let d = || Arbitrary(9, TimeDependence::Free);
            let options = AncestralOptions { seed, first_sample, ..Default::default() };
            let a = Ancestral::new(d(), process(limit), levels(5), fixed.clone(), options).expect("sound");
            let options = UnmaskingOptions { first_sample, ..unmasking.clone() };
            let b = Unmasking::new(d(), process(MASK), fixed.clone(), options).expect("sound");
            let options = EmbeddingOptions { first_sample, ..embedding.clone() };
            let c = Embedding::new(d(), &table(), levels(4), fixed, options).expect("sound");
            [a.finish().expect("infallible").ids, b.finish().expect("infallible").ids, c.finish().expect("infallible").ids]
        };
        let together = whole(fixed.clone(), 3);
        prop_assert_eq!(&together, &whole(fixed.clone(), 3));
        for row in 0..batch {
            let alone = Fixed::from(Array2::from_shape_fn((1, len), |(_, position)| fixed.get(row, position)));
            for (together, alone) in together.iter().zip(whole(alone, 3 + row as u32)) {
                prop_assert_eq!(together.row(row), alone.row(0));
            }
        }
    }

    #[test]
    fn cached_predictions_change_no_text(fixed in fixed_tokens(), seed: u64, steps in 1usize..40, mask: bool) {
        let limit = if mask { MASK } else { Limit::Uniform };
        let run = |time| {
            let options = AncestralOptions { seed, time, ..Default::default() };
            let denoiser = Arbitrary(seed, TimeDependence::Free);
            Ancestral::new(denoiser, process(limit), levels(steps), fixed.clone(), options).expect("sound")
                .map(|canvas| canvas.expect("infallible")).collect::<Vec<_>>()
        };
        let (cached, asked) = (run(TimeDependence::Free), run(TimeDependence::Conditioned));
        let ids = |canvases: &[Canvas]| canvases.iter().map(|c| c.ids.clone()).collect::<Vec<_>>();
        prop_assert_eq!(ids(&cached), ids(&asked));
        if fixed.free() == 0 {
            prop_assert!(asked.is_empty() && cached.is_empty());
            return Ok(());
        }
        prop_assert_eq!(asked[steps - 1].calls, steps);
        let changes = 1 + cached[..steps - 1].iter().filter(|c| !c.changed.is_empty()).count();
        prop_assert_eq!(cached[steps - 1].calls, changes);
    }

    #[test]
    fn forbidden_tokens_are_never_written(seed: u64, forbidden in 0..TOKENS as u32, mask: bool, mut unmasking in unmasking_options(), mut embedding in embedding_options()) {
        let limit = if mask { MASK } else { Limit::Uniform };
        let d = || Arbitrary(seed, TimeDependence::Conditioned);
        let fixed = Fixed::none(2, 6);
        let mut options = AncestralOptions { seed, ..Default::default() };
        options.filter.forbidden.push(forbidden);
        unmasking.filter.forbidden.push(forbidden);
        embedding.forbidden.push(forbidden);
        let a = Ancestral::new(d(), process(limit), levels(5), fixed.clone(), options).expect("sound");
        let b = Unmasking::new(d(), process(MASK), fixed.clone(), unmasking).expect("sound");
        let c = Embedding::new(d(), &table(), levels(4), fixed, embedding).expect("sound");
        for canvas in [a.finish(), b.finish(), c.finish()] {
            prop_assert!(canvas.expect("infallible").ids.iter().all(|&id| id != forbidden));
        }
    }
}
