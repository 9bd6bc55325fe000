//! The law of whole texts, computed exactly: every canvas of a tiny vocabulary, step by step, no draws.

use crate::ancestral::AncestralOptions;
use crate::laws_steps::{kernel, step};
use crate::levels::Levels;
use crate::noise::Noise;
use crate::source::*;
use crate::*;
use galatea_processes::{Denoiser, Dense, Hybrid, Limit, TokenProcess};
use galatea_schedules::{Linear, LogLinear, grid};
use ndarray::{Array2, Array3, ArrayRef2, ArrayRef3};
use std::convert::Infallible;

/// The law of the sampler's last canvas over all vocab^len texts.
fn law_of(limit: Limit, len: usize, levels: &Levels, options: &AncestralOptions) -> Vec<f64> {
    let noise = Noise::Levels(process(limit));
    let vocab = noise.vocab();
    let count = vocab.pow(len as u32);
    let text = |n: usize| -> Vec<u32> { (0..len).map(|l| (n / vocab.pow(l as u32) % vocab) as u32).collect() };
    let mut denoiser = Source { conditioning: options.conditioning, ..exact(limit, len) };
    let mut law: Vec<f64> = (0..count).map(|n| text(n).iter().map(|&k| noise.pi(k)).product()).collect();
    let mut logits = Array3::zeros((1, len, vocab));
    let steps = Steps::from(levels.clone());
    for (i, &(here, there)) in steps.as_slice().iter().enumerate() {
        let mut now = crate::reverse::Step { slope: steps.slope(i), ..step(&options.revise, here, there) };
        now.sigma = options.revise.sigma(i, here, there);
        let mut next = vec![0.0; count];
        for n in (0..count).filter(|&n| law[n] > 0.0) {
            let x_t = Array2::from_shape_vec((1, len), text(n)).expect("one text");
            denoiser.denoise(&x_t, here.t, &mut logits).expect("infallible");
            if let Limit::Mask(mask) = limit {
                logits.index_axis_mut(ndarray::Axis(2), mask as usize).fill(f32::NEG_INFINITY);
            }
            let rows: Vec<Vec<f64>> = (0..len)
                .map(|l| {
                    let row: Vec<f32> = (0..vocab).map(|k| logits[[0, l, k]]).collect();
                    kernel(&noise, options, now, x_t[[0, l]], &row)
                })
                .collect();
            for (m, next) in next.iter_mut().enumerate() {
                *next += law[n] * text(m).iter().zip(&rows).map(|(&k, row)| row[k as usize]).product::<f64>();
            }
        }
        law = next;
    }
    law
}

/// The total variation between the law of the texts and the source's.
fn variation(limit: Limit, len: usize, levels: &Levels, options: &AncestralOptions) -> f64 {
    let law = law_of(limit, len, levels, options);
    assert!((law.iter().sum::<f64>() - 1.0).abs() < 1e-9);
    let vocab = process(limit).vocab();
    let source = exact(limit, len);
    let mut seen = 0.0;
    let mut distance = 0.0;
    for (n, &truth) in source.joint.iter().enumerate() {
        let code: usize = digits(n, len).iter().enumerate().map(|(l, &k)| k as usize * vocab.pow(l as u32)).sum();
        distance += (law[code] - truth).abs();
        seen += law[code];
    }
    0.5 * (distance + 1.0 - seen)
}

