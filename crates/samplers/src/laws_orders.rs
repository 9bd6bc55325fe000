//! The exact law of a decoder's texts: every path that its draws can take, with its probability.

use crate::draws::{At, Draws, Keyed, stream};
use crate::source::*;
use crate::*;
use galatea_processes::{Denoiser, Limit};
use ndarray::{Array2, ArrayRef1, ArrayRef2, ArrayRef3};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

/// A path through the tree of draws, which the denoiser (who knows the distributions) and the draws share.
#[derive(Default)]
struct Path {
    /// What the denoiser said last, \[len\]\[TOKENS\].
    p: Vec<Vec<f64>>,
    /// The branches taken, and how many there were.
    taken: Vec<(usize, usize)>,
    depth: usize,
    weight: f64,
    /// The place of every position in the random order.
    order: Vec<usize>,
}

type Shared = Arc<Mutex<Path>>;

/// A denoiser that shows what it says.
struct Shown<D>(D, Shared);

impl<D: Denoiser> Denoiser for Shown<D> {
    type Error = D::Error;
    fn denoise(&mut self, x_t: &ArrayRef2<u32>, t: f64, logits: &mut ArrayRef3<f32>) -> Result<(), D::Error> {
        self.0.denoise(x_t, t, logits)?;
        let softmax = |row: ndarray::ArrayView1<f32>| {
            let e: Vec<f64> = row.iter().take(TOKENS).map(|&l| f64::from(l).exp()).collect();
            let total: f64 = e.iter().sum();
            e.iter().map(|e| e / total).collect()
        };
        self.1.lock().expect("one thread").p = logits.rows().into_iter().map(softmax).collect();
        Ok(())
    }
}

/// Draws that take the branches of the path, and the first one beyond its end.
struct Branches(Shared);

impl Draws for Branches {
    fn uniforms(&mut self, stream: u32, at: At, out: &mut [f64]) {
        let path = &mut *self.0.lock().expect("one thread");
        if stream == stream::ORDER {
            out[0] = (path.order[at.row as usize] as f64 + 0.5) / path.order.len() as f64;
            return;
        }
        assert_eq!(stream, stream::TOKENS);
        let p = &path.p[at.row as usize];
        let possible: Vec<usize> = (0..TOKENS).filter(|&k| p[k] > 1e-30).collect();
        if path.depth == path.taken.len() {
            path.taken.push((0, possible.len()));
        }
        let token = possible[path.taken[path.depth].0];
        path.depth += 1;
        path.weight *= p[token];
        out[1] = p[..token].iter().sum::<f64>() + 0.5 * p[token];
    }
}

/// The law of the texts of `len` tokens, and the most passes that one took.
fn law<D: Denoiser<Error = Infallible>>(
    len: usize,
    denoiser: impl Fn() -> D,
    options: &UnmaskingOptions,
) -> (Vec<f64>, usize) {
    let mut law = vec![0.0; TOKENS.pow(len as u32)];
    let mut passes = 0;
    let orders: Vec<Vec<usize>> = match options.score {
        Score::Random => {
            (0..6).map(|i| vec![[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]][i].to_vec()).collect()
        }
        _ => vec![vec![0; len]],
    };
    for order in &orders {
        let path = Shared::default();
        path.lock().expect("one thread").order = order.clone();
        loop {
            {
                let path = &mut *path.lock().expect("one thread");
                (path.depth, path.weight) = (0, 1.0);
            }
            let (shown, draws) = (Shown(denoiser(), Arc::clone(&path)), Box::new(Branches(Arc::clone(&path))));
            let sampler = Unmasking::with_draws(shown, process(MASK), Fixed::none(1, len), options.clone(), draws);
            let canvas = sampler.expect("sound").finish().expect("infallible");
            let path = &mut *path.lock().expect("one thread");
            law[number(canvas.ids.iter().copied())] += path.weight / orders.len() as f64;
            passes = passes.max(canvas.calls);
            while path.taken.last().is_some_and(|&(branch, count)| branch + 1 == count) {
                path.taken.pop();
            }
            match path.taken.last_mut() {
                Some((branch, _)) => *branch += 1,
                None => break,
            }
        }
    }
    (law, passes)
}

fn options(score: Score, selection: Selection) -> UnmaskingOptions {
    UnmaskingOptions { filter: Filter::default(), selection, score, ..Default::default() }
}

