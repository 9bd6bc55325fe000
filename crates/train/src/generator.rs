//! A trained model, ready to write.

use crate::checkpoint::Saved;
use crate::config::{Config, ProcessKind};
use crate::corpus::{Corpus, Vocabulary};
use crate::relaxed::{self, Noise, Which};
use crate::{Error, Objective};
use galatea_autograd::{DType, Part, Plan, Session, Var};
use galatea_kernels::Device;
use galatea_kernels::device::DeviceError;
use galatea_models::plaid::Gamma;
use galatea_models::{BlockDenoiser, NetDenoiser, NetEmbeddingDenoiser, NetPlaid};
use galatea_processes::{Categorical, Limit, Variance};
use galatea_samplers::evaluate::{Estimate, LikelihoodOptions, masked_likelihood};
use galatea_samplers::{
    Ancestral, AncestralOptions, Blocks, Canvas, Clamp, Embedding, EmbeddingOptions, Failure, Filter, Fixed, Level,
    Levels, Method, Output, Rule, Sampler, Score, Selection, Steps, TimeDependence, Unmasking, UnmaskingOptions,
};
use galatea_schedules::{Schedule, grid};
use ndarray::{Array2, ArrayView2};
use std::fmt;
use std::ops::ControlFlow;
use std::path::Path;
use std::str::FromStr;
use std::time::Instant;

/// Which positions move, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Entropy bound for masks, ancestral for uniform and hybrid noise, DDPM for Gaussian noise.
    #[default]
    Auto,
    /// The posterior, every position for itself; of a uniform score model, SEDD's analytic step; block by block, positions at
    /// random (first hitting).
    Ancestral,
    /// The likeliest tokens first, as many per pass as the steps ask for.
    Confidence,
    /// The largest lead over the second token first.
    Margin,
    /// The least uncertain positions first.
    Entropy,
    /// Positions at random.
    Random,
    /// As many positions as keep the sum of their entropies within gamma.
    EntropyBound,
    /// Every position whose token is likelier than the threshold.
    Threshold,
    /// The Gaussian posterior.
    Ddpm,
    /// The implicit Gaussian step with `eta`.
    Ddim,
}

const ORDERS: [(Order, &str); 10] = [
    (Order::Auto, "auto"),
    (Order::Ancestral, "ancestral"),
    (Order::Confidence, "confidence"),
    (Order::Margin, "margin"),
    (Order::Entropy, "entropy"),
    (Order::Random, "random"),
    (Order::EntropyBound, "entropy-bound"),
    (Order::Threshold, "threshold"),
    (Order::Ddpm, "ddpm"),
    (Order::Ddim, "ddim"),
];

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, name) = ORDERS.iter().find(|(order, _)| order == self).expect("ORDERS lists every order");
        f.write_str(name)
    }
}

impl FromStr for Order {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let names = || ORDERS.map(|(_, name)| name).join(", ");
        let found = ORDERS.iter().find(|(_, name)| *name == s).map(|(order, _)| *order);
        found.ok_or_else(|| format!("no order is called `{s}`: choose one of {}", names()))
    }
}

/// How to write.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Which positions move, and when.
    pub order: Order,
    /// Denoising steps; 0 for the order's own number. Entropy bound and threshold take as many as they need.
    pub steps: usize,
    /// Divides the logits, 0 takes the likeliest token; of a model on unit embeddings, divides the predicted noise.
    pub temperature: f64,
    /// Keeps the likeliest tokens up to this mass; 1 keeps all.
    pub top_p: f64,
    /// The entropy bound, nats a pass.
    pub gamma: f64,
    /// The threshold.
    pub threshold: f64,
    /// The noise of DDIM.
    pub eta: f64,
    /// Whether a Gaussian prediction is moved to the nearest embedding at every step.
    pub clamp: bool,
    /// The seed of every draw.
    pub seed: u64,
    /// The number of the first row under this seed: a row's text depends on its number, not on the batch.
    pub first_sample: u32,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            order: Order::Auto,
            steps: 0,
            temperature: 1.0,
            top_p: 1.0,
            gamma: 0.1,
            threshold: 0.9,
            eta: 0.0,
            clamp: false,
            seed: 1,
            first_sample: 0,
        }
    }
}