/// Every rule and every admissible revision comes to the law of an exact denoiser, and faster steps are worse.
#[test]
fn texts_come_to_the_law_as_steps_get_small() {
    let others = AncestralOptions::default;
    let mut cases: Vec<(Limit, AncestralOptions, f64)> = Vec::new();
    for limit in [MASK, Limit::Uniform] {
        for rule in [Rule::Posterior, Rule::Sampled, Rule::Tweedie, Rule::Euler, Rule::Flow { divergence_free: 0.0 }] {
            cases.push((limit, AncestralOptions { rule, ..others() }, 0.02));
        }
        let rule = Rule::Flow { divergence_free: 0.5 };
        cases.push((limit, AncestralOptions { rule, ..others() }, 0.03));
        for revise in [Revise::cap(0.05), Revise::rescale(0.05), Revise::Renoise { kappa: 0.95 }] {
            cases.push((limit, AncestralOptions { revise, ..others() }, 0.03));
        }
    }
    cases.push((Limit::Uniform, AncestralOptions { conditioning: Conditioning::All, ..others() }, 0.02));
    for (limit, options, bound) in cases {
        // The rules by rates need some signal to begin with.
        let run = |steps: usize| {
            let times: Vec<f64> = grid::with_floor(steps, 1e-4).iter().map(|t| t * 0.999).collect();
            variation(limit, 2, &Levels::new(&Linear, &times).expect("descends"), &options)
        };
        let (few, many) = (run(6), run(96));
        assert!(many < bound && many < few * 0.5, "{limit:?} {options:?}: {few:.4} {many:.4}");
    }
}

/// Where time goes on, what is taken back must be written again, more positions at once: an exact denoiser gains nothing.
#[test]
fn remasking_on_the_way_is_no_repair() {
    for steps in [6, 24] {
        let levels = Levels::new(&Linear, &grid::with_floor(steps, 1e-4)).expect("descends");
        let run = |revise| variation(MASK, 2, &levels, &AncestralOptions { revise, ..Default::default() });
        let (never, rescaled) = (run(Revise::Never), run(Revise::rescale(0.3)));
        assert!(never < rescaled, "{steps}: {never:.4} {rescaled:.4}");
    }
}

/// ReMDM's loop repairs what too few steps have spoilt: on the plateau tokens are drawn again one by one.
#[test]
fn a_loop_repairs() {
    let loops = 60;
    let run = |revise| {
        let rest = (0..=loops).map(|i| (0.7 - 0.4 * f64::from(i) / f64::from(loops), 0.9));
        let pairs = [(1.0, 0.0), (0.9, 0.45)].into_iter().chain(rest).chain([(0.0, 1.0)]);
        let levels = Levels::from_pairs(pairs).expect("never rises");
        variation(MASK, 2, &levels, &AncestralOptions { revise, ..Default::default() })
    };
    let (never, looped) = (run(Revise::Never), run(Revise::Loop { sigma: 0.05, t_on: 0.7, t_off: 0.3 }));
    assert!(looped < 0.3 * never, "{never:.4} {looped:.4}");
}

/// The present tokens' own conditional law keeps the joint law at its level, position by position.
#[test]
fn gibbs_restores_the_law() {
    let correct = |sweeps| {
        let corrector = Some(Gibbs { sweeps, positions: 1, pick: Pick::Random });
        let options = AncestralOptions { seed: 3, corrector, ..Default::default() };
        let levels = Levels::new(&Linear, &[1.0, 0.5, 0.3]).expect("descends");
        let options = AncestralOptions { noise_removal: NoiseRemoval::Off, ..options };
        let sampler =
            Ancestral::new(exact(Limit::Uniform, 2), process(Limit::Uniform), levels, Fixed::none(4000, 2), options);
        sampler.expect("sound").finish().expect("infallible")
    };
    // The truth: the source's law under the noise that is left.
    let (source, mut law) = (exact(Limit::Uniform, 2), vec![0.0; 9]);
    for (n, &p) in source.joint.iter().enumerate() {
        for (m, law) in law.iter_mut().enumerate() {
            let keep = |l: usize| {
                let same = digits(n, 2)[l] == digits(m, 2)[l];
                0.7 * f64::from(u8::from(same)) + 0.3 / TOKENS as f64
            };
            *law += p * keep(0) * keep(1);
        }
    }
    let statistic = |canvas: &Canvas| {
        let mut counts = vec![0; 9];
        canvas.ids.rows().into_iter().for_each(|row| counts[number(row.iter().copied())] += 1);
        chi_square(&counts, &law)
    };
    let (spoilt, quantile) = statistic(&correct(0));
    assert!(spoilt > quantile, "two steps are too few: {spoilt}");
    let corrected = correct(12);
    let (statistic, quantile) = statistic(&corrected);
    assert!(statistic < quantile, "{statistic}");
    assert_eq!(corrected.calls, 2 + 2 * 12);
}

