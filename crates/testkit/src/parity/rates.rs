//! Traces of samplers by scores and rates: SEDD, and the Euler solver of discrete flow matching.

use super::ancestral::{canvas, idiom, recorded};
use super::schedules::noise;
use super::table::{Recorded, Table};
use super::{Case, Fault, Report};
use galatea_processes::{Categorical, Denoiser, Limit};
use galatea_samplers::{
    Ancestral, AncestralOptions, At, Conditioning, Draws, Idiom, Levels, NoiseRemoval, Output, Rule, Sampler, stream,
};
use galatea_schedules::{AnySchedule, Geometric, LogLinear, Power, Schedule, grid};
use ndarray::{ArrayRef2, ArrayRef3};
use std::collections::BTreeMap;
use std::convert::Infallible;

/// `sedd_sampling`.
pub(super) fn sedd(case: &Case, report: &mut Report) -> Result<(), Fault> {
    let vocab = case.count("dim")?;
    let (limit, schedule) = match case.text("graph")? {
        "absorb" => (Limit::Mask(vocab.saturating_sub(1) as u32), AnySchedule::LogLinear(LogLinear::default())),
        "uniform" => (Limit::Uniform, AnySchedule::Geometric(Geometric::new(1e-4, 20.0)?)),
        _ => return Err(case.unsupported("graph", "absorb or uniform")),
    };
    let schedule = if case.setting("noise").is_some() { noise(case, "noise")? } else { schedule };
    let rule = match case.text("predictor")? {
        "euler" => Rule::Euler,
        "analytic" => Rule::Tweedie,
        _ => return Err(case.unsupported("predictor", "euler or analytic")),
    };
    let levels = Levels::new(&schedule, &grid::with_floor(case.count("steps")?, case.number("eps")?))?;
    let process = Categorical::new(vocab, limit)?;
    let scale = case.number("table_scale")? as f32;
    let table = Table::read(case, "")?;
    let asked = table.asked();
    let scores = Scores { table, schedule, scale, scaled_by_sigma: limit != Limit::Uniform };
    let options = AncestralOptions { rule, output: Output::Score, idiom: idiom(case)?, ..Default::default() };
    let mut fixed = canvas(case, "x_final")?;
    let (batch, len) = fixed.dim();
    let mut given = vec![None; len];
    if case.has("infill_positions") {
        for (position, token) in case.ids("infill_positions")?.into_iter().zip(case.ids("infill_tokens")?) {
            (0..batch).try_for_each(|row| fixed.set(row, position as usize, token))?;
            given[position as usize] = Some(token);
        }
    }
    // The original overwrites the given positions before it asks its network, and lets a step change them in between.
    let overwritten = |ids: Vec<u32>| -> Vec<u32> {
        ids.into_iter().enumerate().map(|(i, id)| given[i % len].unwrap_or(id)).collect()
    };
    let draws = recorded(case, "", process)?;
    let mut sampler = Ancestral::with_draws(scores, process, levels, fixed, options, Box::new(draws))?;
    let mut found = Vec::new();
    for canvas in &mut sampler {
        found.extend(canvas.map_err(Fault::refused)?.ids);
    }
    let expected = overwritten(case.ids("x_steps")?);
    found.truncate(expected.len());
    report.exact("canvases", &found, &expected);
    let last: Vec<u32> = sampler.canvas().ids.iter().copied().collect();
    report.exact("text", &last, &overwritten(case.ids("x_final")?));
    let (calls, ours) = (case.ids("calls.x")?, asked.ids());
    report.exact("calls", &ours, calls.get(..ours.len()).unwrap_or(&calls));
    Ok(())
}

/// A table that gives log-scores, as the end of SEDD's network makes them.
struct Scores {
    table: Table,
    schedule: AnySchedule,
    scale: f32,
    scaled_by_sigma: bool,
}

impl Denoiser for Scores {
    type Error = Infallible;
    fn denoise(&mut self, x_t: &ArrayRef2<u32>, t: f64, logits: &mut ArrayRef3<f32>) -> Result<(), Infallible> {
        self.table.denoise(x_t, t, logits)?;
        let mut shift = 0.0;
        if self.scaled_by_sigma {
            // exp(sigma) - 1 = (1 - alpha_bar) / alpha_bar.
            shift = -self.schedule.log_snr(t) + ((logits.dim().2 - 1) as f64).ln();
        }
        logits.mapv_inplace(|logit| logit * self.scale - shift as f32);
        Ok(())
    }
}

