//! Traces of ancestral samplers: MDLM, ReMDM, UDLM, Duo, GIDD, and D3PM's port.

use super::table::{Recorded, Table};
use super::{Case, Fault, Report, end_to_end};
use galatea_processes::{Categorical, Denoiser, Dense, Hybrid, Limit};
use galatea_samplers::{
    Ancestral, AncestralOptions, ClassifierFree, Filter, Fixed, Idiom, Levels, NoiseRemoval, Nucleus, Pair, Plateau,
    Revise, Rule, Sampler, Steps, TimeDependence, stream,
};
use galatea_schedules::{Linear, LogLinear, grid};
use ndarray::{ArrayRef2, ArrayRef3, Axis};
use std::convert::Infallible;

/// That a file of the family is not a sampler's trace.
fn no_trace(what: &str) -> Fault {
    Fault::Unknown { what: what.to_owned(), known: "sampler traces with the table function".to_owned() }
}

/// `mdlm_sampling`: plain, with the cached p(x_0), and through the scores ("analytic"); of the table function, or of a network
/// whose weights another fixture holds.
pub(super) fn mdlm(case: &Case, report: &mut Report) -> Result<(), Fault> {
    let grid = grid::with_floor(case.count("steps")?, case.number("eps")?);
    // The plain sampler of the original asks again in every step, and so does every one with a time in the network.
    let (levels, rule, cached) = match case.text("sampler")? {
        "ddpm" => (Levels::new(&LogLinear::default(), &grid)?, Rule::Posterior, false),
        "ddpm_cache" => (Levels::new(&Linear, &grid)?, Rule::Posterior, true),
        "analytic" => (Levels::new(&LogLinear::default(), &grid)?, Rule::Tweedie, false),
        _ => return Err(case.unsupported("sampler", "ddpm, ddpm_cache or analytic")),
    };
    let reused = cached && !case.flag("time_conditioning")?;
    let time = if reused { TimeDependence::Free } else { TimeDependence::Conditioned };
    let removed = case.setting("noise_removal").is_none() || case.flag("noise_removal")?;
    let noise_removal = match (removed, rule) {
        (false, _) => NoiseRemoval::Off,
        (true, Rule::Tweedie) => NoiseRemoval::Sample,
        (true, _) => NoiseRemoval::Argmax,
    };
    let options = AncestralOptions { rule, time, noise_removal, idiom: idiom(case)?, ..Default::default() };
    if case.setting("model").is_some() {
        return end_to_end::check(case, report, levels, options);
    }
    masked(case, report, levels, options)
}

/// `remdm_sampling`.
pub(super) fn remdm(case: &Case, report: &mut Report) -> Result<(), Fault> {
    let (steps, eps, eta) = (case.count("steps")?, case.number("eps")?, case.number("eta")?);
    let grid = grid::with_floor(steps, eps);
    let plateau = || -> Result<Plateau, Fault> {
        let (t_on, t_off) = (case.number("t_on")?, case.number("t_off")?);
        Ok(Plateau { t_on, t_off, alpha_bar: case.number("alpha_on")? })
    };
    let mut levels = Steps::from(Levels::new(&Linear, &grid)?);
    let revise = match (case.text("sampler")?, case.flag("dfm")?) {
        (_, true) => {
            levels = Levels::corrected(steps, eps)?.into();
            Revise::Corrector
        }
        ("mdlm", false) => Revise::Never,
        ("remdm-cap", false) => Revise::cap(eta),
        ("remdm-rescale", false) => Revise::rescale(eta),
        ("remdm-conf", false) => Revise::Confidence { scale: 1.0 },
        ("remdm-loop", false) => {
            let plateau = plateau()?;
            levels = Steps::plateau(&grid, plateau)?;
            Revise::Loop { sigma: eta, t_on: plateau.t_on, t_off: plateau.t_off }
        }
        ("forward-backward", false) => Revise::ForwardBackward,
        _ => {
            let known = "mdlm, remdm-cap, remdm-rescale, remdm-conf, remdm-loop or forward-backward";
            return Err(case.unsupported("sampler", known));
        }
    };
    if case.has("t_after") {
        let ours: Vec<f64> = levels.as_slice().iter().map(|(_, there)| there.t).collect();
        report.absolute("times", &ours, &case.vec("t_after")?, 1e-6);
    }
    let noise_removal = if case.flag("noise_removal")? { NoiseRemoval::Argmax } else { NoiseRemoval::Off };
    let filter = Filter { top_p: case.number("nucleus_p")?, nucleus: Nucleus::Within, ..Filter::default() };
    let (time, idiom) = (TimeDependence::Free, idiom(case)?);
    let options = AncestralOptions { filter, revise, time, noise_removal, idiom, ..Default::default() };
    masked(case, report, levels, options)
}

