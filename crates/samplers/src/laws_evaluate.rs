//! Evaluation against a source whose entropy is known.

use crate::evaluate::*;
use crate::source::*;
use crate::{Conditioning, Error, Failure};
use galatea_processes::{Denoiser, Hybrid, Limit, Scheduled};
use galatea_schedules::{Cosine, Linear};
use ndarray::{Array2, ArrayRef2, ArrayRef3, array};
use std::convert::Infallible;

const WHERE: (usize, u32) = (TOKENS + 1, TOKENS as u32);

fn entropy(source: &Source) -> f64 {
    source.joint.iter().map(|p| -p * p.ln()).sum()
}

/// The chain rule, in every order.
#[test]
fn the_likelihood_in_any_order_is_exact() {
    let mut source = exact(MASK, 3);
    for order in [[0, 1, 2], [2, 0, 1], [1, 2, 0]] {
        let mut nats = 0.0;
        for n in 0..27 {
            let surprise = likelihood_in_order(&mut source, WHERE, &digits(n, 3), &order).expect("infallible");
            assert!((surprise + source.joint[n].ln()).abs() < 1e-6);
            nats += source.joint[n] * surprise;
        }
        assert!((nats - entropy(&source)).abs() < 1e-6, "{order:?}");
    }
}

#[test]
fn a_prompt_is_conditioned_on() {
    let mut source = exact(MASK, 3);
    let given: f64 = (0..27).filter(|&n| digits(n, 3)[1] == 2).map(|n| source.joint[n]).sum();
    let text = [0, 2, 1];
    let surprise = likelihood_in_order(&mut source, WHERE, &text, &[2, 0]).expect("infallible");
    let truth = -(source.joint[number(text)] / given).ln();
    assert!((surprise - truth).abs() < 1e-6);
    let options = LikelihoodOptions { seed: 1, calls: 200, batch: 40 };
    let sampled = masked_likelihood(&mut source, WHERE, &text, &[0, 2], &options).expect("infallible");
    assert!((sampled.mean - truth).abs() < 4.0 * sampled.standard_error, "{sampled:?} {truth}");
}

#[test]
fn the_monte_carlo_likelihood_has_the_right_mean() {
    let mut source = exact(MASK, 3);
    for n in [0, 5, 13, 26] {
        let options = LikelihoodOptions { seed: n as u64, calls: 300, batch: 20 };
        let found = masked_likelihood(&mut source, WHERE, &digits(n, 3), &[0, 1, 2], &options).expect("infallible");
        let truth = -source.joint[n].ln();
        assert_eq!(found.draws, 6000);
        assert!((found.mean - truth).abs() < 4.0 * found.standard_error, "{n}: {found:?} {truth}");
    }
}

/// The texts of the source, each as often as its probability says, in a fixed mixed order.
fn corpus(source: &Source, count: usize) -> Array2<u32> {
    let mut rows = Vec::new();
    let (mut cumulative, mut next) = (0.0, 0);
    for (n, &p) in source.joint.iter().enumerate() {
        cumulative += p;
        while ((next as f64) + 0.5) / (count as f64) < cumulative {
            rows.push(n);
            next += 1;
        }
    }
    let stride = 389;
    let text = |i: usize| digits(rows[i * stride % rows.len()], source.len);
    Array2::from_shape_fn((rows.len(), source.len), |(i, l)| text(i)[l])
}

/// The bound is tight where the denoiser is exact: masked, uniform and hybrid noise all give the entropy.
#[test]
fn the_bound_of_an_exact_denoiser_is_the_entropy() {
    let options = BoundOptions { seed: 3, rounds: 4, batch: 1, t_min: 0.0 };
    let mut masked = exact(MASK, 3);
    let texts = corpus(&masked, 4000);
    let process = Scheduled::new(process(MASK), Linear);
    let found = nelbo(&mut masked, &process, &texts, &options).expect("infallible");
    assert!((found.mean - entropy(&masked)).abs() < 4.0 * found.standard_error, "{found:?} {}", entropy(&masked));
    assert!(found.standard_error < 0.04, "{found:?}");
    let mut uniform = Source { conditioning: Conditioning::Others, ..exact(Limit::Uniform, 3) };
    let process = Scheduled::new(crate::source::process(Limit::Uniform), Linear);
    let found = nelbo(&mut uniform, &process, &texts, &options).expect("infallible");
    assert!((found.mean - entropy(&uniform)).abs() < 4.0 * found.standard_error, "{found:?} {}", entropy(&uniform));
    // Without uniform noise the hybrid is the masked process.
    let hybrid = Hybrid::new(TOKENS + 1, TOKENS as u32, 0.0, 1.0).expect("four ids");
    let again = nelbo(&mut masked, &hybrid, &texts, &options).expect("infallible");
    assert!((again.mean - entropy(&masked)).abs() < 4.0 * again.standard_error, "{again:?}");
}

