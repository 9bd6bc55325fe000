//! Diffusion-LM: its network, the terms of its loss with all gradients, its samplers.

use super::embeddings::{self, read};
use super::network::network_of;
use super::{Case, Fault, Report, table};
use galatea_autograd::{DType, Recorder, Session, Var};
use galatea_kernels::Cpu;
use galatea_models::{DiffusionLm, NetEmbeddingDenoiser, RoundingLogits};
use galatea_processes::{Gaussian, Variance};
use galatea_samplers::{Clamp, Embedding, EmbeddingOptions, Fixed, Known, Levels, Method, Rounding, Sampler, stream};
use galatea_schedules::Betas;
use galatea_train::objective::e2e;
use ndarray::{Array2, ArrayRef3, Ix2};

const OUTPUTS: f64 = 2e-5;
const LOSSES: f64 = 1e-5;
const GRADIENTS: f64 = 1e-4;
const CANVAS: f64 = 1e-4;
/// Of the chain, in f64.
const CHAIN: f64 = 1e-12;

/// The network of a fixture, and its chain.
struct Model {
    network: DiffusionLm,
    vocab: usize,
    betas: Betas,
    rescaled: bool,
}

impl Model {
    fn read(case: &Case) -> Result<Self, Fault> {
        let [vocab, d_embed] = case.shape("param.word_embedding.weight")?;
        let [d_model, _] = case.shape("param.input_up_proj.0.weight")?;
        let [_, time_features] = case.shape("param.time_embed.0.weight")?;
        let [d_ff, _] = case.shape("param.input_transformers.layer.0.intermediate.dense.weight")?;
        let layer = |n: &usize| case.has(&format!("param.input_transformers.layer.{n}.output.dense.weight"));
        let (layers, heads) = ((0..).take_while(layer).count(), case.count("num_heads")?);
        let tied = case.setting("lm_head_tied").is_none() || case.flag("lm_head_tied")?;
        let logits = match case.setting("logits_mode").map(|_| case.count("logits_mode")).transpose()? {
            None | Some(1) => RoundingLogits::Product,
            Some(2) => RoundingLogits::Distance,
            Some(_) => return Err(case.unsupported("logits_mode", "1 or 2")),
        };
        let network = DiffusionLm { d_embed, d_model, layers, heads, d_ff, time_features, tied, logits, dropout: 0.0 };
        network.validate()?;
        if case.setting("hidden_act").is_some() && case.text("hidden_act")? != "gelu" {
            return Err(case.unsupported("hidden_act", "gelu"));
        }
        let betas = named(case)?;
        Ok(Self { network, vocab, betas, rescaled: case.flag("rescale_timesteps")? })
    }

    /// What the network is told at step `t` of the chain.
    fn time(&self, t: f64) -> f32 {
        (if self.rescaled { t * 1000.0 / self.betas.betas().len() as f64 } else { t }) as f32
    }
}

/// The chain of a fixture.
fn named(case: &Case) -> Result<Betas, Fault> {
    let steps = case.count("T")?;
    Ok(match case.text("noise_schedule")? {
        "sqrt" => Betas::sqrt(steps)?,
        "linear" => Betas::linear(steps)?,
        "cosine" => Betas::cosine(steps)?,
        "trunc_cos" => Betas::truncated_cosine(steps)?,
        "trunc_lin" => Betas::truncated_linear(steps)?,
        "pw_lin" => Betas::piecewise_linear(steps)?,
        _ => return Err(case.unsupported("noise_schedule", "sqrt, linear, cosine, trunc_cos, trunc_lin or pw_lin")),
    })
}

/// `diffusion_lm`.
pub(super) fn check(case: &Case, report: &mut Report) -> Result<(), Fault> {
    let model = Model::read(case)?;
    forward(case, report, &model)?;
    terms(case, report, &model)?;
    posterior(case, report, &model)
}

