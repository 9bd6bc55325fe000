//! SEDD's losses and graph operators.

use super::rows::{mean, rows};
use super::schedules::noise;
use super::{Case, Fault, Report};
use galatea_processes::objectives::score_entropy;
use galatea_processes::rates::{rates_from, rates_into, reverse_rates, undo_step};
use galatea_processes::{Categorical, Limit, Scheduled, TokenProcess};
use galatea_schedules::{LinearSigma, Schedule};

/// `sedd_loss`.
pub(super) fn sedd(case: &Case, report: &mut Report) -> Result<(), Fault> {
    let dim = case.count("dim")?;
    let limit = match case.text("graph")? {
        "absorb" => Limit::Mask(dim.saturating_sub(1) as u32),
        "uniform" => Limit::Uniform,
        _ => return Err(case.unsupported("graph", "absorb or uniform")),
    };
    let process = Categorical::new(dim, limit)?;
    if case.has("transp_rate") { operators(case, report, process) } else { loss(case, report, process) }
}

fn loss(case: &Case, report: &mut Report, process: Categorical) -> Result<(), Fault> {
    let [batch, len] = case.shape("x0")?;
    let schedule = noise(case, "noise")?;
    let times: Vec<f64> = case.recorded("", 0)?.iter().map(|u| (1.0 - 1e-3) * u + 1e-3).collect();
    report.relative("t", &times, &case.vec("t")?, 2e-5);
    let column = |f: &dyn Fn(f64) -> f64| times.iter().map(|&t| f(t)).collect::<Vec<f64>>();
    report.relative("sigma", &column(&|t| -schedule.alpha_bar(t).ln()), &case.vec("sigma")?, 2e-5);
    report.relative("dsigma", &column(&|t| schedule.rate(t)), &case.vec("dsigma")?, 2e-5);
    let (x_0, x_t) = (case.ids("x0")?, case.ids("x_t")?);
    let new: Vec<u32> = match process.limit() {
        Limit::Mask(mask) => vec![mask; x_0.len()],
        Limit::Uniform => case.recorded("", 2)?.iter().map(|&x| x as u32).collect(),
    };
    let moved = |(i, u): (usize, &f64)| if *u < 1.0 - schedule.alpha_bar(times[i / len]) { new[i] } else { x_0[i] };
    let corrupted: Vec<u32> = case.recorded("", 1)?.iter().enumerate().map(moved).collect();
    report.exact("x_t", &corrupted, &x_t);
    let scale = case.number("table_scale")?;
    let (mut log_scores, mut losses) = (Vec::new(), vec![0.0; batch]);
    for (i, logits) in rows(case, "table_logits")?.iter().enumerate() {
        let t = times[i / len];
        let mut log_score: Vec<f64> = logits.iter().map(|logit| logit * scale).collect();
        // Scaled by the noise with the absorbing graph only.
        let sigma = matches!(process.limit(), Limit::Mask(_)).then(|| -schedule.alpha_bar(t).ln());
        score_entropy::read_output(&mut log_score, x_t[i], sigma);
        let (alpha_bar, rate) = (schedule.alpha_bar(t), schedule.rate(t));
        losses[i / len] += score_entropy::loss(process.limit(), &log_score, x_0[i], x_t[i], alpha_bar, rate, None);
        log_scores.extend(log_score);
    }
    report.relative("log_score", &log_scores, &case.vec("log_score")?, 2e-5);
    report.relative("loss_seq", &losses, &case.vec("loss_seq")?, 2e-5);
    report.relative("loss", &[mean(&losses)], &case.vec("loss")?, 2e-5);
    Ok(())
}

fn operators(case: &Case, report: &mut Report, process: Categorical) -> Result<(), Fault> {
    let [_, len] = case.shape("x")?;
    let (x, dsigma) = (case.ids("x")?, case.vec("dsigma")?);
    // Rates are those of a unit of sigma in a unit of time.
    let unit = Scheduled::new(process, LinearSigma::new(0.0, 1.0)?);
    let mut columns: [Vec<f64>; 5] = Default::default();
    for (i, score) in rows(case, "score")?.iter().enumerate() {
        let step = Scheduled::new(process, LinearSigma::new(0.0, dsigma[i / len])?);
        let mut row = vec![0.0; score.len()];
        rates_from(&unit, 0.5, x[i], &mut row);
        columns[0].extend_from_slice(&row);
        rates_into(&unit, 0.5, x[i], &mut row);
        columns[1].extend_from_slice(&row);
        let log_score: Vec<f64> = score.iter().map(|s| s.ln()).collect();
        reverse_rates(&unit, 0.5, x[i], &log_score, &mut row);
        columns[2].extend_from_slice(&row);
        row.copy_from_slice(score);
        undo_step(&step, 1.0, 0.0, &mut row);
        columns[3].extend_from_slice(&row);
        row.fill(1.0);
        step.weigh(1.0, 0.0, x[i], &mut row);
        columns[4].extend_from_slice(&row);
    }
    let names = ["rate", "transp_rate", "reverse_rate", "staggered_score", "transp_transition"];
    for (name, found) in names.into_iter().zip(&columns) {
        report.relative(name, found, &case.vec(name)?, 1e-6);
    }
    Ok(())
}
