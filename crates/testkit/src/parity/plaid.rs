//! Plaid: its network, its bound with all gradients, its samplers.

use super::embeddings::{read, run, write};
use super::{Case, Fault, Report, embeddings, table};
use galatea_autograd::{DType, Recorder, Session, Var};
use galatea_kernels::Cpu;
use galatea_kernels::cpu::CpuError;
use galatea_models::plaid::{Condition, Conditions, Gamma, NetPlaid, Noisy, Plaid, Wish, WishGuide, WishPlace};
use galatea_processes::Variance;
use galatea_samplers::{Embedding, EmbeddingOptions, Fixed, Guidance, Guide, Level, Method, Sampler, Steps, stream};
use galatea_schedules::{GammaWeights, LearnedGamma, Schedule};
use galatea_train::objective::relaxed::{self, Group, Passes, Recipe, Terms};
use galatea_train::objective::vlb::{Heard, Told, Vlb};
use ndarray::ArrayRef3;
use std::sync::Arc;

const LOGITS: f64 = 2e-5;
const LOSSES: f64 = 1e-5;
const GRADIENTS: f64 = 2e-4;
const CANVAS: f64 = 1e-4;

/// `plaid`.
pub(super) fn check(case: &Case, report: &mut Report) -> Result<(), Fault> {
    if case.has("z_trace") {
        return sample(case, report);
    }
    let model = Model::read(case)?;
    for name in ["schedule.t", "fwd.z", "train.x"] {
        case.tensor(name)?;
    }
    schedule(case, report, &model)?;
    forward(case, report, &model)?;
    step(case, report, &model)
}

/// A fixture's network and schedule.
struct Model {
    plaid: Plaid,
    vocab: usize,
    schedule: Arc<LearnedGamma>,
}

impl Model {
    fn read(case: &Case) -> Result<Self, Fault> {
        let [vocab, d_embed] = case.shape("param.embedding_matrix.matrix")?;
        let [d_model, _] = case.shape("param.model.input_linear.weight")?;
        let layers = (0..).take_while(|n| case.has(&format!("param.model.blocks.{n}.attn_qkv.weight"))).count();
        let width_mult = if case.setting("width_mult").is_some() { case.number("width_mult")? } else { 1.0 };
        let heads = case.count("n_heads")?;
        let plaid =
            Plaid { d_model, layers, heads, d_embed, condition: Condition::Gamma, width_mult, ..Plaid::default() };
        plaid.validate()?;
        let weights = GammaWeights {
            w_1: case.vec("param.noise_schedule.W1")?,
            b_1: case.vec("param.noise_schedule.b1")?,
            w_2: case.vec("param.noise_schedule.W2")?,
            gamma_0: case.scalar("param.gamma_bounds.gamma_0")?,
            gamma_1: case.scalar("param.gamma_bounds.gamma_1")?,
        };
        Ok(Self { plaid, vocab, schedule: Arc::new(LearnedGamma::new(weights)?) })
    }

    fn gamma(&self) -> Gamma {
        let schedule = Arc::clone(&self.schedule);
        Box::new(move |t| schedule.gamma(t))
    }
}

fn schedule(case: &Case, report: &mut Report, model: &Model) -> Result<(), Fault> {
    let times = case.vec("schedule.t")?;
    let warps: Vec<_> = times.iter().map(|&t| model.schedule.warp(t)).collect();
    let of = |f: &dyn Fn(usize) -> f64| (0..times.len()).map(f).collect::<Vec<f64>>();
    report.relative("warp", &of(&|i| warps[i].value), &case.vec("schedule.gamma_tilde")?, LOSSES);
    report.relative("slope of the warp", &of(&|i| warps[i].slope), &case.vec("schedule.gamma_tilde_prime")?, LOSSES);
    report.relative("gamma", &of(&|i| model.schedule.gamma(times[i])), &case.vec("schedule.gamma")?, LOSSES);
    Ok(())
}

