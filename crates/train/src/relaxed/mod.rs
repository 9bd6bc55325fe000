//! Training of continuous diffusion with unit embeddings and a schedule that learns: Plaid and CDCD.
//!
//! The program is told everything about noise levels by the host and gives back how the loss depends on it; the schedule's own
//! numbers never enter the program.

mod bound;
mod learned;
mod levels;

pub(crate) use bound::Bound;
pub(crate) use learned::{LearnedNoise, Noise, Which};
pub use levels::{ByLevel, Level, Readers};

use crate::Error;
use crate::config::{Config, ObjectiveConfig};
use crate::objective::relaxed::{Group, Passes, Recipe, Terms, record};
use crate::objective::vlb::{Heard, Told, Vlb};
use crate::objective::{Cdcd, PlaidBound};
use crate::run::stream;
use galatea_autograd::{Hyper, Recorder, Session, Var};
use galatea_kernels::Device;
use galatea_models::plaid::{Condition, Conditions};
use galatea_models::{Model, Plaid};
use galatea_random::Philox;
use galatea_schedules::GammaWeights;
use serde::{Deserialize, Serialize};

/// Which of the two.
#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Plaid(PlaidBound),
    Cdcd(Cdcd),
}

/// The network and the schedule of a configuration, where it is one of these.
pub(crate) fn of(config: &Config) -> Result<Option<(Plaid, LearnedNoise)>, Error> {
    Ok(parts(config)?.map(|(plaid, _, noise)| (plaid, noise)))
}

fn parts(config: &Config) -> Result<Option<(Plaid, Kind, LearnedNoise)>, Error> {
    let Model::Plaid(plaid) = &config.model else { return Ok(None) };
    let seed = config.training.seed;
    Ok(match config.objective()? {
        ObjectiveConfig::Plaid(settings) => {
            let noise = LearnedNoise::gamma(settings.hidden, (settings.gamma_0, settings.gamma_1), seed);
            Some((plaid.clone(), Kind::Plaid(settings), noise))
        }
        ObjectiveConfig::Cdcd(settings) => {
            let noise = LearnedNoise::warp(settings.bins, (settings.t_min, settings.t_max));
            Some((plaid.clone(), Kind::Cdcd(settings), noise))
        }
        _ => None,
    })
}

/// Checks that a Gaussian process has a network that fits its objective.
///
/// # Errors
/// What does not fit, and what would.
pub(crate) fn validate(config: &Config) -> Result<(), Error> {
    let objective = config.objective()?;
    let bad = |field: &'static str, expected: &str, found: String| {
        Err(Error::Config { field, expected: expected.to_owned(), found })
    };
    let (rows, wanted, rate) = match &objective {
        ObjectiveConfig::Plaid(settings) => {
            let PlaidBound { gamma_0, gamma_1, hidden, .. } = *settings;
            if !(gamma_0.is_finite() && gamma_1.is_finite() && gamma_0 < gamma_1) {
                let found = format!("{gamma_0} to {gamma_1}");
                return bad("objective.gamma_0 to gamma_1", "two numbers that rise", found);
            }
            if hidden == 0 || hidden > 1 << 16 {
                return bad("objective.hidden", "a number from 1 to 65536", hidden.to_string());
            }
            (if settings.self_condition { SELF } else { 1 }, Condition::Gamma, settings.schedule_lr)
        }
        ObjectiveConfig::Cdcd(settings) => {
            let Cdcd { t_min, t_max, bins, .. } = *settings;
            if !(t_min > 0.0 && t_min < t_max && t_max.is_finite()) {
                return bad(
                    "objective.t_min to t_max",
                    "two positive numbers that rise",
                    format!("{t_min} to {t_max}"),
                );
            }
            if bins == 0 || bins > 1 << 16 {
                return bad("objective.bins", "a number from 1 to 65536", bins.to_string());
            }
            (if settings.self_condition { 2 } else { 1 }, Condition::Shift, settings.schedule_lr)
        }
        _ => {
            config.model.embedding_network()?;
            return Ok(());
        }
    };
    let Model::Plaid(plaid) = &config.model else {
        let expected = "a network on unit embeddings, [model] kind = \"plaid\"";
        return bad(
            "model.kind",
            &format!("{expected}, for objective.kind = \"{}\"", objective.name()),
            "another".into(),
        );
    };
    if plaid.condition != wanted {
        let expected = if wanted == Condition::Gamma { "\"gamma\"" } else { "\"shift\"" };
        return bad("model.condition", expected, format!("{:?}", plaid.condition));
    }
    let batch = config.training.batch;
    if !batch.is_multiple_of(rows) || batch < 2 {
        let expected = format!("a multiple of {}, so that its share is denoised twice", rows.max(2));
        return bad("training.batch", &expected, batch.to_string());
    }
    if !(rate >= 0.0 && rate.is_finite()) {
        return bad("objective.schedule_lr", "not negative", rate.to_string());
    }
    Ok(())
}