fn total_variation(p: &[f64], q: &[f64]) -> f64 {
    p.iter().zip(q).map(|(p, q)| (p - q).abs()).sum::<f64>() / 2.0
}

fn kl(p: &[f64], q: &[f64]) -> f64 {
    p.iter().zip(q).filter(|(p, _)| **p > 0.0).map(|(p, q)| p * (p / q).ln()).sum()
}

/// One position at a time, in an order that looks at the distributions only, draws from the law itself.
#[test]
fn one_position_at_a_time_is_exact() {
    let source = exact(MASK, 3);
    let quota = Selection::Quota { passes: 3 };
    for (score, selection) in [
        (Score::Random, quota),
        (Score::Entropy, quota),
        (Score::Margin, quota),
        (Score::LeftToRight, quota),
        (Score::Random, Selection::EntropyBound { gamma: 0.0 }),
        (Score::Entropy, Selection::Threshold { least: 2.0, slack: 0.0 }),
        (Score::Margin, Selection::Hierarchy { high: 2.0, low: Some(2.0) }),
    ] {
        for scored in [Scored::Model, Scored::Filtered] {
            for blocks in [None, Some(Blocks { first: 0, size: 2 })] {
                let passes = if blocks.is_some() { 2 } else { 3 };
                let selection = if selection == quota { Selection::Quota { passes } } else { selection };
                let options = UnmaskingOptions { scored, blocks, ..options(score, selection) };
                let (law, passes) = law(3, || source.clone(), &options);
                assert_eq!(passes, 3);
                let far = total_variation(&law, &source.joint);
                assert!(far < 1e-6, "{score:?} {selection:?} {scored:?} {blocks:?}: {far:e}");
            }
        }
    }
}

/// Preferring what came out likely is another law, even one position at a time.
#[test]
fn confidence_distorts_the_law() {
    let source = exact(MASK, 3);
    let (law, _) = law(3, || source.clone(), &options(Score::Confidence, Selection::Quota { passes: 3 }));
    assert!((law.iter().sum::<f64>() - 1.0).abs() < 1e-6);
    assert!(total_variation(&law, &source.joint) > 0.02);
}

/// All positions at once are the product of the marginals, whatever the rule that let them all pass.
#[test]
fn all_at_once_is_the_product_of_the_marginals() {
    let source = exact(MASK, 3);
    let mut marginals = [[0.0; TOKENS]; 3];
    for (n, &p) in source.joint.iter().enumerate() {
        digits(n, 3).iter().enumerate().for_each(|(l, &v)| marginals[l][v as usize] += p);
    }
    let product: Vec<f64> =
        (0..27).map(|n| digits(n, 3).iter().enumerate().map(|(l, &v)| marginals[l][v as usize]).product()).collect();
    for selection in [
        Selection::Quota { passes: 1 },
        Selection::Share { passes: 1, t_min: 1e-3 },
        Selection::Bernoulli { passes: 1, t_min: 1e-3 },
        Selection::Threshold { least: -9.0, slack: 0.0 },
        Selection::Threshold { least: 9.0, slack: 9.0 },
        Selection::Factor { factor: 9.0 },
        Selection::Hierarchy { high: -9.0, low: None },
        Selection::EntropyBound { gamma: 9.0 },
    ] {
        let (law, passes) = law(3, || source.clone(), &options(Score::Margin, selection));
        let far = total_variation(&law, &product);
        assert!(passes == 1 && far < 1e-6, "{selection:?}: {far:e}");
    }
}

/// What the bound promises: every pass adds at most gamma to KL(law || texts).
#[test]
fn the_entropy_bound_bounds_the_divergence() {
    let source = exact(MASK, 4);
    let mut before = 0.0;
    for gamma in [0.0, 0.3, 0.6, 0.8, 1.1, 2.0, 9.0] {
        let (law, passes) = law(4, || source.clone(), &options(Score::Entropy, Selection::EntropyBound { gamma }));
        let kl = kl(&source.joint, &law);
        assert!(kl <= gamma * passes as f64 + 1e-6, "gamma {gamma}: {kl} in {passes} passes");
        assert!(kl >= before - 1e-9, "gamma {gamma}: {kl} after {before}");
        before = kl;
    }
    assert!(before > 0.02, "one pass is not exact: {before}");
}