/// The network alone, for every pair of logits that the fixture has: `fwd.logits_bias<prior>_sc0` and `fwd.logits_bias<prior>_sc`.
fn forward(case: &Case, report: &mut Report, model: &Model) -> Result<(), Fault> {
    let names: Vec<String> =
        case.names().filter_map(|name| name.strip_prefix("fwd.logits_bias")).map(str::to_owned).collect();
    let [batch, len, d] = case.shape("fwd.z")?;
    for name in names {
        let (prior, conditioned) = match name.split_once("_sc") {
            Some((prior, "0")) => (prior, false),
            Some((prior, _)) => (prior, true),
            None => (name.as_str(), false),
        };
        let unknown = || Fault::Tensor { name: format!("fwd.logits_bias{name} of a known form") };
        let prior: f64 = prior.parse().map_err(|_| unknown())?;
        let mut rec = Recorder::new();
        let z = rec.input("z", &[batch, len, d], DType::F32);
        let scales = rec.input("scales", &[batch, 2], DType::F32);
        let features = rec.input("features", &[batch, model.plaid.features()], DType::F32);
        let before = conditioned.then(|| rec.input("x_0_hat", &[batch, len, d], DType::F32));
        let matrix = model.plaid.table(&mut rec, model.vocab);
        let e = model.plaid.embeddings(&mut rec, matrix);
        let denoised = model.plaid.denoise(&mut rec, Noisy { z, scales, features }, e, before);
        let outputs = [denoised.logits, denoised.x_0_hat, e];
        let mut session = Session::new(Cpu::new(), rec.finish(&outputs)).map_err(Fault::refused)?;
        embeddings::load(case, &mut session, embeddings::same)?;
        let mut told = Conditions::default();
        case.vec("fwd.gamma")?.iter().for_each(|&gamma| model.plaid.tell(gamma, prior, &mut told));
        let mut inputs = vec![(z, case.vec_f32("fwd.z")?), (scales, told.scales), (features, told.features)];
        if let Some(before) = before {
            inputs.push((before, case.vec_f32("fwd.x_selfcond")?));
        }
        run(&mut session, &inputs)?;
        report.relative_f32(
            format!("logits {name}"),
            &read(&session, denoised.logits)?,
            &case.vec(&format!("fwd.logits_bias{name}"))?,
            LOGITS,
        );
        report.relative_f32(
            format!("x_0_hat {name}"),
            &read(&session, denoised.x_0_hat)?,
            &case.vec(&format!("fwd.x_reconst_bias{name}"))?,
            LOGITS,
        );
        report.relative_f32("embeddings", &read(&session, e)?, &case.vec("fwd.E_normalised")?, LOGITS);
    }
    Ok(())
}