/// The network on embeddings, and the logits of rounding them.
fn forward(case: &Case, report: &mut Report, model: &Model) -> Result<(), Fault> {
    let [batch, len, d] = case.shape("fwd.x")?;
    let mut rec = Recorder::new();
    let z = rec.input("z", &[batch, len, d], DType::F32);
    let time = rec.input("time", &[batch], DType::F32);
    let head = model.network.rounding(&mut rec, model.vocab);
    let x_0_hat = model.network.x_0_hat(&mut rec, z, time, None);
    let logits = head.logits(&mut rec, z);
    let mut session = Session::new(Cpu::new(), rec.finish(&[x_0_hat, logits])).map_err(Fault::refused)?;
    embeddings::load(case, &mut session, DiffusionLm::published)?;
    let inputs = [(z, case.vec_f32("fwd.x")?), (time, case.vec_f32("fwd.timesteps")?)];
    embeddings::run(&mut session, &inputs)?;
    report.relative_f32("network", &read(&session, x_0_hat)?, &case.vec("fwd.out")?, OUTPUTS);
    report.relative_f32("rounding", &read(&session, logits)?, &case.vec("fwd.get_logits")?, OUTPUTS);
    Ok(())
}

/// The end-to-end loss.
fn terms(case: &Case, report: &mut Report, model: &Model) -> Result<(), Fault> {
    let [batch, len] = case.shape("loss.input_ids")?;
    let d = model.network.d_embed;
    let alphas = model.betas.alphas_cumprod();
    let mut rec = Recorder::new();
    let dims = [batch, len, d];
    let noise = ["x_start", "x_t"].map(|of| rec.input(&format!("noise of {of}"), &dims, DType::F32));
    let ends = e2e::Ends { start: alphas[0], end: alphas[alphas.len() - 1] };
    let x_0 = rec.input("x_0", &[batch, len], DType::U32);
    let time = rec.input("time", &[batch], DType::F32);
    let level = rec.input("level", &[batch, 2], DType::F32);
    let weight = rec.input("weight", &[batch, 1], DType::F32);
    let first = rec.input("first", &[batch, 2], DType::F32);
    let head = model.network.rounding(&mut rec, model.vocab);
    let network = |rec: &mut Recorder, z| model.network.x_0_hat(rec, z, time, None);
    let inputs = e2e::Inputs { x_0, level, weight, first: Some(first), noise: Some(noise) };
    let recorded = e2e::record(&mut rec, inputs, head, ends, 1.0, network);
    rec.backward(recorded.loss);
    let e2e::Recorded { loss, x_start, x_t, x_0_hat, error, square, nll } = recorded;
    let outputs = [loss, x_start, x_t, x_0_hat, error, square, nll];
    let mut session = Session::new(Cpu::new(), rec.finish(&outputs)).map_err(Fault::refused)?;
    embeddings::load(case, &mut session, DiffusionLm::published)?;
    let t = case.vec("loss.t")?;
    let levels = t.iter().flat_map(|&t| <[f64; 2]>::from(Gaussian.marginal(alphas[t as usize])));
    let choice = |&t: &f64| if t == 0.0 { [0.0, 1.0] } else { [1.0, 0.0] };
    session.write(x_0, &case.ids("loss.input_ids")?).map_err(Fault::refused)?;
    let inputs = [
        (noise[0], case.vec_f32("loss.noise_x_start")?),
        (noise[1], case.vec_f32("loss.noise_x_t")?),
        (time, t.iter().map(|&t| model.time(t)).collect()),
        (level, levels.map(|x| x as f32).collect()),
        (weight, vec![1.0 / (batch * len * d) as f32; batch]),
        (first, t.iter().flat_map(choice).collect()),
    ];
    embeddings::run(&mut session, &inputs)?;
    report.relative_f32("x_start", &read(&session, x_start)?, &case.vec("loss.x_start")?, LOSSES);
    report.relative_f32("x_t", &read(&session, x_t)?, &case.vec("loss.x_t")?, LOSSES);
    report.relative_f32("output", &read(&session, x_0_hat)?, &case.vec("loss.model_output")?, OUTPUTS);
    let mean = |var: Var, width: usize| -> Result<Vec<f64>, Fault> {
        let values = read(&session, var)?;
        let mean = |row: &[f32]| row.iter().map(|&x| f64::from(x)).sum::<f64>() / (len * width) as f64;
        Ok(values.chunks_exact(len).map(mean).collect())
    };
    let (mse, nll) = (mean(error, d)?, mean(nll, 1)?);
    let end: Vec<f64> = mean(square, d)?.into_iter().map(|square| square * ends.end).collect();
    report.relative("mse", &mse, &case.vec("loss.mse")?, LOSSES);
    report.relative("tT", &end, &case.vec("loss.tT_loss")?, LOSSES);
    report.relative("nll", &nll, &case.vec("loss.decoder_nll")?, LOSSES);
    let sums: Vec<f64> = (0..batch).map(|b| mse[b] + end[b] + nll[b]).collect();
    report.relative("terms", &sums, &case.vec("loss.terms")?, LOSSES);
    report.relative_f32("mean", &read(&session, loss)?, &case.vec("loss.mean")?, LOSSES);
    embeddings::gradients(case, report, &session, DiffusionLm::published, GRADIENTS)
}

