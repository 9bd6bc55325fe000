//! The bound on held-out rows.

use crate::Error;
use crate::config::{Config, ProcessKind};
use crate::corpus::Corpus;
use crate::objective::{Batch, Objective, Purpose, T_MIN};
use crate::run::stream;
use galatea_autograd::Session;
use galatea_kernels::Device;
use galatea_processes::{Bounds, Gaussian};
use galatea_random::Philox;
use galatea_schedules::Schedule;

/// What was measured. The bound is an average over drawn times: `standard_error_bits` says how far it may be off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// The bound in nats per token of an answer, which is all of a row without a prompt.
    pub nats_per_token: f64,
    /// The bound in bits per row.
    pub bits_per_document: f64,
    /// One standard error of `bits_per_document`.
    pub standard_error_bits: f64,
    /// The bound in nats per character of text.
    pub nats_per_char: f64,
    /// The bound in bits per character of text.
    pub bits_per_char: f64,
    /// The exact entropy in bits per row, where the source has one; of rows with prompts the mean of -log p(answer | prompt) of
    /// those that were measured.
    pub entropy_bits: Option<f64>,
    /// Rows measured.
    pub rows: usize,
    /// Times drawn for each.
    pub times: usize,
}

/// Integrals over t stop here: below it the canvas is clean but for one token in ten thousand.
const T_FLOOR: f64 = 1e-4;
/// Multiples of it, less their whole parts, tile [0, 1].
const GOLDEN: f64 = 0.618_033_988_749_894_9;
/// Rows of a measuring program.
const BATCH: usize = 64;

/// A program that measures, and its memory.
pub(crate) struct Measure {
    objective: Objective,
    session: Session<Device>,
    inputs: Batch,
    rows: usize,
    times: usize,
}

/// Rows to measure.
struct Rows {
    ids: Vec<u32>,
    prompts: Vec<usize>,
}

impl Measure {
    pub(crate) fn new(objective: &Objective, config: &Config, device: &Device) -> Result<Self, Error> {
        let mut rec = config.training.recorder();
        let inputs = objective.record(&mut rec, "", BATCH, Purpose::Measure);
        let outputs: Vec<_> = [inputs.value].into_iter().chain(inputs.token_weight).collect();
        let session = Session::new(device.clone(), rec.finish(&outputs))?;
        let (rows, times) = (config.training.eval_rows, config.training.eval_times);
        Ok(Self { objective: objective.clone(), session, inputs, rows, times })
    }

    pub(crate) fn session_mut(&mut self) -> &mut Session<Device> {
        &mut self.session
    }

    /// Measures the first rows of the validation split, each at stratified times.
    pub(crate) fn run(&mut self, corpus: &Corpus, seed: u64) -> Result<Evaluation, Error> {
        let rows = Rows { ids: corpus.validation(self.rows), prompts: corpus.validation_prompts(self.rows) };
        let (len, times) = (corpus.len(), self.times);
        let count = rows.prompts.len();
        let jobs = jobs(count, times, seed);
        let range = self.range()?;
        let share = |&prompt: &usize| (len - prompt) as f64 / len as f64;
        let mut bound: Vec<f64> = rows.prompts.iter().map(|prompt| share(prompt) * range.constant).collect();
        for (chunk_index, chunk) in jobs.chunks(BATCH).enumerate() {
            let values = self.measure_chunk(&rows, chunk, chunk_index, &range, seed, Purpose::Measure)?;
            for ((row, _), value) in chunk.iter().zip(values) {
                bound[*row] += value / times as f64;
            }
        }
        if let Some(floor) = range.gaussian_floor {
            self.add_reconstruction(&rows.ids, len, floor, seed, &mut bound)?;
        }
        Ok(summarise(&bound, corpus, &rows.ids, times))
    }

    /// Nats a token of held-out rows as block diffusion trains on them: the times of their blocks drawn within `bounds`, the same
    /// fractions of them and the same masks for any bounds.
    pub(crate) fn within(&mut self, bounds: Bounds, corpus: &Corpus, seed: u64) -> Result<Vec<f64>, Error> {
        let rows = Rows { ids: corpus.validation(self.rows), prompts: corpus.validation_prompts(self.rows) };
        self.objective.set_bounds(bounds);
        let range = Range { from: T_MIN, to: 1.0, constant: 0.0, gaussian_floor: None };
        let jobs = jobs(rows.prompts.len(), self.times, seed);
        let mut losses = Vec::with_capacity(jobs.len());
        for (index, chunk) in jobs.chunks(BATCH).enumerate() {
            let purpose = Purpose::Train { share: 1.0 };
            losses.extend(self.measure_chunk(&rows, chunk, index, &range, seed, purpose)?);
        }
        losses.iter_mut().for_each(|loss| *loss /= corpus.len() as f64);
        Ok(losses)
    }