/// One step of training.
fn step(case: &Case, report: &mut Report, model: &Model) -> Result<(), Fault> {
    let [batch, len] = case.shape("train.x")?;
    let d = model.plaid.d_embed;
    let (times, mask) = (case.vec("train.t")?, case.vec("train.selfcond_mask")?);
    let reconstructions = case.count("reconst_bs")?;
    // Of a whole batch, as in training; the original's measurements divide by a mean over many batches.
    if case.setting("avg_reconst_bs").is_some() && case.number("avg_reconst_bs")? != reconstructions as f64 {
        return Err(case.unsupported("avg_reconst_bs", "reconst_bs"));
    }
    if !(1..batch).contains(&reconstructions) {
        return Err(case.unsupported("reconst_bs", "rows of both kinds"));
    }
    let told: Vec<Told> =
        (0..batch).map(|b| Told { t: times[b], reconstruction: b < reconstructions, cut: mask[b] != 0.0 }).collect();
    let vlb = Vlb::new(&model.schedule, &model.plaid, case.number("bias_scale")?, &told);
    // Rows stand in two groups: those that are denoised once, and the others.
    let rows = |cut: bool| (0..batch).filter(|&b| told[b].cut == cut).collect::<Vec<_>>();
    let groups: Vec<(Vec<usize>, Passes)> = [(rows(false), Passes::One), (rows(true), Passes::TwoCut)]
        .into_iter()
        .filter(|(rows, _)| !rows.is_empty())
        .collect();
    let mut rec = Recorder::new();
    let mut recorded: Vec<(Group, Var)> = Vec::new();
    for (index, (rows, passes)) in groups.iter().enumerate() {
        let noise = rec.input(&format!("noise.{index}"), &[rows.len(), len, d], DType::F32);
        let recipe = Recipe {
            plaid: &model.plaid,
            vocab: model.vocab,
            rows: rows.len(),
            len,
            passes: *passes,
            terms: Terms::Bound,
        };
        let group = relaxed::record(&mut rec, recipe, &format!(".{index}"), Some(noise));
        rec.backward(group.loss);
        recorded.push((group, noise));
    }
    let mut outputs = Vec::new();
    for (group, _) in &recorded {
        outputs.extend([group.nll, group.error, group.z, group.logits, group.x_0_hat].into_iter().chain(group.before));
        outputs.extend(group.told().into_iter().filter_map(|input| rec.gradient(input)));
    }
    let slopes: Vec<Option<[Var; 3]>> = recorded
        .iter()
        .map(|(group, _)| {
            let [level, scales, features] = group.told().map(|input| rec.gradient(input));
            Some([level?, scales?, features?])
        })
        .collect();
    let mut session = Session::new(Cpu::new(), rec.finish(&outputs)).map_err(Fault::refused)?;
    embeddings::load(case, &mut session, embeddings::same)?;
    let (x_0, noise) = (case.ids("train.x")?, case.vec_f32("train.noise")?);
    for ((rows, _), (group, noise_input)) in groups.iter().zip(&recorded) {
        let mut conditions = Conditions::default();
        let (mut ids, mut normals) = (Vec::new(), Vec::new());
        let (mut ce, mut error) = (Vec::new(), Vec::new());
        for &row in rows {
            vlb.tell(row, &mut conditions);
            ids.extend_from_slice(&x_0[row * len..(row + 1) * len]);
            normals.extend_from_slice(&noise[row * len * d..(row + 1) * len * d]);
            let [of_ce, of_error] = vlb.weights(row, len);
            ce.push(of_ce);
            error.push(of_error);
        }
        session.write(group.x_0, &ids).map_err(Fault::refused)?;
        let error_weight = group.error_weight.ok_or_else(|| Fault::refused("a bound weighs its errors"))?;
        let Conditions { level, scales, features } = conditions;
        let inputs = [
            (group.level, level),
            (group.scales, scales),
            (group.features, features),
            (group.ce_weight, ce),
            (error_weight, error),
            (*noise_input, normals),
        ];
        write(&mut session, &inputs)?;
    }
    session.run().map_err(Fault::refused)?;
    let mut heard = vec![Heard::default(); batch];
    let mut whole = Whole::new(batch);
    for (((rows, _), (group, _)), slopes) in groups.iter().zip(&recorded).zip(&slopes) {
        let (nll, error) = (read(&session, group.nll)?, read(&session, group.error)?);
        let slopes = slopes.map(|slopes| -> Result<Vec<Vec<f32>>, Fault> {
            slopes.into_iter().map(|slope| read(&session, slope)).collect()
        });
        let slopes = slopes.transpose()?;
        for (i, &row) in rows.iter().enumerate() {
            let mean = |x: &[f32]| x[i * len..(i + 1) * len].iter().map(|&x| f64::from(x)).sum::<f64>() / len as f64;
            let part = |slope: usize, width: usize| slopes.as_ref().map(|s| &s[slope][i * width..(i + 1) * width]);
            let parts = [part(0, 2), part(1, 2), part(2, model.plaid.features())];
            let dgamma = match parts {
                [Some(level), Some(scales), Some(features)] => vlb.heard(row, [level, scales, features]),
                _ => 0.0,
            };
            heard[row] = Heard { nll: mean(&nll), error: mean(&error), dgamma };
        }
        whole.add("train.z", rows, &read(&session, group.z)?);
        whole.add("train.logits", rows, &read(&session, group.logits)?);
        whole.add("train.x_reconst", rows, &read(&session, group.x_0_hat)?);
        let before = group.before.map(|before| read(&session, before)).transpose()?;
        whole.add("train.x_selfcond", rows, &before.unwrap_or_else(|| vec![0.0; rows.len() * len * d]));
    }
    whole.compare(case, report)?;
    let gammas = |f: &dyn Fn(f64) -> f64| times.iter().map(|&t| f(t)).collect::<Vec<f64>>();
    report.relative("gamma of the step", &gammas(&|t| model.schedule.gamma(t)), &case.vec("train.gamma")?, LOSSES);
    let slopes: Vec<f64> = (0..batch).map(|row| vlb.slope(row)).collect();
    report.relative("gamma' of the step", &slopes, &case.vec("train.gamma_prime")?, LOSSES);
    let losses = vlb.losses(&heard);
    report.relative("reconstruction", &losses.reconstruction, &case.vec("train.reconst_loss")?, LOSSES);
    report.relative("diffusion", &losses.diffusion, &case.vec("train.diffusion_loss")?, LOSSES);
    report.relative("prior", &[losses.prior], &case.vec("train.prior_loss")?, LOSSES);
    report.relative("loss", &[losses.total], &case.vec("train.loss")?, LOSSES);
    embeddings::gradients(case, report, &session, embeddings::same, GRADIENTS)?;
    let gradient = vlb.gradient(&heard);
    for (name, found) in [
        ("noise_schedule.W1", gradient.w_1),
        ("noise_schedule.b1", gradient.b_1),
        ("noise_schedule.W2", gradient.w_2),
        ("gamma_bounds.gamma_0", vec![gradient.gamma_0]),
        ("gamma_bounds.gamma_1", vec![gradient.gamma_1]),
    ] {
        report.relative(format!("gradient of {name}"), &found, &case.vec(&format!("grad.{name}"))?, GRADIENTS);
    }
    Ok(())
}

