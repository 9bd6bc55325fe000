//! Traces of ancestral samplers: MDLM, UDLM, Duo.

use super::table::{Recorded, Table};
use super::{Case, Fault, Report};
use galatea_processes::{Categorical, Limit};
use galatea_samplers::{
    Ancestral, AncestralOptions, Fixed, Idiom, Levels, NoiseRemoval, Sampler, TimeDependence, stream,
};
use galatea_schedules::{Linear, LogLinear, grid};
use std::convert::Infallible;

/// `mdlm_sampling`.
pub(super) fn mdlm(case: &Case, report: &mut Report) -> Result<(), Fault> {
    let grid = grid::with_floor(case.count("steps")?, case.number("eps")?);
    let levels = match case.text("sampler")? {
        "ddpm" => Levels::new(&LogLinear::default(), &grid)?,
        "ddpm_cache" => Levels::new(&Linear, &grid)?,
        _ => return Err(case.unsupported("sampler", "ddpm or ddpm_cache")),
    };
    let time = if case.flag("time_conditioning")? { TimeDependence::Conditioned } else { TimeDependence::Free };
    // The plain sampler of the original asks again in every step.
    let time = if case.text("sampler")? == "ddpm" { TimeDependence::Conditioned } else { time };
    let removed = case.setting("noise_removal").is_none() || case.flag("noise_removal")?;
    let noise_removal = if removed { NoiseRemoval::Argmax } else { NoiseRemoval::Off };
    let options = AncestralOptions { time, noise_removal, idiom: idiom(case)?, ..Default::default() };
    let process = Categorical::new(case.count("vocab_size")?, Limit::Mask(case.count("mask_index")? as u32))?;
    let table = Table::read(case, "")?;
    let asked = table.asked();
    let sampler = sampler(case, table, process, levels, options)?;
    follow(case, report, sampler)?;
    // Where no mask is left we save the original's last call.
    let calls = case.ids("calls.x")?;
    let ours = asked.ids();
    report.exact("calls", &ours, calls.get(..ours.len()).unwrap_or(&calls));
    Ok(())
}

/// `udlm_sampling`.
pub(super) fn udlm(case: &Case, report: &mut Report) -> Result<(), Fault> {
    if case.setting("guidance").is_some() {
        return Err(case.unsupported("guidance", "null"));
    }
    let grid = grid::with_floor(case.count("steps")?, case.number("eps")?);
    let levels = Levels::new(&LogLinear::default(), &grid)?;
    let limit = match case.text("diffusion")? {
        "uniform" => Limit::Uniform,
        "absorbing_state" => Limit::Mask(case.count("mask_index")? as u32),
        _ => return Err(case.unsupported("diffusion", "uniform or absorbing_state")),
    };
    let options = AncestralOptions { noise_removal: NoiseRemoval::Off, idiom: idiom(case)?, ..Default::default() };
    let process = Categorical::new(case.count("vocab_size")?, limit)?;
    follow(case, report, sampler(case, Table::read(case, "")?, process, levels, options)?)
}

/// The sampler of a trace, on its recorded numbers.
fn sampler(
    case: &Case,
    table: Table,
    process: Categorical,
    levels: Levels,
    options: AncestralOptions,
) -> Result<Ancestral<Table>, Fault> {
    let (draws, fixed) = (recorded(case, "", process)?, Fixed::none(batch(case)?, len(case)?));
    Ok(Ancestral::with_draws(table, process, levels, fixed, options, Box::new(draws))?)
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

fn batch(case: &Case) -> Result<usize, Fault> {
    Ok(case.shape::<2>("x_final")?[0])
}

fn len(case: &Case) -> Result<usize, Fault> {
    Ok(case.shape::<2>("x_final")?[1])
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
pub(super) fn follow(
    case: &Case,
    report: &mut Report,
    mut sampler: impl Sampler<DenoiserError = Infallible>,
) -> Result<(), Fault> {
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