/// The rules with thresholds, from the strictest to the most generous: passes for exactness.
#[test]
fn generous_rules_are_shorter_and_farther_from_the_law() {
    let source = exact(MASK, 4);
    let selections: [fn(f64) -> Selection; 3] = [
        |x| Selection::Threshold { least: 0.8 - x, slack: 0.0 },
        |x| Selection::Factor { factor: 5.0 * x },
        |x| Selection::Hierarchy { high: 0.8 - x, low: Some(0.6 - 0.75 * x) },
    ];
    for selection in selections {
        let walk: Vec<(f64, usize)> = [0.0, 0.4, 0.8]
            .into_iter()
            .map(|x| {
                let (law, passes) = law(4, || source.clone(), &options(Score::Margin, selection(x)));
                (total_variation(&law, &source.joint), passes)
            })
            .collect();
        assert!(walk.windows(2).all(|w| w[0].0 <= w[1].0 + 1e-9 && w[0].1 >= w[1].1), "{:?}: {walk:?}", selection(0.0));
        assert!(walk[0].1 > walk[2].1, "{:?}: {walk:?}", selection(0.0));
    }
}

/// Draws whose order comes from the numbers that an ancestral step chooses its route with.
struct RouteFirst(Keyed);

impl Draws for RouteFirst {
    fn uniforms(&mut self, stream: u32, at: At, out: &mut [f64]) {
        if stream == stream::ORDER {
            let mut pair = [0.0; 2];
            self.0.uniforms(stream::TOKENS, at, &mut pair);
            out[0] = pair[0];
        } else {
            self.0.uniforms(stream, at, out);
        }
    }
}

/// Dream's "origin" is the ancestral sampler of a linear schedule: the same canvases from the same numbers.
#[test]
fn origin_is_ancestral() {
    for steps in [1, 2, 5, 9] {
        let fixed = Fixed::none(200, 3);
        let keyed = || Box::new(RouteFirst(Keyed::new(4, 0, (200, 3)).expect("few rows")));
        let ancestral = AncestralOptions::default();
        let ancestral =
            Ancestral::with_draws(exact(MASK, 3), process(MASK), levels(steps), fixed.clone(), ancestral, keyed());
        let origin = options(Score::Random, Selection::Bernoulli { passes: steps, t_min: 0.0 });
        let origin = Unmasking::with_draws(exact(MASK, 3), process(MASK), fixed, origin, keyed());
        let ids = |canvas: Result<Canvas, Failure<Infallible>>| canvas.expect("infallible").ids;
        let ours: Vec<_> = origin.expect("sound").map(ids).collect();
        let theirs: Vec<_> = ancestral.expect("sound").map(ids).take(ours.len()).collect();
        assert_eq!(ours, theirs, "{steps} steps");
    }
}

/// Positions drawn at a temperature follow the law of draws without replacement.
#[test]
fn order_temperature_draws_positions_without_replacement() {
    /// The first token gets 0.9, 0.6 or 0.4 by position.
    struct Unequal;
    impl Denoiser for Unequal {
        type Error = Infallible;
        fn denoise(&mut self, _: &ArrayRef2<u32>, _: f64, logits: &mut ArrayRef3<f32>) -> Result<(), Infallible> {
            for ((_, l, v), logit) in logits.indexed_iter_mut() {
                let first = [0.9f32, 0.6, 0.4][l];
                *logit = if v == 0 { first.ln() } else { ((1.0 - first) / 2.0).ln() };
            }
            Ok(())
        }
    }
    let temperature = 0.5;
    let options = UnmaskingOptions {
        order_temperature: temperature,
        filter: Filter::greedy(),
        ..options(Score::Confidence, Selection::Quota { passes: 3 })
    };
    let sampler = Unmasking::new(Unequal, process(MASK), Fixed::none(6000, 3), options).expect("sound");
    let passes: Vec<Canvas> = sampler.map(|canvas| canvas.expect("infallible")).collect();
    let mut counts = vec![0; 9];
    for (first, second) in passes[0].changed.iter().zip(&passes[1].changed) {
        assert_eq!(first.0, second.0, "a position per row and pass");
        counts[3 * first.1 + second.1] += 1;
    }
    let weights = [0.9f64, 0.6, 0.4].map(|score| (score / temperature).exp());
    let total: f64 = weights.iter().sum();
    let law: Vec<f64> = (0..9)
        .map(|k| match (k / 3, k % 3) {
            (a, b) if a == b => 0.0,
            (a, b) => weights[a] / total * weights[b] / (total - weights[a]),
        })
        .collect();
    let (statistic, quantile) = chi_square(&counts, &law);
    assert!(statistic < quantile, "{statistic} {quantile}");
}

