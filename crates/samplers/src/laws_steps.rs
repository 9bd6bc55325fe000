//! One reverse step against independent truths: dense sums, Bayes, other formulas for the same law.

use crate::ancestral::AncestralOptions;
use crate::levels::{Level, Levels};
use crate::noise::Noise;
use crate::reverse::{Reverse, Scratch, Step};
use crate::revise::kappa_of;
use crate::source::{CONDITIONINGS, MASK, TOKENS, process};
use crate::{Conditioning, Output, Revise, Rule, Steps};
use galatea_processes::rates::{reverse_rates, undo_step};
use galatea_processes::{Hybrid, Limit, Scheduled, TokenProcess};
use galatea_schedules::{Linear, Schedule};
use proptest::prelude::*;

pub(crate) fn level(t: f64) -> Level {
    Level { t, alpha_bar: Linear.alpha_bar(t) }
}

pub(crate) fn step(revise: &Revise, here: Level, there: Level) -> Step {
    let sigma = revise.sigma(0, here, there);
    let kappa = kappa_of(sigma, there.alpha_bar);
    Step { here, there, slope: 1.0, sigma, kappa, clean: false, last: false }
}

/// The law of x_s given x_t and logits, whatever the rule: exact, with the draws of x_0 summed over.
pub(crate) fn kernel(noise: &Noise, options: &AncestralOptions, step: Step, x_t: u32, logits: &[f32]) -> Vec<f64> {
    let vocab = noise.vocab();
    let mut scratch = Scratch::new(vocab);
    let mut reverse =
        Reverse { noise, options, step, x_t, logits, dropped: None, classified: None, scratch: &mut scratch };
    let written = noise.absorbing().is_some_and(|mask| mask != x_t);
    let mut law = vec![0.0; vocab];
    let mut mix = |weight: f64, q: &[f64]| {
        let total: f64 = q.iter().filter(|q| **q > 0.0).sum();
        law.iter_mut().zip(q).for_each(|(law, q)| *law += weight * q.max(0.0) / total);
    };
    match options.rule {
        Rule::Posterior => assert!(reverse.weigh_posterior()),
        Rule::Tweedie => assert!(reverse.weigh_tweedie()),
        Rule::Euler => assert!(reverse.weigh_euler()),
        Rule::Sampled | Rule::Flow { .. } => {
            let mut clean = vec![0.0; vocab];
            if written {
                clean[x_t as usize] = 1.0;
            } else {
                assert!(reverse.predict_all());
                clean.copy_from_slice(&reverse.scratch.p);
            }
            for (x_0, &p) in clean.iter().enumerate().filter(|(_, p)| **p > 0.0) {
                let hot: Vec<f64> = (0..vocab).map(|k| f64::from(u8::from(k == x_0))).collect();
                match options.rule {
                    Rule::Flow { divergence_free } => {
                        let total = reverse.weigh_flow(divergence_free, x_0 as u32);
                        let jump = -(-(step.here.t - step.there.t) * total).exp_m1();
                        if jump > 0.0 {
                            mix(p * jump, &reverse.scratch.q);
                        }
                        let stay: Vec<f64> = (0..vocab).map(|k| f64::from(u8::from(k == x_t as usize))).collect();
                        mix(p * (1.0 - jump), &stay);
                    }
                    Rule::Posterior | Rule::Tweedie | Rule::Euler | Rule::Sampled => {
                        let mut q = vec![0.0; vocab];
                        noise.posterior(step.here, step.there, x_t, &hot, &mut q);
                        mix(p, &q);
                    }
                }
            }
            return law;
        }
    }
    mix(1.0, &reverse.scratch.q);
    law
}

/// A law of one token and the logits that say it.
fn one_token(weights: &[f64], vocab: usize) -> (Vec<f64>, Vec<f32>) {
    let total: f64 = weights.iter().sum();
    let p: Vec<f64> = (0..vocab).map(|k| weights.get(k).copied().unwrap_or(0.0) / total).collect();
    let logits = p.iter().map(|p| p.ln() as f32).collect();
    (p, logits)
}

fn options(rule: Rule) -> AncestralOptions {
    AncestralOptions { rule, ..Default::default() }
}

