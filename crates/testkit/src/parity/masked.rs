//! Losses of the masked systems: MDLM, MD4, BD3-LM, LLaDA.

use super::rows::{mean, rows};
use super::schedules::{noise, stratified};
use super::{Case, Fault, Report};
use galatea_processes::blocks::{Bounds, mask_within};
use galatea_processes::objectives::{answer, d3pm, masked, score_entropy};
use galatea_processes::times::quantise;
use galatea_processes::{Categorical, Limit, Scheduled};
use galatea_schedules::{AnySchedule, EvenWeight, Linear, Schedule, grid};
use ndarray::{Array2, Ix2};

/// `mdlm_loss`.
pub(super) fn mdlm(case: &Case, report: &mut Report) -> Result<(), Fault> {
    let [batch, len] = case.shape("x0")?;
    let (vocab, mask) = (case.count("vocab_size")?, case.count("mask_index")? as u32);
    let (steps, eps) = (case.count("T")?, case.number("sampling_eps")?);
    let schedule = noise(case, "noise")?;
    let (even, own_times) = (even(&schedule), case.flag("importance_sampling")?);
    let changed = case.flag("change_of_variables")?;
    let drawn = case.recorded("", 0)?.iter().copied().collect::<Vec<f64>>();
    let time = |u: f64| {
        let t = (1.0 - eps) * u + eps;
        let t = match even {
            Some(even) if own_times => schedule.time_of(even.alpha_bar(t)),
            _ => t,
        };
        if steps > 0 { quantise(t, steps) } else { t }
    };
    let times: Vec<f64> = stratified(&drawn, case.flag("antithetic")?).into_iter().map(time).collect();
    let level = |t: f64| match even {
        Some(even) if changed => even.alpha_bar(t),
        _ => schedule.alpha_bar(t),
    };
    if (changed || own_times) && even.is_none() {
        return Err(case.unsupported("noise", "loglinear for a change of variables or importance sampling"));
    }
    let (x_0, x_t, attention) = (case.ids("x0")?, case.ids("x_t")?, case.vec("attention_mask")?);
    let u = case.recorded("", 1)?;
    let moved = |(i, u): (usize, &f64)| if *u < 1.0 - level(times[i / len]) { mask } else { x_0[i] };
    let corrupted: Vec<u32> = u.iter().enumerate().map(moved).collect();
    report.exact("x_t", &corrupted, &x_t);
    let process = Scheduled::new(Categorical::new(vocab, Limit::Mask(mask))?, Linear);
    let mut scratch = d3pm::Scratch::new(vocab);
    let kind = case.text("parameterization")?;
    let clean = if kind == "d3pm" { rows(case, "logits_t0")? } else { Vec::new() };
    let mut found = Vec::with_capacity(batch * len);
    for (i, mut logits) in rows(case, "logits")?.into_iter().enumerate() {
        let t = times[i / len];
        // The T-step losses of the original take alpha_bar = 1 - t, at most 1 - 1e-4 of it.
        let (end, start) = (t.min(1.0 - 1e-4), t.min(1.0 - 1e-4) - 1.0 / steps as f64);
        let loss = match (kind, steps) {
            ("subs", 0) => {
                // Its constant weight leaves out log p_max, which is nearly 0.
                let weight = match even {
                    Some(even) if changed || own_times => EvenWeight::new(1.0 - even.alpha_bar(0.0), 1.0)?.weight(),
                    _ => masked::weight(&schedule, t),
                };
                masked::nelbo(&logits, x_0[i], x_t[i], mask, weight, None)
            }
            ("subs", _) => {
                let weight = masked::weight_of_steps(1.0 - end, 1.0 - start, steps);
                masked::nelbo(&logits, x_0[i], x_t[i], mask, weight, None)
            }
            ("d3pm", 1..) => {
                let kl = d3pm::loss(&process, &logits, x_0[i], x_t[i], end, start, 0.0, &mut scratch, None);
                steps as f64 * kl + d3pm::cross_entropy(&clean[i], x_0[i], None)
            }
            ("sedd", 0) => {
                let alpha_bar = schedule.alpha_bar(t);
                score_entropy::read_output(&mut logits, x_t[i], Some(-alpha_bar.ln()));
                score_entropy::loss(Limit::Mask(mask), &logits, x_0[i], x_t[i], alpha_bar, schedule.rate(t), None)
            }
            _ => return Err(case.unsupported("parameterization", "subs, d3pm with T > 0 or sedd with T = 0")),
        };
        found.push(attention[i] * loss);
    }
    let tolerance = if changed || own_times { 1e-4 } else { 1e-5 };
    report.relative("nll_per_token", &found, &case.vec("nll_per_token")?, tolerance);
    let loss = found.iter().sum::<f64>() / attention.iter().sum::<f64>();
    report.relative("loss", &[loss], &case.vec("loss")?, tolerance);
    Ok(())
}

