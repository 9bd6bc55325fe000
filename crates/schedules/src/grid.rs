//! Time grids: the times a sampler visits, from 1 (noise) down.
//!
//! A grid of `steps` steps has `steps` + 1 times; step i goes from `grid[i]` to `grid[i + 1]`. Zero steps count as one.

use crate::Schedule;
use std::f64::consts::FRAC_PI_2;

/// Equal steps from 1 to 0, both exact.
///
/// ```
/// assert_eq!(galatea_schedules::grid::uniform(4), [1.0, 0.75, 0.5, 0.25, 0.0]);
/// ```
pub fn uniform(steps: usize) -> Vec<f64> {
    with_floor(steps, 0.0)
}

/// Equal steps from 1 to `t_min`, both exact; the last clean-up from `t_min` to 0 is the caller's.
///
/// # Source
/// MDLM's sampler: t_min = 1e-5, then one noise-removal pass.
pub fn with_floor(steps: usize, t_min: f64) -> Vec<f64> {
    along(steps, |u| 1.0 + (t_min - 1.0) * u, t_min)
}

/// MD4's cosine grid, t = cos(pi/2 u) for u = 0, 1/n, ..., 1: small steps near the noise, large ones near the data.
///
/// # Source
/// Shi et al. (2024), MD4, its "cosine" sampling grid.
pub fn cosine(steps: usize) -> Vec<f64> {
    along(steps, |u| (FRAC_PI_2 * u).cos(), 0.0)
}

/// Times between `t_max` and `t_min` at equal distances of log-SNR: the natural grid of DPM-Solver.
///
/// Both times must have a finite log-SNR, so `t_min` > 0 for most schedules.
///
/// # Source
/// Lu et al. (2022), "DPM-Solver".
pub fn equal_log_snr(schedule: &impl Schedule, steps: usize, t_max: f64, t_min: f64) -> Vec<f64> {
    let (start, end) = (schedule.log_snr(t_max), schedule.log_snr(t_min));
    let time = |u: f64| if u == 0.0 { t_max } else { schedule.time_of(sigmoid(start + (end - start) * u)) };
    along(steps, time, t_min)
}

/// Times between `t_max` and `t_min` at equal distances of alpha_bar: each step reveals the same share of a masked text.
pub fn equal_alpha_bar(schedule: &impl Schedule, steps: usize, t_max: f64, t_min: f64) -> Vec<f64> {
    let (start, end) = (schedule.alpha_bar(t_max), schedule.alpha_bar(t_min));
    let time = |u: f64| if u == 0.0 { t_max } else { schedule.time_of(start + (end - start) * u) };
    along(steps, time, t_min)
}

/// t = (1 - u (1 - t_min^(1/rho)))^rho: rho = 1 is [`with_floor`], a larger rho spends more steps near the data.
///
/// # Source
/// Karras et al. (2022), "Elucidating the design space of diffusion-based generative models", equation 5.
pub fn power(steps: usize, t_min: f64, rho: f64) -> Vec<f64> {
    along(steps, |u| (1.0 + (t_min.powf(1.0 / rho) - 1.0) * u).powf(rho), t_min)
}

fn along(steps: usize, time: impl Fn(f64) -> f64, last: f64) -> Vec<f64> {
    let steps = steps.max(1);
    (0..=steps).map(|i| if i == steps { last } else { time(i as f64 / steps as f64) }).collect()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}
