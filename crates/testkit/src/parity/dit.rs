//! The DiT under its objectives: MDLM, SEDD, GIDD.

use super::network::{GRADIENTS, Network, OUTPUTS, dit, flat, gradients, objective};
use super::{Case, Fault, Report};
use galatea_models::Model;
use galatea_processes::Limit;
use galatea_processes::objectives::{d3pm, masked, score_entropy};
use ndarray::{Array2, Array3, Axis, Ix2};

/// The network of a case on [batch, len] ids.
fn network(case: &Case, model: &Model, vocab: usize) -> Result<Network, Fault> {
    let [batch, len] = case.shape("x")?;
    Network::new(case, [batch, len, vocab], |rec, ids, time| model.logits(rec, vocab, ids, time, None))
}

/// `dit_mdlm`: logits with and without time, SUBS, the NELBO and its gradients.
pub(super) fn mdlm(case: &Case, report: &mut Report) -> Result<(), Fault> {
    let (model, vocab) = dit(case, "n_heads")?;
    let mask = case.count("mask_index")? as u32;
    let (x_t, x_0): (Array2<u32>, Array2<u32>) = (case.id_array::<Ix2>("x")?, case.id_array::<Ix2>("x0")?);
    let (sigma, rate) = (case.vec("sigma")?, case.vec("dsigma")?);
    let mut network = network(case, &model, vocab)?;
    if case.has("logits_sigma0") {
        let logits = network.forward(&case.ids("x")?, &vec![0.0; sigma.len()])?;
        report.relative_f32("logits at sigma 0", &flat(&logits), &case.vec("logits_sigma0")?, OUTPUTS);
    }
    let logits = network.forward(&case.ids("x")?, &case.vec_f32("sigma")?)?;
    report.relative_f32("logits", &flat(&logits), &case.vec("logits")?, OUTPUTS);
    subs(case, report, &logits, &x_t, mask)?;
    // The weight of the continuous bound in the total noise: its rate over e^sigma - 1.
    let weight: Vec<f64> = sigma.iter().zip(&rate).map(|(sigma, rate)| rate / sigma.exp_m1()).collect();
    let tokens = x_t.len() as f64;
    let (loss, dlogits) = objective(&x_0, &x_t, &logits, 1.0 / tokens, |row| {
        masked::nelbo(row.logits, row.x_0, row.x_t, mask, weight[row.b], row.dlogits)
    })?;
    losses(case, report, &loss, loss.sum() / tokens, 1e-5)?;
    network.backward(&dlogits)?;
    gradients(&network.session, case, report, GRADIENTS)
}

/// log p(x_0 | x_t) where it is finite; the original has -1e6 for what is impossible.
fn subs(case: &Case, report: &mut Report, logits: &Array3<f32>, x_t: &Array2<u32>, mask: u32) -> Result<(), Fault> {
    let truth = case.vec("log_p_subs")?;
    let mut found = Vec::with_capacity(truth.len());
    for (x_t, row) in x_t.iter().zip(logits.lanes(Axis(2))) {
        let mut row: Vec<f64> = row.iter().map(|&x| f64::from(x)).collect();
        masked::subs(&mut row, *x_t, mask);
        found.extend(row);
    }
    let possible = |x: &f64| *x > -1e5;
    let kept = |from: &[f64]| from.iter().zip(&truth).filter(|(_, t)| possible(t)).map(|(x, _)| *x).collect::<Vec<_>>();
    report.relative("log p", &kept(&found), &kept(&truth), OUTPUTS);
    let impossible = |from: &[f64]| from.iter().map(|x| u32::from(!possible(x))).collect::<Vec<_>>();
    report.exact("impossible tokens", &impossible(&found), &impossible(&truth));
    Ok(())
}

/// The loss of every token against the largest, and the whole.
fn losses(case: &Case, report: &mut Report, found: &Array2<f64>, loss: f64, tolerance: f64) -> Result<(), Fault> {
    let tokens: Vec<f64> = found.iter().copied().collect();
    report.relative("loss per token", &tokens, &case.vec("loss_per_token")?, tolerance);
    report.relative("loss", &[loss], &[case.scalar("loss")?], tolerance);
    Ok(())
}