/// The schedule of even weights that goes with MDLM's log-linear noise.
fn even(schedule: &AnySchedule) -> Option<EvenWeight> {
    match schedule {
        AnySchedule::LogLinear(log_linear) => EvenWeight::of_log_linear(*log_linear).ok(),
        _ => None,
    }
}

/// `md4`.
pub(super) fn md4(case: &Case, report: &mut Report) -> Result<(), Fault> {
    let (vocab, mask, eps) = (case.count("vocab_size")?, case.count("mask_id")? as u32, case.number("eps")?);
    let [batch, len] = case.shape("x")?;
    let (x_0, u, grid_t) = (case.ids("x")?, case.vec("u_mask")?, case.vec("grid_t")?);
    let u_0 = case.scalar("u0")?;
    let times: Vec<f64> = (0..batch).map(|b| (u_0 + b as f64 / batch as f64).fract()).collect();
    report.relative("t", &times, &case.vec("t")?, 2e-5);
    // The network of the original has no logit for the mask; ours has one, which is forbidden.
    let logits: Vec<Vec<f64>> = rows(case, "logits")?
        .into_iter()
        .map(|mut row| {
            row.resize(row.len().max(mask as usize + 1), 0.0);
            row
        })
        .collect();
    let names: Vec<String> = case.names().filter_map(|name| Some(name.strip_suffix(".alpha")?.to_owned())).collect();
    for name in names {
        let inner = match name.as_str() {
            "linear" => "linear".to_owned(),
            "cosine" => "sine".to_owned(),
            _ => match name.strip_prefix("poly") {
                Some(power) if power.parse::<f64>().is_ok() => format!("polynomial({power})"),
                _ => {
                    let known = "linear, cosine, poly<power>".to_owned();
                    return Err(Fault::Unknown { what: name, known });
                }
            },
        };
        let schedule: AnySchedule = format!("squeeze({eps}, {}, {inner})", 1.0 - eps).parse()?;
        let noise = |t: f64| 1.0 - schedule.alpha_bar(t);
        // In float32 1 - alpha has an error of 6e-8, which near t = 0 is 6e-8 / eps of it.
        let small = 6e-8 / eps;
        type Column<'a> = (&'a str, &'a dyn Fn(f64) -> f64, f64);
        let columns: [Column<'_>; 4] = [
            ("alpha", &|t| schedule.alpha_bar(t), 2e-5),
            ("dalpha", &|t| schedule.alpha_bar_derivative(t), 2e-5),
            ("gamma", &|t| schedule.log_snr(t), 2e-5 + small / 9.0),
            ("dgamma_times_alpha", &|t| schedule.alpha_bar_derivative(t) / noise(t), 2e-5 + 2.0 * small),
        ];
        for (what, column, tolerance) in columns {
            let found: Vec<f64> = grid_t.iter().map(|&t| column(t)).collect();
            report.relative(format!("{name}.{what}"), &found, &case.vec(&format!("{name}.{what}"))?, tolerance);
        }
        let forms: Vec<String> = case
            .names()
            .filter_map(|n| Some(n.strip_prefix(&format!("{name}."))?.strip_suffix(".z_t")?.to_owned()))
            .collect();
        for form in forms {
            let steps: Option<usize> = form.strip_prefix('T').and_then(|steps| steps.parse().ok());
            let time = |b: usize| steps.map_or(times[b], |steps| quantise(times[b], steps));
            let keep = |i: usize| if u[i] < schedule.alpha_bar(time(i / len)) { x_0[i] } else { mask };
            let x_t: Vec<u32> = (0..batch * len).map(keep).collect();
            report.exact(format!("{name}.{form}.z_t"), &x_t, &case.ids(&format!("{name}.{form}.z_t"))?);
            let mut found = vec![0.0; batch];
            for (i, logits) in logits.iter().enumerate() {
                let t = time(i / len);
                let weight = match steps {
                    None => masked::weight(&schedule, t),
                    Some(steps) => {
                        let s = t - 1.0 / steps as f64;
                        masked::weight_of_steps(schedule.alpha_bar(t), schedule.alpha_bar(s), steps)
                    }
                };
                found[i / len] += masked::nelbo(logits, x_0[i], x_t[i], mask, weight, None);
            }
            // The discrete form subtracts two gammas in float32, which loses digits in the number of steps.
            // The continuous one has the error of 1 - alpha at the least noise that masked a token.
            let masked_at = |i: &usize| x_t[*i] == mask;
            let least = (0..batch * len).filter(masked_at).map(|i| noise(time(i / len))).fold(1.0, f64::min);
            let tolerance = if steps.is_some() { 1e-4 } else { 2e-5 + 6e-8 / least };
            let truth = case.vec(&format!("{name}.{form}.loss_diff"))?;
            report.relative(format!("{name}.{form}.loss_diff"), &found, &truth, tolerance);
        }
        let found = len as f64 * masked::reconstruction(schedule.alpha_bar(0.0), vocab + 1);
        report.relative(format!("{name}.recon_loss"), &[found], &case.vec(&format!("{name}.recon_loss"))?, 2.0 * small);
    }
    if case.has("grid_cosine_s_t") {
        let truth = case.vec("grid_cosine_s_t")?;
        let times = grid::cosine(truth.len() / 2);
        let found: Vec<f64> = times.windows(2).flat_map(|step| [step[1], step[0]]).collect();
        report.absolute("grid_cosine_s_t", &found, &truth, 2e-5);
    }
    Ok(())
}

