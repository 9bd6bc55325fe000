//! A training run: steps, measurements, checkpoints.

use crate::config::Config;
use crate::corpus::{Corpus, Vocabulary};
use crate::evaluate::{Evaluation, Measure};
use crate::objective::{Batch, Block, Objective, ObjectiveConfig, Purpose, T_MIN};
use crate::relaxed::{Bound, ByLevel, Relaxed};
use crate::{Error, Generator, checkpoint};
use galatea_autograd::{Part, Plan, Session, Var};
use galatea_kernels::Device;
use galatea_processes::blocks::search;
use galatea_processes::{Bounds, Times};
use galatea_random::Philox;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Streams of the host's own draws (recorded ops begin far above).
pub(crate) mod stream {
    pub(crate) const TIME: u32 = 1;
    pub(crate) const EVALUATE: u32 = 2;
    pub(crate) const CORRUPT: u32 = 3;
}

/// What one optimizer step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Its number, from 1.
    pub step: u32,
    /// The objective: an unbiased estimate of nats per token for the categorical processes, noisy; Diffusion-LM's loss for the
    /// Gaussian one.
    pub loss: f64,
    /// Norm of the gradient before the clip.
    pub norm: f64,
    /// Learning rate of AdamW.
    pub lr: f64,
    /// Seconds of training so far, earlier sessions included.
    pub seconds: f64,
    /// The fraction of the run that is done.
    pub progress: f64,
}

/// A training run.
pub struct Run {
    device: Device,
    config: Config,
    corpus: Corpus,
    objective: Objective,
    session: Session<Device>,
    losses: Losses,
    norm: Var,
    hyper: Var,
    measure: Option<Measure>,
    bound: Option<Bound>,
    step: u32,
    /// Seconds of earlier steps.
    seconds: f64,
    x_0: Vec<u32>,
    prompts: Vec<usize>,
    times: Vec<f64>,
}

impl Run {
    /// Reads the data, builds the tokenizer, records the step and draws the parameters, on the CPU.
    ///
    /// # Errors
    /// If the configuration fits no run, the data cannot be read, or memory is short.
    pub fn start(config: Config) -> Result<Self, Error> {
        Self::start_on(Device::cpu(), config)
    }

    /// As [`Run::start`], on a device.
    ///
    /// # Errors
    /// As [`Run::start`].
    pub fn start_on(device: Device, config: Config) -> Result<Self, Error> {
        config.validate()?;
        let Some(dir) = config.training.init.clone() else {
            let corpus = Corpus::open(&config)?;
            let mut run = Self::record(device, config, corpus)?;
            run.session.init(run.config.training.seed)?;
            return Ok(run);
        };
        // Another run's parameters with its words, for new data or a new loss.
        let saved = checkpoint::Saved::open(&dir)?;
        if config.data.source == "language" && config.data.level != saved.config.data.level {
            let expected = format!("the level that {} was trained on, {}", dir.display(), saved.config.data.level);
            return Err(Error::Config { field: "data.level", expected, found: config.data.level.to_string() });
        }
        let corpus = Corpus::open_with(&config, saved.tokenizer()?)?;
        saved.check_vocabulary(corpus.vocabulary())?;
        let mut run = Self::record(device, config, corpus)?;
        run.session.init(run.config.training.seed)?;
        saved.load_average(&mut run.session)?;
        copy_part(&mut run.session, Part::Value, Part::Ema)?;
        Ok(run)
    }

    /// Continues from a checkpoint (or the newest one of a run's folder) exactly where it was: the next step is bit for bit
    /// the one that would have followed.
    ///
    /// # Errors
    /// If there is no checkpoint, it is damaged, or the data or the tokenizer are not the ones it was trained with.
    pub fn resume(dir: &Path) -> Result<Self, Error> {
        let saved = checkpoint::Saved::open(dir)?;
        Self::resume_on(Device::cpu(), saved.config.clone(), dir)
    }

