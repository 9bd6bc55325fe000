//! The texts of an exact denoiser follow its law.

use crate::source::*;
use crate::*;
use galatea_processes::{Limit, Variance};
use galatea_schedules::{Linear, Schedule};
use ndarray::Array2;

/// How often each text of `len` tokens stands on a canvas.
fn counts(ids: &Array2<u32>) -> Vec<usize> {
    let mut counts = vec![0; TOKENS.pow(ids.ncols() as u32)];
    ids.rows().into_iter().for_each(|row| counts[number(row.iter().copied())] += 1);
    counts
}

fn follows(ids: &Array2<u32>, law: &[f64], what: &str) {
    let (statistic, limit) = chi_square(&counts(ids), law);
    assert!(statistic < limit, "{what}: chi-square {statistic:.1}, 0.1 % quantile {limit:.1}");
}

#[test]
fn ancestral_texts_follow_the_law() {
    for (limit, steps) in [(MASK, 400), (Limit::Uniform, 150)] {
        for conditioning in CONDITIONINGS {
            let sampler = conditioned(conditioning, limit, 2, steps, Fixed::none(4000, 2), 1);
            let canvas = sampler.finish().expect("infallible");
            follows(&canvas.ids, &exact(limit, 2).joint, &format!("{limit:?} {conditioning:?}"));
        }
    }
}

/// The test above has teeth: one step is too few for positions drawn independently.
#[test]
fn few_steps_break_the_law() {
    for limit in [MASK, Limit::Uniform] {
        let canvas = ancestral(limit, 2, 1, Fixed::none(4000, 2), 1).finish().expect("infallible");
        let (statistic, quantile) = chi_square(&counts(&canvas.ids), &exact(limit, 2).joint);
        assert!(statistic > quantile, "{limit:?}: {statistic}");
    }
}

/// With one position the posterior is exact in steps of any size: the canvas at s is a draw of q(x_s).
#[test]
fn ancestral_marginals_equal_the_forward_ones() {
    for (limit, conditioning) in [MASK, Limit::Uniform].into_iter().flat_map(|l| CONDITIONINGS.map(|c| (l, c))) {
        let source = Source { conditioning, ..exact(limit, 1) };
        let chain = process(limit);
        let grid = [1.0, 0.7, 0.6, 0.15, 0.0];
        let levels = Levels::new(&Linear, &grid).expect("descends");
        let options = AncestralOptions { seed: 5, conditioning, ..Default::default() };
        let sampler =
            Ancestral::new(source.clone(), chain, levels, Fixed::none(5000, 1), options).expect("sound arguments");
        for canvas in sampler {
            let canvas = canvas.expect("infallible");
            let mut law = vec![0.0; chain.vocab()];
            for (x_0, &p) in source.joint.iter().enumerate() {
                let q = chain.marginal(x_0 as u32, Linear.alpha_bar(canvas.t));
                law.iter_mut().zip(q).for_each(|(law, q)| *law += p * q);
            }
            let mut counts = vec![0; chain.vocab()];
            canvas.ids.iter().for_each(|&id| counts[id as usize] += 1);
            let (statistic, quantile) = chi_square(&counts, &law);
            assert!(statistic < quantile, "{limit:?} {conditioning:?} at {}: {statistic}", canvas.t);
        }
    }
}

/// Fixed tokens turn the law into the conditional one.
#[test]
fn infilling_follows_the_conditional_law() {
    let mut law = exact(MASK, 3).joint;
    law.iter_mut().enumerate().filter(|(n, _)| digits(*n, 3)[1] != 2).for_each(|(_, p)| *p = 0.0);
    let total: f64 = law.iter().sum();
    law.iter_mut().for_each(|p| *p /= total);
    let mut fixed = Fixed::none(3000, 3);
    (0..3000).for_each(|row| fixed.set(row, 1, 2).expect("inside"));
    let canvas = ancestral(MASK, 3, 200, fixed.clone(), 3).finish().expect("infallible");
    follows(&canvas.ids, &law, "ancestral");
    let options = one_by_one(Score::Random, Selection::Quota { passes: 2 });
    let sampler = Unmasking::new(exact(MASK, 3), process(MASK), fixed, options).expect("sound");
    follows(&sampler.finish().expect("infallible").ids, &law, "unmasking");
}