/// The exact classifier of y = "the first and the last token agree".
struct Agrees(Source);

impl Agrees {
    fn holds(text: &[u32]) -> bool {
        text[0] == text[text.len() - 1]
    }
}

impl Classifier for Agrees {
    type Error = Infallible;
    fn classify(&mut self, x_t: &ArrayRef2<u32>, _: f64, log_p: &mut ArrayRef1<f64>) -> Result<(), Infallible> {
        for (row, log_p) in x_t.rows().into_iter().zip(log_p) {
            let (mut all, mut yes) = (0.0, 0.0);
            for (n, &p) in self.0.joint.iter().enumerate() {
                let text = digits(n, self.0.len);
                if row.iter().zip(&text).all(|(&x, &v)| x == v || x == TOKENS as u32) {
                    all += p;
                    yes += if Self::holds(&text) { p } else { 0.0 };
                }
            }
            *log_p = (yes / all).ln();
        }
        Ok(())
    }
}

/// Bayes: an exact classifier turns the law into the conditional one, in any order.
#[test]
fn exact_classifier_guidance_is_the_conditional_law() {
    let source = exact(MASK, 3);
    let mut conditional = source.joint.clone();
    conditional.iter_mut().enumerate().filter(|(n, _)| !Agrees::holds(&digits(*n, 3))).for_each(|(_, p)| *p = 0.0);
    let total: f64 = conditional.iter().sum();
    conditional.iter_mut().for_each(|p| *p /= total);
    for score in [Score::Random, Score::Entropy, Score::LeftToRight] {
        let guided = |gamma| {
            move || {
                let (denoiser, classifier) = (exact(MASK, 3), Agrees(exact(MASK, 3)));
                // The error of the pair is that of neither; here neither has one.
                Total(ClassifierGuided::new(denoiser, Every::new(classifier, process(MASK)), gamma).expect("finite"))
            }
        };
        let options = options(score, Selection::Quota { passes: 3 });
        let far = total_variation(&law(3, guided(1.0), &options).0, &conditional);
        assert!(far < 1e-6, "{score:?}: {far:e}");
        let far = total_variation(&law(3, guided(0.0), &options).0, &source.joint);
        assert!(far < 1e-6, "{score:?}, no guidance: {far:e}");
    }
}

/// A denoiser whose error cannot happen.
struct Total<D>(D);

impl<D: Denoiser<Error = Guided<Infallible, Infallible>>> Denoiser for Total<D> {
    type Error = Infallible;
    fn denoise(&mut self, x_t: &ArrayRef2<u32>, t: f64, logits: &mut ArrayRef3<f32>) -> Result<(), Infallible> {
        self.0.denoise(x_t, t, logits).map_err(|e| match e {
            Guided::Denoiser(e) | Guided::Classifier(e) => e,
        })
    }
}

/// Where log p(y | x) is linear in the one-hot rows its first order is all of it.
#[test]
fn first_order_guidance_is_exact_for_linear_classifiers() {
    const WEIGHTS: [f64; 4] = [0.3, -1.2, 2.0, 0.4];
    struct Linear;
    impl Classifier for Linear {
        type Error = Infallible;
        fn classify(&mut self, x_t: &ArrayRef2<u32>, _: f64, log_p: &mut ArrayRef1<f64>) -> Result<(), Infallible> {
            let sum = |row: ndarray::ArrayView1<u32>| {
                row.iter().enumerate().map(|(l, &v)| WEIGHTS[v as usize] * (l + 1) as f64).sum()
            };
            x_t.rows().into_iter().zip(log_p).for_each(|(row, log_p)| *log_p = sum(row));
            Ok(())
        }
    }
    impl Gradient for Linear {
        type Error = Infallible;
        fn gradient(&mut self, _: &ArrayRef2<u32>, _: f64, gradient: &mut ArrayRef3<f32>) -> Result<(), Infallible> {
            gradient.indexed_iter_mut().for_each(|((_, l, v), g)| *g = (WEIGHTS[v] * (l + 1) as f64) as f32);
            Ok(())
        }
    }
    let x_t = Array2::from_shape_vec((2, 3), vec![3, 1, 3, 3, 3, 0]).expect("six ids");
    let (mut exact_logits, mut first_order) = (ndarray::Array3::zeros((2, 3, 4)), ndarray::Array3::zeros((2, 3, 4)));
    let mut all = ClassifierGuided::new(exact(MASK, 3), Every::new(Linear, process(MASK)), 1.7).expect("finite");
    all.denoise(&x_t, 0.5, &mut exact_logits).expect("infallible");
    let mut one = ClassifierGuided::new(exact(MASK, 3), FirstOrder(Linear), 1.7).expect("finite");
    one.denoise(&x_t, 0.5, &mut first_order).expect("infallible");
    for ((b, l), _) in x_t.indexed_iter().filter(|(_, id)| **id == 3) {
        let row = |logits: &ndarray::Array3<f32>| {
            let e: Vec<f64> = (0..TOKENS).map(|v| f64::from(logits[[b, l, v]]).exp()).collect();
            let total: f64 = e.iter().sum();
            e.into_iter().map(|e| e / total).collect::<Vec<_>>()
        };
        assert!(total_variation(&row(&exact_logits), &row(&first_order)) < 1e-6, "row {b}, position {l}");
    }
}