/// A recorded group of a micro-batch.
struct Part {
    group: Group,
    /// Gradients of what it is told, where the loss depends on it.
    slopes: Option<[Var; 3]>,
    /// Whether its texts are denoised twice.
    twice: bool,
    /// Which rows of the step it holds in this step.
    rows: Vec<usize>,
}

/// What a run holds beside its program.
pub(crate) struct Relaxed {
    kind: Kind,
    plaid: Plaid,
    noise: LearnedNoise,
    balance: Balance,
    /// The groups of each micro-batch of `batch` rows.
    parts: Vec<Vec<Part>>,
    batch: usize,
    len: usize,
    /// The rows of the step, in order.
    told: Vec<Told>,
}

impl Relaxed {
    /// Records the losses of a step, backward passes included, if the configuration is of this kind; and what the host reads.
    pub(crate) fn record(
        config: &Config,
        rec: &mut Recorder,
        vocab: usize,
        len: usize,
    ) -> Result<Option<(Self, Vec<Var>)>, Error> {
        let Some((plaid, kind, noise)) = parts(config)? else { return Ok(None) };
        let (batch, micro) = (config.training.batch, config.training.accumulation);
        let groups: Vec<(Passes, usize)> = match &kind {
            Kind::Plaid(PlaidBound { self_condition: true, .. }) => {
                vec![(Passes::One, batch - batch / SELF), (Passes::TwoCut, batch / SELF)]
            }
            Kind::Cdcd(Cdcd { self_condition: true, .. }) => {
                vec![(Passes::One, batch - batch / 2), (Passes::Two, batch / 2)]
            }
            Kind::Plaid(_) | Kind::Cdcd(_) => vec![(Passes::One, batch)],
        };
        let terms = if matches!(kind, Kind::Plaid(_)) { Terms::Bound } else { Terms::CrossEntropy };
        let (mut parts, mut outputs) = (Vec::with_capacity(micro), Vec::new());
        for k in 0..micro {
            let mut recorded = Vec::with_capacity(groups.len());
            for &(passes, rows) in groups.iter().filter(|(_, rows)| *rows > 0) {
                let recipe = Recipe { plaid: &plaid, vocab, rows, len, passes, terms };
                let group = record(rec, recipe, &format!(".{k}.{}", recorded.len()), None);
                rec.backward(group.loss);
                let [level, scales, features] = group.told().map(|input| rec.gradient(input));
                let slopes =
                    level.zip(scales).zip(features).map(|((level, scales), features)| [level, scales, features]);
                outputs.extend([group.nll, group.error]);
                outputs.extend(slopes.into_iter().flatten());
                recorded.push(Part { group, slopes, twice: passes != Passes::One, rows: Vec::new() });
            }
            parts.push(recorded);
        }
        let told = Vec::with_capacity(batch * micro);
        Ok(Some((Self { kind, plaid, noise, balance: Balance::default(), parts, batch, len, told }, outputs)))
    }

