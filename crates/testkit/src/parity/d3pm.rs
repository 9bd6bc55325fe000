//! D3PM's matrices, posteriors and losses, and those of its PyTorch port.

use super::rows::{mean, rows};
use super::schedules::chain;
use super::{Case, Fault, Report, ancestral};
use galatea_processes::dense::neighbour_walk_rates;
use galatea_processes::objectives::{d3pm, softmax};
use galatea_processes::{Categorical, Dense, Limit, Scheduled, TokenProcess};
use galatea_schedules::Betas;
use ndarray::{Array2, Ix2};

/// `d3pm`: matrices, losses and the port's tables here, its trace with the samplers.
pub(super) fn check(case: &Case, report: &mut Report) -> Result<(), Fault> {
    if case.has("Qbar") {
        matrices(case, report)
    } else if case.has("kl_or_nll") {
        losses(case, report)
    } else if case.has("q_mats") {
        port(case, report)?;
        if case.has("sample.x_final") { ancestral::d3pm(case, report) } else { Ok(()) }
    } else {
        let known = "files with Qbar, kl_or_nll or q_mats".to_owned();
        Err(Fault::Unknown { what: format!("{}/{}", case.family, case.name), known })
    }
}

fn limit(case: &Case) -> Result<Limit, Fault> {
    Ok(if case.setting("mask").is_some() { Limit::Mask(case.count("mask")? as u32) } else { Limit::Uniform })
}

fn matrices(case: &Case, report: &mut Report) -> Result<(), Fault> {
    let (vocab, betas) = (case.count("V")?, case.vec("betas")?);
    known_betas(case, report, &betas)?;
    let width = if case.setting("band").is_some() { case.count("band")? } else { vocab.saturating_sub(1) };
    match case.text("kind")? {
        kind if kind == "uniform" || kind.starts_with("absorbing") => {
            let process = Categorical::new(vocab, limit(case)?)?;
            let q: Vec<Array2<f64>> = betas.iter().map(|beta| process.transition(1.0 - beta)).collect();
            // As matrices, and in closed form.
            follow(case, report, "", &Dense::new(q.clone())?)?;
            compare(case, report, "Q", q.iter().flatten().copied().collect())?;
            let chain = Betas::new(betas)?;
            let q_bar = chain.alphas_cumprod().iter().flat_map(|&a| process.q_bar(a)).collect();
            compare(case, report, "Qbar", q_bar)?;
            posteriors(case, report, "closed form: ", &Scheduled::new(process, chain))
        }
        "band" => follow(case, report, "", &Dense::band(vocab, &betas, width)?),
        "gaussian" => follow(case, report, "", &Dense::discretised_gaussian(vocab, &betas, width)?),
        "nearest" => {
            let rates = case.array::<Ix2>("generator")?;
            let embeddings = case.array::<Ix2>("embeddings")?;
            // The number of neighbours is in the note alone; one of them must give the generator.
            let apart = |k: usize| -> Result<f64, Fault> {
                let found = neighbour_walk_rates(&embeddings, k)?;
                Ok((&found - &rates).iter().fold(0.0, |m, e| m.max(e.abs())))
            };
            let mut best = f64::INFINITY;
            for k in 1..vocab {
                best = best.min(apart(k)?);
            }
            report.absolute("generator", &[best], &[0.0], 1e-12);
            follow(case, report, "", &Dense::exponential(&rates, &betas)?)
        }
        _ => Err(case.unsupported("kind", "uniform, absorbing*, band, gaussian, nearest")),
    }
}

/// The betas of the named schedule, where the settings say all of it.
fn known_betas(case: &Case, report: &mut Report, betas: &[f64]) -> Result<(), Fault> {
    let name = case.text("schedule")?;
    let ends = if case.setting("start").is_some() {
        (case.number("start")?, case.number("stop")?)
    } else {
        // Linear betas whose ends are not among the settings go from their first to their last.
        (betas[0], betas[betas.len() - 1])
    };
    // Betas beyond 1 (the discretised Gaussian's are squared grey levels) are no chain's.
    let scale = if name == "linear" { ends.0.abs().max(ends.1.abs()).max(1.0) } else { 1.0 };
    let chain = chain(case, name, betas.len(), Some((ends.0 / scale, ends.1 / scale)))?;
    let found: Vec<f64> = chain.betas().iter().map(|beta| beta * scale).collect();
    report.relative("betas", &found, betas, 1e-12);
    Ok(())
}

