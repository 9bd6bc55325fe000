//! Numbers of the original implementations; `tests/fixtures/README.md` says where each file comes from.
#![allow(missing_docs, reason = "tests are named after what they check")]

use galatea_processes::objectives::rounding::Rounding;
use galatea_processes::objectives::{bound, d3pm, embedding, flow, masked, score_entropy, softmax, uniform};
use galatea_processes::{Categorical, Dense, Gaussian, Limit, Variance};
use galatea_schedules::{AnySchedule, Betas, Geometric, Linear, LogLinear, Schedule, Spacing};
use galatea_testkit::{Fixture, relative, relative_to_max};
use ndarray::{Array1, Array2};

fn fixture(name: &str) -> Fixture {
    Fixture::read(format!("{}/tests/fixtures/{name}.safetensors", env!("CARGO_MANIFEST_DIR")))
}

/// The rows of a tensor whose last axis is the vocabulary.
fn rows(golden: &Fixture, name: &str) -> Vec<Vec<f64>> {
    let tensor = golden.get(name);
    let width = *tensor.shape().last().expect("a tensor with axes");
    golden.vec(name).chunks(width).map(<[f64]>::to_vec).collect()
}

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

fn assert_close(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    let error = relative_to_max(found, expected);
    assert!(error <= tolerance, "{what}: {error:e} above {tolerance:e}");
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
    let process = Categorical::new(20, Limit::Mask(19)).unwrap();
    let (x_0, x_t, attention) = (golden.ids("x0"), golden.ids("x_t"), golden.vec("attention_mask"));
    let clean = rows(&golden, "logits_t0");
    let found: Vec<f64> = rows(&golden, "logits")
        .iter()
        .enumerate()
        .map(|(i, logits)| {
            let t = times[i / 10].min(1.0 - 1e-4);
            let kl = d3pm::loss(&process, logits, x_0[i], x_t[i], 1.0 - t, 1.0 - t + 0.02, 0.0, None);
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

fn d3pm_process(name: &str) -> Categorical {
    let limit = match name {
        "matrices_absorbing_last_jsd" | "losses_absorbing_last" => Limit::Mask(4),
        "matrices_absorbing_mid_jsd" => Limit::Mask(2),
        _ => Limit::Uniform,
    };
    Categorical::new(5, limit).unwrap()
}

#[test]
fn d3pm_matrices_and_posteriors() {
    for name in [
        "matrices_uniform_linear",
        "matrices_uniform_cosine",
        "matrices_absorbing_last_jsd",
        "matrices_absorbing_mid_jsd",
    ] {
        let golden = fixture(name);
        let process = d3pm_process(name);
        let chain = Betas::new(golden.vec("betas")).unwrap();
        let (q, q_bar) = (golden.vec("Q"), golden.vec("Qbar"));
        for i in 0..chain.len() {
            let found: Vec<f64> = process.transition(1.0 - chain.betas()[i]).into_iter().collect();
            assert!(relative(&found, &q[i * 25..][..25], 1.0) < 1e-12, "{name}: Q at {i}");
            let found: Vec<f64> = process.q_bar(chain.alphas_cumprod()[i]).into_iter().collect();
            assert!(relative(&found, &q_bar[i * 25..][..25], 1.0) < 1e-12, "{name}: Q_bar at {i}");
        }
        let mut found = vec![0.0; 5];
        for (triple, expected) in rows(&golden, "triples_t_xt_x0").iter().zip(rows(&golden, "posterior")) {
            let t = triple[0] as usize;
            let mut hot = vec![0.0; 5];
            hot[triple[2] as usize] = 1.0;
            let (a_t, a_s) = (chain.alphas_cumprod()[t], chain.alphas_cumprod()[t - 1]);
            process.posterior(a_t, a_s, triple[1] as u32, &hot, &mut found);
            assert!(relative(&found, &expected, 1.0) < 1e-12, "{name}: posterior at {triple:?}");
        }
        for (soft, expected) in rows(&golden, "soft_t_xt_p").iter().zip(rows(&golden, "posterior_soft")) {
            let t = soft[0] as usize;
            let (a_t, a_s) = (chain.alphas_cumprod()[t], chain.alphas_cumprod()[t - 1]);
            process.posterior(a_t, a_s, soft[1] as u32, &soft[2..], &mut found);
            assert!(relative(&found, &expected, 1.0) < 1e-12, "{name}: soft posterior at {soft:?}");
        }
    }
}

#[test]
fn d3pm_structured_matrices_and_posteriors() {
    for name in [
        "matrices_uniform_linear",
        "matrices_absorbing_mid_jsd",
        "matrices_band_linear_band2",
        "matrices_gaussian_linear",
        "matrices_gaussian_linear_band2",
        "matrices_nearest_linear",
    ] {
        let golden = fixture(name);
        let betas = golden.vec("betas");
        let chain = match name {
            "matrices_band_linear_band2" => Dense::band(5, &betas, 2),
            "matrices_gaussian_linear" => Dense::discretised_gaussian(5, &betas, 4),
            "matrices_gaussian_linear_band2" => Dense::discretised_gaussian(5, &betas, 2),
            "matrices_nearest_linear" => {
                Dense::exponential(&Array2::from_shape_vec((5, 5), golden.vec("generator")).unwrap(), &betas)
            }
            _ => Dense::new(betas.iter().map(|beta| d3pm_process(name).transition(1.0 - beta)).collect()),
        }
        .unwrap();
        let (q, q_bar) = (golden.vec("Q"), golden.vec("Qbar"));
        for i in 0..chain.steps() {
            let found: Vec<f64> = chain.q(i).iter().copied().collect();
            assert!(relative(&found, &q[i * 25..][..25], 1.0) < 1e-12, "{name}: Q at {i}");
            let found: Vec<f64> = chain.q_bar(i).iter().copied().collect();
            assert!(relative(&found, &q_bar[i * 25..][..25], 1.0) < 1e-12, "{name}: Q_bar at {i}");
        }
        let mut found = vec![0.0; 5];
        for (triple, expected) in rows(&golden, "triples_t_xt_x0").iter().zip(rows(&golden, "posterior")) {
            let mut hot = vec![0.0; 5];
            hot[triple[2] as usize] = 1.0;
            chain.posterior(triple[0] as usize, triple[1] as u32, &hot, &mut found);
            assert!(relative(&found, &expected, 1.0) < 1e-12, "{name}: posterior at {triple:?}");
        }
        let soft = rows(&golden, "soft_t_xt_p");
        for (i, soft) in soft.iter().enumerate() {
            chain.posterior(soft[0] as usize, soft[1] as u32, &soft[2..], &mut found);
            assert!(relative(&found, &rows(&golden, "posterior_soft")[i], 1.0) < 1e-12, "{name}: soft posterior {i}");
            chain.marginal(soft[0] as usize, &soft[2..], &mut found);
            assert!(relative(&found, &rows(&golden, "marginal_soft")[i], 1.0) < 1e-12, "{name}: soft marginal {i}");
        }
    }
}

#[test]
fn matrices_that_are_no_chain_are_refused() {
    assert!(Dense::new(vec![]).is_err());
    assert!(Dense::new(vec![Array2::zeros((2, 3))]).is_err());
    assert!(Dense::new(vec![Array2::eye(3), Array2::eye(2)]).is_err());
    let message = Dense::new(vec![Array2::eye(3) * 0.5]).unwrap_err().to_string();
    assert!(message.contains("row 0 of the matrix of step 0 sums to 0.5"), "{message}");
    assert!(Dense::band(4, &[9.0], 3).is_err());
    assert!(Dense::exponential(&Array2::eye(3), &[1.0]).is_err());
}

#[test]
fn d3pm_losses() {
    for (name, lambda) in [("losses_uniform", 0.05), ("losses_absorbing_last", 0.01)] {
        let golden = fixture(name);
        let process = d3pm_process(name);
        let chain = Betas::new(golden.vec("betas")).unwrap();
        let (x_0, x_t) = (golden.ids("x0"), golden.ids("x_t"));
        let (losses, ces) = (golden.vec("loss"), golden.vec("ce"));
        for (i, logits) in rows(&golden, "logits").iter().enumerate() {
            let t = golden.vec("t")[i] as usize;
            let ce = d3pm::cross_entropy(logits, x_0[i], None);
            assert!((ce - ces[i]).abs() < 1e-10, "{name}: CE of item {i}");
            // At t = 0 D3PM's loss is the cross-entropy alone.
            let found = match t {
                0 => ce,
                _ => {
                    let (a_t, a_s) = (chain.alphas_cumprod()[t], chain.alphas_cumprod()[t - 1]);
                    d3pm::loss(&process, logits, x_0[i], x_t[i], a_t, a_s, lambda, None)
                }
            };
            let expected = if t == 0 { golden.vec("kl_or_nll")[i] } else { losses[i] };
            assert!((found - expected).abs() < 1e-10, "{name}: item {i} at {t}: {found} {expected}");
        }
    }
}

#[test]
fn d3pm_port_matrices() {
    let golden = fixture("d3pm_uniform_port");
    let process = Categorical::new(6, Limit::Uniform).unwrap();
    let chain = Betas::d3pm_cosine(20).unwrap();
    assert_close("beta", chain.betas(), &golden.vec("beta_t"), 1e-6);
    for (i, q_bar) in golden.vec("q_mats").chunks(36).enumerate() {
        let found: Vec<f64> = process.q_bar(chain.alphas_cumprod()[i]).into_iter().collect();
        assert_close("Q_bar", &found, q_bar, 1e-5);
    }
}

#[test]
fn diffusion_lm_posterior_tables() {
    let golden = fixture("diffusion_lm_respaced");
    let base = Betas::sqrt(2000).unwrap();
    for (name, text) in [("10", "10"), ("200", "200"), ("ddim50", "ddim50"), ("5_10_15", "5,10,15")] {
        let chain = base.respace(&text.parse::<Spacing>().unwrap().steps(2000).unwrap()).unwrap();
        let column = |what: &str| golden.vec(&format!("respace_{name}.{what}"));
        let (c_0, c_t) = (column("posterior_mean_coef1"), column("posterior_mean_coef2"));
        let (variance, clipped) = (column("posterior_variance"), column("posterior_log_variance_clipped"));
        for i in 0..chain.len() {
            let before = if i == 0 { 1.0 } else { chain.alphas_cumprod()[i - 1] };
            let step = Gaussian.ddpm(chain.alphas_cumprod()[i], before, 0.0, 0.0, Variance::Small);
            let found = [step.c_0, step.c_t, step.sigma.powi(2)];
            // 1 - r and 1 - beta differ by rounding, which is as large as 1e-12 of a small beta.
            assert!(relative(&found, &[c_0[i], c_t[i], variance[i]], 1e-3) < 1e-11, "{name} at {i}: {found:?}");
            if i > 0 {
                assert!((2.0 * step.sigma.ln() - clipped[i]).abs() < 1e-10);
            }
        }
    }
}

#[test]
fn diffusion_lm_e2e_terms() {
    let golden = fixture("diffusion_lm_e2e");
    let chain = Betas::sqrt(2000).unwrap();
    let (d, len, vocab) = (16, 8, 40);
    let (ids, steps) = (golden.ids("loss.input_ids"), golden.vec("loss.t"));
    let table = Array2::from_shape_vec((vocab, d), golden.vec("param.word_embedding.weight")).unwrap();
    let bias = Array1::from(golden.vec("param.lm_head.bias"));
    let wide = len * d;
    let std = embedding::start_std(chain.alphas_cumprod()[0]);
    let (first, second) = (golden.vec("loss.noise_x_start"), golden.vec("loss.noise_x_t"));
    let output = golden.vec("loss.model_output");
    let (mut dbias, mut terms) = (vec![0.0; vocab], Vec::new());
    for b in 0..4 {
        let t = steps[b] as usize;
        let clean: Vec<f64> = ids[b * len..][..len].iter().flat_map(|&w| table.row(w as usize).to_vec()).collect();
        let x_0: Vec<f64> = clean.iter().zip(&first[b * wide..]).map(|(e, z)| e + std * z).collect();
        assert_close("x_start", &x_0, &golden.vec("loss.x_start")[b * wide..][..wide], 1e-5);
        let (signal, spread) = Gaussian.marginal(chain.alphas_cumprod()[t]);
        let x_t: Vec<f64> = x_0.iter().zip(&second[b * wide..]).map(|(x, z)| signal * x + spread * z).collect();
        assert_close("x_t", &x_t, &golden.vec("loss.x_t")[b * wide..][..wide], 1e-5);
        let target = if t == 0 { &clean } else { &x_0 };
        let mse = embedding::mse(&output[b * wide..][..wide], target, None);
        assert_close("mse", &[mse], &golden.vec("loss.mse")[b..=b], 1e-5);
        let prior = embedding::prior(&x_0, chain.alphas_cumprod()[1999], None);
        assert!((prior - golden.vec("loss.tT_loss")[b]).abs() <= 1e-5 * prior.abs().max(1e-3), "{prior}");
        let mut nll = 0.0;
        for l in 0..len {
            let mut dlogits = vec![0.0; vocab];
            let h = &x_0[l * d..][..d];
            nll += Rounding::Dot.nll(h, &table, Some(&bias), ids[b * len + l], &mut dlogits) / len as f64;
            dbias.iter_mut().zip(&dlogits).for_each(|(sum, g)| *sum += g / (4 * len) as f64);
        }
        assert_close("decoder_nll", &[nll], &golden.vec("loss.decoder_nll")[b..=b], 1e-5);
        terms.push(mse + prior + nll);
        if t > 0 {
            let step =
                Gaussian.ddpm(chain.alphas_cumprod()[t], chain.alphas_cumprod()[t - 1], 0.0, 0.0, Variance::Small);
            let mean: Vec<f64> = x_0.iter().zip(&x_t).map(|(x, z)| step.apply(*z, *x, 0.0)).collect();
            assert_close("posterior", &mean, &golden.vec("posterior.mean")[b * wide..][..wide], 1e-5);
        }
    }
    assert_close("terms", &terms, &golden.vec("loss.terms"), 1e-5);
    assert_close("bias", &dbias, &golden.vec("grad.lm_head.bias"), 1e-4);
    // The rounding logits of an arbitrary hidden state.
    let mut logits = vec![0.0; vocab];
    for (h, expected) in rows(&golden, "fwd.x").iter().zip(rows(&golden, "fwd.get_logits")) {
        Rounding::Dot.logits(h, &table, Some(&bias), &mut logits);
        assert_close("get_logits", &logits, &expected, 2e-5);
    }
}

#[test]
fn plaid_bound() {
    let golden = fixture("plaid_vlb");
    let (d, len) = (8, 8);
    let (gamma, slope) = (golden.vec("train.gamma"), golden.vec("train.gamma_prime"));
    let table = Array2::from_shape_vec((40, d), golden.vec("fwd.E_normalised")).unwrap();
    let ids = golden.ids("train.x");
    let (noise, z, hat) = (golden.vec("train.noise"), golden.vec("train.z"), golden.vec("train.x_reconst"));
    let wide = len * d;
    // A schedule given by gamma = -log SNR, at the one time of each row.
    struct Row(f64, f64);
    impl Schedule for Row {
        fn alpha_bar(&self, _: f64) -> f64 {
            1.0 / (1.0 + self.0.exp())
        }
        fn rate(&self, _: f64) -> f64 {
            self.1 * (1.0 - self.alpha_bar(0.0))
        }
    }
    let (mut losses, mut prior) = (Vec::new(), 0.0);
    let last = 1.0 / (1.0 + golden.vec("param.gamma_bounds.gamma_1")[0].exp());
    for b in 0..6 {
        let row = Row(gamma[b], slope[b]);
        let x_0: Vec<f64> = ids[b * len..][..len].iter().flat_map(|&w| table.row(w as usize).to_vec()).collect();
        let (signal, spread) = Gaussian.marginal(row.alpha_bar(0.0));
        let found: Vec<f64> = x_0.iter().zip(&noise[b * wide..]).map(|(x, z)| signal * x + spread * z).collect();
        assert_close("z", &found, &z[b * wide..][..wide], 1e-5);
        let weight = bound::weight(&row, 0.0);
        losses.push(bound::diffusion(&x_0, &hat[b * wide..][..wide], weight, None, None) / len as f64);
        prior += Gaussian.prior_kl(&x_0, last) / (6 * len) as f64;
    }
    let expected = golden.vec("train.diffusion_loss");
    assert_close("diffusion", &losses, &expected[expected.len() - 6..], 1e-4);
    assert_close("prior", &[prior], &golden.vec("train.prior_loss"), 1e-4);
    // The reconstruction is the cross-entropy of the logits of the row at t = 0.
    let ce: f64 = rows(&golden, "train.logits")[..len]
        .iter()
        .zip(&ids)
        .map(|(logits, &w)| d3pm::cross_entropy(logits, w, None) / len as f64)
        .sum();
    assert_close("reconstruction", &[ce], &golden.vec("train.reconst_loss"), 1e-5);
}
