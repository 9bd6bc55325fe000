//! Gaussian samplers: DDPM, DDIM and DPM-Solver++ as diffusers has them.

use super::table::Recorded;
use super::{Case, Fault, Report};
use galatea_processes::{EmbeddingDenoiser, Prediction, Variance};
use galatea_samplers::{Embedding, EmbeddingOptions, Fixed, Level, Method, Sampler, Steps, stream};
use ndarray::{Array2, ArrayRef3, Axis, Ix2, Ix4};
use std::convert::Infallible;

/// x_0_hat = tanh(x A^T), told as what the sampler expects; `alpha_bars` are those of its calls.
struct Tanh {
    matrix: Array2<f64>,
    prediction: Prediction,
    alpha_bars: std::vec::IntoIter<f64>,
}

impl EmbeddingDenoiser for Tanh {
    type Error = Infallible;

    fn denoise(&mut self, z_t: &ArrayRef3<f32>, _: f64, x_0_hat: &mut ArrayRef3<f32>) -> Result<(), Infallible> {
        let conversion = Prediction::X0.to(self.prediction, self.alpha_bars.next().unwrap_or(f64::NAN));
        for (x, mut out) in z_t.rows().into_iter().zip(x_0_hat.rows_mut()) {
            for (k, weights) in self.matrix.rows().into_iter().enumerate() {
                let sum: f64 = weights.iter().zip(x).map(|(a, &x)| a * f64::from(x)).sum();
                out[k] = conversion.apply(f64::from(x[k]), sum.tanh()) as f32;
            }
        }
        Ok(())
    }
}

/// `gaussian_samplers`.
pub(super) fn samplers(case: &Case, report: &mut Report) -> Result<(), Fault> {
    // A hyperbolic tangent is never cut at 1 or beyond.
    let range = case.setting("clip_sample_range").map_or(Ok(1.0), |_| case.number("clip_sample_range"))?;
    if case.flag("clip_sample")? && range < 1.0 {
        return Err(case.unsupported("clip_sample_range", "1 or more"));
    }
    for key in ["thresholding", "use_clipped_model_output"] {
        if case.flag(key)? {
            return Err(case.unsupported(key, "false"));
        }
    }
    let prediction = match case.text("prediction_type")? {
        "sample" => Prediction::X0,
        "epsilon" => Prediction::Noise,
        "v_prediction" => Prediction::V,
        _ => return Err(case.unsupported("prediction_type", "sample, epsilon or v_prediction")),
    };
    let steps = steps(case)?;
    let alpha_bars: Vec<f64> = steps.as_slice().iter().map(|(here, _)| here.alpha_bar).collect();
    let matrix = case.array::<Ix2>("A")?;
    let trace = case.array::<Ix4>("x_trace")?;
    let (_, batch, len, d) = trace.dim();
    let mut draws = Recorded::default();
    draws.push(stream::START, trace.index_axis(Axis(0), 0).iter().copied(), d);
    for index in 0..case.names().filter(|name| name.starts_with("rnd.")).count() {
        draws.push(stream::NOISE, case.recorded("", index)?.iter().copied(), d);
    }
    let options = EmbeddingOptions { method: method(case)?, prediction, ..Default::default() };
    let table = matrix.mapv(|x| x as f32);
    let denoiser = Tanh { matrix, prediction, alpha_bars: alpha_bars.into_iter() };
    let fixed = Fixed::none(batch, len);
    let mut sampler = Embedding::with_draws(denoiser, &table, steps, fixed, options, Box::new(draws))?;
    let mut found = Vec::new();
    while let Some(step) = sampler.advance() {
        step.map_err(Fault::refused)?;
        found.extend(sampler.z().iter().map(|&x| f64::from(x)));
    }
    let expected: Vec<f64> = trace.iter().skip(batch * len * d).copied().collect();
    report.absolute("x", &found, &expected, 2e-5);
    Ok(())
}

