//! Plaid's variational bound on the host: what the rows of a step are told and weigh, and how the noise schedule learns.
//!
//! A step's B rows are R reconstructions at t = 0 and B - R times of the diffusion term. Its loss in nats per token is
//!
//! sum of cross-entropies / R + sum of e^-gamma gamma' |x_0 - x_0_hat|² / 2 / (B - R) + prior(gamma(1)),
//!
//! each a mean over a row's positions. The ends of gamma descend this loss. The warp between them leaves its mean alone, since the
//! bound does not depend on it, and descends the mean of the *squared* diffusion term instead, whose only moving part is the
//! variance: every row's gradient is multiplied by twice the row's loss.
//!
//! # Source
//! Gulrajani & Hashimoto (2023), "Likelihood-based diffusion language models", sections 3 and 4; Kingma et al. (2021),
//! "Variational diffusion models", section 5.

use galatea_models::Plaid;
use galatea_models::plaid::Conditions;
use galatea_processes::objectives::bound;
use galatea_schedules::{GammaWeights, LearnedGamma, Warp};

/// A row of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Told {
    /// Its time.
    pub t: f64,
    /// Whether it is a reconstruction (then t is 0).
    pub reconstruction: bool,
    /// Whether embeddings and levels learn nothing from it: it is denoised twice.
    pub cut: bool,
}

/// What the program says of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Heard {
    /// Its cross-entropy, mean over positions.
    pub nll: f64,
    /// Its squared error, mean over positions.
    pub error: f64,
    /// dloss / dgamma through the network and the noise ([`Plaid::heard`]); 0 for a row that is cut.
    pub dgamma: f64,
}

/// A step's rows under a schedule.
#[derive(Clone, Debug)]
pub struct Vlb<'a> {
    schedule: &'a LearnedGamma,
    plaid: &'a Plaid,
    prior_scale: f64,
    rows: &'a [Told],
    /// R.
    reconstructions: f64,
}

/// The losses of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Losses {
    /// Cross-entropies of the reconstructions.
    pub reconstruction: Vec<f64>,
    /// The diffusion term of every row, 0 for a reconstruction.
    pub diffusion: Vec<f64>,
    /// The prior's.
    pub prior: f64,
    /// Their sum.
    pub total: f64,
}

impl<'a> Vlb<'a> {
    /// The rows of a step, of which at least one is a reconstruction and one is not; `prior_scale` multiplies the output prior.
    ///
    /// # Panics
    /// If one kind is missing.
    pub fn new(schedule: &'a LearnedGamma, plaid: &'a Plaid, prior_scale: f64, rows: &'a [Told]) -> Self {
        let reconstructions = rows.iter().filter(|row| row.reconstruction).count();
        assert!(0 < reconstructions && reconstructions < rows.len(), "a step has rows of both kinds");
        Self { schedule, plaid, prior_scale, rows, reconstructions: reconstructions as f64 }
    }

    /// B - R.
    fn diffusions(&self) -> f64 {
        self.rows.len() as f64 - self.reconstructions
    }

    /// gamma' of a row; 0 for a reconstruction, which stays where it is.
    pub fn slope(&self, row: usize) -> f64 {
        if self.rows[row].reconstruction { 0.0 } else { self.schedule.gamma_derivative(self.rows[row].t) }
    }

    fn weight(&self, row: usize) -> f64 {
        bound::weight_of_gamma(self.schedule.gamma(self.rows[row].t), self.slope(row))
    }

    /// What a row is told of its level, appended to `out`.
    pub fn tell(&self, row: usize, out: &mut Conditions) {
        self.plaid.tell(self.schedule.gamma(self.rows[row].t), self.prior_scale, out);
    }

    /// The weights of a token's cross-entropy and squared error in a row of `len`.
    pub fn weights(&self, row: usize, len: usize) -> [f32; 2] {
        let told = &self.rows[row];
        if told.reconstruction {
            return [(1.0 / (self.reconstructions * len as f64)) as f32, 0.0];
        }
        [0.0, (self.weight(row) / (self.diffusions() * len as f64)) as f32]
    }

    /// dloss / dgamma of a row through what it was told: gradients of its level, scales and features.
    pub fn heard(&self, row: usize, [dlevel, dscales, dfeatures]: [&[f32]; 3]) -> f64 {
        self.plaid.heard(self.schedule.gamma(self.rows[row].t), self.prior_scale, dlevel, dscales, dfeatures)
    }

    /// The losses.
    ///
    /// # Panics
    /// If there is not one entry a row.
    pub fn losses(&self, heard: &[Heard]) -> Losses {
        assert_eq!(heard.len(), self.rows.len(), "one entry a row");
        let rows = || self.rows.iter().zip(heard);
        let reconstruction: Vec<f64> =
            rows().filter(|(row, _)| row.reconstruction).map(|(_, heard)| heard.nll).collect();
        let diffusion: Vec<f64> = heard.iter().enumerate().map(|(row, heard)| self.weight(row) * heard.error).collect();
        // Embeddings have unit length.
        let (prior, _) = bound::prior(self.schedule.weights().gamma_1, 1.0, self.plaid.d_embed);
        let total = reconstruction.iter().sum::<f64>() / self.reconstructions
            + diffusion.iter().sum::<f64>() / self.diffusions()
            + prior;
        Losses { reconstruction, diffusion, prior, total }
    }

    /// The gradient of the schedule's weights.
    ///
    /// # Panics
    /// If there is not one entry a row.
    pub fn gradient(&self, heard: &[Heard]) -> GammaWeights {
        assert_eq!(heard.len(), self.rows.len(), "one entry a row");
        let weights = self.schedule.weights();
        let zeros = || vec![0.0; weights.w_1.len()];
        let mut out = GammaWeights { w_1: zeros(), b_1: zeros(), w_2: zeros(), gamma_0: 0.0, gamma_1: 0.0 };
        let range = self.schedule.range();
        for (index, (row, heard)) in self.rows.iter().zip(heard).enumerate().filter(|(_, (row, _))| !row.cut) {
            let warp = self.schedule.warp(row.t);
            let (mut dgamma, mut dslope) = (heard.dgamma, 0.0);
            let loss = self.weight(index) * heard.error;
            if !row.reconstruction {
                dgamma -= loss / self.diffusions();
                dslope = loss / (range * warp.slope) / self.diffusions();
                let d = Warp { value: 2.0 * loss * range * dgamma, slope: 2.0 * loss * range * dslope };
                self.schedule.warp_gradient(row.t, d, &mut out);
            }
            out.gamma_0 += dgamma * (1.0 - warp.value) - dslope * warp.slope;
            out.gamma_1 += dgamma * warp.value + dslope * warp.slope;
        }
        let uncut = self.rows.iter().filter(|row| !row.cut).count() as f64 / self.rows.len() as f64;
        out.gamma_1 += uncut * bound::prior(weights.gamma_1, 1.0, self.plaid.d_embed).1;
        out
    }
}
