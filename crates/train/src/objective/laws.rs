//! What a recording measures is what the host functions of `galatea-processes` say, on the tokens that they noise.

use super::tokens::Form;
use super::{D3pm, Flow, Gidd, Masked, Objective, ObjectiveConfig, Purpose, Sedd, Uniform, Weighting};
use crate::config::ProcessKind;
use galatea_autograd::{DType, Init, Part, Recorder, Session};
use galatea_kernels::{Cpu, Op};
use galatea_models::Model;
use galatea_processes::objectives::{Batch, batch, d3pm, flow, interpolating, masked, score_entropy, uniform};
use galatea_processes::times::quantise;
use galatea_processes::{Categorical, Limit, Scheduled, TokenProcess};
use galatea_random::Philox;
use galatea_schedules::{AnySchedule, Schedule};
use ndarray::{Array2, Array3};

const BATCH: usize = 6;
const LEN: usize = 9;
const VOCAB: usize = 7;
const SEED: u64 = 11;

fn objective(kind: ProcessKind, loss: ObjectiveConfig, schedule: &str) -> Objective {
    let schedule = schedule.parse().expect("a schedule");
    Objective { kind, loss, schedule, model: Model::default(), vocab: VOCAB, len: LEN }
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
    vec![
        (objective(Mask, O::Masked(Masked { steps: 0 }), "log-linear"), continuous),
        (objective(Mask, O::Masked(Masked { steps: 0 }), "cosine-md4"), continuous),
        (objective(Mask, O::Masked(Masked { steps: 20 }), "linear"), chain),
        (objective(Mask, O::D3pm(D3pm { steps: 20, lambda: 0.3 }), "linear"), absorbing),
        (objective(Even, O::D3pm(D3pm { steps: 20, lambda: 0.3 }), "cosine"), even_chain),
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
        let x_t = rec.corrupt_tokens(tokens, inputs.level, objective.limit());
        let w = rec.token_weight(tokens, x_t, inputs.weight, objective.masks());
        let parameter = rec.param("logits", &[BATCH, LEN, vocab], Init::Zeros);
        let (loss, value) = match (objective.form(), inputs.terms) {
            (Form::Divergence(link), Some(terms)) => {
                rec.divergence(parameter, (tokens, x_t), terms, w, link, objective.masks())
            }
            _ => rec.cross_entropy(parameter, tokens, w, objective.masks()),
        };
        rec.backward(loss);
        let mut session = Session::new(Cpu::new(), rec.finish(&[loss, value, w, x_t])).expect("memory");
        session.set_param(0, Part::Value, &logits).expect("set");
        session.write(tokens, &x_0).expect("written");
        for (var, values) in inputs.zip(objective.levels(&times, 1.0, Purpose::Train { share: 1.0 })) {
            session.write(var, &values).expect("written");
        }
        session.set_rng(SEED, 5).expect("written");
        session.run().expect("run");

        // The tokens are those of the host's process under the op's stream.
        let stream = session.plan().program().insts().iter().find_map(|inst| match inst.op {
            Op::CorruptTokens { stream, .. } => Some(stream),
            _ => None,
        });
        let at = |t: f64| match objective.loss {
            ObjectiveConfig::Masked(Masked { steps }) if steps > 0 => quantise(t, steps),
            ObjectiveConfig::D3pm(D3pm { steps, .. }) => quantise(t, steps),
            _ => t,
        };
        let x_0 = Array2::from_shape_vec((BATCH, LEN), x_0).expect("a batch");
        let t = Array2::from_shape_fn((BATCH, 1), |(b, _)| at(times[b]));
        let mut noisy = x_0.clone();
        let process: Box<dyn TokenProcess> = match objective.kind {
            ProcessKind::Hybrid => Box::new(objective.hybrid()),
            _ => Box::new(scheduled(&objective)),
        };
        process.corrupt(&x_0, &t, SEED, stream.expect("recorded"), 5, &mut noisy).expect("corrupted");
        assert_eq!(session.read::<u32>(x_t).expect("read"), noisy.as_slice().expect("in order"), "{name}");
        assert!(noisy != x_0, "{name}");

        // Losses and gradients.
        let wide = Array3::from_shape_vec((BATCH, LEN, vocab), logits).expect("logits");
        let (mut losses, mut dlogits) = (Array2::zeros((BATCH, LEN)), Array3::zeros((BATCH, LEN, vocab)));
        batch(Batch { x_0: &x_0, x_t: &noisy, logits: &wide }, &mut losses, Some(&mut dlogits), |row| {
            host(&objective, row.logits, row.x_0, row.x_t, times[row.b], row.dlogits)
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