/// A corrector that looks for doubt changes the texts where a random one might not.
#[test]
fn a_greedy_corrector_picks_the_doubtful() {
    let pick = Pick::Margin { temperature: 1e-6 };
    let mut keyed = Keyed::new(1, 0, (1, 2)).expect("two rows");
    let sure = pick.key(&[0.9, 0.05, 0.05], 0, &mut keyed, At { step: 0, row: 0 });
    let doubtful = pick.key(&[0.2, 0.6, 0.2], 0, &mut keyed, At { step: 0, row: 1 });
    assert!(doubtful > sure);
}

/// A model that says the same law of one token whatever it sees.
#[derive(Clone)]
struct OneToken(Vec<f64>);

impl Denoiser for OneToken {
    type Error = Infallible;
    fn denoise(&mut self, _: &ArrayRef2<u32>, _: f64, logits: &mut ArrayRef3<f32>) -> Result<(), Infallible> {
        logits.indexed_iter_mut().for_each(|((_, _, k), logit)| *logit = self.0.get(k).map_or(3.0, |p| p.ln() as f32));
        Ok(())
    }
}

/// Any process: with one position the canvas at every time is a draw of its marginal.
#[test]
fn marginals_of_any_process_are_the_forward_ones() {
    let p = vec![0.5, 0.2, 0.3];
    let follow = |process: Box<dyn TokenProcess + Send>, truth: &dyn TokenProcess, times: &[f64], what: &str| {
        let options = AncestralOptions { seed: 9, noise_removal: NoiseRemoval::Off, ..Default::default() };
        let mut padded = p.clone();
        padded.resize(truth.vocab(), 0.0);
        let sampler = Ancestral::of(OneToken(p.clone()), process, times, Fixed::none(4000, 1), options).expect("sound");
        for canvas in sampler {
            let canvas = canvas.expect("infallible");
            let mut law = vec![0.0; truth.vocab()];
            truth.marginal(canvas.t, &padded, &mut law);
            let mut counts = vec![0; truth.vocab()];
            canvas.ids.iter().for_each(|&id| counts[id as usize] += 1);
            let (statistic, quantile) = chi_square(&counts, &law);
            assert!(statistic < quantile, "{what} at {}: {statistic}", canvas.t);
        }
    };
    let hybrid = Hybrid::new(4, 3, 0.2, 1.0).expect("sound");
    follow(Box::new(hybrid), &hybrid, &[1.0, 0.8, 0.5, 0.2, 0.01], "hybrid");
    let uniform = process(Limit::Uniform);
    let rungs = [0.1, 0.2, 0.4, 1.0];
    let dense = Dense::new(rungs.iter().map(|beta| uniform.transition(1.0 - beta)).collect()).expect("stochastic");
    follow(Box::new(dense.clone()), &dense, &[1.0, 0.75, 0.5, 0.25, 0.0], "matrices");
    let masked = galatea_processes::Scheduled::new(process(MASK), LogLinear::new(1e-9).expect("small"));
    follow(Box::new(masked), &masked, &[1.0, 0.6, 0.3, 0.1], "masks by the clock");
}

/// What follows what was written: confidence keeps the marginal of the masks, in expectation over all positions.
#[test]
fn confidence_takes_back_what_was_doubtful() {
    let p = vec![0.6, 0.2, 0.2];
    let options = AncestralOptions { seed: 4, revise: Revise::Confidence { scale: 1.0 }, ..Default::default() };
    let levels = Levels::new(&Linear, &grid::uniform(12)).expect("descends");
    let sampler = Ancestral::new(OneToken(p), process(MASK), levels, Fixed::none(500, 8), options).expect("sound");
    let (mut likely, mut rare) = ([0usize; 2], [0usize; 2]);
    let mut before = sampler.canvas().ids.clone();
    for canvas in sampler {
        let canvas = canvas.expect("infallible");
        for (old, new) in before.rows().into_iter().zip(canvas.ids.rows()) {
            // Only texts that hold both kinds compare them.
            let kind = |rare: bool| old.iter().filter(move |&&id| id != TOKENS as u32 && (id != 0) == rare).count();
            if kind(true) != kind(false) {
                continue;
            }
            for (&old, &new) in old.iter().zip(new).filter(|(old, _)| **old != TOKENS as u32) {
                let counts = if old == 0 { &mut likely } else { &mut rare };
                counts[0] += 1;
                counts[1] += usize::from(new == TOKENS as u32);
            }
        }
        before = canvas.ids;
    }
    assert!(before.iter().all(|&id| id != TOKENS as u32), "the last level is clean");
    let rate = |counts: [usize; 2]| counts[1] as f64 / counts[0] as f64;
    assert!((rate(rare) / rate(likely) - 0.4f64.exp()).abs() < 0.25 && likely[1] > 0, "{rare:?} {likely:?}");
}