/// A trace under masks: canvases, text, and what the denoiser was asked.
fn masked(case: &Case, report: &mut Report, steps: impl Into<Steps>, options: AncestralOptions) -> Result<(), Fault> {
    let table = Table::read(case, "")?;
    let asked = table.asked();
    follow(case, report, sampler(case, table, masks(case)?, steps, options)?)?;
    // Where no mask is left we save the original's last call.
    let (calls, ours) = (case.ids("calls.x")?, asked.ids());
    report.exact("calls", &ours, calls.get(..ours.len()).unwrap_or(&calls));
    Ok(())
}

/// The process whose limit is the mask.
pub(super) fn masks(case: &Case) -> Result<Categorical, Fault> {
    Ok(Categorical::new(case.count("vocab_size")?, Limit::Mask(case.count("mask_index")? as u32))?)
}

/// `udlm_sampling`.
pub(super) fn udlm(case: &Case, report: &mut Report) -> Result<(), Fault> {
    let grid = grid::with_floor(case.count("steps")?, case.number("eps")?);
    let levels = Levels::new(&LogLinear::default(), &grid)?;
    let limit = match case.text("diffusion")? {
        "uniform" => Limit::Uniform,
        "absorbing_state" => Limit::Mask(case.count("mask_index")? as u32),
        _ => return Err(case.unsupported("diffusion", "uniform or absorbing_state")),
    };
    let options = AncestralOptions { noise_removal: NoiseRemoval::Off, idiom: idiom(case)?, ..Default::default() };
    let process = Categorical::new(case.count("vocab_size")?, limit)?;
    let Some(guidance) = case.setting("guidance") else {
        return follow(case, report, sampler(case, Table::read(case, "")?, process, levels, options)?);
    };
    let number = |key: &str| guidance.get(key).and_then(serde_json::Value::as_f64);
    let (Some("cfg"), Some(gamma), Some(condition)) =
        (guidance.get("method").and_then(serde_json::Value::as_str), number("gamma"), number("condition"))
    else {
        return Err(case.unsupported("guidance", "cfg with gamma and a condition"));
    };
    // The class behind all others is the one without a condition.
    let classes = (0..).take_while(|class| case.has(&format!("cond{class}.table.pos"))).count();
    let given = Table::read(case, &format!("cond{condition}."))?;
    let dropped = Table::read(case, &format!("cond{}.", classes.saturating_sub(1)))?;
    match limit {
        Limit::Mask(mask) => {
            // The mask's logits are never read; masks are excluded from both distributions before they are mixed.
            let pair = Pair { given: Normal { table: given, mask }, dropped: Normal { table: dropped, mask } };
            let guided = ClassifierFree::new(pair, gamma)?;
            follow(case, report, sampler(case, guided, process, levels, options)?)
        }
        Limit::Uniform => {
            let sampler = sampler(case, given, process, levels, options)?.guided(dropped, gamma)?;
            follow(case, report, sampler)
        }
    }
}

/// `duo`: the sampler traces.
pub(super) fn duo(case: &Case, report: &mut Report) -> Result<(), Fault> {
    if !case.has("timesteps") {
        return Err(no_trace("a loss"));
    }
    // The original keeps its times, and so its levels, in single precision.
    let grid = case.vec("timesteps")?;
    let levels = Levels::new(&LogLinear::default(), &grid)?;
    let revise = match case.text("predictor")? {
        "ancestral" | "ancestral_cache" => Revise::Never,
        "psi" => Revise::Profile(kappas(case, report, &levels)?),
        _ => return Err(case.unsupported("predictor", "ancestral, ancestral_cache or psi")),
    };
    let idiom = if case.flag("use_float64")? { Idiom::Guarded64 } else { Idiom::Guarded32 };
    let options = AncestralOptions { revise, idiom, ..Default::default() };
    let process = Categorical::new(case.count("vocab_size")?, Limit::Uniform)?;
    follow(case, report, sampler(case, Table::read(case, "")?, process, levels, options)?)
}