/// `bd3lm_loss`.
pub(super) fn bd3lm(case: &Case, report: &mut Report) -> Result<(), Fault> {
    let mask = case.count("mask_index")? as u32;
    let [batch, len] = case.shape("x0")?;
    let size = case.count("block_size")?;
    if size == 0 || !len.is_multiple_of(size) {
        return Err(case.unsupported("block_size", "a divisor of the text's length"));
    }
    let (low, high) = (case.number("sampling_eps_min")?, case.number("sampling_eps_max")?);
    let bounds = Bounds::new(low, high)?;
    let drawn: Vec<f64> = case.recorded("", 0)?.iter().copied().collect();
    let times: Vec<f64> = stratified(&drawn, true).into_iter().map(|u| bounds.place(u)).collect();
    let t = Array2::from_shape_vec((batch, len / size), times).map_err(Fault::refused)?;
    // MDLM's scale comes with MDLM's share of masks, (1 - eps) t.
    let schedule: AnySchedule =
        if case.flag("mdlm_loss_scale")? { AnySchedule::default() } else { AnySchedule::Linear(Linear) };
    let x_0 = case.id_array::<Ix2>("x0")?;
    // The original draws a whole batch again while any block is out of bounds, and replaces those blocks only. It does not
    // count a bound of 1e-3 from below or of 1 from above.
    let held = if case.flag("resample")? {
        Bounds::new(if low == 1e-3 { 0.0 } else { low }, high)?
    } else {
        Bounds::new(0.0, 1.0)?
    };
    let mut draws: Vec<Vec<f64>> = Vec::new();
    while let Ok(tensor) = case.recorded("", draws.len() + 1) {
        draws.push(tensor.iter().copied().collect());
    }
    // Where the recorded numbers do not suffice, the next ones mask just enough tokens to end the search, and it is said.
    let enough = (0..=size).find(|&masks| held.hold(masks, size)).unwrap_or(0);
    let mut missing = 0;
    let uniform = |attempt: usize, row: usize, l: usize| match draws.get(attempt) {
        Some(draw) => draw[row * len + l],
        None => {
            missing += 1;
            if l % size < enough { 0.0 } else { 2.0 }
        }
    };
    let mut x_t = Array2::zeros((batch, len));
    mask_within(held, mask, &x_0, &t.mapv(|t| schedule.noise(t)), uniform, &mut x_t)?;
    report.exact("numbers beyond the recorded ones", &[missing], &[0]);
    if case.flag("ignore_bos")? {
        x_t.column_mut(0).assign(&x_0.column(0));
    }
    let found: Vec<u32> = x_t.iter().copied().collect();
    report.exact("x_t", &found, &case.ids("x_t")?);
    let mut losses = Vec::with_capacity(batch * len);
    for (i, logits) in rows(case, "logits")?.iter().enumerate() {
        let (b, l) = (i / len, i % len);
        // Blocks that are nearly all masks are trained as plain predictions.
        let weight = if low > 0.5 { 1.0 } else { masked::weight(&schedule, t[[b, l / size]]) };
        losses.push(masked::nelbo(logits, x_0[[b, l]], x_t[[b, l]], mask, weight, None));
    }
    report.relative("nll_per_token", &losses, &case.vec("nll_per_token")?, 1e-5);
    report.relative("loss", &[mean(&losses)], &case.vec("loss")?, 1e-5);
    Ok(())
}

