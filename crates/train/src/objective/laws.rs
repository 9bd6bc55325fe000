//! What a recording measures is what the host functions of `galatea-processes` say, on the tokens that they noise.

use super::dense;
use super::tokens::{Form, Moment};
use super::{D3pm, Draw, Flow, Gidd, Masked, Objective, ObjectiveConfig, Purpose, Sedd, T_MIN, Uniform, Weighting};
use crate::config::ProcessKind;
use crate::run::stream as host_stream;
use galatea_autograd::{DType, Init, Part, Recorder, Session};
use galatea_kernels::{Cpu, Op};
use galatea_models::Model;
use galatea_processes::dense::{nearest_neighbour_rates, neighbour_walk_rates};
use galatea_processes::objectives::answer::{restore_prompts, share};
use galatea_processes::objectives::{Batch, batch, d3pm, flow, interpolating, masked, score_entropy, uniform};
use galatea_processes::times::quantise;
use galatea_processes::{Categorical, Dense, Limit, Scheduled, TokenProcess};
use galatea_random::Philox;
use galatea_schedules::{AnySchedule, Schedule};
use ndarray::{Array2, Array3};
use std::sync::Arc;

const BATCH: usize = 6;
const LEN: usize = 9;
const VOCAB: usize = 7;
const SEED: u64 = 11;
const TRAIN: Purpose = Purpose::Train { share: 1.0 };

fn objective(kind: ProcessKind, loss: ObjectiveConfig, schedule: &str) -> Objective {
    let schedule = schedule.parse().expect("a schedule");
    Objective { kind, loss, schedule, model: Model::default(), vocab: VOCAB, len: LEN, prompts: false, chain: None }
}

/// Tokens of each row's prompt.
const PROMPTS: [usize; BATCH] = [0, 1, 3, 8, 4, 2];

fn with_prompts(objective: Objective) -> Objective {
    Objective { prompts: true, ..objective }
}

/// The host's loss of one token: (objective, logits, x_0, x_t, t, dlogits).
type Host = fn(&Objective, &[f64], u32, u32, f64, Option<&mut [f64]>) -> f64;

fn scheduled(objective: &Objective) -> Scheduled<AnySchedule> {
    let limit = objective.masks().map_or(Limit::Uniform, Limit::Mask);
    let process = Categorical::new(objective.network_vocab(), limit).expect("a process");
    Scheduled::new(process, objective.schedule.clone())
}

/// The end and the start of the step of a chain that holds t, and the step's weight.
fn step_of(t: f64, steps: usize) -> (f64, f64) {
    let t = quantise(t, steps);
    (t, t - 1.0 / steps as f64)
}