/// The source under the noise of any process: p(x_0 at a position | the noisy tokens at the others).
struct Noisy<P>(Source, P);

impl<P: TokenProcess> Denoiser for Noisy<P> {
    type Error = Infallible;
    fn denoise(&mut self, x_t: &ArrayRef2<u32>, t: f64, logits: &mut ArrayRef3<f32>) -> Result<(), Infallible> {
        let (vocab, len) = (self.1.vocab(), x_t.ncols());
        for (row, text) in x_t.rows().into_iter().enumerate() {
            // likelihood[l][k] = q(x_t at l | x_0 = k).
            let likelihood: Vec<Vec<f64>> = text
                .iter()
                .map(|&token| {
                    let mut q = vec![1.0; vocab];
                    self.1.weigh(t, 0.0, token, &mut q);
                    q
                })
                .collect();
            let mut p = vec![[0.0; TOKENS]; len];
            for (n, &weight) in self.0.joint.iter().enumerate() {
                let clean = digits(n, len);
                for l in 0..len {
                    let others = (0..len).filter(|&k| k != l);
                    let evidence: f64 = others.map(|k| likelihood[k][clean[k] as usize]).product();
                    p[l][clean[l] as usize] += weight * evidence;
                }
            }
            for ((l, v), logit) in
                (0..len).flat_map(|l| (0..vocab).map(move |v| (l, v))).zip(logits.index_axis_mut(ndarray::Axis(0), row))
            {
                *logit = p[l].get(v).map_or(9.0, |p| p.ln() as f32);
            }
        }
        Ok(())
    }
}

/// Hybrid noise and matrices come to the law of an exact denoiser like the closed forms.
#[test]
fn texts_of_any_process_follow_the_law() {
    fn follow<P: TokenProcess + Clone + Send + 'static>(process: P, grid: &[f64], what: &str) {
        let source = exact(MASK, 2);
        let options = AncestralOptions { seed: 17, ..Default::default() };
        let denoiser = Noisy(source.clone(), process.clone());
        let sampler = Ancestral::of(denoiser, process, grid, Fixed::none(3000, 2), options).expect("sound");
        let canvas = sampler.finish().expect("infallible");
        let mut counts = vec![0; TOKENS.pow(2)];
        canvas.ids.rows().into_iter().for_each(|row| counts[number(row.iter().copied())] += 1);
        let (statistic, quantile) = chi_square(&counts, &source.joint);
        assert!(statistic < quantile, "{what}: {statistic}");
    }
    let grid = grid::with_floor(150, 1e-3);
    follow(Hybrid::new(4, 3, 0.2, 1.0).expect("sound"), &grid, "hybrid");
    follow(Hybrid::new(4, 3, 0.0, 1.0).expect("sound"), &grid, "hybrid without uniform tokens");
    // beta_t = 1 / (T - t + 1): alpha_bar falls evenly to 0.
    let (steps, uniform) = (120, process(Limit::Uniform));
    let matrices = (0..steps).map(|i| uniform.transition(1.0 - 1.0 / f64::from(steps - i))).collect();
    let dense = Dense::new(matrices).expect("stochastic");
    let times: Vec<f64> = (0..=steps).rev().map(|i| f64::from(i) / f64::from(steps)).collect();
    follow(dense, &times, "matrices");
}