    /// The integrand of every (row, position in the range) of a chunk, times the range's width: one value a row.
    fn measure_chunk(
        &mut self,
        rows: &Rows,
        chunk: &[(usize, f64)],
        index: usize,
        range: &Range,
        seed: u64,
        purpose: Purpose,
    ) -> Result<Vec<f64>, Error> {
        let len = self.objective.len;
        let (mut x_0, mut prompts) = (vec![0; BATCH * len], [0; BATCH]);
        let each = self.objective.times();
        let mut t = vec![0.5; BATCH * each];
        let mut factor = [0.0; BATCH];
        for (i, (row, u)) in chunk.iter().enumerate() {
            x_0[i * len..(i + 1) * len].copy_from_slice(&rows.ids[row * len..(row + 1) * len]);
            prompts[i] = rows.prompts[*row];
            // The blocks of a row share their strata out among them as rows do.
            for (block, t) in t[i * each..(i + 1) * each].iter_mut().enumerate() {
                (*t, factor[i]) = range.at((u + block as f64 * GOLDEN).fract(), &self.objective);
            }
        }
        self.session.write(self.inputs.x_0, &self.objective.rows(&x_0))?;
        let key = (seed ^ EVALUATION, index as u32, 0);
        if let Some((x_t, noisy)) = self.inputs.x_t.zip(self.objective.corrupt(&x_0, &t, &prompts, key)) {
            self.session.write(x_t, &noisy)?;
        }
        for (var, values) in self.inputs.inputs.zip(self.objective.levels(&t, &prompts, 1.0, purpose)) {
            self.session.write(var, &values)?;
        }
        self.session.set_rng(seed ^ EVALUATION, index as u32)?;
        self.session.run()?;
        let value: Vec<f32> = self.session.read(self.inputs.value)?;
        let weight: Option<Vec<f32>> = self.inputs.token_weight.map(|w| self.session.read(w)).transpose()?;
        let width = self.objective.width();
        let row = |i: usize| -> f64 {
            let tokens = i * width..(i + 1) * width;
            let sum: f64 = match &weight {
                // A weight of zero silences its token, whatever the model says there.
                Some(w) => tokens.filter(|&n| w[n] != 0.0).map(|n| f64::from(w[n]) * f64::from(value[n])).sum(),
                None => tokens.map(|n| f64::from(value[n])).sum(),
            };
            factor[i] * sum
        };
        Ok((0..chunk.len()).map(row).collect())
    }

    /// Where the integral runs, and what is added to it.
    fn range(&self) -> Result<Range, Error> {
        let len = self.objective.len as f64;
        if self.objective.kind != ProcessKind::Gaussian {
            let constant = self.objective.constant()? * len;
            return Ok(Range { from: T_FLOOR, to: 1.0, constant, gaussian_floor: None });
        }
        let (vocab, table) = (self.objective.vocab, self.table()?);
        let square = table.iter().map(|x| x * x).sum::<f64>() / vocab as f64;
        // A lone embedding is read without error at SNR |e|^2 = 4 ln V; the floor stands at four times that.
        let floor = (16.0 * (vocab as f64).ln() / square).ln();
        let end = (1e-3 / square).ln();
        let alpha_bar = 1.0 / (1.0 + (-end).exp());
        let d = table.len() / vocab;
        let row: Vec<f64> = vec![(square / d as f64).sqrt(); d];
        let prior = Gaussian.prior_kl(&row, alpha_bar) * len;
        Ok(Range { from: end, to: floor, constant: prior, gaussian_floor: Some(floor) })
    }

    /// The embedding table E [vocab, d] of a Gaussian model.
    fn table(&self) -> Result<Vec<f64>, Error> {
        let name = self.objective.model.embedding_network()?.table();
        let index = self.session.plan().params().iter().position(|p| p.path == name);
        let values = self.session.param(index.expect("a Gaussian model has a table"), galatea_autograd::Part::Value)?;
        Ok(values.expect("every program keeps its parameters").into_iter().map(f64::from).collect())
    }