/// `llada_loss`.
pub(super) fn llada(case: &Case, report: &mut Report) -> Result<(), Fault> {
    let [batch, len] = case.shape("input_ids")?;
    let (mask, eps) = (case.count("mask_id")? as u32, case.number("eps")?);
    let x_0 = case.id_array::<Ix2>("input_ids")?;
    let p_mask: Vec<f64> = case.vec("u_t")?.iter().map(|u| (1.0 - eps) * u + eps).collect();
    report.relative("p_mask", &p_mask, &case.vec("p_mask")?, 1e-5);
    let u = case.array::<Ix2>("u_mask")?;
    let noisy = Array2::from_shape_fn((batch, len), |(b, l)| if u[[b, l]] < p_mask[b] { mask } else { x_0[[b, l]] });
    let flat = |x: &Array2<u32>| x.iter().copied().collect::<Vec<u32>>();
    report.exact("noisy_batch", &flat(&noisy), &case.ids("noisy_batch")?);
    stage(case, report, "pretrain", "logits", &x_0, &noisy, mask, &p_mask, &vec![1.0 / (batch * len) as f64; batch])?;
    if case.has("sft.logits") {
        let prompts: Vec<usize> = case.ids("sft.prompt_lengths")?.iter().map(|&n| n as usize).collect();
        let mut restored = noisy;
        answer::restore_prompts(&x_0, &prompts, &mut restored)?;
        report.exact("sft.noisy_batch", &flat(&restored), &case.ids("sft.noisy_batch")?);
        let shares: Vec<f64> = prompts.iter().map(|&prompt| answer::share(batch, len, prompt)).collect();
        stage(case, report, "sft", "sft.logits", &x_0, &restored, mask, &p_mask, &shares)?;
    }
    Ok(())
}

/// Cross-entropy over the masking probability at masked tokens, each row with its share of the mean.
#[expect(clippy::too_many_arguments, reason = "one stage of the recipe")]
fn stage(
    case: &Case,
    report: &mut Report,
    name: &str,
    logits: &str,
    x_0: &Array2<u32>,
    x_t: &Array2<u32>,
    mask: u32,
    p_mask: &[f64],
    shares: &[f64],
) -> Result<(), Fault> {
    let len = x_0.ncols();
    let (mut per_token, mut gradients, mut total) = (Vec::new(), Vec::new(), 0.0);
    for (i, logits) in rows(case, logits)?.iter().enumerate() {
        let (b, l) = (i / len, i % len);
        // LLaDA's softmax includes the mask, so its cross-entropy is taken over all ids: no id is forbidden.
        let mut gradient = vec![0.0; logits.len()];
        let masked = x_t[[b, l]] == mask;
        let ce = if masked { d3pm::cross_entropy(logits, x_0[[b, l]], Some(&mut gradient)) } else { 0.0 };
        per_token.push(ce / p_mask[b]);
        total += ce / p_mask[b] * shares[b];
        gradients.extend(gradient.iter().map(|g| g / p_mask[b] * shares[b]));
    }
    report.relative(format!("{name}.loss"), &[total], &case.vec(&format!("{name}.loss"))?, 1e-5);
    report.relative(format!("{name}.grad_logits"), &gradients, &case.vec(&format!("{name}.grad_logits"))?, 1e-5);
    if name == "pretrain" && case.has("pretrain.loss_per_token") {
        report.relative("pretrain.loss_per_token", &per_token, &case.vec("pretrain.loss_per_token")?, 1e-5);
    }
    if name == "sft" && case.has("sft.loss_per_token") {
        // There the answer's length is part of it, the batch is not.
        let batch = shares.len() as f64;
        let found: Vec<f64> = per_token.iter().enumerate().map(|(i, loss)| loss * shares[i / len] * batch).collect();
        report.relative("sft.loss_per_token", &found, &case.vec("sft.loss_per_token")?, 1e-5);
    }
    Ok(())
}