fn cases() -> Vec<(Objective, Host)> {
    use ObjectiveConfig as O;
    use ProcessKind::{Hybrid, Mask, Uniform as Even};
    let continuous: Host =
        |o, l, x_0, x_t, t, d| masked::nelbo(l, x_0, x_t, o.mask(), masked::weight(&o.schedule, t), d);
    let chain: Host = |o, l, x_0, x_t, t, d| {
        let (t, s) = step_of(t, 20);
        let weight = masked::weight_of_steps(o.schedule.alpha_bar(t), o.schedule.alpha_bar(s), 20);
        masked::nelbo(l, x_0, x_t, o.mask(), weight, d)
    };
    let absorbing: Host = |o, l, x_0, x_t, t, mut d| {
        let (t, s) = step_of(t, 20);
        let s = if s < 1e-9 { 1.0 } else { o.schedule.alpha_bar(s) };
        let weight = masked::weight_of_steps(o.schedule.alpha_bar(t), s, 20);
        let mut own = vec![0.0; l.len()];
        let kl = masked::nelbo(l, x_0, x_t, o.mask(), weight, Some(&mut own));
        // The cross-entropy of the logits without the mask, wherever the token stands.
        let mut clean = vec![0.0; l.len()];
        let ce = masked::nelbo(l, x_0, o.mask(), o.mask(), 20.0 * 0.3, Some(&mut clean));
        for (d, (own, clean)) in d.iter_mut().flat_map(|d| d.iter_mut()).zip(own.iter().zip(&clean)) {
            *d = own + clean;
        }
        kl + ce
    };
    let even_chain: Host = |o, l, x_0, x_t, t, mut d| {
        let (t, s) = step_of(t, 20);
        let loss = if s < 1e-9 {
            1.3 * d3pm::cross_entropy(l, x_0, d.as_deref_mut())
        } else {
            let mut scratch = d3pm::Scratch::new(l.len());
            d3pm::loss(&scheduled(o), l, x_0, x_t, t, s, 0.3, &mut scratch, d.as_deref_mut())
        };
        let factor = if s < 1e-9 { 1.3 * 20.0 } else { 20.0 };
        d.into_iter().flatten().for_each(|d| *d *= factor);
        20.0 * loss
    };
    let scores: Host = |o, l, x_0, x_t, t, d| {
        let (alpha_bar, rate) = (o.schedule.alpha_bar(t), o.schedule.rate(t));
        let (limit, factor) = match o.masks() {
            None => (Limit::Uniform, 1.0),
            // SEDD's scaling, as its code writes it.
            Some(mask) => (Limit::Mask(mask), 1.0 / ((-alpha_bar.ln()).exp_m1() * (o.network_vocab() - 1) as f64)),
        };
        let scores: Vec<f64> = l.iter().map(|l| l + factor.ln()).collect();
        score_entropy::loss(limit, &scores, x_0, x_t, alpha_bar, rate, d)
    };
    let even: Host = |o, l, x_0, x_t, t, d| {
        uniform::nelbo(l, x_0, x_t, o.schedule.alpha_bar(t), o.schedule.alpha_bar_derivative(t), d)
    };
    let path: Host = |o, l, x_0, x_t, t, d| {
        // The mask has no probability: its column is left out before the softmax.
        let own = o.masks().map_or(l.len(), |mask| mask as usize);
        let (kappa, slope) = (o.schedule.alpha_bar(t), -o.schedule.alpha_bar_derivative(t));
        match o.masks() {
            Some(mask) if x_t == mask => masked::nelbo(l, x_0, x_t, mask, slope / (1.0 - kappa), d),
            _ => {
                let mut row = vec![0.0; own];
                let loss = flow::loss(&l[..own], x_0, x_t, kappa, slope, Some(&mut row));
                row.resize(l.len(), 0.0);
                d.into_iter().flatten().zip(row).for_each(|(d, row)| *d = row);
                loss
            }
        }
    };
    let matrices: Host = |o, l, x_0, x_t, t, mut d| {
        let ((t, s), chain) = (step_of(t, 20), o.chain.as_ref().expect("a chain"));
        let loss = if s < 1e-9 {
            1.3 * d3pm::cross_entropy(l, x_0, d.as_deref_mut())
        } else {
            let mut scratch = d3pm::Scratch::new(l.len());
            d3pm::loss(&**chain, l, x_0, x_t, t, s, 0.3, &mut scratch, d.as_deref_mut())
        };
        let factor = if s < 1e-9 { 1.3 * 20.0 } else { 20.0 };
        d.into_iter().flatten().for_each(|d| *d *= factor);
        20.0 * loss
    };
    let of_chain = |chain: Dense| {
        let chain = Some(Arc::new(chain));
        Objective { chain, ..objective(ProcessKind::Dense, O::D3pm(D3pm { steps: 20, lambda: 0.3 }), "linear") }
    };
    let named = |name: &str| dense::chain(name, &"linear".parse().expect("a schedule"), 20, VOCAB).expect("a chain");
    let embeddings = Array2::from_shape_fn((VOCAB, 2), |(i, j)| ((3 * i + 5 * j) % 7) as f64);
    let rates = nearest_neighbour_rates(&embeddings, 2).expect("a graph");
    let betas: Vec<f64> = (1..=20).map(|i| 0.02 * f64::from(i)).collect();
    // Grey levels are close together, and seven ids far apart.
    let wide: Vec<f64> = (1..=20).map(|i| 20.0 * f64::from(i)).collect();
    let gaussian = Dense::discretised_gaussian(VOCAB, &wide, 3).expect("a chain");
    let p_x_0: Vec<f64> = (0..VOCAB).map(|i| (i + 1) as f64 / 28.0).collect();
    let walk = neighbour_walk_rates(&embeddings, 2).expect("a graph");
    let weighted = |weighting: Weighting| O::Gidd(Gidd { weighting, most: 2.0 });
    let bound: Host = |o, l, x_0, x_t, t, d| {
        let process = o.hybrid();
        let weight = interpolating::Weighting::Bound.weight(&process, x_0, x_t, t);
        interpolating::nelbo(&process, l, x_0, x_t, t, weight, d)
    };
    let dynamic: Host = |o, l, x_0, x_t, t, d| {
        let process = o.hybrid();
        let weight = interpolating::Weighting::Dynamic { min: 0.0, max: 2.0 }.weight(&process, x_0, x_t, t);
        interpolating::nelbo(&process, l, x_0, x_t, t, weight, d)
    };
    let plain = || O::Masked(Masked::default());
    let of_steps = |steps| O::Masked(Masked { steps, ..Masked::default() });
    vec![
        (objective(Mask, plain(), "log-linear"), continuous),
        (objective(Mask, plain(), "cosine-md4"), continuous),
        (objective(Mask, of_steps(20), "linear"), chain),
        (with_prompts(objective(Mask, plain(), "linear")), continuous),
        (with_prompts(objective(Mask, of_steps(20), "linear")), chain),
        (with_prompts(objective(Even, O::Uniform(Uniform {}), "log-linear")), even),
        (with_prompts(objective(Hybrid, weighted(Weighting::Bound), "hybrid(0.2, 1)")), bound),
        (objective(Mask, O::D3pm(D3pm { steps: 20, lambda: 0.3 }), "linear"), absorbing),
        (objective(Even, O::D3pm(D3pm { steps: 20, lambda: 0.3 }), "cosine"), even_chain),
        (of_chain(named("band(2)")), matrices),
        (of_chain(gaussian.clone()), matrices),
        (with_prompts(of_chain(gaussian)), matrices),
        (of_chain(Dense::exponential(&rates, &betas).expect("a chain")), matrices),
        (of_chain(Dense::linear_information(&walk, &p_x_0, 20, 0.01).expect("a chain")), matrices),
        (objective(Mask, O::Sedd(Sedd {}), "log-linear"), scores),
        (objective(Even, O::Sedd(Sedd {}), "geometric"), scores),
        (objective(Even, O::Uniform(Uniform {}), "log-linear"), even),
        (objective(Mask, O::Flow(Flow {}), "power(2)"), path),
        (objective(Even, O::Flow(Flow {}), "power(2)"), path),
        (objective(Hybrid, weighted(Weighting::Bound), "hybrid(0.2, 1)"), bound),
        (objective(Hybrid, weighted(Weighting::Bound), "hybrid(0, 1)"), bound),
        (objective(Hybrid, weighted(Weighting::Dynamic), "hybrid(0.2, 1)"), dynamic),
    ]
}