/// Tensors of all rows, put together from groups.
struct Whole {
    batch: usize,
    tensors: Vec<(&'static str, Vec<f64>)>,
}

impl Whole {
    fn new(batch: usize) -> Self {
        Self { batch, tensors: Vec::new() }
    }

    fn add(&mut self, name: &'static str, rows: &[usize], values: &[f32]) {
        let width = values.len() / rows.len();
        let known = self.tensors.iter().position(|(known, _)| *known == name);
        let index = known.unwrap_or_else(|| {
            self.tensors.push((name, vec![f64::NAN; self.batch * width]));
            self.tensors.len() - 1
        });
        for (&row, values) in rows.iter().zip(values.chunks_exact(width)) {
            let to = &mut self.tensors[index].1[row * width..(row + 1) * width];
            to.iter_mut().zip(values).for_each(|(to, &x)| *to = f64::from(x));
        }
    }

    fn compare(self, case: &Case, report: &mut Report) -> Result<(), Fault> {
        for (name, found) in self.tensors {
            report.relative(name, &found, &case.vec(name)?, LOGITS);
        }
        Ok(())
    }
}

/// A sampler's trace. Its grid has t from 1 to 0 in even steps, each of which leads 1 / steps down: a little less far than the
/// next one begins. At t = 0 the network is asked twice, with nothing moving: its first answer conditions the second.
fn sample(case: &Case, report: &mut Report) -> Result<(), Fault> {
    let weights = case.siblings()?.into_iter().find(|other| other.has("param.embedding_matrix.matrix"));
    let weights =
        weights.ok_or_else(|| Fault::Tensor { name: "param.embedding_matrix.matrix in the folder".into() })?;
    let model = Model::read(&weights)?;
    let [_, batch, len, _] = case.shape("z_trace")?;
    let dims = (batch, len, model.vocab);
    let mut net = NetPlaid::new(Cpu::new(), model.plaid.clone(), dims, model.gamma()).map_err(Fault::refused)?;
    embeddings::load(&weights, net.session_mut(), embeddings::same)?;
    let table = net.embeddings().map_err(Fault::refused)?;
    let method = if case.flag("ddim")? { Method::Ddim { eta: 0.0 } } else { Method::Ddpm(Variance::Small) };
    let score_temperature = case.number("score_temp")?;
    let options = EmbeddingOptions { method, score_temperature, ..EmbeddingOptions::default() };
    let (steps, draws, fixed) = (steps(case, &model)?, recorded(case)?, Fixed::none(batch, len));
    let sampler = Embedding::with_draws(net, &table, steps, fixed, options, Box::new(draws))?;
    let wishes = wishes(case)?;
    if wishes.is_empty() {
        return follow(case, report, sampler);
    }
    let guide = WishGuide::new(Cpu::new(), model.plaid.clone(), dims, model.gamma(), &wishes);
    let mut guide = guide.map_err(Fault::refused)?;
    embeddings::load(&weights, guide.session_mut(), embeddings::same)?;
    follow(case, report, sampler.guided(guide, Guidance::Prediction)?)
}

fn steps(case: &Case, model: &Model) -> Result<Steps, Fault> {
    let count = case.count("steps")?;
    let last = count.max(2) - 1;
    let level = |t: f64| Level { t, alpha_bar: model.schedule.alpha_bar(t) };
    let times: Vec<f64> = (0..count).map(|i| 1.0 - i as f64 / last as f64).collect();
    let rest = |t: f64| (level(t), level(t));
    let step = |&t: &f64| if t > 0.0 { (level(t), level(t - 1.0 / count as f64)) } else { rest(t) };
    let end = times.last().map(|&t| rest(t));
    Ok(Steps::from_pairs(times.iter().map(step).chain(end))?)
}

/// The first canvas, then the noise of every step.
fn recorded(case: &Case) -> Result<table::Recorded, Fault> {
    let mut draws = table::Recorded::default();
    let count = case.names().filter(|name| name.starts_with("rnd.")).count();
    for index in 0..count {
        let tensor = case.recorded("", index)?;
        let width = tensor.shape().last().copied().unwrap_or(1);
        let stream = if index == 0 { stream::START } else { stream::NOISE };
        draws.push(stream, tensor.iter().copied(), width);
    }
    Ok(draws)
}

/// (token, weight, position or "any" or "all", complement) each.
fn wishes(case: &Case) -> Result<Vec<Wish>, Fault> {
    let fault =
        || case.unsupported("guidance", "a list of [token, weight, position or \"any\" or \"all\", complement]");
    let Some(list) = case.setting("guidance") else { return Ok(Vec::new()) };
    let read = |wish: &serde_json::Value| {
        let place = match (wish[2].as_u64(), wish[2].as_str()) {
            (Some(position), _) => WishPlace::At(position as u32),
            (None, Some("any")) => WishPlace::Any,
            (None, Some("all")) => WishPlace::All,
            (None, _) => return None,
        };
        let (token, weight, complement) = (wish[0].as_u64()? as u32, wish[1].as_f64()?, wish[3].as_bool()?);
        Some(Wish { token, weight, place, complement })
    };
    list.as_array().ok_or_else(fault)?.iter().map(|wish| read(wish).ok_or_else(fault)).collect()
}

fn follow<G: Guide<CpuError>>(
    case: &Case,
    report: &mut Report,
    mut sampler: Embedding<NetPlaid<Cpu>, G>,
) -> Result<(), Fault> {
    let flat = |z: &ArrayRef3<f32>| z.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
    let truth = case.vec("z_trace")?;
    let mut trace = flat(sampler.z());
    while let Some(step) = sampler.advance() {
        step.map_err(Fault::refused)?;
        if trace.len() < truth.len() {
            trace.extend(flat(sampler.z()));
        }
    }
    report.absolute("z", &trace, &truth, CANVAS);
    let ids: Vec<u32> = sampler.canvas().ids.iter().copied().collect();
    report.exact("ids", &ids, &case.ids("ids")?);
    // Of a z that is right to 1e-4.
    let logits: Vec<f64> = sampler.denoiser().logits().iter().map(|&x| f64::from(x)).collect();
    report.relative("last logits", &logits, &case.vec("final_logits")?, CANVAS);
    Ok(())
}