/// Guidance by two exact models: p(x | y)^gamma p(x)^(1 - gamma), renormalised, for one token.
#[test]
fn classifier_free_guidance_is_the_tilted_law() {
    let (free, joint) = (exact(MASK, 1), [0.1, 0.6, 0.3]);
    let given = Source { joint: joint.to_vec(), ..free.clone() };
    for gamma in [0.0, 1.0, 2.5] {
        let guided =
            || ClassifierFree::new(Pair { given: given.clone(), dropped: free.clone() }, gamma).expect("finite");
        let (law, _) = law(1, guided, &options(Score::LeftToRight, Selection::Quota { passes: 1 }));
        let tilted: Vec<f64> =
            joint.iter().zip(&free.joint).map(|(p, u)| p.powf(gamma) * u.powf(1.0 - gamma)).collect();
        let total: f64 = tilted.iter().sum();
        let tilted: Vec<f64> = tilted.iter().map(|p| p / total).collect();
        assert!(total_variation(&law, &tilted) < 1e-6, "gamma {gamma}");
    }
}

/// The exact classifier of a property that a clean token has with probability YES, at any noise.
#[derive(Clone)]
struct Noisy(Source, Limit);

const YES: [f64; TOKENS] = [0.9, 0.2, 0.5];

impl Classifier for Noisy {
    type Error = Infallible;
    fn classify(&mut self, x_t: &ArrayRef2<u32>, t: f64, log_p: &mut ArrayRef1<f64>) -> Result<(), Infallible> {
        for (row, log_p) in x_t.rows().into_iter().zip(log_p) {
            let (mut all, mut yes) = (0.0, 0.0);
            for (n, &p) in self.0.joint.iter().enumerate() {
                let likelihood = process(self.1).marginal(digits(n, 1)[0], 1.0 - t)[row[0] as usize];
                all += p * likelihood;
                yes += p * likelihood * YES[n];
            }
            *log_p = if all > 0.0 { (yes / all).ln() } else { 0.0 };
        }
        Ok(())
    }
}

/// q(x_s | x_t, y) is q(x_s | x_t) p(y | x_s), renormalised: one position follows the law given y in steps of any size,
/// under masks and under uniform noise.
#[test]
fn classified_posteriors_are_those_given_y() {
    for limit in [MASK, Limit::Uniform] {
        let source = Source { conditioning: Conditioning::Others, ..exact(limit, 1) };
        let mut law: Vec<f64> = source.joint.iter().zip(YES).map(|(p, yes)| p * yes).collect();
        let total: f64 = law.iter().sum();
        law.iter_mut().for_each(|p| *p /= total);
        for (steps, gamma) in [(1, 1.0), (3, 1.0), (3, 0.0)] {
            let changes = Every::new(Noisy(source.clone(), limit), process(limit));
            let options = AncestralOptions { seed: 8, ..Default::default() };
            let sampler = Ancestral::new(source.clone(), process(limit), levels(steps), Fixed::none(6000, 1), options)
                .expect("sound");
            let canvas = sampler.classified(changes, gamma).expect("sound").finish().expect("infallible");
            let mut counts = vec![0; TOKENS];
            canvas.ids.iter().for_each(|&id| counts[id as usize] += 1);
            let law = if gamma == 0.0 { &source.joint } else { &law };
            let (statistic, quantile) = chi_square(&counts, law);
            assert!(statistic < quantile, "{limit:?} in {steps} steps, gamma {gamma}: {statistic} {quantile}");
        }
    }
}