/// (x_0, logits) of a batch.
fn data(vocab: usize) -> (Vec<u32>, Vec<f32>) {
    let mut rng = Philox::new(3, 0, 0, 0);
    let x_0 = (0..BATCH * LEN).map(|_| rng.below(VOCAB) as u32).collect();
    (x_0, (0..BATCH * LEN * vocab).map(|_| rng.normal() as f32).collect())
}

#[test]
fn recordings_measure_what_the_host_functions_say() {
    let times: Vec<f64> = (0..BATCH).map(|i| (i as f64 + 0.4) / BATCH as f64).collect();
    for (objective, host) in cases() {
        let name = format!("{:?} with {}", objective.loss, objective.schedule);
        let vocab = objective.network_vocab();
        let (x_0, logits) = data(vocab);
        // The network's logits are a parameter, so that the backward pass ends at them.
        let mut rec = Recorder::new();
        let tokens = rec.input("x_0", &[BATCH, LEN], DType::U32);
        let inputs = objective.inputs(&mut rec, "", BATCH);
        let chain = objective.chain.is_some();
        let x_t = match chain {
            true => rec.input("x_t", &[BATCH, LEN], DType::U32),
            false => rec.corrupt_tokens(tokens, inputs.level, objective.limit()),
        };
        let w = rec.token_weight(tokens, x_t, inputs.weight, objective.masks());
        let parameter = rec.param("logits", &[BATCH, LEN, vocab], Init::Zeros);
        let (loss, value) = match (objective.form(), inputs.terms) {
            _ if chain => rec.posterior_kl(parameter, (tokens, x_t), inputs.level, w, objective.lambda(TRAIN)),
            (Form::Divergence(link), Some(terms)) => {
                rec.divergence(parameter, (tokens, x_t), terms, w, link, objective.masks())
            }
            _ => rec.cross_entropy(parameter, tokens, w, objective.masks()),
        };
        rec.backward(loss);
        let mut session = Session::new(Cpu::new(), rec.finish(&[loss, value, w, x_t])).expect("memory");
        session.set_param(0, Part::Value, &logits).expect("set");
        session.write(tokens, &x_0).expect("written");
        // Without prompts a sum over tokens; with them LLaDA's mean over rows of means over answers.
        let tokens = if objective.prompts { (BATCH * LEN) as f64 } else { 1.0 };
        for (var, values) in inputs.zip(objective.levels(&times, &PROMPTS, tokens, TRAIN)) {
            session.write(var, &values).expect("written");
        }
        if let Some(noisy) = objective.corrupt(&x_0, &times, &PROMPTS, (SEED, 5, 0)) {
            session.write(x_t, &noisy).expect("written");
        }
        session.set_rng(SEED, 5).expect("written");
        session.run().expect("run");

        // The tokens are those of the host's process under the op's stream.
        let stream = session.plan().program().insts().iter().find_map(|inst| match inst.op {
            Op::CorruptTokens { stream, .. } => Some(stream),
            _ => None,
        });
        let at = |t: f64| match objective.loss {
            ObjectiveConfig::Masked(Masked { steps, .. }) if steps > 0 => quantise(t, steps),
            ObjectiveConfig::D3pm(D3pm { steps, .. }) => quantise(t, steps),
            _ => t,
        };
        let x_0 = Array2::from_shape_vec((BATCH, LEN), x_0).expect("a batch");
        let t = Array2::from_shape_fn((BATCH, 1), |(b, _)| at(times[b]));
        let mut noisy = x_0.clone();
        let process: Box<dyn TokenProcess> = match objective.kind {
            ProcessKind::Hybrid => Box::new(objective.hybrid()),
            ProcessKind::Dense => Box::new((**objective.chain.as_ref().expect("a chain")).clone()),
            _ => Box::new(scheduled(&objective)),
        };
        let stream = stream.unwrap_or(host_stream::CORRUPT);
        process.corrupt(&x_0, &t, SEED, stream, 5, &mut noisy).expect("corrupted");
        if objective.prompts {
            restore_prompts(&x_0, &PROMPTS, &mut noisy).expect("prompts that leave an answer");
        }
        assert_eq!(session.read::<u32>(x_t).expect("read"), noisy.as_slice().expect("in order"), "{name}");
        assert!(noisy != x_0, "{name}");

        // Losses and gradients.
        let wide = Array3::from_shape_vec((BATCH, LEN, vocab), logits).expect("logits");
        let (mut losses, mut dlogits) = (Array2::zeros((BATCH, LEN)), Array3::zeros((BATCH, LEN, vocab)));
        batch(Batch { x_0: &x_0, x_t: &noisy, logits: &wide }, &mut losses, Some(&mut dlogits), |row| {
            let factor = match objective.prompts {
                true if row.l < PROMPTS[row.b] => 0.0,
                true => share(BATCH, LEN, PROMPTS[row.b]),
                false => 1.0,
            };
            let mut dlogits = row.dlogits;
            let loss = host(&objective, row.logits, row.x_0, row.x_t, times[row.b], dlogits.as_deref_mut());
            dlogits.into_iter().flatten().for_each(|d| *d *= factor);
            factor * loss
        })
        .expect("a batch");
        let (value, w) = (session.read::<f32>(value).expect("read"), session.read::<f32>(w).expect("read"));
        let scale = losses.iter().fold(1e-3f64, |m, x| m.max(x.abs()));
        for (n, truth) in losses.iter().enumerate() {
            let found = if w[n] == 0.0 { 0.0 } else { f64::from(value[n]) * f64::from(w[n]) };
            assert!((found - truth).abs() < 1e-5 * scale, "{name}, token {n}: {found} instead of {truth}");
        }
        let total = f64::from(session.read::<f32>(loss).expect("read")[0]);
        assert!((total - losses.sum()).abs() < 1e-5 * losses.sum(), "{name}: {total} instead of {}", losses.sum());
        let found = session.param(0, Part::Grad).expect("read").expect("a gradient");
        let scale = dlogits.iter().fold(1e-3f32, |m, x| m.max(x.abs()));
        for (n, (found, truth)) in found.iter().zip(&dlogits).enumerate() {
            assert!((found - truth).abs() < 2e-5 * scale, "{name}, logit {n}: {found} instead of {truth}");
        }
    }
}