/// q(x_s | x_t, x_start) at the steps of the loss.
fn posterior(case: &Case, report: &mut Report, model: &Model) -> Result<(), Fault> {
    let t: Vec<usize> = case.ids("loss.t")?.into_iter().map(|t| t as usize).collect();
    let alphas = model.betas.alphas_cumprod();
    let step = |t: usize| {
        Gaussian.ddpm(alphas[t], if t > 0 { alphas[t - 1] } else { 1.0 }, t as f64, t as f64, Variance::Small)
    };
    let steps: Vec<_> = t.iter().map(|&t| step(t)).collect();
    let (x_start, x_t) = (case.vec("loss.x_start")?, case.vec("loss.x_t")?);
    let row = x_t.len() / t.len();
    let mean: Vec<f64> = (0..x_t.len()).map(|i| steps[i / row].apply(x_t[i], x_start[i], 0.0)).collect();
    report.relative("posterior mean", &mean, &case.vec("posterior.mean")?, LOSSES);
    let variance: Vec<f64> = steps.iter().map(|step| step.sigma.powi(2)).collect();
    report.relative("posterior variance", &variance, &case.vec("posterior.variance")?, LOSSES);
    // The first step's variance is zero: its logarithm is the second's.
    let log: Vec<f64> = t.iter().map(|&t| 2.0 * step(t.max(1)).sigma.ln()).collect();
    report.relative("its logarithm", &log, &case.vec("posterior.log_variance_clipped")?, LOSSES);
    Ok(())
}

/// `diffusion_lm_sampling`.
pub(super) fn sample(case: &Case, report: &mut Report) -> Result<(), Fault> {
    let weights = network_of(case, "model")?;
    let model = Model::read(&weights)?;
    let kept: Vec<usize> = case.ids("timestep_map")?.into_iter().map(|t| t as usize).collect();
    let chain = model.betas.respace(&kept)?;
    report.relative("betas", chain.betas(), &case.vec("betas")?, CHAIN);
    report.relative("alpha_bar", chain.alphas_cumprod(), &case.vec("alphas_cumprod")?, CHAIN);
    let [_, batch, len, d] = case.shape("x_trace")?;
    let table = weights.array::<Ix2>("param.word_embedding.weight")?.mapv(|x| x as f32);
    let fixed = fixed(case, batch, len)?;
    // The chain's last step leads to data.
    let last = kept.len() - 1;
    let levels = (0..=last).rev().map(|i| (kept[i] as f64 + 1.0, chain.alphas_cumprod()[i])).chain([(0.0, 1.0)]);
    let method = match case.setting("eta") {
        Some(_) => Method::Ddim { eta: case.number("eta")? },
        None => Method::Ddpm(Variance::Large),
    };
    let bound = case.setting("top_p").and_then(serde_json::Value::as_f64).filter(|&bound| bound > 0.0);
    let options = EmbeddingOptions {
        method,
        clamp: if case.flag("rounding")? { Clamp::Nearest } else { Clamp::Never },
        known: Known::Clean,
        noise_bound: bound,
        ..EmbeddingOptions::default()
    };
    if case.flag("clip_denoised")? {
        return Err(case.unsupported("clip_denoised", "false"));
    }
    let mut rec = Recorder::new();
    let z = rec.input("z", &[batch, len, d], DType::F32);
    let time = rec.input("time", &[batch], DType::F32);
    model.network.rounding(&mut rec, model.vocab);
    let x_0_hat = model.network.x_0_hat(&mut rec, z, time, None);
    let mut session = Session::new(Cpu::new(), rec.finish(&[x_0_hat])).map_err(Fault::refused)?;
    embeddings::load(&weights, &mut session, DiffusionLm::published)?;
    let scale = f64::from(model.time(1.0));
    let net = NetEmbeddingDenoiser::new(session, z, time, x_0_hat).with_time(move |t| ((t - 1.0) * scale) as f32);
    let draws = recorded(case, batch * len * d, bound)?;
    let mut sampler = Embedding::with_draws(net, &table, Levels::from_pairs(levels)?, fixed, options, Box::new(draws))?;
    let flat = |x: &ArrayRef3<f32>| x.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
    let (mut trace, mut predictions) = (Vec::new(), Vec::new());
    while let Some(step) = sampler.advance() {
        step.map_err(Fault::refused)?;
        trace.extend(flat(sampler.z()));
        predictions.extend(flat(sampler.x_0_hat()));
    }
    report.absolute("x", &trace, &case.vec("x_trace")?, CANVAS);
    report.absolute("x_0_hat", &predictions, &case.vec("pred_xstart_trace")?, CANVAS);
    // The text is read from the embeddings themselves.
    let rows = if model.network.tied { "param.word_embedding.weight" } else { "param.lm_head.weight" };
    let rows = weights.array::<Ix2>(rows)?.mapv(|x| x as f32);
    let head = match model.network.logits {
        RoundingLogits::Product => Rounding::head(&rows, &weights.vec_f32("param.lm_head.bias")?)?,
        RoundingLogits::Distance => Rounding::nearest(&rows)?,
    };
    let end = Array2::from_shape_vec((batch * len, d), sampler.z().iter().copied().collect());
    let ids = head.round(&end.map_err(Fault::refused)?).unwrap_or_default();
    report.exact("ids", &ids, &case.ids("final_ids")?);
    Ok(())
}

