//! Losses under uniform and hybrid noise and of flows: UDLM, Duo, GIDD, discrete flow matching.

use super::rows::{mean, rows};
use super::schedules::{noise, stratified};
use super::{Case, Fault, Report, ancestral, rates};
use galatea_processes::objectives::interpolating::{self, Weighting};
use galatea_processes::objectives::{d3pm, flow as objective, uniform};
use galatea_processes::times::quantise;
use galatea_processes::{Categorical, Hybrid, Interpolating, Limit, Scheduled, TokenProcess};
use galatea_schedules::{AnySchedule, Linear, Power, Schedule};
use ndarray::Ix2;

/// `udlm_loss`.
pub(super) fn udlm(case: &Case, report: &mut Report) -> Result<(), Fault> {
    if case.has("x_probs") {
        return posterior(case, report);
    }
    let vocab = case.count("vocab_size")?;
    let [_, len] = case.shape("x0")?;
    let (steps, eps) = (case.count("T")?, case.number("sampling_eps")?);
    let schedule = noise(case, "noise")?;
    let drawn: Vec<f64> = case.recorded("", 0)?.iter().copied().collect();
    let time = |u: f64| {
        let t = (1.0 - eps) * u + eps;
        if steps > 0 { quantise(t, steps) } else { t }
    };
    let times: Vec<f64> = stratified(&drawn, case.flag("antithetic")?).into_iter().map(time).collect();
    let (x_0, x_t) = (case.ids("x0")?, case.ids("x_t")?);
    let replacement = case.recorded("", 2)?.iter().map(|&x| x as u32);
    let corrupted: Vec<u32> = case
        .recorded("", 1)?
        .iter()
        .zip(replacement)
        .enumerate()
        .map(|(i, (&u, new))| if u < 1.0 - schedule.alpha_bar(times[i / len]) { new } else { x_0[i] })
        .collect();
    report.exact("x_t", &corrupted, &x_t);
    // The source's bound uses alpha = 1 - t although its corruption has the floor of the log-linear schedule.
    let process = Scheduled::new(Categorical::new(vocab, Limit::Uniform)?, Linear);
    let mut scratch = d3pm::Scratch::new(vocab);
    let mut found = Vec::new();
    for (i, logits) in rows(case, "logits")?.iter().enumerate() {
        let t = times[i / len];
        found.push(if steps == 0 {
            let (alpha_bar, slope) = (Linear.alpha_bar(t), Linear.alpha_bar_derivative(t));
            uniform::nelbo(logits, x_0[i], x_t[i], alpha_bar, slope, None)
        } else {
            let s = t - 1.0 / steps as f64;
            steps as f64 * d3pm::loss(&process, logits, x_0[i], x_t[i], t, s, 0.0, &mut scratch, None)
        });
    }
    report.relative("diffusion_loss", &found, &case.vec("diffusion_loss")?, 2e-5);
    let clean = rows(case, "logits_t0")?;
    let whole = !case.flag("zero_recon_loss")?;
    let recon: Vec<f64> = clean.iter().zip(&x_0).map(|(l, &x_0)| d3pm::cross_entropy(l, x_0, None)).collect();
    // Where it is left out the original may record zeros.
    let truth = case.vec("recon_loss")?;
    if whole || truth.iter().any(|x| *x != 0.0) {
        report.relative("recon_loss", &recon, &truth, 2e-5);
    }
    let total: Vec<f64> = found.iter().zip(&recon).map(|(a, b)| if whole { a + b } else { *a }).collect();
    report.relative("loss_per_token", &total, &case.vec("loss_per_token")?, 2e-5);
    report.relative("loss", &[mean(&total)], &case.vec("loss")?, 2e-5);
    Ok(())
}

fn posterior(case: &Case, report: &mut Report) -> Result<(), Fault> {
    let probabilities = rows(case, "x_probs")?;
    let [_, len, vocab] = case.shape("x_probs")?;
    let process = Categorical::new(vocab, Limit::Uniform)?;
    let (x_t, alpha_t, alpha_s) = (case.ids("x_t")?, case.vec("alpha_t")?, case.vec("alpha_s")?);
    let mut found = vec![0.0; probabilities.len() * vocab];
    for ((i, p), q) in probabilities.iter().enumerate().zip(found.chunks_mut(vocab)) {
        process.posterior(alpha_t[i / len], alpha_s[i / len], x_t[i], p, q);
    }
    report.relative("posterior", &found, &case.vec("posterior")?, 1e-5);
    Ok(())
}