/// `flow_matching`: the solver's trace.
pub(super) fn flow(case: &Case, report: &mut Report) -> Result<(), Fault> {
    let vocab = case.count("vocab_size")?;
    let x_init = case.ids("sample.x_init")?;
    let limit = match case.text("source")? {
        "mask" => Limit::Mask(x_init.first().copied().unwrap_or(0)),
        "uniform" => Limit::Uniform,
        _ => return Err(case.unsupported("source", "mask or uniform")),
    };
    let power = case.text("scheduler")?.strip_prefix("polynomial n=").and_then(|n| n.parse().ok());
    let schedule = Power::new(power.ok_or_else(|| case.unsupported("scheduler", "polynomial n=..."))?)?;
    // The original counts from noise to data.
    let times: Vec<f64> = times(case)?.into_iter().map(|t| (1.0 - t).max(0.0)).collect();
    let levels = Levels::new(&schedule, &times)?;
    let options = AncestralOptions {
        rule: Rule::Flow { divergence_free: case.setting("div_free").map_or(Ok(0.0), |_| case.number("div_free"))? },
        output: Output::Verbatim,
        conditioning: Conditioning::All,
        noise_removal: NoiseRemoval::Off,
        idiom: Idiom::Race,
        ..Default::default()
    };
    let (table, fixed) = (Table::read(case, "sample.")?, canvas(case, "sample.x_final")?);
    let asked = table.asked();
    let draws = Jumps::read(case, x_init, times.len() - 1)?;
    let process = Categorical::new(vocab, limit)?;
    let sampler = Ancestral::with_draws(table, process, levels, fixed, options, Box::new(draws))?;
    let last: Vec<u32> = sampler.finish().map_err(Fault::refused)?.ids.into_iter().collect();
    report.exact("canvases", &asked.ids(), &case.ids("sample.calls.x")?);
    report.exact("text", &last, &case.ids("sample.x_final")?);
    Ok(())
}

/// The solver's times, from noise to data.
fn times(case: &Case) -> Result<Vec<f64>, Fault> {
    let numbers = case.setting("time_grid").and_then(serde_json::Value::as_array);
    let given: Option<Vec<f64>> = numbers.and_then(|list| list.iter().map(serde_json::Value::as_f64).collect());
    let given =
        given.filter(|list| list.len() >= 2).ok_or_else(|| case.unsupported("time_grid", "two times or more"))?;
    if case.setting("step_size").is_none() {
        return Ok(given);
    }
    // The original's grid is in single precision, the number of its steps is counted in double.
    let single = |t: f64| f64::from(t as f32);
    let (start, end, step) = (single(given[0]), single(given[given.len() - 1]), case.number("step_size")?);
    let count = ((end - start) / step).ceil();
    if !(step > 0.0 && (1.0..1e6).contains(&count)) {
        return Err(case.unsupported("step_size", "a positive number below the length of the time grid"));
    }
    let steps = (0..count as usize).map(|i| start + step * i as f64);
    Ok(steps.chain([end]).collect())
}

/// The recorded numbers of the solver: exponentials for x_1, a uniform for every jump, and exponentials for the targets
/// of those positions that jump, in their order.
struct Jumps {
    recorded: Recorded,
    targets: BTreeMap<u32, std::vec::IntoIter<f64>>,
}

impl Jumps {
    fn read(case: &Case, x_init: Vec<u32>, steps: usize) -> Result<Self, Fault> {
        let (mut recorded, mut targets) = (Recorded::default(), BTreeMap::new());
        recorded.push(stream::START, x_init.into_iter().map(f64::from), 1);
        let kinds: Vec<bool> = {
            let exponential = |name: &str| name.ends_with(".expo");
            case.names().filter(|name| name.starts_with("sample_rnd.")).map(exponential).collect()
        };
        let mut index = 0;
        for step in 0..steps {
            let x_1 = case.recorded("sample_", index)?;
            let width = x_1.shape().last().copied().unwrap_or(1);
            recorded.push(stream::TOKENS, x_1.iter().copied(), width);
            index += 1;
            if step + 1 == steps {
                break;
            }
            recorded.push(stream::JUMP, case.recorded("sample_", index)?.iter().copied(), 1);
            index += 1;
            // Two exponentials in a row: somebody jumped. The last step has one x_1 and nothing else.
            if kinds.get(index) == Some(&true) && kinds.get(index + 1) == Some(&true) {
                let target: Vec<f64> = case.recorded("sample_", index)?.iter().copied().collect();
                targets.insert(step as u32, target.into_iter());
                index += 1;
            }
        }
        Ok(Self { recorded, targets })
    }
}

impl Draws for Jumps {
    fn uniforms(&mut self, stream: u32, at: At, out: &mut [f64]) {
        self.recorded.uniforms(stream, at, out);
    }
    fn exponentials(&mut self, stream: u32, at: At, out: &mut [f64]) {
        if stream != stream::TARGET {
            self.recorded.uniforms(stream, at, out);
            return;
        }
        let target = self.targets.get_mut(&at.step);
        let mut numbers = target.into_iter().flatten();
        out.iter_mut().for_each(|x| *x = numbers.next().unwrap_or(f64::NAN));
    }
    fn below(&mut self, stream: u32, at: At, n: usize) -> usize {
        self.recorded.below(stream, at, n)
    }
}