/// The recorded kappas; those that the mode has made must be what our revision of that name gives.
fn kappas(case: &Case, report: &mut Report, levels: &Levels) -> Result<Vec<f64>, Fault> {
    let kappas = case.vec("kappas")?;
    let mode = case.text("mode")?;
    let number = |text: &str| text.parse::<f64>().map_err(|_| case.unsupported("mode", "a name and a number"));
    let revise = match (mode.strip_prefix("max-capped-"), mode.strip_prefix("max-rescale-")) {
        _ if mode == "pure-posterior" => Revise::Never,
        _ if mode == "pure-pc" => Revise::Renoise { kappa: 0.0 },
        (Some(eta), _) => Revise::cap(number(eta)?),
        // Duo's maximum is capped by eta as well.
        (_, Some(eta)) => Revise::Remask { cap: number(eta)?, scale: number(eta)? },
        _ => match (mode.strip_prefix("constant-remdm-"), mode.strip_prefix("constant-")) {
            (Some(eta), _) => Revise::Loop { sigma: number(eta)?, t_on: 1.0, t_off: -1.0 },
            (_, Some(kappa)) => Revise::Renoise { kappa: number(kappa)? },
            _ => return Err(case.unsupported("mode", "constant-, max-capped- or max-rescale- and a number")),
        },
    };
    let steps = Steps::from(levels.clone());
    let made: Vec<usize> =
        (0..steps.as_slice().len()).filter(|&i| kappas.get(i).is_some_and(|&kappa| kappa != 1.0)).collect();
    let ours: Vec<f64> = made.iter().map(|&i| revise.kappa(i, steps.as_slice()[i].0, steps.as_slice()[i].1)).collect();
    let theirs: Vec<f64> = made.iter().map(|&i| kappas[i]).collect();
    report.absolute("kappas", &ours, &theirs, 1e-5);
    Ok(kappas)
}

/// `gidd_loss`: the sampler traces.
pub(super) fn gidd(case: &Case, report: &mut Report) -> Result<(), Fault> {
    if !case.has("x_steps") {
        return Err(no_trace("a loss"));
    }
    let (vocab, mask) = (case.count("vocab_size")?, case.count("mask_id")? as u32);
    let gamma = case.setting("gamma").map_or(Ok(1.0), |_| case.number("gamma"))?;
    // The original's least share of uniform tokens.
    let process = Hybrid::new(vocab, mask, case.number("p_uniform")?.max((-20f64).exp()), gamma)?;
    let (steps, t_eps) = (case.count("steps")?, case.number("t_eps")?);
    let time = |i: usize| (1.0 - 2.0 * t_eps) * i as f64 / steps as f64 + t_eps;
    // As in the source: the last time is not used, and the last step goes nowhere.
    let mut grid: Vec<f64> = (0..steps).rev().map(time).collect();
    grid.push(time(0));
    let mut draws = Recorded::default();
    for index in 0..steps {
        draws.push(stream::TOKENS, case.recorded("", index)?.iter().copied(), 1);
    }
    let options = AncestralOptions { noise_removal: NoiseRemoval::Off, idiom: Idiom::Open, ..Default::default() };
    let (table, fixed) = (Table::read(case, "")?, canvas(case, "x_final")?);
    follow(case, report, Ancestral::of_with_draws(table, process, &grid, fixed, options, Box::new(draws))?)
}

/// `d3pm`: the sampler trace of the port, t from T - 1 down to 1, through the matrices of every step.
pub(super) fn d3pm(case: &Case, report: &mut Report) -> Result<(), Fault> {
    if !case.has("sample.x_final") {
        return Err(no_trace("matrices or a loss"));
    }
    let (vocab, count) = (case.count("num_classes")?, case.count("n_T")?);
    let uniform = Categorical::new(vocab, Limit::Uniform)?;
    let (betas, eps) = (case.vec("beta_t")?, case.number("eps")?);
    let process = Dense::new(betas.iter().map(|beta| uniform.transition(1.0 - beta)).collect())?;
    let grid: Vec<f64> = (1..count).rev().map(|t| t as f64 / count as f64).collect();
    let mut draws = Recorded::default();
    draws.push(stream::START, case.recorded("sample_", 0)?.iter().copied(), 1);
    for index in 1..count {
        // The original cuts its uniforms.
        let cut = case.recorded("sample_", index)?.mapv(|u| u.clamp(eps, 1.0));
        draws.push(stream::TOKENS, cut.iter().copied(), vocab);
    }
    let options = AncestralOptions { noise_removal: NoiseRemoval::Greedy, idiom: Idiom::Race, ..Default::default() };
    let (table, fixed) = (Table::read(case, "sample.")?, canvas(case, "sample.x_final")?);
    let asked = table.asked();
    let mut sampler = Ancestral::of_with_draws(table, process, &grid, fixed, options, Box::new(draws))?;
    for canvas in &mut sampler {
        canvas.map_err(Fault::refused)?;
    }
    let last: Vec<u32> = sampler.canvas().ids.iter().copied().collect();
    report.exact("canvases", &asked.ids(), &case.ids("sample.calls.x")?);
    report.exact("text", &last, &case.ids("sample.x_final")?);
    Ok(())
}