    /// Draws the times of step number `step` (from 0) and writes everything that the program reads but the random key.
    pub(crate) fn fill(
        &mut self,
        session: &mut Session<Device>,
        x_0: &[u32],
        seed: u64,
        step: u32,
    ) -> Result<(), Error> {
        let mut rng = Philox::new(seed, stream::TIME, step, 0);
        let (shift, rows) = (rng.uniform(), self.batch * self.parts.len());
        let noise = self.noise.noise(Which::Now)?;
        // Spread over the times: the rows that are denoised twice.
        let offset = rng.below(SELF);
        self.told.clear();
        for row in 0..rows {
            let twice = match &self.kind {
                Kind::Plaid(settings) => settings.self_condition && (row + offset).is_multiple_of(SELF),
                Kind::Cdcd(settings) => settings.self_condition && row % 2 == 1,
            };
            self.told.push(Told { t: 0.0, reconstruction: false, cut: twice });
        }
        let reconstructions = match &self.kind {
            Kind::Plaid(_) => self.balance.reconstructions(rows),
            Kind::Cdcd(_) => 0,
        };
        for (row, told) in self.told.iter_mut().enumerate() {
            match row.checked_sub(reconstructions) {
                None => told.reconstruction = true,
                Some(i) => told.t = (i as f64 + shift) / (rows - reconstructions) as f64,
            }
        }
        let (batch, len) = (self.batch, self.len);
        for (k, parts) in self.parts.iter_mut().enumerate() {
            for part in parts.iter_mut() {
                part.rows.clear();
                let mine = |&row: &usize| self.told[row].cut == part.twice;
                part.rows.extend((k * batch..(k + 1) * batch).filter(mine));
            }
        }
        let prior = self.prior_scale(step);
        for part in self.parts.iter().flatten() {
            let (mut conditions, mut ids) = (Conditions::default(), Vec::with_capacity(part.rows.len() * len));
            let (mut ce, mut error) = (Vec::new(), Vec::new());
            for &row in &part.rows {
                ids.extend_from_slice(&x_0[row * len..(row + 1) * len]);
                match &noise {
                    Noise::Gamma(schedule) => {
                        let vlb = Vlb::new(schedule, &self.plaid, prior, &self.told);
                        vlb.tell(row, &mut conditions);
                        let [of_ce, of_error] = vlb.weights(row, len);
                        ce.push(of_ce);
                        error.push(of_error);
                    }
                    Noise::Warp(_) => {
                        self.plaid.tell(noise.gamma(self.told[row].t), prior, &mut conditions);
                        ce.push((1.0 / (rows * len) as f64) as f32);
                    }
                }
            }
            let Conditions { level, scales, features } = conditions;
            session.write(part.group.x_0, &ids)?;
            let inputs = [
                (part.group.level, level),
                (part.group.scales, scales),
                (part.group.features, features),
                (part.group.ce_weight, ce),
            ];
            for (var, values) in inputs.into_iter().chain(part.group.error_weight.map(|var| (var, error))) {
                session.write(var, &values)?;
            }
        }
        Ok(())
    }

    /// What the output prior is multiplied by at `step`.
    fn prior_scale(&self, step: u32) -> f64 {
        match &self.kind {
            Kind::Plaid(settings) => (f64::from(step) / f64::from(settings.prior_warmup.max(1))).min(1.0),
            Kind::Cdcd(_) => 1.0,
        }
    }

    /// Reads what a run of the program says, moves the schedule, and returns the loss in nats per token. `step` counts from 0.
    pub(crate) fn learn(
        &mut self,
        session: &Session<Device>,
        step: u32,
        factor: f64,
        hyper: &[f32; Hyper::LEN],
    ) -> Result<f64, Error> {
        let (rows, len) = (self.told.len(), self.len);
        let noise = self.noise.noise(Which::Now)?;
        let mut heard = vec![Heard::default(); rows];
        let prior = self.prior_scale(step);
        for part in self.parts.iter().flatten() {
            let (nll, error): (Vec<f32>, Vec<f32>) = (session.read(part.group.nll)?, session.read(part.group.error)?);
            let slopes = part.slopes.map(|slopes| -> Result<Vec<Vec<f32>>, Error> {
                slopes.into_iter().map(|slope| Ok(session.read(slope)?)).collect()
            });
            let slopes = slopes.transpose()?;
            for (i, &row) in part.rows.iter().enumerate() {
                let mean =
                    |x: &[f32]| x[i * len..(i + 1) * len].iter().map(|&x| f64::from(x)).sum::<f64>() / len as f64;
                let mut one = Heard { nll: mean(&nll), error: mean(&error), dgamma: 0.0 };
                if let (Some(slopes), Noise::Gamma(schedule)) = (&slopes, &noise) {
                    let part = |slope: usize, width: usize| &slopes[slope][i * width..(i + 1) * width];
                    let parts = [part(0, 2), part(1, 2), part(2, self.plaid.features())];
                    one.dgamma = Vlb::new(schedule, &self.plaid, prior, &self.told).heard(row, parts);
                }
                heard[row] = one;
            }
        }
        let decay = f64::from(hyper[Hyper::EMA_DECAY]);
        let (gradient, lr, loss) = match (&noise, &self.kind) {
            (Noise::Gamma(schedule), Kind::Plaid(settings)) => {
                let vlb = Vlb::new(schedule, &self.plaid, prior, &self.told);
                let losses = vlb.losses(&heard);
                let diffusion: Vec<f64> = self
                    .told
                    .iter()
                    .zip(&losses.diffusion)
                    .filter(|(told, _)| !told.reconstruction)
                    .map(|(_, &d)| d)
                    .collect();
                self.balance.learn(&losses.reconstruction, &diffusion);
                let GammaWeights { w_1, b_1, w_2, gamma_0, gamma_1 } = vlb.gradient(&heard);
                (vec![w_1, b_1, w_2, vec![gamma_0], vec![gamma_1]], settings.schedule_lr, losses.total)
            }
            (Noise::Warp(warped), Kind::Cdcd(settings)) => {
                let levels: Vec<f64> = self.told.iter().map(|told| warped.level(told.t).0).collect();
                let nll: Vec<f64> = heard.iter().map(|heard| heard.nll).collect();
                let (_, gradient) = warped.fit(&levels, &nll);
                let loss = nll.iter().sum::<f64>() / nll.len() as f64;
                (vec![gradient.l_t, gradient.l_u], settings.schedule_lr, loss)
            }
            (Noise::Gamma(_), Kind::Cdcd(_)) | (Noise::Warp(_), Kind::Plaid(_)) => {
                unreachable!("each objective has its schedule")
            }
        };
        if loss.is_finite() {
            self.noise.step(&gradient, lr * factor, step + 1, decay);
        }
        Ok(loss)
    }