/// The clean tokens of a text that a denoiser of fixed answers is asked about, and those answers: one row of logits for each set of
/// masks and position.
const TEXT: [u32; 3] = [1, 4, 0];

fn answers(masks: usize, position: usize) -> Vec<f64> {
    let mut rng = Philox::new(5, 0, masks as u32, position as u32);
    // No mass on the mask: SUBS.
    (0..VOCAB).map(|_| rng.normal()).chain([f64::NEG_INFINITY]).collect()
}

/// The mean over masks, each token's with probability `p`, of what `loss` says of the three tokens.
fn mean_over_masks(p: f64, loss: impl Fn(&[f64], u32, u32) -> f64) -> f64 {
    let mask = VOCAB as u32;
    let of = |masks: usize| -> f64 {
        let hidden = |position: usize| masks >> position & 1 == 1;
        let probability: f64 = (0..3).map(|position| if hidden(position) { p } else { 1.0 - p }).product();
        let token = |position: usize| {
            let x_t = if hidden(position) { mask } else { TEXT[position] };
            loss(&answers(masks, position), TEXT[position], x_t)
        };
        probability * (0..3).map(token).sum::<f64>()
    };
    (0..8).map(of).sum()
}

/// The mean over `n` midpoints of [low, high], times its width.
fn integral(low: f64, high: f64, n: usize, f: impl Fn(f64) -> f64) -> f64 {
    let width = (high - low) / n as f64;
    (0..n).map(|i| width * f(low + (i as f64 + 0.5) * width)).sum()
}