fn compare(case: &Case, report: &mut Report, name: &str, found: Vec<f64>) -> Result<(), Fault> {
    report.absolute(name, &found, &case.vec(name)?, 1e-12);
    Ok(())
}

/// A chain's matrices, posteriors and marginals.
fn follow(case: &Case, report: &mut Report, what: &str, dense: &Dense) -> Result<(), Fault> {
    compare(case, report, "Q", (0..dense.steps()).flat_map(|i| dense.q(i).iter().copied()).collect())?;
    compare(case, report, "Qbar", (0..dense.steps()).flat_map(|i| dense.q_bar(i).iter().copied()).collect())?;
    posteriors(case, report, what, dense)
}

fn posteriors(case: &Case, report: &mut Report, what: &str, process: &impl TokenProcess) -> Result<(), Fault> {
    let steps = case.shape::<1>("betas")?[0] as f64;
    // Their index t is that of the step which ends at the noisy variable, the state t + 1 of ours.
    let time = |state: f64| state / steps;
    let mut q = vec![0.0; process.vocab()];
    let mut found = Vec::new();
    for triple in rows(case, "triples_t_xt_x0")? {
        let mut hot = vec![0.0; process.vocab()];
        hot[triple[2] as usize] = 1.0;
        process.posterior(time(triple[0] + 1.0), time(triple[0]), triple[1] as u32, &hot, &mut q);
        found.extend_from_slice(&q);
    }
    report.absolute(format!("{what}posterior"), &found, &case.vec("posterior")?, 1e-12);
    let (mut soft, mut marginals) = (Vec::new(), Vec::new());
    for row in rows(case, "soft_t_xt_p")? {
        process.posterior(time(row[0] + 1.0), time(row[0]), row[1] as u32, &row[2..], &mut q);
        soft.extend_from_slice(&q);
        process.marginal(time(row[0] + 1.0), &row[2..], &mut q);
        marginals.extend_from_slice(&q);
    }
    report.absolute(format!("{what}posterior_soft"), &soft, &case.vec("posterior_soft")?, 1e-12);
    report.absolute(format!("{what}marginal_soft"), &marginals, &case.vec("marginal_soft")?, 1e-12);
    Ok(())
}

fn losses(case: &Case, report: &mut Report) -> Result<(), Fault> {
    let (vocab, lambda) = (case.count("V")?, case.number("lam")?);
    let chain = Betas::new(case.vec("betas")?)?;
    let time = |state: u32| f64::from(state) / chain.len() as f64;
    let process = Scheduled::new(Categorical::new(vocab, limit(case)?)?, &chain);
    let mut scratch = d3pm::Scratch::new(vocab);
    let (x_0, x_t, t) = (case.ids("x0")?, case.ids("x_t")?, case.ids("t")?);
    let (mut ces, mut kls, mut totals) = (Vec::new(), Vec::new(), Vec::new());
    for (i, logits) in rows(case, "logits")?.iter().enumerate() {
        let mut loss = |lambda: f64| {
            let (t, s) = (time(t[i] + 1), time(t[i]));
            d3pm::loss(&process, logits, x_0[i], x_t[i], t, s, lambda, &mut scratch, None)
        };
        let ce = d3pm::cross_entropy(logits, x_0[i], None);
        // At t = 0 D3PM's loss is the cross-entropy alone.
        let (kl, total) = if t[i] == 0 { (ce, ce) } else { (loss(0.0), loss(lambda)) };
        ces.push(ce);
        kls.push(kl);
        totals.push(total);
    }
    for (name, found) in [("ce", ces), ("kl_or_nll", kls), ("loss", totals)] {
        report.absolute(name, &found, &case.vec(name)?, 1e-10);
    }
    Ok(())
}