/// `gidd_dit`: the network is told t itself; cross-entropy where the canvas shows the mask, and its gradients.
pub(super) fn gidd(case: &Case, report: &mut Report) -> Result<(), Fault> {
    let (model, vocab) = dit(case, "num_attention_heads")?;
    let (x_t, x_0): (Array2<u32>, Array2<u32>) = (case.id_array::<Ix2>("x")?, case.id_array::<Ix2>("x0")?);
    let mut network = network(case, &model, vocab)?;
    let logits = network.forward(&case.ids("x")?, &case.vec_f32("timesteps")?)?;
    report.relative_f32("logits", &flat(&logits), &case.vec("logits")?, OUTPUTS);
    masked_cross_entropy(case, report, &x_0, &x_t, &logits).and_then(|dlogits| network.backward(&dlogits))?;
    gradients(&network.session, case, report, GRADIENTS)
}

/// The mean over all positions of the cross-entropy where a token is masked, the mask a token like others; dlogits.
pub(super) fn masked_cross_entropy(
    case: &Case,
    report: &mut Report,
    x_0: &Array2<u32>,
    x_t: &Array2<u32>,
    logits: &Array3<f32>,
) -> Result<Array3<f32>, Fault> {
    let tokens = x_t.len() as f64;
    let (loss, dlogits) = objective(x_0, x_t, logits, 1.0 / tokens, |row| {
        if row.x_t != row.x_0 {
            return d3pm::cross_entropy(row.logits, row.x_0, row.dlogits);
        }
        row.dlogits.into_iter().flatten().for_each(|d| *d = 0.0);
        0.0
    })?;
    losses(case, report, &loss, loss.sum() / tokens, 1e-5)?;
    Ok(dlogits)
}

/// `sedd`: log scores, score entropy and its gradients under either graph.
pub(super) fn sedd(case: &Case, report: &mut Report) -> Result<(), Fault> {
    let (model, vocab) = dit(case, "n_heads")?;
    let limit = match case.text("graph")? {
        "absorb" => Limit::Mask(vocab as u32 - 1),
        "uniform" => Limit::Uniform,
        _ => return Err(case.unsupported("graph", "absorb or uniform")),
    };
    let scaled = case.flag("scale_by_sigma")?;
    let (x_t, x_0): (Array2<u32>, Array2<u32>) = (case.id_array::<Ix2>("x")?, case.id_array::<Ix2>("x0")?);
    let (sigma, rate) = (case.vec("sigma")?, case.vec("dsigma")?);
    let mut network = network(case, &model, vocab)?;
    let output = network.forward(&case.ids("x")?, &case.vec_f32("sigma")?)?;
    let mut log_score = vec![0.0; vocab];
    let mut scores = Vec::with_capacity(output.len());
    let mut entropies = Array2::zeros(x_t.dim());
    let (_, dlogits) = objective(&x_0, &x_t, &output, 1.0 / sigma.len() as f64, |row| {
        log_score.copy_from_slice(row.logits);
        score_entropy::read_output(&mut log_score, row.x_t, scaled.then_some(sigma[row.b]));
        scores.extend_from_slice(&log_score);
        let alpha_bar = (-sigma[row.b]).exp();
        let entropy =
            |rate, dlogits| score_entropy::loss(limit, &log_score, row.x_0, row.x_t, alpha_bar, rate, dlogits);
        entropies[[row.b, row.l]] = entropy(1.0, None);
        entropy(rate[row.b], row.dlogits)
    })?;
    report.relative("log score", &scores, &case.vec("log_score")?, OUTPUTS);
    let tokens: Vec<f64> = entropies.iter().copied().collect();
    report.relative("score entropy", &tokens, &case.vec("score_entropy")?, OUTPUTS);
    let texts: Vec<f64> = entropies.rows().into_iter().zip(&rate).map(|(row, rate)| rate * row.sum()).collect();
    report.relative("loss of a text", &texts, &case.vec("loss_seq")?, OUTPUTS);
    report.relative("loss", &[texts.iter().sum::<f64>() / texts.len() as f64], &[case.scalar("loss")?], OUTPUTS);
    network.backward(&dlogits)?;
    gradients(&network.session, case, report, GRADIENTS)
}
