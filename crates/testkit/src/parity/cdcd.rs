//! CDCD: score interpolation, the time warp and its fit, with all gradients.

use super::embeddings::{self, read};
use super::{Case, Fault, Report};
use galatea_autograd::{DType, Recorder, Session};
use galatea_kernels::Cpu;
use galatea_models::plaid::{Condition, Conditions, Plaid};
use galatea_processes::objectives::bound;
use galatea_schedules::{Schedule, WarpWeights, Warped};
use galatea_train::objective::relaxed::{self, Passes, Recipe, Terms};

const LOGITS: f64 = 2e-5;
const CDF: f64 = 1e-6;
const LOSSES: f64 = 1e-5;
const GRADIENTS: f64 = 2e-4;

/// `plaid_cdcd`.
pub(super) fn check(case: &Case, report: &mut Report) -> Result<(), Fault> {
    let weights = WarpWeights { l_t: case.vec("param.loss_cdf.l_t")?, l_u: case.vec("param.loss_cdf.l_u")? };
    let warped = Warped::new(weights, case.number("t_min")?, case.number("t_max")?)?;
    cdf(case, report, &warped)?;
    step(case, report, &warped)
}

fn cdf(case: &Case, report: &mut Report, warped: &Warped) -> Result<(), Fault> {
    let u = case.vec("cdf.u")?;
    let t: Vec<f64> = u.iter().map(|&u| warped.level(u).0).collect();
    report.relative("t of u", &t, &case.vec("cdf.t_of_u")?, CDF);
    // Back from the fixture's own levels.
    let t = case.vec("cdf.t_of_u")?;
    let times: Vec<f64> = t.iter().map(|&t| warped.time(t)).collect();
    report.relative("u of t", &times, &case.vec("cdf.u_of_t_normalised")?, CDF);
    let losses: Vec<f64> = t.iter().map(|&t| warped.loss(t).0).collect();
    report.relative("F of t", &losses, &case.vec("cdf.u_of_t_unnormalised")?, CDF);
    Ok(())
}

fn model(case: &Case) -> Result<(Plaid, usize), Fault> {
    let [vocab, d_embed] = case.shape("param.embedding_matrix.matrix")?;
    let [d_model, _] = case.shape("param.model.input_linear.weight")?;
    let layers = (0..).take_while(|n| case.has(&format!("param.model.blocks.{n}.attn_qkv.weight"))).count();
    let width_mult = if case.setting("width_mult").is_some() { case.number("width_mult")? } else { 1.0 };
    let heads = case.count("n_heads")?;
    let plaid = Plaid { d_model, layers, heads, d_embed, condition: Condition::Shift, width_mult, ..Plaid::default() };
    plaid.validate()?;
    Ok((plaid, vocab))
}

/// One forward pass of training: the first row, at u = 0, is a reconstruction and only measured.
fn step(case: &Case, report: &mut Report, warped: &Warped) -> Result<(), Fault> {
    let (plaid, vocab) = model(case)?;
    let [batch, len] = case.shape("x")?;
    let d = plaid.d_embed;
    let passes = match case.count("selfcond_iters")? {
        1 => Passes::One,
        2 => Passes::Two,
        _ => return Err(case.unsupported("selfcond_iters", "1 or 2")),
    };
    let mut rec = Recorder::new();
    let noise = rec.input("noise", &[batch, len, d], DType::F32);
    let recipe = Recipe { plaid: &plaid, vocab, rows: batch, len, passes, terms: Terms::CrossEntropy };
    let group = relaxed::record(&mut rec, recipe, "", Some(noise));
    rec.backward(group.loss);
    let outputs = [group.loss, group.nll, group.error, group.z, group.logits, group.x_0_hat];
    let mut session = Session::new(Cpu::new(), rec.finish(&outputs)).map_err(Fault::refused)?;
    embeddings::load(case, &mut session, embeddings::same)?;
    let u = case.vec("u")?;
    let levels: Vec<f64> = u.iter().map(|&u| warped.level(u).0).collect();
    let gammas: Vec<f64> = u.iter().map(|&u| -warped.log_snr(u)).collect();
    let mut told = Conditions::default();
    // The fastest sine turns four hundred times for every unit of the level: the network is told the fixture's, whose last
    // digits are those of bins in f32.
    case.vec("gamma")?.iter().for_each(|&gamma| plaid.tell(gamma, 1.0, &mut told));
    let reconstructions = u.iter().take_while(|&&u| u == 0.0).count().max(1);
    let weight = 1.0 / ((batch - reconstructions) * len) as f64;
    let weights = (0..batch).map(|b| if b < reconstructions { 0.0 } else { weight as f32 }).collect();
    session.write(group.x_0, &case.ids("x")?).map_err(Fault::refused)?;
    let inputs = [
        (group.level, told.level),
        (group.scales, told.scales),
        (group.features, told.features),
        (group.ce_weight, weights),
        (noise, case.recorded("", 1)?.iter().map(|&x| x as f32).collect()),
    ];
    embeddings::run(&mut session, &inputs)?;
    report.relative("t", &levels, &case.vec("t")?, CDF);
    report.relative("gamma", &gammas, &case.vec("gamma")?, CDF);
    let slope = |&u: &f64| {
        let (t, slope) = warped.level(u);
        2.0 * slope / t
    };
    let slopes: Vec<f64> = u.iter().map(slope).collect();
    report.relative("gamma'", &slopes, &case.vec("gamma_prime")?, LOSSES);
    report.relative_f32("z", &read(&session, group.z)?, &case.vec("z")?, LOGITS);
    report.relative_f32("logits", &read(&session, group.logits)?, &case.vec("logits")?, LOGITS);
    report.relative_f32("x_0_hat", &read(&session, group.x_0_hat)?, &case.vec("x_reconst")?, LOGITS);
    let mean = |values: Vec<f32>| -> Vec<f64> {
        values.chunks_exact(len).map(|row| row.iter().map(|&x| f64::from(x)).sum::<f64>() / len as f64).collect()
    };
    let (nll, error) = (mean(read(&session, group.nll)?), mean(read(&session, group.error)?));
    report.relative("cross-entropies", &nll, &case.vec("xent")?, LOSSES);
    let (fit, gradient) = warped.fit(&levels, &nll);
    report.relative("fit of F", &[fit], &case.vec("cdf_loss")?, LOSSES);
    let loss = f64::from(read(&session, group.loss)?[0]);
    report.relative("loss", &[loss + fit], &case.vec("loss")?, LOSSES);
    let (_, t_max) = warped.range();
    let (prior, _) = bound::prior((t_max * t_max / 256.0).ln(), 1.0, d);
    // The original's is what is left of terms near one in f32, one for every dimension.
    report.relative_each("prior", &[prior], &case.vec("prior_loss")?, 0.01 * d as f64, LOSSES);
    let diffusion = |b: usize| bound::weight_of_gamma(gammas[b], slopes[b]) * error[b];
    let count = (batch - reconstructions) as f64;
    let bound = nll[..reconstructions].iter().sum::<f64>() / reconstructions as f64
        + prior
        + (reconstructions..batch).map(diffusion).sum::<f64>() / count;
    report.relative("bound", &[bound], &case.vec("nll")?, LOSSES);
    embeddings::gradients(case, report, &session, embeddings::same, GRADIENTS)?;
    report.relative("gradient of loss_cdf.l_t", &gradient.l_t, &case.vec("grad.loss_cdf.l_t")?, GRADIENTS);
    report.relative("gradient of loss_cdf.l_u", &gradient.l_u, &case.vec("grad.loss_cdf.l_u")?, GRADIENTS);
    Ok(())
}