/// The canvas after a step.
pub struct Frame<'a> {
    /// Steps taken.
    pub step: usize,
    /// Steps in all; where that is not known, the most there can be.
    pub steps: usize,
    /// Calls of the network.
    pub passes: usize,
    /// The time of the canvas.
    pub t: f64,
    /// Ids \[batch, len\]; the mask is one past the vocabulary.
    pub ids: ArrayView2<'a, u32>,
    /// Which positions are final.
    pub decided: ArrayView2<'a, bool>,
}

/// What was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// One row each.
    pub ids: Vec<Vec<u32>>,
    /// Calls of the network, each for the whole batch.
    pub passes: usize,
    /// Wall-clock seconds.
    pub seconds: f64,
}

/// A trained model, ready to write `batch` rows at once.
pub struct Generator {
    config: Config,
    objective: Objective,
    vocabulary: Vocabulary,
    batch: usize,
    len: usize,
    net: Net,
}

enum Net {
    Tokens(NetDenoiser<Device>),
    /// In blocks of as many positions.
    Blocks(BlockDenoiser<Device>, usize),
    Embeddings(NetEmbeddingDenoiser<Device>),
    /// A network on unit embeddings and the schedule that it was trained with.
    Unit(Box<NetPlaid<Device>>, Noise),
}

/// The program of one call of the network of a configuration on `batch` rows of `len` among `vocab` ids, without its memory.
///
/// # Errors
/// If the configuration fits no run.
pub fn pass_program(config: &Config, vocab: usize, batch: usize, len: usize) -> Result<Plan, Error> {
    let objective = Objective::new(config, vocab, len)?;
    if let Some((plaid, _)) = relaxed::of(config)? {
        return Ok(plaid.pass((batch, len, vocab)));
    }
    if let Some(blocks) = objective.block_model(&objective.model) {
        let mut rec = config.training.recorder();
        let program = blocks.program(&mut rec, objective.network_vocab(), batch, len)?;
        return Ok(rec.finish(&[program.logits]));
    }
    Ok(Pass::record(config, &objective, batch)?.plan)
}

/// A network's program and the tensors at its ends.
struct Pass {
    plan: Plan,
    input: Var,
    time: Var,
    output: Var,
}

impl Pass {
    fn record(config: &Config, objective: &Objective, batch: usize) -> Result<Self, Error> {
        let len = objective.len;
        let mut rec = config.training.recorder();
        let time = rec.input("time", &[batch], DType::F32);
        let model = objective.model.without_dropout();
        let (input, output) = match objective.kind {
            ProcessKind::Mask | ProcessKind::Uniform | ProcessKind::Hybrid | ProcessKind::Dense => {
                let x_t = rec.input("x_t", &[batch, len], DType::U32);
                (x_t, model.logits(&mut rec, objective.network_vocab(), x_t, time, None))
            }
            ProcessKind::Gaussian => {
                let network = model.embedding_network()?;
                let z_t = rec.input("z_t", &[batch, len, network.embedding_width()], DType::F32);
                network.rounding(&mut rec, objective.vocab);
                let x_0_hat = network.x_0_hat(&mut rec, z_t, time, None);
                (z_t, rec.cast(x_0_hat, DType::F32))
            }
        };
        Ok(Self { plan: rec.finish(&[output]), input, time, output })
    }
}

impl Generator {
    /// Loads the averaged parameters of a checkpoint, or of the newest one in a run's folder, to write on the CPU.
    ///
    /// # Errors
    /// If there is none, or it is damaged.
    pub fn load(dir: &Path, batch: usize) -> Result<Self, Error> {
        Self::load_on(&Device::cpu(), dir, batch)
    }

