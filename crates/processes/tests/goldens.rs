//! The losses of the token systems as the originals compute them; `tests/fixtures/README.md` says where each file comes from.
#![allow(missing_docs, reason = "tests are named after what they check")]

mod common;

use common::{assert_close, fixture, rows};
use galatea_fixtures::Fixture;
use galatea_processes::objectives::{d3pm, flow, masked, score_entropy, softmax, uniform};
use galatea_processes::{Categorical, Limit, Scheduled};
use galatea_schedules::{AnySchedule, Geometric, Linear, LogLinear, Schedule};

fn softmaxed(logits: &[f64]) -> Vec<f64> {
    let mut p = logits.to_vec();
    softmax(&mut p);
    p
}

/// MDLM's times: one jittered time per stratum, moved to [1e-3, 1] and, for T steps, to the end of the step.
fn mdlm_times(golden: &Fixture, steps: Option<usize>) -> Vec<f64> {
    let draws = golden.vec("rnd.000.rand");
    let n = draws.len() as f64;
    let time = |(i, u): (usize, &f64)| {
        let t = (1.0 - 1e-3) * (u / n + i as f64 / n).fract() + 1e-3;
        steps.map_or(t, |steps| (t * steps as f64).floor() / steps as f64 + 1.0 / steps as f64)
    };
    draws.iter().enumerate().map(time).collect()
}

#[test]
fn mdlm_masks_by_its_move_chance() {
    let golden = fixture("mdlm_loss-subs_continuous");
    let (schedule, times) = (LogLinear::default(), mdlm_times(&golden, None));
    let (x_0, x_t) = (golden.ids("x0"), golden.ids("x_t"));
    for (i, u) in golden.vec("rnd.001.rand").iter().enumerate() {
        let moved = *u < 1.0 - schedule.alpha_bar(times[i / 10]);
        assert_eq!(x_t[i], if moved { 19 } else { x_0[i] });
    }
}

#[test]
fn mdlm_subs_losses() {
    for (name, steps) in [("mdlm_loss-subs_continuous", None), ("mdlm_loss-subs_T50", Some(50))] {
        let golden = fixture(name);
        let times = mdlm_times(&golden, steps);
        let (x_0, x_t, attention) = (golden.ids("x0"), golden.ids("x_t"), golden.vec("attention_mask"));
        let found: Vec<f64> = rows(&golden, "logits")
            .iter()
            .enumerate()
            .map(|(i, logits)| {
                let t = times[i / 10];
                let weight = match steps {
                    None => masked::weight(&LogLinear::default(), t),
                    Some(steps) => {
                        let s = t - 1.0 / steps as f64;
                        masked::weight_of_steps(Linear.alpha_bar(t), Linear.alpha_bar(s), steps)
                    }
                };
                attention[i] * masked::nelbo(logits, x_0[i], x_t[i], 19, weight, None)
            })
            .collect();
        assert_close(name, &found, &golden.vec("nll_per_token"), 1e-5);
        let mean = found.iter().sum::<f64>() / attention.iter().sum::<f64>();
        assert_close(name, &[mean], &golden.vec("loss"), 1e-5);
    }
}

/// MDLM's D3PM parameterisation gives the mask probability mass; its loss is T KL of the posteriors plus the cross-entropy
/// of a pass over clean tokens.
#[test]
fn mdlm_d3pm_loss() {
    let golden = fixture("mdlm_loss-d3pm_T50");
    let times = mdlm_times(&golden, Some(50));
    let process = Scheduled::new(Categorical::new(20, Limit::Mask(19)).unwrap(), Linear);
    let (x_0, x_t, attention) = (golden.ids("x0"), golden.ids("x_t"), golden.vec("attention_mask"));
    let clean = rows(&golden, "logits_t0");
    let found: Vec<f64> = rows(&golden, "logits")
        .iter()
        .enumerate()
        .map(|(i, logits)| {
            let t = times[i / 10].min(1.0 - 1e-4);
            let kl = d3pm::loss(&process, logits, x_0[i], x_t[i], t, t - 0.02, 0.0, &mut d3pm::Scratch::new(20), None);
            attention[i] * (50.0 * kl + d3pm::cross_entropy(&clean[i], x_0[i], None))
        })
        .collect();
    assert_close("d3pm_T50", &found, &golden.vec("nll_per_token"), 1e-5);
}

