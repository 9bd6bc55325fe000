//! Settings of the two objectives on unit embeddings; [`relaxed`](super::relaxed) and [`vlb`](super::vlb) record and weigh them.

use serde::{Deserialize, Serialize};

/// `kind = "plaid"`: the variational bound of Gaussian diffusion whose prediction is a mean embedding, with a schedule gamma(t)
/// that learns to make the bound's estimate vary least.
///
/// # Source
/// Gulrajani & Hashimoto (2023), "Likelihood-based diffusion language models".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlaidBound {
    /// Whether a quarter of the rows is denoised a second time, told the first prediction.
    pub self_condition: bool,
    /// gamma(0) when training begins.
    pub gamma_0: f64,
    /// gamma(1) when training begins.
    pub gamma_1: f64,
    /// Sigmoids that gamma is made of.
    pub hidden: usize,
    /// The rate of the schedule's numbers.
    pub schedule_lr: f64,
    /// Steps over which the output prior (the posterior of a lone embedding) fades in.
    pub prior_warmup: u32,
}

impl Default for PlaidBound {
    fn default() -> Self {
        Self { self_condition: true, gamma_0: -3.0, gamma_1: 6.0, hidden: 1024, schedule_lr: 1e-2, prior_warmup: 100 }
    }
}

/// `kind = "cdcd"`: cross-entropy alone, at noise levels that are drawn where it changes most.
///
/// # Source
/// Dieleman et al. (2022), "Continuous diffusion for categorical data".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cdcd {
    /// Whether half of the rows is denoised a second time, told the first prediction.
    pub self_condition: bool,
    /// The least noise level; SNR = 256 / t².
    pub t_min: f64,
    /// The largest.
    pub t_max: f64,
    /// Pieces of the warp.
    pub bins: usize,
    /// The rate of the warp's numbers.
    pub schedule_lr: f64,
}

impl Default for Cdcd {
    fn default() -> Self {
        Self { self_condition: true, t_min: 2.0, t_max: 300.0, bins: 100, schedule_lr: 1e-2 }
    }
}