    /// As [`Generator::load`], on a device.
    ///
    /// # Errors
    /// As [`Generator::load`].
    pub fn load_on(device: &Device, dir: &Path, batch: usize) -> Result<Self, Error> {
        let saved = Saved::open(dir)?;
        let vocabulary = saved.tokenizer()?;
        saved.check_vocabulary(&vocabulary)?;
        let len = vocabulary.row_len().unwrap_or(saved.config.data.len);
        let objective = Objective::new(&saved.config, vocabulary.len(), len)?;
        let mut generator = Self::with(saved.config.clone(), objective, vocabulary, batch, device)?;
        saved.load_average(generator.session_mut())?;
        if let Some((_, mut noise)) = relaxed::of(&saved.config)? {
            saved.schedule(|learned| noise.take(learned.noise))?;
            generator.set_noise(noise.noise(Which::Average)?);
        }
        Ok(generator)
    }

    /// A generator for a run in memory; its parameters are yet to be set.
    pub(crate) fn record(
        config: &Config,
        objective: &Objective,
        corpus: &Corpus,
        batch: usize,
        device: &Device,
    ) -> Result<Self, Error> {
        Self::with(config.clone(), objective.clone(), corpus.vocabulary().clone(), batch, device)
    }

    fn with(
        config: Config,
        objective: Objective,
        vocabulary: Vocabulary,
        batch: usize,
        device: &Device,
    ) -> Result<Self, Error> {
        let len = objective.len;
        if let Some((plaid, noise)) = relaxed::of(&config)? {
            let noise = noise.noise(Which::Average)?;
            let net = NetPlaid::new(device.clone(), plaid, (batch, len, objective.vocab), gamma(&noise))?;
            return Ok(Self { config, objective, vocabulary, batch, len, net: Net::Unit(Box::new(net), noise) });
        }
        if let Some(blocks) = objective.block_model(&objective.model) {
            let mut rec = config.training.recorder();
            let program = blocks.program(&mut rec, objective.network_vocab(), batch, len)?;
            let session = Session::new(device.clone(), rec.finish(&[program.logits]))?;
            let net = Net::Blocks(BlockDenoiser::new(session, program, objective.mask()), blocks.block());
            return Ok(Self { config, objective, vocabulary, batch, len, net });
        }
        let Pass { plan, input, time, output } = Pass::record(&config, &objective, batch)?;
        let session = Session::new(device.clone(), plan)?;
        let (model, schedule) = (objective.model.clone(), objective.schedule.clone());
        let time_value = move |t: f64| model.time_value(t, schedule.alpha_bar(t));
        let net = match objective.kind {
            ProcessKind::Mask | ProcessKind::Uniform | ProcessKind::Hybrid | ProcessKind::Dense => {
                Net::Tokens(NetDenoiser::new(session, input, time, output, time_value))
            }
            ProcessKind::Gaussian => {
                Net::Embeddings(NetEmbeddingDenoiser::new(session, input, time, output).with_time(time_value))
            }
        };
        Ok(Self { config, objective, vocabulary, batch, len, net })
    }

    pub(crate) fn session_mut(&mut self) -> &mut Session<Device> {
        match &mut self.net {
            Net::Tokens(net) => net.session_mut(),
            Net::Blocks(net, _) => net.session_mut(),
            Net::Embeddings(net) => net.session_mut(),
            Net::Unit(net, _) => net.session_mut(),
        }
    }

    /// Sets the schedule of a model that learned it.
    pub(crate) fn set_noise(&mut self, learned: Noise) {
        if let Net::Unit(net, noise) = &mut self.net {
            net.set_gamma(gamma(&learned));
            *noise = learned;
        }
    }

    /// The configuration that it was trained with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What ids mean.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// Tokens a row.
    #[expect(clippy::len_without_is_empty, reason = "rows have tokens")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Rows at once.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// The mask id: what an undecided position of a masked canvas holds.
    pub fn mask(&self) -> u32 {
        self.objective.mask()
    }