/// `duo`: the loss file here, the traces with the samplers.
pub(super) fn duo(case: &Case, report: &mut Report) -> Result<(), Fault> {
    if !case.has("log_x_theta") {
        return ancestral::duo(case, report);
    }
    let eps = case.number("eps")?;
    let [_, len] = case.shape("x0")?;
    let (x_0, x_t, times, grid_t) = (case.ids("x0")?, case.ids("x_t")?, case.vec("t")?, case.vec("grid_t")?);
    let names: Vec<String> =
        case.names().filter_map(|name| Some(name.strip_suffix(".nll_per_token")?.to_owned())).collect();
    for name in names {
        let (text, missing) = match name.as_str() {
            "loglinear" => (format!("log-linear({eps})"), 1.0),
            // The source's derivative of the cosine lacks the factor 1 - eps.
            "cosine" => (format!("cosine-duo({eps})"), 1.0 / (1.0 - eps)),
            _ => return Err(Fault::Unknown { what: name, known: "loglinear, cosine".to_owned() }),
        };
        let schedule: AnySchedule = text.parse()?;
        let slope = |t: f64| schedule.alpha_bar_derivative(t) * missing;
        type Column<'a> = (&'a str, &'a dyn Fn(f64) -> f64);
        let columns: [Column<'_>; 2] = [("alpha", &|t| schedule.alpha_bar(t)), ("dalpha", &slope)];
        for (what, column) in columns {
            for (place, times) in [(format!("{name}.grid_{what}"), &grid_t), (format!("{name}.{what}_t"), &times)] {
                let found: Vec<f64> = times.iter().map(|&t| column(t)).collect();
                let truth = case.vec(&place)?;
                report.relative(place, &found, &truth, 2e-5);
            }
        }
        let found: Vec<f64> = rows(case, "log_x_theta")?
            .iter()
            .enumerate()
            .map(|(i, log_p)| {
                let t = times[i / len];
                uniform::nelbo(log_p, x_0[i], x_t[i], schedule.alpha_bar(t), slope(t), None)
            })
            .collect();
        report.relative(format!("{name}.nll_per_token"), &found, &case.vec(&format!("{name}.nll_per_token"))?, 2e-5);
    }
    Ok(())
}

/// `gidd_loss`: the loss files here, the traces with the samplers.
pub(super) fn gidd(case: &Case, report: &mut Report) -> Result<(), Fault> {
    if !case.has("beta_pi") {
        return ancestral::gidd(case, report);
    }
    let (vocab, mask) = (case.count("vocab_size")?, case.count("mask_id")? as u32);
    // The original never has quite no uniform noise.
    let p_uniform = case.number("p_uniform")?.max((-20f64).exp());
    let process = Hybrid::new(vocab, mask, p_uniform, case.number("gamma")?)?;
    let [batch, len] = case.shape("input_ids")?;
    let (x_0, x_t, times) = (case.ids("input_ids")?, case.ids("z_t")?, case.vec("t")?);
    let alphas: Vec<f64> = times.iter().map(|&t| process.alpha_bar(t)).collect();
    report.relative("alpha_t", &alphas, &case.vec("alpha_t")?, 5e-5);
    let noise = |t: f64| (0..vocab as u32).map(move |k| process.noise(t).of(k, Some(mask)));
    let noises: Vec<f64> = times.iter().flat_map(|&t| noise(t)).collect();
    report.relative("beta_pi", &noises, &case.vec("beta_pi")?, 5e-5);
    // Drawn by the inverse of the cumulative sum.
    let u = case.recorded("", 0)?;
    let (mut p, mut q) = (vec![0.0; vocab], vec![0.0; vocab]);
    let mut drawn = Vec::new();
    for (i, &u) in u.iter().enumerate() {
        p.fill(0.0);
        p[x_0[i] as usize] = 1.0;
        process.marginal(times[i / len], &p, &mut q);
        let mut sum = 0.0;
        let first = q.iter().position(|q| {
            sum += q;
            sum > u
        });
        drawn.push(first.unwrap_or(vocab - 1) as u32);
    }
    report.exact("z_t", &drawn, &x_t);
    let bounds = || Ok::<_, Fault>((case.number("min_loss_weight")?, case.number("max_loss_weight")?));
    let names: Vec<String> =
        case.names().filter_map(|name| Some(name.strip_suffix(".loss_per_token")?.to_owned())).collect();
    for name in names {
        let weighting = match name.as_str() {
            "elbo" => Weighting::Bound,
            "clip" => bounds().map(|(min, max)| Weighting::Clip { min, max })?,
            "dynamic" => bounds().map(|(min, max)| Weighting::Dynamic { min, max })?,
            _ => return Err(Fault::Unknown { what: name, known: "elbo, clip, dynamic".to_owned() }),
        };
        let (mut losses, mut gradients) = (Vec::new(), Vec::new());
        for (i, logits) in rows(case, "logits")?.iter().enumerate() {
            let t = times[i / len];
            let weight = weighting.weight(&process, x_0[i], x_t[i], t);
            let mut gradient = vec![0.0; vocab];
            losses.push(interpolating::nelbo(&process, logits, x_0[i], x_t[i], t, weight, Some(&mut gradient)));
            gradients.extend(gradient.iter().map(|g| g / (batch * len) as f64));
        }
        report.relative(format!("{name}.loss_per_token"), &losses, &case.vec(&format!("{name}.loss_per_token"))?, 5e-5);
        report.relative(format!("{name}.grad_logits"), &gradients, &case.vec(&format!("{name}.grad_logits"))?, 5e-5);
        if name == "elbo" && case.has("elbo_per_token") {
            report.relative("elbo_per_token", &losses, &case.vec("elbo_per_token")?, 5e-5);
        }
    }
    Ok(())
}

/// `flow_matching`: the path and the loss here, the solver's trace with the samplers.
pub(super) fn flow(case: &Case, report: &mut Report) -> Result<(), Fault> {
    let text = case.text("scheduler")?;
    let n = text.strip_prefix("polynomial n=").and_then(|n| n.parse::<f64>().ok());
    let schedule = Power::new(n.ok_or_else(|| case.unsupported("scheduler", "polynomial n=<number>"))?)?;
    // Their time runs towards the data.
    let kappa = |t: f64| schedule.alpha_bar(1.0 - t);
    let slope = |t: f64| -schedule.alpha_bar_derivative(1.0 - t);
    let grid = case.vec("scheduler.t")?;
    let column = |f: &dyn Fn(f64) -> f64| grid.iter().map(|&t| f(t)).collect::<Vec<f64>>();
    report.relative("kappa", &column(&kappa), &case.vec("scheduler.kappa")?, 1e-5);
    report.relative("dkappa", &column(&slope), &case.vec("scheduler.dkappa")?, 1e-5);
    let (x_0, x_1) = (case.ids("x_0")?, case.id_array::<Ix2>("x_1")?);
    let (batch, len) = x_1.dim();
    let (times, x_t) = (case.vec("t")?, case.ids("x_t")?);
    let u = case.recorded("loss_", 0)?;
    let mixed: Vec<u32> = u
        .iter()
        .zip(x_0.iter().zip(&x_1))
        .enumerate()
        .map(|(i, (&u, (&source, &target)))| if u < 1.0 - kappa(times[i / len]) { source } else { target })
        .collect();
    report.exact("x_t", &mixed, &x_t);
    let (mut losses, mut gradients) = (Vec::new(), Vec::new());
    for ((i, logits), &target) in rows(case, "logits")?.iter().enumerate().zip(&x_1) {
        let t = times[i / len];
        let mut gradient = vec![0.0; logits.len()];
        losses.push(objective::loss(logits, target, x_t[i], kappa(t), slope(t), Some(&mut gradient)));
        gradients.extend(gradient.iter().map(|g| g / (batch * len) as f64));
    }
    report.relative("loss_per_token", &losses, &case.vec("loss_per_token")?, 1e-5);
    report.relative("loss", &[mean(&losses)], &case.vec("loss")?, 1e-5);
    report.relative("grad_logits", &gradients, &case.vec("grad_logits")?, 1e-5);
    if case.has("sample.x_final") { rates::flow(case, report) } else { Ok(()) }
}