#[test]
fn udlm_losses() {
    for name in ["udlm_loss-udlm_continuous", "udlm_loss-udlm_continuous_zero_recon"] {
        let golden = fixture(name);
        let times = mdlm_times(&golden, None);
        let (x_0, x_t) = (golden.ids("x0"), golden.ids("x_t"));
        // The source's bound uses alpha = 1 - t although its corruption has the floor of the log-linear schedule.
        let found: Vec<f64> = rows(&golden, "logits")
            .iter()
            .enumerate()
            .map(|(i, logits)| uniform::nelbo(logits, x_0[i], x_t[i], 1.0 - times[i / 10], -1.0, None))
            .collect();
        assert_close(name, &found, &golden.vec("diffusion_loss"), 2e-5);
    }
}

#[test]
fn udlm_finite_steps() {
    let golden = fixture("udlm_loss-d3pm_uniform_T");
    let times = mdlm_times(&golden, Some(40));
    let process = Categorical::new(20, Limit::Uniform).unwrap();
    let (x_0, x_t) = (golden.ids("x0"), golden.ids("x_t"));
    let found: Vec<f64> = rows(&golden, "logits")
        .iter()
        .enumerate()
        .map(|(i, logits)| {
            let t = times[i / 10];
            40.0 * process.posterior_kl(1.0 - t, 1.0 - t + 0.025, x_t[i], x_0[i], &softmaxed(logits))
        })
        .collect();
    assert_close("d3pm_uniform_T", &found, &golden.vec("diffusion_loss"), 2e-5);
}

#[test]
fn udlm_posterior() {
    let golden = fixture("udlm_loss-posterior");
    let process = Categorical::new(20, Limit::Uniform).unwrap();
    let (x_t, alpha_t, alpha_s) = (golden.ids("x_t"), golden.vec("alpha_t"), golden.vec("alpha_s"));
    let expected = rows(&golden, "posterior");
    for (i, p) in rows(&golden, "x_probs").iter().enumerate() {
        let mut found = vec![0.0; 20];
        process.posterior(alpha_t[i / 10], alpha_s[i / 10], x_t[i], p, &mut found);
        assert_close("posterior", &found, &expected[i], 1e-5);
    }
}

#[test]
fn duo_nelbo() {
    let golden = fixture("duo_nelbo");
    let (x_0, x_t) = (golden.ids("x0"), golden.ids("x_t"));
    for name in ["loglinear", "cosine"] {
        let (alpha, dalpha) = (golden.vec(&format!("{name}.alpha_t")), golden.vec(&format!("{name}.dalpha_t")));
        let found: Vec<f64> = rows(&golden, "log_x_theta")
            .iter()
            .enumerate()
            .map(|(i, log_p)| uniform::nelbo(log_p, x_0[i], x_t[i], alpha[i / 10], dalpha[i / 10], None))
            .collect();
        assert_close(name, &found, &golden.vec(&format!("{name}.nll_per_token")), 2e-5);
    }
}

#[test]
fn sedd_losses() {
    for (name, limit) in [("sedd_loss-absorb", Limit::Mask(19)), ("sedd_loss-uniform", Limit::Uniform)] {
        let golden = fixture(name);
        let (x_0, x_t, times) = (golden.ids("x0"), golden.ids("x_t"), golden.vec("t"));
        let schedule: Box<dyn Schedule> = match limit {
            Limit::Mask(_) => Box::new(LogLinear::default()),
            Limit::Uniform => Box::new(Geometric::default()),
        };
        let mut found = vec![0.0; 3];
        for (i, log_score) in rows(&golden, "log_score").iter().enumerate() {
            let t = times[i / 10];
            found[i / 10] +=
                score_entropy::loss(limit, log_score, x_0[i], x_t[i], schedule.alpha_bar(t), schedule.rate(t), None);
        }
        assert_close(name, &found, &golden.vec("loss_seq"), 2e-5);
    }
}