/// A table that gives log p(x_0), the mask excluded.
#[derive(Clone)]
struct Normal {
    table: Table,
    mask: u32,
}

impl Denoiser for Normal {
    type Error = Infallible;
    fn denoise(&mut self, x_t: &ArrayRef2<u32>, t: f64, logits: &mut ArrayRef3<f32>) -> Result<(), Infallible> {
        self.table.denoise(x_t, t, logits)?;
        logits.index_axis_mut(Axis(2), self.mask as usize).fill(f32::NEG_INFINITY);
        Ok(())
    }
}

/// The sampler of a trace, on its recorded numbers.
pub(super) fn sampler<D: Denoiser>(
    case: &Case,
    denoiser: D,
    process: Categorical,
    steps: impl Into<Steps>,
    options: AncestralOptions,
) -> Result<Ancestral<D>, Fault> {
    let (draws, fixed) = (recorded(case, "", process)?, canvas(case, "x_final")?);
    Ok(Ancestral::with_draws(denoiser, process, steps, fixed, options, Box::new(draws))?)
}

/// A canvas of the shape of a tensor, with nothing given.
pub(super) fn canvas(case: &Case, like: &str) -> Result<Fixed, Fault> {
    let [batch, len] = case.shape::<2>(like)?;
    Ok(Fixed::none(batch, len))
}

/// The initial canvas, where one was drawn, and a tensor of uniforms for every token of every position per step.
pub(super) fn recorded(case: &Case, prefix: &str, process: Categorical) -> Result<Recorded, Fault> {
    let mut draws = Recorded::default();
    let drawn = case.names().filter(|name| name.starts_with(&format!("{prefix}rnd."))).count();
    for index in 0..drawn {
        let tensor = case.recorded(prefix, index)?;
        match (index, process.limit()) {
            (0, Limit::Uniform) => draws.push(stream::START, tensor.iter().copied(), 1),
            (_, Limit::Uniform | Limit::Mask(_)) => {
                let width = tensor.shape().last().copied().unwrap_or(1);
                draws.push(stream::TOKENS, tensor.iter().copied(), width);
            }
        }
    }
    Ok(draws)
}

/// The precision of the recorded uniforms, which is that of the original's arithmetic.
pub(super) fn idiom(case: &Case) -> Result<Idiom, Fault> {
    let tensors = case.setting("tensors").and_then(serde_json::Value::as_object);
    let mut drawn = tensors.into_iter().flatten().filter(|(name, _)| name.ends_with(".rand"));
    match drawn.next().and_then(|(_, tensor)| tensor.get("dtype")).and_then(serde_json::Value::as_str) {
        Some("float32") => Ok(Idiom::Guarded32),
        Some("float64") | None => Ok(Idiom::Guarded64),
        Some(_) => Err(case.unsupported("tensors", "uniforms in float32 or float64")),
    }
}

/// Takes every step and compares the canvas after each, and the last one.
pub(super) fn follow<S: Sampler>(case: &Case, report: &mut Report, mut sampler: S) -> Result<(), Fault>
where
    S::DenoiserError: std::error::Error + Send + Sync + 'static,
{
    let expected = case.ids("x_steps")?;
    let mut found = Vec::new();
    for canvas in &mut sampler {
        found.extend(canvas.map_err(Fault::refused)?.ids);
    }
    // Noise removal may be a step of ours that the original does not list.
    found.truncate(expected.len());
    report.exact("canvases", &found, &expected);
    let last: Vec<u32> = sampler.canvas().ids.iter().copied().collect();
    report.exact("text", &last, &case.ids("x_final")?);
    Ok(())
}