/// The masked bound between two shares of noise, which no schedule enters: the mean cross-entropy over p, divided by p.
fn bound_between(low: f64, high: f64) -> f64 {
    let mask = VOCAB as u32;
    integral(low, high, 4000, |p| mean_over_masks(p, |l, x_0, x_t| masked::nelbo(l, x_0, x_t, mask, 1.0 / p, None)))
}

/// Uniform times, importance sampling and the change of variables (a schedule of even weight) train one bound.
#[test]
fn the_expected_loss_does_not_depend_on_how_times_are_drawn() {
    for schedule in ["log-linear", "linear", "cosine-md4", "power(3)", "even-weight(0.002, 1)"] {
        for times in [Draw::Uniform, Draw::Importance] {
            let objective = objective(ProcessKind::Mask, ObjectiveConfig::Masked(Masked { steps: 0, times }), schedule);
            let expected = |t: f64| {
                let Moment { alpha_bar, weight, .. } = objective.moment(t, TRAIN);
                let loss =
                    |l: &[f64], x_0: u32, x_t: u32| masked::nelbo(l, x_0, x_t, objective.mask(), weight[0], None);
                mean_over_masks(1.0 - alpha_bar, loss)
            };
            let found = integral(T_MIN, 1.0, 4000, expected);
            let truth = bound_between(objective.schedule.noise(T_MIN), objective.schedule.noise(1.0));
            assert!((found / truth - 1.0).abs() < 1e-5, "{schedule}, {times:?}: {found} instead of {truth}");
            // What is drawn in proportion to its weight weighs alike.
            let weights: Vec<f64> = [0.01, 0.3, 0.9].map(|t| objective.moment(t, TRAIN).weight[0]).to_vec();
            let even = weights.iter().all(|w| (w / weights[0] - 1.0).abs() < 1e-12);
            assert_eq!(even, times == Draw::Importance || schedule.starts_with("even"), "{schedule}: {weights:?}");
            // The measured bound is of uniform times whatever is trained.
            let measured = objective.moment(0.3, Purpose::Measure);
            assert!((measured.t, measured.weight[0]) == (0.3, masked::weight(&objective.schedule, 0.3)));
        }
    }
    // A schedule of even weight has nothing to gain: its times are left where they are.
    let times = Draw::Importance;
    let even =
        objective(ProcessKind::Mask, ObjectiveConfig::Masked(Masked { steps: 0, times }), "even-weight(0.002, 1)");
    assert!([0.1, 0.5, 0.9].iter().all(|&t| (even.moment(t, TRAIN).t - t).abs() < 1e-9));
}