fn far(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

fn weights() -> impl Strategy<Value = Vec<f64>> {
    proptest::collection::vec(0.05f64..1.0, TOKENS)
}

/// Revisions within what their sigma allows, for the two limits.
fn revisions(limit: Limit) -> Vec<Revise> {
    let mut revisions = vec![Revise::Never, Revise::Profile(vec![0.3])];
    revisions.extend([0.0, 0.4, 1.0].map(|kappa| Revise::Renoise { kappa }));
    revisions.extend([0.02, 0.5, 1.0].map(Revise::cap));
    revisions.extend([0.1, 0.9].map(Revise::rescale));
    revisions.push(Revise::Loop { sigma: 0.1, t_on: 1.0, t_off: 0.0 });
    if limit == MASK {
        revisions.push(Revise::Confidence { scale: 0.6 });
    }
    revisions
}

proptest! {
    /// The law at t goes over into the law at s, for every revision and rule that claims it, in a step of any size.
    #[test]
    fn steps_keep_the_marginals(weights in weights(), t in 0.2f64..0.99, cut in 0.0f64..0.9, mask: bool) {
        let limit = if mask { MASK } else { Limit::Uniform };
        let (noise, (here, there)) = (Noise::Levels(process(limit)), (level(t), level(t * cut)));
        let (p, logits) = one_token(&weights, noise.vocab());
        let (mut q_t, mut q_s) = (vec![0.0; noise.vocab()], vec![0.0; noise.vocab()]);
        noise.forward(here, &p, &mut q_t);
        noise.forward(there, &p, &mut q_s);
        let mut cases: Vec<(Rule, Revise)> = revisions(limit).into_iter().map(|r| (Rule::Posterior, r)).collect();
        cases.extend([Rule::Sampled, Rule::Tweedie].map(|rule| (rule, Revise::Never)));
        for (rule, revise) in cases {
            // The loop's sigma is a constant of the caller's, sound up to here.
            if revise.sigma(0, here, there) > ((1.0 - there.alpha_bar) / here.alpha_bar).min(1.0) {
                continue;
            }
            let step = step(&revise, here, there);
            let mut law = vec![0.0; noise.vocab()];
            for (x_t, &weight) in q_t.iter().enumerate() {
                let q = kernel(&noise, &options(rule), step, x_t as u32, &logits);
                law.iter_mut().zip(q).for_each(|(law, q)| *law += weight * q);
            }
            prop_assert!(far(&law, &q_s) < 1e-6, "{rule:?} {revise:?}: {law:?} {q_s:?}");
        }
    }

    /// kappa = 1 is ancestral sampling, kappa = 0 forgets x_t but for what it says about x_0.
    #[test]
    fn psi_ends_at_ancestral_and_at_renoising(weights in weights(), t in 0.2f64..0.99, cut in 0.0f64..0.9, x_t in 0..TOKENS as u32) {
        let (noise, (here, there)) = (Noise::Levels(process(Limit::Uniform)), (level(t), level(t * cut)));
        let (p, logits) = one_token(&weights, TOKENS);
        let law = |kappa| kernel(&noise, &options(Rule::Posterior), step(&Revise::Renoise { kappa }, here, there), x_t, &logits);
        let (mut q, mut q_0, mut again) = (vec![0.0; TOKENS], vec![0.0; TOKENS], vec![0.0; TOKENS]);
        noise.posterior(here, there, x_t, &p, &mut q);
        noise.posterior(here, level(0.0), x_t, &p, &mut q_0);
        noise.forward(there, &q_0, &mut again);
        prop_assert!(far(&law(1.0), &q) < 1e-6 && far(&law(0.0), &again) < 1e-6);
        let mixed: Vec<f64> = q.iter().zip(&again).map(|(q, again)| 0.3 * q + 0.7 * again).collect();
        prop_assert!(far(&law(0.3), &mixed) < 1e-6);
    }

    /// psi = ReMDM: under the mask limit the general formula, written out with posterior and forward process, is the
    /// formula of remasking with sigma = (1 - kappa)(1 - alpha_bar_s).
    #[test]
    fn psi_equals_remdm(weights in weights(), t in 0.2f64..0.99, cut in 0.0f64..0.9, kappa in 0.0f64..1.0, x_t in 0..=TOKENS as u32) {
        let (noise, (here, there)) = (Noise::Levels(process(MASK)), (level(t), level(t * cut)));
        let (mut p, logits) = one_token(&weights, TOKENS + 1);
        let law = kernel(&noise, &options(Rule::Posterior), step(&Revise::Renoise { kappa }, here, there), x_t, &logits);
        if x_t < TOKENS as u32 {
            p = (0..=TOKENS as u32).map(|k| f64::from(u8::from(k == x_t))).collect();
        }
        let (mut q, mut q_0, mut again) = (vec![0.0; TOKENS + 1], vec![0.0; TOKENS + 1], vec![0.0; TOKENS + 1]);
        noise.posterior(here, there, x_t, &p, &mut q);
        noise.posterior(here, level(0.0), x_t, &p, &mut q_0);
        noise.forward(there, &q_0, &mut again);
        let psi: Vec<f64> = q.iter().zip(&again).map(|(q, again)| kappa * q + (1.0 - kappa) * again).collect();
        prop_assert!(far(&law, &psi) < 1e-6, "{law:?} {psi:?}");
    }

    /// Tweedie's rule, discrete DDIM and the posterior are one law, for each meaning of the model's p.
    #[test]
    fn tweedie_and_ddim_equal_the_posterior(weights in weights(), t in 0.2f64..0.99, cut in 0.0f64..0.9, x_t in 0..TOKENS as u32, mask: bool, all: bool) {
        let limit = if mask { MASK } else { Limit::Uniform };
        let (noise, x_t) = (Noise::Levels(process(limit)), if mask { TOKENS as u32 } else { x_t });
        let (_, logits) = one_token(&weights, noise.vocab());
        let step = step(&Revise::Never, level(t), level(t * cut));
        let law = |rule| {
            let conditioning = CONDITIONINGS[usize::from(all)];
            kernel(&noise, &AncestralOptions { rule, conditioning, ..Default::default() }, step, x_t, &logits)
        };
        let posterior = law(Rule::Posterior);
        prop_assert!(far(&law(Rule::Tweedie), &posterior) < 1e-12);
        prop_assert!(far(&law(Rule::Sampled), &posterior) < 1e-12);
    }

    /// A model of scores and a model of clean tokens that say the same are the same sampler.
    #[test]
    fn scores_say_what_clean_tokens_say(weights in weights(), t in 0.2f64..0.99, cut in 0.0f64..0.9, x_t in 0..TOKENS as u32, mask: bool) {
        let limit = if mask { MASK } else { Limit::Uniform };
        let (noise, x_t) = (Noise::Levels(process(limit)), if mask { TOKENS as u32 } else { x_t });
        let (p, logits) = one_token(&weights, noise.vocab());
        let mut q_t = vec![0.0; noise.vocab()];
        noise.forward(level(t), &p, &mut q_t);
        // The number at the present token is not read.
        let scores: Vec<f32> = (0..noise.vocab())
            .map(|k| if k == x_t as usize { 77.0 } else { (q_t[k] / q_t[x_t as usize]).ln() as f32 }).collect();
        let step = step(&Revise::Never, level(t), level(t * cut));
        for rule in [Rule::Posterior, Rule::Tweedie, Rule::Euler, Rule::Sampled] {
            let law = |output, logits: &[f32]| {
                kernel(&noise, &AncestralOptions { rule, output, ..Default::default() }, step, x_t, logits)
            };
            let (a, b) = (law(Output::Score, &scores), law(Output::Clean, &logits));
            prop_assert!(far(&a, &b) < 1e-5, "{rule:?}: {a:?} {b:?}");
        }
    }

    /// The rules by scores are those that the process's own rates give: the step undone, times the likelihood of x_t; and
    /// the indicator of x_t plus the reversed rates times the step.
    #[test]
    fn scores_move_as_the_rates_of_the_process_say(weights in weights(), t in 0.2f64..0.9, h in 0.01f64..0.1, x_t in 0..TOKENS as u32, mask: bool) {
        let limit = if mask { MASK } else { Limit::Uniform };
        let (noise, x_t) = (Noise::Levels(process(limit)), if mask { TOKENS as u32 } else { x_t });
        let clocked = Scheduled::new(process(limit), Linear);
        let (p, logits) = one_token(&weights, noise.vocab());
        let mut q_t = vec![0.0; noise.vocab()];
        noise.forward(level(t), &p, &mut q_t);
        let scores: Vec<f64> = q_t.iter().map(|q| q / q_t[x_t as usize]).collect();
        let step = step(&Revise::Never, level(t), level(t - h));
        let law = |rule| kernel(&noise, &options(rule), step, x_t, &logits);
        let mut undone = scores.clone();
        undo_step(&clocked, t, t - h, &mut undone);
        clocked.weigh(t, t - h, x_t, &mut undone);
        let total: f64 = undone.iter().sum();
        undone.iter_mut().for_each(|q| *q /= total);
        prop_assert!(far(&law(Rule::Tweedie), &undone) < 1e-6);
        let (log_scores, mut rates): (Vec<f64>, _) = (scores.iter().map(|s| s.ln()).collect(), vec![0.0; noise.vocab()]);
        reverse_rates(&clocked, t, x_t, &log_scores, &mut rates);
        let mut euler: Vec<f64> = rates.iter().map(|rate| h * rate).collect();
        euler[x_t as usize] += 1.0;
        if euler.iter().all(|q| *q >= 0.0) {
            prop_assert!(far(&law(Rule::Euler), &euler) < 1e-6, "{:?} {euler:?}", law(Rule::Euler));
        }
    }

    /// Euler leaves the posterior by the square of the step, and under the mask limit the flow does. (Under uniform noise
    /// the flow is another chain with the same marginals: it goes to clean tokens only.)
    #[test]
    fn euler_and_flow_are_of_first_order(weights in weights(), t in 0.2f64..0.9, x_t in 0..TOKENS as u32, mask: bool) {
        let limit = if mask { MASK } else { Limit::Uniform };
        let (noise, x_t) = (Noise::Levels(process(limit)), if mask { TOKENS as u32 } else { x_t });
        let (_, logits) = one_token(&weights, noise.vocab());
        let rules: &[Rule] = if mask { &[Rule::Euler, Rule::Flow { divergence_free: 0.0 }] } else { &[Rule::Euler] };
        for &rule in rules {
            let error = |h: f64| {
                let step = step(&Revise::Never, level(t), level(t - h));
                let law = |rule| kernel(&noise, &options(rule), step, x_t, &logits);
                far(&law(rule), &law(Rule::Posterior))
            };
            let (coarse, fine) = (error(0.02), error(0.002));
            prop_assert!(coarse < 0.04 && fine <= coarse * 0.02 + 1e-7, "{rule:?}: {coarse:e} {fine:e}");
        }
    }

    /// A flow keeps the marginals up to the square of the step, whatever its part without divergence.
    #[test]
    fn flows_keep_the_marginals(weights in weights(), t in 0.2f64..0.8, c in prop_oneof![Just(0.0), 0.1f64..2.0], mask: bool) {
        let limit = if mask { MASK } else { Limit::Uniform };
        let noise = Noise::Levels(process(limit));
        let (p, logits) = one_token(&weights, noise.vocab());
        let error = |h: f64| {
            let (here, there) = (level(t), level(t - h));
            let (mut q_t, mut q_s) = (vec![0.0; noise.vocab()], vec![0.0; noise.vocab()]);
            noise.forward(here, &p, &mut q_t);
            noise.forward(there, &p, &mut q_s);
            let mut law = vec![0.0; noise.vocab()];
            for (x_t, &weight) in q_t.iter().enumerate() {
                let rule = Rule::Flow { divergence_free: c };
                let q = kernel(&noise, &options(rule), step(&Revise::Never, here, there), x_t as u32, &logits);
                law.iter_mut().zip(q).for_each(|(law, q)| *law += weight * q);
            }
            far(&law, &q_s)
        };
        let (coarse, fine) = (error(0.02), error(0.002));
        prop_assert!(fine <= coarse * 0.03 + 1e-6, "{coarse:e} {fine:e}");
    }

    /// GIDD's step, q_ts(z_t | .) q_s(.) / q_t(z_t), is the posterior of the hybrid process.
    #[test]
    fn the_hybrid_posterior_is_bayes(weights in weights(), t in 0.2f64..0.99, cut in 0.05f64..0.9, x_t in 0..=TOKENS as u32, p_u in 0.0f64..0.5) {
        let hybrid = Hybrid::new(TOKENS + 1, TOKENS as u32, p_u, 1.0).expect("sound");
        let noise = Noise::Clock(Box::new(hybrid));
        prop_assert_eq!(noise.blank(), Some(TOKENS as u32));
        let (p, logits) = one_token(&weights, TOKENS + 1);
        let s = t * cut;
        let law = kernel(&noise, &options(Rule::Posterior), step(&Revise::Never, level(t), level(s)), x_t, &logits);
        let (mut q_t, mut bayes) = (vec![0.0; TOKENS + 1], vec![0.0; TOKENS + 1]);
        hybrid.marginal(t, &p, &mut q_t);
        hybrid.marginal(s, &p, &mut bayes);
        hybrid.weigh(t, s, x_t, &mut bayes);
        bayes.iter_mut().for_each(|q| *q /= q_t[x_t as usize]);
        // Without uniform tokens a written one has been written once.
        if q_t[x_t as usize] > 1e-9 {
            prop_assert!(far(&law, &bayes) < 1e-6, "{law:?} {bayes:?}");
        }
    }

    /// The three routes draw from the posterior: the share of a fine grid of uniforms that leads to each token.
    #[test]
    fn routes_equal_the_posterior(logits in proptest::collection::vec(-3f32..3.0, TOKENS), x_t in 0..=TOKENS as u32, t in 0.3f64..1.0, cut in 0.0f64..0.9, mask: bool, all: bool, kappa in 0.0f64..1.0) {
        let limit = if mask { MASK } else { Limit::Uniform };
        let noise = Noise::Levels(process(limit));
        let (mut logits, x_t) = (logits, if mask { x_t } else { x_t.min(TOKENS as u32 - 1) });
        if mask { logits.push(f32::NEG_INFINITY) }
        let options = AncestralOptions { conditioning: CONDITIONINGS[usize::from(all)], ..Default::default() };
        // What is taken back has routes under the mask limit only.
        let revise = if mask { Revise::Renoise { kappa } } else { Revise::Never };
        let step = step(&revise, level(t), level(t * cut));
        let q = kernel(&noise, &options, step, x_t, &logits);
        let mut scratch = Scratch::new(noise.vocab());
        let mut reverse = Reverse { noise: &noise, options: &options, step, x_t, logits: &logits, dropped: None, classified: None, scratch: &mut scratch };
        let n = 200;
        let mut share = vec![0.0; noise.vocab()];
        for i in 0..n * n {
            let u = [((i / n) as f64 + 0.5) / n as f64, ((i % n) as f64 + 0.5) / n as f64];
            share[reverse.route(u).expect("finite") as usize] += 1.0 / (n * n) as f64;
        }
        for (share, q) in share.iter().zip(&q) {
            prop_assert!((share - q).abs() < 2.5 / n as f64, "{share} {q}");
        }
    }
}

/// The numbers of Duo's recorded profiles, and the corrector as the remasking that it is.
#[test]
fn kappas_are_those_of_the_published_profiles() {
    let grid = [1.0, 0.833335, 0.66667, 0.500005, 0.33334];
    let schedule = galatea_schedules::LogLinear::default();
    let (here, there) = Steps::from(Levels::new(&schedule, &grid).expect("descends")).as_slice()[3];
    assert!((Revise::cap(0.1).kappa(3, here, there) - 0.699_705_72).abs() < 1e-6);
    let (here, there) = Steps::from(Levels::new(&schedule, &[0.4, 0.4]).expect("rests")).as_slice()[0];
    let published = Revise::Remask { cap: 0.3, scale: 0.3 };
    assert!((published.kappa(0, here, there) - 0.774_774_8).abs() < 1e-6);
    let (here, there) = Steps::from(Levels::corrected(8, 1e-5).expect("sound")).as_slice()[4];
    let b = 10.0 * (here.t * (1.0 - here.t)).powf(0.25);
    let sigma = Revise::Corrector.sigma(4, here, there);
    let write = (there.alpha_bar - (1.0 - sigma) * here.alpha_bar) / (1.0 - here.alpha_bar);
    assert!((write - (b + 1.0) * (there.alpha_bar - here.alpha_bar) / (1.0 - here.alpha_bar)).abs() < 1e-12);
    assert_eq!(Conditioning::default(), Conditioning::Others);
}