/// The port: everything in logarithms with `eps` added, in float32 matrices.
fn port(case: &Case, report: &mut Report) -> Result<(), Fault> {
    let (vocab, steps, eps) = (case.count("num_classes")?, case.count("n_T")?, case.number("eps")?);
    let process = Categorical::new(vocab, Limit::Uniform)?;
    let chain = Betas::d3pm_cosine(steps)?;
    report.relative("beta_t", chain.betas(), &case.vec("beta_t")?, 1e-6);
    let q_bar: Vec<f64> = chain.alphas_cumprod().iter().flat_map(|&a| process.q_bar(a)).collect();
    report.relative("q_mats", &q_bar, &case.vec("q_mats")?, 1e-5);
    let transposed = |beta: f64| process.transition(1.0 - beta).reversed_axes();
    let one_step: Vec<f64> =
        chain.betas().iter().flat_map(|&beta| transposed(beta).iter().copied().collect::<Vec<f64>>()).collect();
    report.relative("q_one_step_transposed", &one_step, &case.vec("q_one_step_transposed")?, 1e-5);
    let timed = Scheduled::new(process, chain);
    let [_, len] = case.shape("x")?;
    let (x, t) = (case.ids("x")?, case.ids("t")?);
    report.exact("t", &case.recorded("loss_", 0)?.iter().map(|&t| t as u32).collect::<Vec<u32>>(), &t);
    let (logits, gumbels) =
        (rows(case, "x0_logits")?, case.recorded("loss_", 1)?.iter().copied().collect::<Vec<f64>>());
    let (mut x_t, mut true_logits, mut model_logits) = (Vec::new(), Vec::new(), Vec::new());
    let (mut kls, mut ces) = (Vec::new(), Vec::new());
    for (i, logits) in logits.iter().enumerate() {
        let step = t[i / len];
        let time = |state: u32| f64::from(state) / steps as f64;
        let mut hot = vec![0.0; vocab];
        hot[x[i] as usize] = 1.0;
        let mut q = vec![0.0; vocab];
        timed.marginal(time(step), &hot, &mut q);
        let noisy = |k: usize| (q[k] + eps).ln() - (-gumbels[i * vocab + k].clamp(eps, 1.0).ln()).ln();
        let drawn = (0..vocab).max_by(|&a, &b| noisy(a).total_cmp(&noisy(b))).unwrap_or(0) as u32;
        x_t.push(drawn);
        // log(likelihood + eps) + log(marginal + eps), or at the first step the logits themselves.
        let posterior = |p: &[f64], logits: &dyn Fn(usize) -> f64| -> Vec<f64> {
            let (mut marginal, mut likelihood) = (vec![0.0; vocab], vec![1.0; vocab]);
            timed.marginal(time(step - 1), p, &mut marginal);
            timed.weigh(time(step), time(step - 1), drawn, &mut likelihood);
            let sum = |k: usize| (likelihood[k] + eps).ln() + (marginal[k] + eps).ln();
            (0..vocab).map(|k| if step == 1 { logits(k) } else { sum(k) }).collect()
        };
        let mut p = logits.clone();
        softmax(&mut p);
        // A clean token is told as the logits log(hot + eps), whose softmax leaves eps to the others.
        let soft: Vec<f64> = hot.iter().map(|hot| (hot + eps) / (1.0 + vocab as f64 * eps)).collect();
        let truth = posterior(&soft, &|k| (hot[k] + eps).ln());
        let model = posterior(&p, &|k| logits[k]);
        kls.push(divergence(&truth, &model));
        ces.push(d3pm::cross_entropy(logits, x[i], None));
        true_logits.extend(truth);
        model_logits.extend(model);
    }
    report.exact("x_t", &x_t, &case.ids("x_t")?);
    report.relative("true_posterior_logits", &true_logits, &case.vec("true_posterior_logits")?, 1e-5);
    report.relative("pred_posterior_logits", &model_logits, &case.vec("pred_posterior_logits")?, 1e-5);
    report.relative("vb_loss", &[mean(&kls)], &case.vec("vb_loss")?, 1e-5);
    report.relative("ce_loss", &[mean(&ces)], &case.vec("ce_loss")?, 1e-5);
    let loss = case.number("hybrid_loss_coeff")? * mean(&kls) + mean(&ces);
    report.relative("loss", &[loss], &case.vec("loss")?, 1e-5);
    Ok(())
}

/// KL of two softmaxes. (The port adds eps to all logits alike, which changes nothing.)
fn divergence(truth: &[f64], model: &[f64]) -> f64 {
    let (mut p, mut q) = (truth.to_vec(), model.to_vec());
    softmax(&mut p);
    softmax(&mut q);
    p.iter().zip(&q).filter(|(p, _)| **p > 0.0).map(|(p, q)| p * (p / q).ln()).sum()
}