/// The loss of a token: (objective, its numbers at a time, logits, x_0, x_t).
type OfToken = dyn Fn(&Objective, &Moment, &[f64], u32, u32) -> f64;

/// MDLM at T > 0: the loss of a step is T times the KL of D3PM's posteriors, and its mean over steps tends to the continuous bound
/// like 1 / T.
#[test]
fn a_chain_of_steps_trains_its_own_bound_and_tends_to_the_continuous_one() {
    let of = |steps: usize| {
        let loss = ObjectiveConfig::Masked(Masked { steps, ..Masked::default() });
        objective(ProcessKind::Mask, loss, "linear")
    };
    let bound = |steps: usize, token: &OfToken| {
        let objective = of(steps);
        let step = |i: usize| {
            let moment = objective.moment((i as f64 + 0.5) / steps as f64, TRAIN);
            mean_over_masks(1.0 - moment.alpha_bar, |l, x_0, x_t| token(&objective, &moment, l, x_0, x_t))
        };
        (0..steps).map(step).sum::<f64>() / steps as f64
    };
    let trained =
        |steps| bound(steps, &|o, moment, l, x_0, x_t| masked::nelbo(l, x_0, x_t, o.mask(), moment.weight[0], None));
    for steps in [1, 5, 40] {
        let kl = move |o: &Objective, moment: &Moment, l: &[f64], x_0: u32, x_t: u32| {
            let (s, mut scratch) = (moment.t - 1.0 / steps as f64, d3pm::Scratch::new(l.len()));
            let s = if s < 1e-9 { 0.0 } else { s };
            steps as f64 * d3pm::loss(&scheduled(o), l, x_0, x_t, moment.t, s, 0.0, &mut scratch, None)
        };
        let (found, truth) = (trained(steps), bound(steps, &kl));
        assert!((found - truth).abs() < 1e-9 * truth, "{steps} steps: {found} instead of {truth}");
    }
    let limit = bound_between(0.0, 1.0);
    let gaps = [100, 200, 400].map(|steps| trained(steps) - limit);
    assert!(gaps[0].abs() < 0.05 * limit, "{gaps:?} of {limit}");
    assert!(gaps.windows(2).all(|pair| (pair[0] / pair[1] - 2.0).abs() < 0.1), "{gaps:?}");
}
