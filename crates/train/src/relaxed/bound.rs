//! The variational bound of a network with unit embeddings on held-out rows.

use super::Noise;
use super::levels::{ByLevel, Judge, Readers, Tally};
use crate::Error;
use crate::config::Config;
use crate::corpus::Corpus;
use crate::evaluate::{EVALUATION, Evaluation, jobs, summarise};
use crate::objective::relaxed::{Group, Passes, Recipe, Terms, record};
use galatea_autograd::{DType, Session};
use galatea_kernels::Device;
use galatea_models::Plaid;
use galatea_models::plaid::Conditions;
use galatea_processes::objectives::bound;
use galatea_text::language::StoryLanguage;
use ndarray::Array2;

/// Rows of a measuring program.
const BATCH: usize = 64;

/// A program that measures, and its memory.
///
/// -log p(row) <= cross-entropy at t = 0 + mean over t of e^-gamma gamma' |x_0 - x_0_hat|² / 2 + prior(gamma(1)): with a schedule
/// whose ends stay inside finite log-SNRs the three terms are complete, and the network may say what it likes.
pub(crate) struct Bound {
    plaid: Plaid,
    session: Session<Device>,
    group: Group,
    len: usize,
    rows: usize,
    times: usize,
}

impl Bound {
    pub(crate) fn new(plaid: &Plaid, corpus: &Corpus, config: &Config, device: &Device) -> Result<Self, Error> {
        let (len, mut rec) = (corpus.len(), config.training.recorder());
        let recipe =
            Recipe { plaid, vocab: corpus.vocab(), rows: BATCH, len, passes: Passes::Two, terms: Terms::CrossEntropy };
        let mut group = record(&mut rec, recipe, "", None);
        // Read as they are, in whatever the network computes.
        [group.z, group.e] = [group.z, group.e].map(|x| rec.cast(x, DType::F32));
        let session = Session::new(device.clone(), rec.finish(&[group.nll, group.error, group.z, group.e]))?;
        let (rows, times) = (config.training.eval_rows, config.training.eval_times);
        Ok(Self { plaid: plaid.clone(), session, group, len, rows, times })
    }

    pub(crate) fn session_mut(&mut self) -> &mut Session<Device> {
        &mut self.session
    }

    /// Measures the first rows of the validation split, each at stratified times.
    pub(crate) fn run(&mut self, noise: &Noise, corpus: &Corpus, seed: u64) -> Result<Evaluation, Error> {
        let rows = corpus.validation(self.rows);
        let (len, times) = (self.len, self.times);
        let count = rows.len() / len;
        let (prior, _) = bound::prior(noise.gamma(1.0), 1.0, self.plaid.d_embed);
        let mut total = vec![prior * len as f64; count];
        let mut number = 0;
        for chunk in jobs(count, times, seed).chunks(BATCH) {
            let sums = self.measure(noise, &rows, chunk, seed, &mut number)?;
            for (&(row, t), (_, error)) in chunk.iter().zip(sums) {
                total[row] += bound::weight_of_gamma(noise.gamma(t), noise.slope(t)) * error / times as f64;
            }
        }
        let starts: Vec<(usize, f64)> = (0..count).map(|row| (row, 0.0)).collect();
        for chunk in starts.chunks(BATCH) {
            let sums = self.measure(noise, &rows, chunk, seed, &mut number)?;
            chunk.iter().zip(sums).for_each(|(&(row, _), (nll, _))| total[row] += nll);
        }
        Ok(summarise(&total, corpus, &rows, times))
    }

    /// The bound part by part, beside readers who know the language.
    ///
    /// # Errors
    /// If memory is short.
    pub(crate) fn by_level(
        &mut self,
        noise: &Noise,
        (corpus, language): (&Corpus, &StoryLanguage),
        seed: u64,
    ) -> Result<ByLevel, Error> {
        let rows = corpus.validation(self.rows);
        let (len, d) = (self.len, self.plaid.d_embed);
        let count = rows.len() / len;
        let starts = (0..count).map(|row| (row, 0.0)).collect();
        let (mut tally, mut number) = (Tally::new(), 0);
        for (jobs, start) in [(jobs(count, self.times, seed), false), (starts, true)] {
            for chunk in jobs.chunks(BATCH) {
                let sums = self.measure(noise, &rows, chunk, seed, &mut number)?;
                let z: Vec<f32> = self.session.read(self.group.z)?;
                let e: Vec<f32> = self.session.read(self.group.e)?;
                let widen =
                    |x: &[f32]| Array2::from_shape_fn((x.len() / d, d), |(row, column)| f64::from(x[row * d + column]));
                let judge = Judge::new(language, widen(&e))?;
                for (i, (&(row, t), (nll, error))) in chunk.iter().zip(sums).enumerate() {
                    let (z, x_0) = (widen(&z[i * len * d..(i + 1) * len * d]), &rows[row * len..(row + 1) * len]);
                    let [alone, exact] = judge.read(&z, noise.gamma(t), x_0)?;
                    if start {
                        tally.reconstruction(Readers { model: nll, alone: alone.0, exact: exact.0 });
                    } else {
                        let weight = bound::weight_of_gamma(noise.gamma(t), noise.slope(t));
                        tally.diffusion(t, weight, Readers { model: error, alone: alone.1, exact: exact.1 });
                    }
                }
            }
        }
        let (prior, _) = bound::prior(noise.gamma(1.0), 1.0, d);
        Ok(tally.means(len, |t| noise.gamma(t), prior * len as f64))
    }

    /// (cross-entropy, squared error) of every (row, time), summed over its tokens.
    fn measure(
        &mut self,
        noise: &Noise,
        rows: &[u32],
        chunk: &[(usize, f64)],
        seed: u64,
        number: &mut u32,
    ) -> Result<Vec<(f64, f64)>, Error> {
        let len = self.len;
        let (mut x_0, mut told) = (vec![0; BATCH * len], Conditions::default());
        for i in 0..BATCH {
            let &(row, t) = chunk.get(i).unwrap_or(&chunk[0]);
            x_0[i * len..(i + 1) * len].copy_from_slice(&rows[row * len..(row + 1) * len]);
            self.plaid.tell(noise.gamma(t), 1.0, &mut told);
        }
        self.session.write(self.group.x_0, &x_0)?;
        let inputs = [
            (self.group.level, told.level),
            (self.group.scales, told.scales),
            (self.group.features, told.features),
            (self.group.ce_weight, vec![1.0; BATCH]),
        ];
        for (var, values) in inputs {
            self.session.write(var, &values)?;
        }
        self.session.set_rng(seed ^ EVALUATION, *number)?;
        *number += 1;
        self.session.run()?;
        let (nll, error): (Vec<f32>, Vec<f32>) =
            (self.session.read(self.group.nll)?, self.session.read(self.group.error)?);
        let sum = |x: &[f32], i: usize| x[i * len..(i + 1) * len].iter().map(|&x| f64::from(x)).sum::<f64>();
        Ok((0..chunk.len()).map(|i| (sum(&nll, i), sum(&error, i))).collect())
    }
}