    /// The network.
    pub(crate) fn plaid(&self) -> &Plaid {
        &self.plaid
    }

    /// The schedule that evaluates and samples.
    pub(crate) fn average(&self) -> Result<Noise, Error> {
        self.noise.noise(Which::Average)
    }

    /// What a checkpoint keeps beside the program's tensors.
    pub(crate) fn saved(&self) -> Learned {
        Learned { noise: self.noise.clone(), balance: self.balance.clone() }
    }

    /// Restores it.
    ///
    /// # Errors
    /// What does not fit, in words.
    pub(crate) fn restore(&mut self, learned: Learned) -> Result<(), String> {
        self.balance = Balance(learned.balance.0.map(learned::rounded));
        self.noise.take(learned.noise)
    }
}

/// What a checkpoint keeps of a schedule that learns.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Learned {
    pub(crate) noise: LearnedNoise,
    balance: Balance,
}

/// One row in so many is denoised twice in Plaid's training.
const SELF: usize = 4;

/// How a step's rows are shared between reconstruction and diffusion: in proportion to the standard deviations of their losses, so
/// that the sum of both varies least. (weight, mean and mean square of the first, of the second), all averages.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Balance([f64; 5]);

impl Balance {
    const DECAY: f64 = 0.997;

    fn reconstructions(&self, rows: usize) -> usize {
        let [weight, mean_r, square_r, mean_d, square_d] = self.0;
        if weight == 0.0 {
            return 1;
        }
        let deviation = |mean: f64, square: f64| (square / weight - (mean / weight).powi(2)).max(0.0).sqrt();
        let (r, d) = (deviation(mean_r, square_r), deviation(mean_d, square_d));
        ((rows as f64 * r / (r + d + 1e-8)).round() as usize).clamp(1, rows - 1)
    }

    fn learn(&mut self, reconstruction: &[f64], diffusion: &[f64]) {
        let mean = |x: &[f64], power: i32| x.iter().map(|x| x.powi(power)).sum::<f64>() / x.len() as f64;
        let now = [1.0, mean(reconstruction, 1), mean(reconstruction, 2), mean(diffusion, 1), mean(diffusion, 2)];
        for (average, now) in self.0.iter_mut().zip(now) {
            // As a file gives it back.
            *average = learned::rounded(Self::DECAY * *average + (1.0 - Self::DECAY) * now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_noisier_loss_gets_more_rows() {
        let mut balance = Balance::default();
        assert_eq!(balance.reconstructions(32), 1);
        for _ in 0..50 {
            balance.learn(&[0.0, 6.0], &[1.0, 3.0]);
        }
        // Standard deviations 3 and 1.
        assert_eq!(balance.reconstructions(32), 24);
        for _ in 0..5000 {
            balance.learn(&[1.0, 1.0], &[1.0, 3.0]);
        }
        assert_eq!(balance.reconstructions(32), 1);
        assert_eq!(balance.reconstructions(2), 1);
    }
}