#[test]
fn md4_losses() {
    let golden = fixture("md4");
    let (x_0, times) = (golden.ids("x"), golden.vec("t"));
    for (name, text) in
        [("linear", "linear-md4"), ("cosine", "cosine-md4"), ("poly2", "squeeze(0.0001, 0.9999, polynomial(2))")]
    {
        let schedule: AnySchedule = text.parse().unwrap();
        for (form, steps) in [("cont", None), ("T50", Some(50usize))] {
            let x_t = golden.ids(&format!("{name}.{form}.z_t"));
            let mut found = vec![0.0; 4];
            for (i, logits) in rows(&golden, "logits").iter().enumerate() {
                let weight = match steps {
                    None => masked::weight(&schedule, times[i / 10]),
                    Some(steps) => {
                        let t = galatea_processes::times::quantise(times[i / 10], steps);
                        let s = t - 1.0 / steps as f64;
                        masked::weight_of_steps(schedule.alpha_bar(t), schedule.alpha_bar(s), steps)
                    }
                };
                // The source's network has no logit for the mask; ours has one that is forbidden.
                let logits: Vec<f64> = logits.iter().copied().chain([9.0]).collect();
                found[i / 10] += masked::nelbo(&logits, x_0[i], x_t[i], 20, weight, None);
            }
            // float32 differences of gamma in the source's discrete form lose digits.
            let tolerance = if steps.is_some() { 1e-4 } else { 2e-5 };
            assert_close(name, &found, &golden.vec(&format!("{name}.{form}.loss_diff")), tolerance);
        }
        let found = 10.0 * masked::reconstruction(schedule.alpha_bar(0.0), 21);
        // 1 - 0.9999 in float32 keeps four digits.
        assert_close(name, &[found], &golden.vec(&format!("{name}.recon_loss")), 1e-3);
    }
}

#[test]
fn llada_losses_and_gradients() {
    let golden = fixture("llada_loss");
    let (x_0, p_mask) = (golden.ids("input_ids"), golden.vec("p_mask"));
    let prompts = golden.vec("sft.prompt_lengths");
    for (stage, canvas, logits) in [("pretrain", "noisy_batch", "logits"), ("sft", "sft.noisy_batch", "sft.logits")] {
        let x_t = golden.ids(canvas);
        let (mut losses, mut gradients, mut total) = (Vec::new(), Vec::new(), 0.0);
        for (i, logits) in rows(&golden, logits).iter().enumerate() {
            // LLaDA's softmax includes the mask, so its cross-entropy is taken over all ids: no id is forbidden.
            let row = i / 12;
            let normaliser = if stage == "pretrain" { 36.0 } else { 3.0 * (12.0 - prompts[row]) };
            let weight = 1.0 / p_mask[row];
            let mut gradient = vec![0.0; 24];
            let ce = if x_t[i] == 23 { d3pm::cross_entropy(logits, x_0[i], Some(&mut gradient)) } else { 0.0 };
            losses.push(ce * weight);
            total += ce * weight / normaliser;
            gradients.extend(gradient.iter().map(|g| g * weight / normaliser));
        }
        assert_close(stage, &[total], &golden.vec(&format!("{stage}.loss")), 1e-5);
        assert_close(stage, &gradients, &golden.vec(&format!("{stage}.grad_logits")), 1e-5);
        if stage == "pretrain" {
            assert_close(stage, &losses, &golden.vec("pretrain.loss_per_token"), 1e-5);
        }
    }
}

#[test]
fn flow_matching_losses_and_gradients() {
    for (name, n) in [("dfm_n1.0_mask", 1), ("dfm_n1.0_uniform", 1), ("dfm_n2.0_mask", 2), ("dfm_n2.0_uniform", 2)] {
        let golden = fixture(name);
        let (x_1, x_t, times) = (golden.ids("x_1"), golden.ids("x_t"), golden.vec("t"));
        let (mut losses, mut gradients) = (Vec::new(), Vec::new());
        for (i, logits) in rows(&golden, "logits").iter().enumerate() {
            let t = times[i / 10];
            let mut gradient = vec![0.0; logits.len()];
            let slope = f64::from(n) * t.powi(n - 1);
            losses.push(flow::loss(logits, x_1[i], x_t[i], t.powi(n), slope, Some(&mut gradient)));
            gradients.extend(gradient.iter().map(|g| g / 30.0));
        }
        assert_close(name, &losses, &golden.vec("loss_per_token"), 1e-5);
        assert_close(name, &gradients, &golden.vec("grad_logits"), 1e-5);
    }
}