    /// -log p(w | z) at the floor of the Gaussian integral, p by Bayes' rule over the table with equal priors.
    fn add_reconstruction(
        &self,
        rows: &[u32],
        len: usize,
        floor: f64,
        seed: u64,
        bound: &mut [f64],
    ) -> Result<(), Error> {
        let table = self.table()?;
        let d = table.len() / self.objective.vocab;
        let alpha_bar = 1.0 / (1.0 + (-floor).exp());
        let (signal, sigma) = Gaussian.marginal(alpha_bar);
        let mut log_p = vec![0.0; self.objective.vocab];
        for (row, bound) in bound.iter_mut().enumerate() {
            let mut rng = Philox::new(seed ^ EVALUATION, stream::EVALUATE, 1, row as u32);
            for &x_0 in &rows[row * len..(row + 1) * len] {
                let e = &table[x_0 as usize * d..][..d];
                let z: Vec<f64> = e.iter().map(|e| signal * e + sigma * rng.normal()).collect();
                for (log_p, e) in log_p.iter_mut().zip(table.chunks(d)) {
                    let square: f64 = z.iter().zip(e).map(|(z, e)| (z - signal * e).powi(2)).sum();
                    *log_p = -0.5 * square / (sigma * sigma);
                }
                let max = log_p.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let total = max + log_p.iter().map(|x| (x - max).exp()).sum::<f64>().ln();
                *bound += total - log_p[x_0 as usize];
            }
        }
        Ok(())
    }
}

/// A draw per (row, stratum): (row, time in [0, 1]). Strata of a row tile [0, 1], and their offsets tile it again over the rows.
pub(crate) fn jobs(rows: usize, times: usize, seed: u64) -> Vec<(usize, f64)> {
    let shift = Philox::new(seed, stream::EVALUATE, 0, 0).uniform();
    let job = |i: usize| {
        let offset = ((i / times) as f64 * GOLDEN + shift).fract();
        (i / times, ((i % times) as f64 + offset) / times as f64)
    };
    (0..rows * times).map(job).collect()
}

/// Draws of a measurement differ from those of the training step with the same number.
pub(crate) const EVALUATION: u64 = 0x6576_616c;

/// The interval of the integral: times, or log signal-to-noise ratios for the Gaussian process.
struct Range {
    from: f64,
    to: f64,
    /// The prior term of a row, nats.
    constant: f64,
    /// The log-SNR where the Gaussian integral stops.
    gaussian_floor: Option<f64>,
}

impl Range {
    /// The time at fraction `u` of the range and the factor of the integrand there.
    fn at(&self, u: f64, objective: &Objective) -> (f64, f64) {
        let x = self.from + (self.to - self.from) * u;
        match self.gaussian_floor {
            None => (x, self.to - self.from),
            // 1/2 SNR d(log SNR), the form of the bound that no schedule enters.
            Some(_) => (objective.schedule.time_of(1.0 / (1.0 + (-x).exp())), 0.5 * x.exp() * (self.to - self.from)),
        }
    }
}

/// Means over the rows. Where log p(row) and the entropy are known exactly, the bound less -log p(row) is averaged instead and the
/// entropy added back: the same mean, without the spread of the rows' own surprise.
pub(crate) fn summarise(bound: &[f64], corpus: &Corpus, rows: &[u32], times: usize) -> Evaluation {
    let (n, ln_2) = (bound.len() as f64, std::f64::consts::LN_2);
    let prompts = corpus.validation_prompts(bound.len());
    let surprise = corpus.surprise(rows, &prompts);
    let mean_surprise = surprise.as_ref().map(|surprise| surprise.iter().sum::<f64>() / n / ln_2);
    let entropy_bits = if prompts.iter().all(|&prompt| prompt == 0) { corpus.entropy_bits() } else { mean_surprise };
    let known = surprise.as_ref().zip(entropy_bits);
    let excess: Vec<f64> = match &known {
        Some((surprise, _)) => bound.iter().zip(*surprise).map(|(b, s)| b - s).collect(),
        None => bound.to_vec(),
    };
    let mean = excess.iter().sum::<f64>() / n;
    let variance = excess.iter().map(|b| (b - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    let per_row = mean + known.map_or(0.0, |(_, entropy)| entropy * ln_2);
    let tokens = rows.len() - prompts.iter().sum::<usize>();
    let nats_per_char = per_row * n / corpus.characters(rows, &prompts).max(1) as f64;
    Evaluation {
        nats_per_token: per_row * n / tokens as f64,
        bits_per_document: per_row / ln_2,
        standard_error_bits: (variance / n).sqrt() / ln_2,
        nats_per_char,
        bits_per_char: nats_per_char / ln_2,
        entropy_bits,
        rows: bound.len(),
        times,
    }
}