/// The given positions, as `partial_mask` has them (0 where a token is given).
fn fixed(case: &Case, batch: usize, len: usize) -> Result<Fixed, Fault> {
    let mut fixed = Fixed::none(batch, len);
    if !case.has("partial_mask") {
        return Ok(fixed);
    }
    let (ids, mask) = (case.ids("infill_ids")?, case.vec("partial_mask")?);
    let d = mask.len() / ids.len();
    for (index, &id) in ids.iter().enumerate() {
        if mask[index * d] == 0.0 {
            fixed.set(index / len, index % len, id)?;
        }
    }
    Ok(fixed)
}

/// The recorded numbers by their use: with given positions their noise first, then the initial noise; then a step's noise, with a
/// bound the redrawn entries after it, and with given positions a draw that nothing uses, but for the last step.
fn recorded(case: &Case, whole: usize, bound: Option<f64>) -> Result<table::Recorded, Fault> {
    let mut draws = table::Recorded::default();
    let count = case.names().filter(|name| name.starts_with("rnd.")).count();
    let width = case.shape::<4>("x_trace")?[3];
    let infill = case.has("partial_mask");
    let mut index = 0;
    let mut next = |draws: &mut table::Recorded, stream: Option<u32>, bound: Option<f64>| -> Result<(), Fault> {
        let mut noise: Vec<f64> = case.recorded("", index)?.iter().copied().collect();
        index += 1;
        if let Some(bound) = bound {
            loop {
                let beyond: Vec<usize> = (0..whole).filter(|&i| noise[i].abs() > bound).collect();
                if beyond.is_empty() {
                    break;
                }
                let again: Vec<f64> = case.recorded("", index)?.iter().copied().collect();
                index += 1;
                beyond.into_iter().zip(again).for_each(|(i, x)| noise[i] = x);
            }
        }
        if let Some(stream) = stream {
            draws.push(stream, noise, width);
        }
        Ok(())
    };
    if infill {
        next(&mut draws, Some(stream::KNOWN), None)?;
    }
    next(&mut draws, Some(stream::START), None)?;
    let steps = case.shape::<4>("x_trace")?[0];
    for step in 0..steps {
        next(&mut draws, Some(stream::NOISE), bound)?;
        if infill && step + 1 < steps {
            next(&mut draws, None, None)?;
        }
    }
    if index != count {
        return Err(Fault::refused(format!("{count} random tensors, of which {index} have a use")));
    }
    Ok(draws)
}