    /// As [`Run::resume`] on a device and with another configuration, say with more steps; the model must be the same.
    ///
    /// # Errors
    /// As [`Run::resume`].
    pub fn resume_on(device: Device, config: Config, dir: &Path) -> Result<Self, Error> {
        config.validate()?;
        let saved = checkpoint::Saved::open(dir)?;
        let corpus = Corpus::open_with(&config, saved.tokenizer()?)?;
        saved.check_vocabulary(corpus.vocabulary())?;
        let mut run = Self::record(device, config, corpus)?;
        saved.load(&mut run.session)?;
        if let Losses::Relaxed(relaxed) = &mut run.losses {
            saved.schedule(|learned| relaxed.restore(learned))?;
        }
        (run.step, run.seconds) = (saved.state.step, saved.state.seconds);
        if let (Some([low, high]), Some(_)) = (saved.state.bounds, run.objective.searched()) {
            run.objective.set_bounds(Bounds::new(low, high)?);
        }
        Ok(run)
    }

    fn record(device: Device, config: Config, corpus: Corpus) -> Result<Self, Error> {
        let objective = Objective::new(&config, corpus.vocab(), corpus.len())?;
        let (batch, micro) = (config.training.batch, config.training.accumulation);
        let (plan, losses, norm) = record(&config, &objective)?;
        let session = Session::new(device.clone(), plan)?;
        let hyper = session.plan().input("hyper").expect("recorded by update");
        let (rows, len) = (batch * micro, corpus.len());
        let (x_0, prompts, times) = (vec![0; rows * len], vec![0; rows], vec![0.0; rows * objective.times()]);
        Ok(Self {
            device,
            config,
            corpus,
            objective,
            session,
            losses,
            norm,
            hyper,
            measure: None,
            bound: None,
            step: 0,
            seconds: 0.0,
            x_0,
            prompts,
            times,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The data.
    pub fn corpus(&self) -> &Corpus {
        &self.corpus
    }

    /// Steps done.
    pub fn step_number(&self) -> u32 {
        self.step
    }

    /// Seconds of training so far.
    pub fn seconds(&self) -> f64 {
        self.seconds
    }

    /// The fraction of the run that is done, by steps or by seconds, whichever is more.
    pub fn progress(&self) -> f64 {
        let by_steps = f64::from(self.step) / f64::from(self.config.training.steps);
        let by_seconds = self.config.training.seconds.map_or(0.0, |limit| self.seconds / limit);
        by_steps.max(by_seconds).min(1.0)
    }

    /// Whether the run has reached its steps or its seconds.
    pub fn finished(&self) -> bool {
        self.progress() >= 1.0
    }

    /// Tokens that one step learns from.
    pub fn tokens_per_step(&self) -> usize {
        self.x_0.len()
    }

    /// The recorded step.
    pub fn program(&self) -> &Plan {
        self.session.plan()
    }

    /// The program's totals, a line each.
    pub fn summary(&self) -> String {
        let mut out = String::new();
        self.session.plan().summary().totals(&mut out).expect("writing to a string");
        out
    }

    /// The data in a line.
    pub fn dataset_summary(&self) -> String {
        self.corpus.summary()
    }

    /// One optimizer step.
    ///
    /// # Errors
    /// If the loss or the gradient is not a number: the parameters are then worthless, and the error names the first op that
    /// wrote a NaN.
    pub fn step(&mut self) -> Result<StepReport, Error> {
        let begin = Instant::now();
        self.search()?;
        let seed = self.config.training.seed;
        let (batch, len) = (self.config.training.batch, self.corpus.len());
        self.corpus.fill(seed, self.step, &mut self.x_0, &mut self.prompts);
        match &mut self.losses {
            Losses::Relaxed(relaxed) => relaxed.fill(&mut self.session, &self.x_0, seed, self.step)?,
            Losses::Timed(batches) => {
                Times::Stratified.draw(T_MIN, &mut Philox::new(seed, stream::TIME, self.step, 0), &mut self.times);
                let tokens = self.x_0.len() as f64 / (1.0 - T_MIN);
                let purpose = Purpose::Train { share: 1.0 / batches.len() as f64 };
                let each = batch * self.objective.times();
                for (k, recorded) in batches.iter().enumerate() {
                    let times = &self.times[k * each..(k + 1) * each];
                    let prompts = &self.prompts[k * batch..(k + 1) * batch];
                    let x_0 = &self.x_0[k * batch * len..(k + 1) * batch * len];
                    self.session.write(recorded.x_0, &self.objective.rows(x_0))?;
                    let key = (seed, self.step, k * batch);
                    if let Some((x_t, noisy)) = recorded.x_t.zip(self.objective.corrupt(x_0, times, prompts, key)) {
                        self.session.write(x_t, &noisy)?;
                    }
                    let levels = self.objective.levels(times, prompts, tokens, purpose);
                    for (var, values) in recorded.inputs.zip(levels) {
                        self.session.write(var, &values)?;
                    }
                }
            }
        }
        self.session.set_rng(seed, self.step)?;
        let progress = self.progress();
        let hyper = self.config.optimizer.hyper(self.step + 1, progress);
        self.session.write(self.hyper, &hyper)?;
        self.session.run()?;
        let loss = match &mut self.losses {
            Losses::Relaxed(relaxed) => {
                let factor = self.config.optimizer.factor(self.step + 1, progress);
                relaxed.learn(&self.session, self.step, factor, &hyper)?
            }
            Losses::Timed(batches) => {
                let mut loss = 0.0;
                for inputs in batches.iter() {
                    loss += f64::from(self.session.read::<f32>(inputs.loss)?[0]);
                }
                loss
            }
        };
        let norm = f64::from(self.session.read::<f32>(self.norm)?[0]);
        self.step += 1;
        if !(loss.is_finite() && norm.is_finite()) {
            let fault = self.session.trace()?.map_or_else(|| "an infinity".to_owned(), |fault| fault.to_string());
            return Err(Error::NotANumber { step: self.step, fault });
        }
        self.seconds += begin.elapsed().as_secs_f64();
        let (seconds, progress) = (self.seconds, self.progress());
        let lr = f64::from(hyper[galatea_autograd::Hyper::LR]);
        Ok(StepReport { step: self.step, loss, norm, lr, seconds, progress })
    }

    /// The times within which the blocks of block diffusion are trained now, where they are searched for.
    pub fn bounds(&self) -> Option<Bounds> {
        self.objective.searched()
    }

    /// Where it is time to, takes the bounds of block times under which the losses of held-out rows vary least: a function of the
    /// averaged parameters and the seed.
    fn search(&mut self) -> Result<(), Error> {
        let ObjectiveConfig::Block(Block { search: every @ 1.., .. }) = self.objective.loss else { return Ok(()) };
        if self.step == 0 || !self.step.is_multiple_of(every) {
            return Ok(());
        }
        let mut measure = self.measured()?;
        let found =
            search(Bounds::grid(GRID), |bounds| measure.within(bounds, &self.corpus, self.config.training.seed));
        self.measure = Some(measure);
        if let Some((bounds, _)) = found? {
            self.objective.set_bounds(bounds);
        }
        Ok(())
    }

    /// The measuring program under the averaged parameters.
    fn measured(&mut self) -> Result<Measure, Error> {
        let mut measure = match self.measure.take() {
            Some(measure) => measure,
            None => Measure::new(&self.objective, &self.config, &self.device)?,
        };
        copy(&self.session, Part::Ema, measure.session_mut())?;
        Ok(measure)
    }

    /// The bound on held-out rows under the averaged parameters.
    ///
    /// # Errors
    /// If memory is short.
    pub fn evaluate(&mut self) -> Result<Evaluation, Error> {
        let seed = self.config.training.seed;
        if let Losses::Relaxed(relaxed) = &self.losses {
            let noise = relaxed.average()?;
            let bound = ready(&mut self.bound, relaxed, &self.session, (&self.corpus, &self.config, &self.device))?;
            return bound.run(&noise, &self.corpus, seed);
        }
        let measure = self.measured()?;
        self.measure.insert(measure).run(&self.corpus, seed)
    }

    /// The same bound noise level by noise level, beside what is knowable there; nothing where the noise schedule does not learn or
    /// the data is not the embedded language.
    ///
    /// # Errors
    /// If memory is short.
    pub fn by_level(&mut self) -> Result<Option<ByLevel>, Error> {
        let (Losses::Relaxed(relaxed), Vocabulary::Language(language, _)) = (&self.losses, self.corpus.vocabulary())
        else {
            return Ok(None);
        };
        let noise = relaxed.average()?;
        let bound = ready(&mut self.bound, relaxed, &self.session, (&self.corpus, &self.config, &self.device))?;
        bound.by_level(&noise, (&self.corpus, language), self.config.training.seed).map(Some)
    }

    /// Writes a checkpoint folder inside `dir` and returns its path; the two newest are kept.
    ///
    /// # Errors
    /// If the disk refuses: nothing that was there before is lost.
    pub fn save(&self, dir: &Path) -> Result<PathBuf, Error> {
        let bounds = self.objective.searched().map(|bounds| [bounds.low(), bounds.high()]);
        let state = checkpoint::State::new(self.step, self.seconds, &self.corpus, bounds);
        let schedule = match &self.losses {
            Losses::Relaxed(relaxed) => Some(relaxed.saved()),
            Losses::Timed(_) => None,
        };
        checkpoint::save(dir, &self.config, &state, &self.corpus, &self.session, schedule.as_ref())
    }

    /// A sampler of `batch` rows under the averaged parameters.
    ///
    /// # Errors
    /// If memory is short.
    pub fn generator(&self, batch: usize) -> Result<Generator, Error> {
        let mut generator = Generator::record(&self.config, &self.objective, &self.corpus, batch, &self.device)?;
        copy(&self.session, Part::Ema, generator.session_mut())?;
        if let Losses::Relaxed(relaxed) = &self.losses {
            generator.set_noise(relaxed.average()?);
        }
        Ok(generator)
    }
}

/// Divisions of \[0, 1\] in the grid of block times.
const GRID: usize = 10;

/// The program that measures, recorded if it has not been, with the averaged parameters.
fn ready<'a>(
    bound: &'a mut Option<Bound>,
    relaxed: &Relaxed,
    session: &Session<Device>,
    (corpus, config, device): (&Corpus, &Config, &Device),
) -> Result<&'a mut Bound, Error> {
    let recorded = match bound.take() {
        Some(bound) => bound,
        None => Bound::new(relaxed.plaid(), corpus, config, device)?,
    };
    let bound = bound.insert(recorded);
    copy(session, Part::Ema, bound.session_mut())?;
    Ok(bound)
}

/// What a step's program computes.
enum Losses {
    /// A batch for every micro-batch, at the times of its rows.
    Timed(Vec<Batch>),
    /// Groups whose noise levels follow a schedule that learns.
    Relaxed(Box<Relaxed>),
}

/// The program of one training step of rows of `len` among `vocab` ids, without its memory.
///
/// # Errors
/// If the configuration fits no run.
pub fn step_program(config: &Config, vocab: usize, len: usize) -> Result<Plan, Error> {
    Ok(record(config, &Objective::new(config, vocab, len)?)?.0)
}

/// The program, what it computes, and the norm of its gradient.
fn record(config: &Config, objective: &Objective) -> Result<(Plan, Losses, Var), Error> {
    let (batch, micro) = (config.training.batch, config.training.accumulation);
    let mut rec = config.training.recorder();
    let (losses, mut outputs) = match Relaxed::record(config, &mut rec, objective.vocab, objective.len)? {
        Some((relaxed, outputs)) => (Losses::Relaxed(Box::new(relaxed)), outputs),
        None => {
            let mut batches = Vec::with_capacity(micro);
            for k in 0..micro {
                let purpose = Purpose::Train { share: 1.0 / micro as f64 };
                let one = objective.record(&mut rec, &format!(".{k}"), batch, purpose);
                rec.backward(one.loss);
                batches.push(one);
            }
            let outputs = batches.iter().map(|b| b.loss).collect();
            (Losses::Timed(batches), outputs)
        }
    };
    let norm = rec.update(config.optimizer.update());
    outputs.push(norm);
    Ok((rec.finish_keeping(&outputs, config.training.keep()), losses, norm))
}

/// Copies one part of the parameters to another of the same session.
fn copy_part(session: &mut Session<Device>, from: Part, to: Part) -> Result<(), Error> {
    for index in 0..session.plan().params().len() {
        let values = session.param(index, from)?.expect("every program keeps its parameters");
        session.set_param(index, to, &values)?;
    }
    Ok(())
}

/// Copies one part of the parameters to the values of another session that records the same names.
pub(crate) fn copy(from: &Session<Device>, part: Part, to: &mut Session<Device>) -> Result<(), Error> {
    let names: Vec<String> = to.plan().params().iter().map(|p| p.path.clone()).collect();
    for (index, name) in names.iter().enumerate() {
        let source = from.plan().params().iter().position(|p| p.path == *name);
        let source = source.expect("both programs record the same model");
        let values = from.param(source, part)?.expect("a training program keeps the average");
        to.set_param(index, Part::Value, &values)?;
    }
    Ok(())
}