fn method(case: &Case) -> Result<Method, Fault> {
    match case.text("scheduler")? {
        "DDPMScheduler" => match case.text("variance_type")? {
            "fixed_small" | "fixed_small_log" => Ok(Method::Ddpm(Variance::Small)),
            "fixed_large" => Ok(Method::Ddpm(Variance::Large)),
            _ => Err(case.unsupported("variance_type", "fixed_small, fixed_small_log or fixed_large")),
        },
        "DDIMScheduler" => Ok(Method::Ddim { eta: case.number("eta")? }),
        "DPMSolverMultistepScheduler" => {
            if case.text("algorithm_type")? != "dpmsolver++" {
                return Err(case.unsupported("algorithm_type", "dpmsolver++"));
            }
            if case.setting("solver_type").is_some() && case.text("solver_type")? != "midpoint" {
                return Err(case.unsupported("solver_type", "midpoint"));
            }
            // Diffusers lowers the order of the last step in chains of fewer than 15 steps only, and always into zero noise.
            let lowered = case.setting("lower_order_final").is_none() || case.flag("lower_order_final")?;
            let lower_order_final = lowered && case.count("steps")? < 15;
            match case.count("solver_order")? {
                1 => Ok(Method::Ddim { eta: 0.0 }),
                2 => Ok(Method::Multistep { lower_order_final }),
                _ => Err(case.unsupported("solver_order", "1 or 2")),
            }
        }
        _ => Err(case.unsupported("scheduler", "DDPMScheduler, DDIMScheduler or DPMSolverMultistepScheduler")),
    }
}

/// The levels of the recorded timesteps: DDPM and DDIM go back by a fixed stride and end without noise, DPM-Solver++ goes
/// from one to the next and ends where it is told.
fn steps(case: &Case) -> Result<Steps, Fault> {
    let (alphas, timesteps) = (case.vec("alphas_cumprod")?, case.vec("timesteps")?);
    let total = case.count("num_train_timesteps")?;
    let clean = Level { t: 0.0, alpha_bar: 1.0 };
    // DDIM may end at the first level of the chain.
    let to_one = case.setting("set_alpha_to_one").is_none() || case.flag("set_alpha_to_one")?;
    let before = if to_one { 1.0 } else { alphas.first().copied().unwrap_or(f64::NAN) };
    let level = |timestep: f64| -> Level {
        let alpha_bar = alphas.get(timestep as usize).copied().unwrap_or(f64::NAN);
        if timestep < 0.0 {
            Level { t: 0.0, alpha_bar: before }
        } else {
            Level { t: (timestep + 1.0) / total as f64, alpha_bar }
        }
    };
    let multistep = case.text("scheduler")? == "DPMSolverMultistepScheduler";
    let end = match case.setting("final_sigmas_type").and_then(serde_json::Value::as_str) {
        None | Some("zero") => clean,
        Some("sigma_min") => Level { t: 0.0, ..level(0.0) },
        Some(_) => return Err(case.unsupported("final_sigmas_type", "zero or sigma_min")),
    };
    let stride = (total / case.count("steps")?.max(1)) as f64;
    // What DPM-Solver++ steps through is recorded, whichever way its noises are spaced.
    let sigmas = if multistep && case.has("sigmas") { case.vec("sigmas")? } else { Vec::new() };
    let at = |k: usize, level: Level| match sigmas.get(k) {
        Some(sigma) => Level { alpha_bar: 1.0 / (1.0 + sigma * sigma), ..level },
        None => level,
    };
    let pairs = timesteps.iter().enumerate().map(|(k, &timestep)| {
        let there = match timesteps.get(k + 1) {
            Some(&next) if multistep => at(k + 1, level(next)),
            None if multistep => at(k + 1, end),
            Some(_) | None => level(timestep - stride),
        };
        (at(k, level(timestep)), there)
    });
    Ok(Steps::from_pairs(pairs)?)
}