/// On a lattice of times the estimate varies less than its draws would if they were independent, which is what the stated
/// error supposes: here the integrand differs from time to time and hardly from noise to noise.
#[test]
fn lattice_times_have_low_variance() {
    struct Clueless;
    impl Denoiser for Clueless {
        type Error = Infallible;
        fn denoise(&mut self, _: &ArrayRef2<u32>, _: f64, logits: &mut ArrayRef3<f32>) -> Result<(), Infallible> {
            logits.fill(0.0);
            Ok(())
        }
    }
    let process = Scheduled::new(process(MASK), Cosine::default());
    let texts = Array2::zeros((1, 1000));
    let runs: Vec<Estimate> = (0..30)
        .map(|seed| {
            let options = BoundOptions { seed, rounds: 16, ..Default::default() };
            nelbo(&mut Clueless, &process, &texts, &options).expect("infallible")
        })
        .collect();
    let mean = runs.iter().map(|run| run.mean).sum::<f64>() / 30.0;
    let spread = (runs.iter().map(|run| (run.mean - mean).powi(2)).sum::<f64>() / 29.0).sqrt();
    let stated = runs.iter().map(|run| run.standard_error).sum::<f64>() / 30.0;
    assert!(3.0 * spread < stated, "{spread} {stated}");
    assert!((mean / (1000.0 * 3f64.ln()) - 1.0).abs() < 0.01, "{mean}");
}

/// Under the exact law samples of the law have the perplexity exp(entropy / len).
#[test]
fn generative_perplexity_under_the_exact_law_is_its_entropy() {
    let source = exact(MASK, 3);
    let texts = corpus(&source, 5000);
    let judge = |text: &[u32]| Ok::<_, Infallible>(source.joint[number(text.iter().copied())].ln());
    let judged = generative_perplexity(&texts, None, judge).expect("infallible");
    assert!((judged.nats / 5000.0 - entropy(&source)).abs() < 0.005);
    assert!((judged.perplexity() - (entropy(&source) / 3.0).exp()).abs() < 0.01);
    assert!((judged.bits_per_text() - 3.0 * judged.bits_per_token()).abs() < 1e-9);
    assert!((judged.bits_per_character(30_000) * 2.0 - judged.bits_per_token()).abs() < 1e-9);
}

#[test]
fn what_cannot_be_evaluated_is_named() {
    struct Nan;
    impl Denoiser for Nan {
        type Error = Infallible;
        fn denoise(&mut self, _: &ArrayRef2<u32>, _: f64, logits: &mut ArrayRef3<f32>) -> Result<(), Infallible> {
            logits.fill(0.0);
            logits[[0, 1, 0]] = f32::NAN;
            Ok(())
        }
    }
    let process = Scheduled::new(process(MASK), Linear);
    let options = BoundOptions { rounds: 50, ..Default::default() };
    let bound = |texts: Array2<u32>, options| nelbo(&mut Nan, &process, &texts, &options).err();
    assert_eq!(bound(array![[0, 1]], options), Some(Failure::Output { row: 0, position: 1 }));
    let refused = |failure: Option<Failure<Infallible>>| match failure {
        Some(Failure::Refused(error)) => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(bound(Array2::zeros((0, 2)), options)), Error::Empty { batch: 0, len: 2 });
    assert!(matches!(refused(bound(array![[9, 0]], options)), Error::Token { token: 9, .. }));
    assert!(matches!(
        refused(bound(array![[0, 0]], BoundOptions { rounds: 0, ..options })),
        Error::Parameter { parameter: "rounds", .. }
    ));
    let likelihood = |text: &[u32], answer: &[usize]| {
        masked_likelihood(&mut Nan, WHERE, text, answer, &LikelihoodOptions::default()).err()
    };
    assert_eq!(likelihood(&[0, 1], &[1]), Some(Failure::Output { row: 0, position: 1 }));
    assert!(matches!(refused(likelihood(&[0, 1], &[])), Error::Empty { .. }));
    assert!(matches!(refused(likelihood(&[0, 1], &[2])), Error::Position { position: 2, .. }));
    assert!(matches!(refused(likelihood(&[0, 1], &[1, 1])), Error::Parameter { .. }));
    assert!(matches!(refused(likelihood(&[0, 3], &[1])), Error::FixedMask { .. }));
    assert!(matches!(refused(likelihood(&[], &[])), Error::Empty { .. }));
}