    /// Writes a batch around the `fixed` tokens (one entry a position, the same for every row); `watch` sees the canvas after
    /// every step and may stop it.
    ///
    /// # Errors
    /// If an option or a fixed token does not fit, or the network fails.
    pub fn run(
        &mut self,
        options: &Sampling,
        fixed: &[Option<u32>],
        watch: &mut dyn FnMut(&Frame<'_>) -> ControlFlow<()>,
    ) -> Result<Outcome, Error> {
        let begin = Instant::now();
        let fixed = self.fixed(fixed)?;
        let canvas = match self.objective.kind {
            ProcessKind::Mask | ProcessKind::Uniform | ProcessKind::Hybrid | ProcessKind::Dense => {
                self.run_tokens(options, fixed, watch)?
            }
            ProcessKind::Gaussian if matches!(self.net, Net::Unit(..)) => self.run_unit(options, fixed, watch)?,
            ProcessKind::Gaussian => self.run_embeddings(options, fixed, watch)?,
        };
        let ids = canvas.ids.outer_iter().map(|row| row.to_vec()).collect();
        Ok(Outcome { ids, passes: canvas.calls, seconds: begin.elapsed().as_secs_f64() })
    }

    /// Estimates -log p of what follows the first `prompt` tokens of a row, in nats, by masking random parts of it, in `calls`
    /// passes of a batch each.
    ///
    /// # Errors
    /// [`Error::Unmasked`] for a model of another process or of blocks, [`Error::Refused`] for a token that it does not know,
    /// or if the network fails.
    ///
    /// # Source
    /// [`masked_likelihood`].
    pub fn likelihood(&mut self, row: &[u32], prompt: usize, calls: usize, seed: u64) -> Result<Estimate, Error> {
        let (ids, batch) = ((self.objective.network_vocab(), self.objective.mask()), self.batch);
        let net = match (&mut self.net, self.objective.kind) {
            (Net::Tokens(net), ProcessKind::Mask) => net,
            (Net::Tokens(_), _) => return Err(Error::Unmasked { found: "one of uniform, hybrid or dense noise" }),
            (Net::Blocks(..), _) => return Err(Error::Unmasked { found: "one of blocks" }),
            (Net::Embeddings(_) | Net::Unit(..), _) => return Err(Error::Unmasked { found: "a Gaussian one" }),
        };
        let positions: Vec<usize> = (prompt..row.len()).collect();
        let options = LikelihoodOptions { seed, calls, batch };
        masked_likelihood(net, ids, row, &positions, &options).map_err(|failure| match failure {
            Failure::Denoiser(error) => Error::Machine(error),
            Failure::Refused(error) => Error::Refused(error),
            other => Error::Sampling(other.to_string()),
        })
    }

    fn fixed(&self, tokens: &[Option<u32>]) -> Result<Fixed, Error> {
        let mut fixed = Fixed::none(self.batch, self.len);
        for (position, token) in tokens.iter().enumerate() {
            for row in 0..self.batch {
                if let Some(token) = *token {
                    fixed.set(row, position, token).map_err(refused)?;
                }
            }
        }
        Ok(fixed)
    }

    fn run_tokens(&mut self, options: &Sampling, fixed: Fixed, watch: Watch<'_>) -> Result<Canvas, Error> {
        let Sampling { seed, first_sample, .. } = *options;
        let masked = self.objective.kind == ProcessKind::Mask;
        let limit = if masked { Limit::Mask(self.objective.mask()) } else { Limit::Uniform };
        let process = Categorical::new(self.objective.network_vocab(), limit)?;
        // At a mask log-ratios are logits of p(x_0); elsewhere they are what they are.
        let scores = self.objective.gives_scores() && !masked;
        if scores && (options.temperature != 1.0 || options.top_p != 1.0) {
            return Err(Error::Scores);
        }
        let filter = Filter { temperature: options.temperature, top_p: options.top_p, ..Filter::default() };
        let free_of_time = !self.objective.model.uses_time();
        let passes = if options.steps == 0 { self.len } else { options.steps };
        let blocks = matches!(self.net, Net::Blocks(..));
        let (selection, score) = match options.order {
            Order::Auto if masked => (Selection::EntropyBound { gamma: options.gamma }, Score::Entropy),
            Order::EntropyBound => (Selection::EntropyBound { gamma: options.gamma }, Score::Entropy),
            Order::Threshold => (Selection::Threshold { least: options.threshold, slack: 0.0 }, Score::Confidence),
            Order::Confidence => (Selection::Quota { passes }, Score::Confidence),
            Order::Margin => (Selection::Quota { passes }, Score::Margin),
            Order::Entropy => (Selection::Quota { passes }, Score::Entropy),
            Order::Random => (Selection::Quota { passes }, Score::Random),
            // First hitting: which position is next does not depend on what it will hold.
            Order::Ancestral if blocks => (Selection::Quota { passes }, Score::Random),
            Order::Auto | Order::Ancestral => {
                let Net::Tokens(net) = &mut self.net else { unreachable!("block diffusion has masks and blocks") };
                let mut steps = if options.steps == 0 { 128 } else { options.steps };
                if let Some(chain) = &self.objective.chain {
                    // A chain has no states between its own.
                    steps = steps.min(chain.steps());
                }
                let (grid, (output, rule)) = (
                    grid::uniform(steps),
                    match scores {
                        true => (Output::Score, Rule::Tweedie),
                        false => (Output::Clean, Rule::Posterior),
                    },
                );
                let time = if free_of_time { TimeDependence::Free } else { TimeDependence::Conditioned };
                let options =
                    AncestralOptions { seed, first_sample, filter, time, output, rule, ..AncestralOptions::default() };
                let sampler = match self.objective.kind {
                    ProcessKind::Hybrid => Ancestral::of(net, self.objective.hybrid(), &grid, fixed, options),
                    ProcessKind::Dense => {
                        let chain =
                            self.objective.chain.as_ref().expect("Objective::new makes the chain of a dense process");
                        let state = |i: usize| (i * chain.steps() + steps / 2) / steps;
                        let kept: Vec<usize> = (1..=steps).map(state).collect();
                        Ancestral::of(net, chain.respace(&kept)?, &grid, fixed, options)
                    }
                    ProcessKind::Mask | ProcessKind::Uniform | ProcessKind::Gaussian => {
                        let levels = Levels::new(&self.objective.schedule, &grid).map_err(refused)?;
                        Ancestral::new(net, process, levels, fixed, options)
                    }
                };
                return drive(sampler.map_err(refused)?, steps, watch);
            }
            Order::Ddpm | Order::Ddim => return Err(misfit(options.order, "a Gaussian process")),
        };
        if !masked {
            return Err(misfit(options.order, "a masked process"));
        }
        let options =
            UnmaskingOptions { seed, first_sample, filter, selection, score, blocks: None, ..Default::default() };
        match &mut self.net {
            Net::Tokens(net) => drive(Unmasking::new(net, process, fixed, options).map_err(refused)?, passes, watch),
            Net::Blocks(net, size) => {
                let options = UnmaskingOptions { blocks: Some(Blocks { first: 0, size: *size }), ..options };
                drive(Unmasking::new(net, process, fixed, options).map_err(refused)?, passes, watch)
            }
            Net::Embeddings(_) | Net::Unit(..) => unreachable!("a categorical process has a network on tokens"),
        }
    }

    fn run_embeddings(&mut self, options: &Sampling, fixed: Fixed, watch: Watch<'_>) -> Result<Canvas, Error> {
        let method = gaussian_method(options)?;
        let steps = if options.steps == 0 { 200 } else { options.steps };
        let levels = Levels::new(&self.objective.schedule, &grid::uniform(steps)).map_err(refused)?;
        let table = self.table()?;
        let clamp = if options.clamp { Clamp::Nearest } else { Clamp::Never };
        let (seed, first_sample) = (options.seed, options.first_sample);
        let options = EmbeddingOptions { seed, first_sample, method, clamp, ..EmbeddingOptions::default() };
        let Net::Embeddings(net) = &mut self.net else {
            unreachable!("a Gaussian process has a network on embeddings")
        };
        let sampler = Embedding::new(net, &table, levels, fixed, options).map_err(refused)?;
        drive(sampler, steps, watch)
    }

    /// Along the learned schedule to its own t = 0, where there is noise left: there the network is asked once more, and its logits
    /// read the tokens.
    fn run_unit(&mut self, options: &Sampling, fixed: Fixed, watch: Watch<'_>) -> Result<Canvas, Error> {
        let method = gaussian_method(options)?;
        let count = if options.steps == 0 { 200 } else { options.steps };
        let Net::Unit(net, noise) = &mut self.net else { unreachable!("asked for a network on unit embeddings") };
        let level = |t: f64| Level { t, alpha_bar: noise.alpha_bar(t) };
        let grid = grid::uniform(count);
        let steps = grid.windows(2).map(|pair| (level(pair[0]), level(pair[1]))).chain([(level(0.0), level(0.0))]);
        let steps = Steps::from_pairs(steps).map_err(refused)?;
        let table = net.embeddings()?;
        let clamp = if options.clamp { Clamp::Nearest } else { Clamp::Never };
        let (seed, first_sample, score_temperature) = (options.seed, options.first_sample, options.temperature);
        let options =
            EmbeddingOptions { seed, first_sample, method, clamp, score_temperature, ..EmbeddingOptions::default() };
        let sampler = Embedding::new(&mut **net, &table, steps, fixed, options).map_err(refused)?;
        drive(sampler, count + 1, watch)
    }

    /// E \[vocab, d\] of a Gaussian model.
    fn table(&mut self) -> Result<Array2<f32>, Error> {
        let vocab = self.objective.vocab;
        let name = self.objective.model.embedding_network()?.table();
        let session = self.session_mut();
        let index = session.plan().params().iter().position(|p| p.path == name);
        let values = session.param(index.expect("a Gaussian model has a table"), Part::Value)?;
        let values = values.expect("every program keeps its parameters");
        let d = values.len() / vocab;
        Ok(Array2::from_shape_vec((vocab, d), values).expect("the table has vocab rows"))
    }
}

fn gaussian_method(options: &Sampling) -> Result<Method, Error> {
    match options.order {
        Order::Auto | Order::Ancestral | Order::Ddpm => Ok(Method::Ddpm(Variance::Small)),
        Order::Ddim => Ok(Method::Ddim { eta: options.eta }),
        Order::Confidence | Order::Margin | Order::Entropy | Order::Random | Order::EntropyBound | Order::Threshold => {
            Err(misfit(options.order, "a masked process"))
        }
    }
}

/// The schedule as a network on unit embeddings is told it.
fn gamma(noise: &Noise) -> Gamma {
    let noise = noise.clone();
    Box::new(move |t| noise.gamma(t))
}

type Watch<'a> = &'a mut dyn FnMut(&Frame<'_>) -> ControlFlow<()>;

/// Steps a sampler to its end, or until the watcher stops it.
fn drive<S>(mut sampler: S, steps: usize, watch: Watch<'_>) -> Result<Canvas, Error>
where
    S: Sampler<DenoiserError = DeviceError>,
{
    let show = |canvas: &Canvas, watch: Watch<'_>| {
        let Canvas { step, t, calls, .. } = *canvas;
        watch(&Frame { step, steps, passes: calls, t, ids: canvas.ids.view(), decided: canvas.decided.view() })
    };
    let mut flow = show(sampler.canvas(), watch);
    while flow.is_continue() {
        let Some(canvas) = sampler.next() else { break };
        let canvas = canvas.map_err(|failure| match failure {
            Failure::Denoiser(error) => Error::Machine(error),
            other => Error::Sampling(other.to_string()),
        })?;
        flow = show(&canvas, watch);
    }
    Ok(sampler.canvas().clone())
}

fn refused(error: galatea_samplers::Error) -> Error {
    Error::Refused(error)
}

fn misfit(order: Order, expected: &'static str) -> Error {
    Error::Order { order: order.to_string(), expected }
}