fn one_by_one(score: Score, selection: Selection) -> UnmaskingOptions {
    UnmaskingOptions { seed: 11, filter: Filter::default(), selection, score, ..Default::default() }
}

#[test]
fn one_token_per_pass_follows_the_law() {
    let quota = Selection::Quota { passes: 3 };
    for (score, selection) in [
        (Score::Random, quota),
        (Score::Entropy, quota),
        (Score::Margin, quota),
        (Score::LeftToRight, quota),
        (Score::Random, Selection::EntropyBound { gamma: 0.0 }),
        (Score::Random, Selection::Threshold { least: 2.0, slack: 0.0 }),
    ] {
        let options = one_by_one(score, selection);
        let sampler = Unmasking::new(exact(MASK, 3), process(MASK), Fixed::none(4000, 3), options).expect("sound");
        let canvas = sampler.finish().expect("infallible");
        assert_eq!(canvas.calls, 3);
        follows(&canvas.ids, &exact(MASK, 3).joint, &format!("{score:?} {selection:?}"));
    }
}

#[test]
fn all_at_once_breaks_the_law() {
    let options = one_by_one(Score::Random, Selection::Quota { passes: 1 });
    let sampler = Unmasking::new(exact(MASK, 3), process(MASK), Fixed::none(4000, 3), options).expect("sound");
    let canvas = sampler.finish().expect("infallible");
    let (statistic, quantile) = chi_square(&counts(&canvas.ids), &exact(MASK, 3).joint);
    assert!(statistic > quantile, "{statistic}");
}

fn gaussian(batch: usize, len: usize, steps: usize, options: EmbeddingOptions) -> Embedding<Source> {
    let source = source(len, Evidence::Embeddings);
    Embedding::new(source, &table(), levels(steps), Fixed::none(batch, len), options).expect("sound arguments")
}

#[test]
fn embedding_texts_follow_the_law() {
    for method in [Method::Ddpm(Variance::Small), Method::Ddim { eta: 0.0 }] {
        let options = EmbeddingOptions { seed: 2, method, ..Default::default() };
        let canvas = gaussian(3000, 2, 250, options).finish().expect("infallible");
        follows(&canvas.ids, &source(2, Evidence::Embeddings).joint, &format!("{method:?}"));
    }
}

#[test]
fn ddim_draws_only_its_start() {
    struct Counted(Box<dyn crate::draws::Draws>, std::sync::Arc<std::sync::atomic::AtomicUsize>);
    impl crate::draws::Draws for Counted {
        fn uniforms(&mut self, stream: u32, at: crate::draws::At, out: &mut [f64]) {
            self.0.uniforms(stream, at, out);
        }
        fn normals(&mut self, stream: u32, at: crate::draws::At, bound: Option<f64>, out: &mut [f64]) {
            self.1.fetch_add(usize::from(stream != stream::START), std::sync::atomic::Ordering::Relaxed);
            self.0.normals(stream, at, bound, out);
        }
    }
    for (eta, draws) in [(0.0, 0), (0.5, 7 * 2)] {
        let options = EmbeddingOptions { method: Method::Ddim { eta }, ..Default::default() };
        let keyed = crate::draws::Keyed::new(1, 0, (1, 2)).expect("few rows");
        let count = std::sync::Arc::default();
        let counted = Box::new(Counted(Box::new(keyed), std::sync::Arc::clone(&count)));
        let source = source(2, Evidence::Embeddings);
        let sampler = Embedding::with_draws(source, &table(), levels(8), Fixed::none(1, 2), options, counted);
        sampler.expect("sound").finish().expect("infallible");
        assert_eq!(count.load(std::sync::atomic::Ordering::Relaxed), draws, "eta {eta}");
    }
}
