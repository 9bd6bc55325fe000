//! What `sample` and `infill` share: options, watching, recording, output.

use super::flags::{not_negative, share};
use super::on::On;
use crate::failure::Usage;
use crate::spelling::{Spelling, language_of};
use crate::ui::canvas::Painter;
use crate::ui::out;
use crate::ui::record::Record;
use galatea_train::{Generator, Order, Sampling};
use serde_json::json;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

/// The rows that are sampled at once.
const BATCH: usize = 16;
const ORDERS: [&str; 10] =
    ["auto", "ancestral", "confidence", "margin", "entropy", "random", "entropy-bound", "threshold", "ddpm", "ddim"];

/// Options of every command that writes text.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// A run's folder, or one of its checkpoints
    #[arg(long, value_name = "DIR")]
    pub(crate) model: PathBuf,
    /// Texts to write
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    count: u32,
    /// Denoising steps; entropy-bound and threshold take as many as they need
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    steps: Option<u32>,
    /// Which positions are decided when
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = ORDERS)]
    sampler: String,
    /// Below 1 for likelier tokens, 0 for the likeliest
    #[arg(long, value_name = "T", value_parser = not_negative, allow_negative_numbers = true)]
    temperature: Option<f64>,
    /// Draw among the likeliest tokens that hold this probability together
    #[arg(long, value_name = "P", value_parser = share, allow_negative_numbers = true)]
    top_p: Option<f64>,
    /// entropy-bound: nats of entropy that a step may decide at once
    #[arg(long, value_name = "NATS", value_parser = not_negative, allow_negative_numbers = true)]
    gamma: Option<f64>,
    /// threshold: the confidence above which a token is decided
    #[arg(long, value_name = "P", value_parser = share, allow_negative_numbers = true)]
    threshold: Option<f64>,
    /// ddim: noise added back, from 0 (none) to 1 (as ddpm)
    #[arg(long, value_name = "ETA", value_parser = not_negative, allow_negative_numbers = true)]
    eta: Option<f64>,
    /// Gaussian models: move every guess to the nearest embedding
    #[arg(long)]
    clamp: bool,
    /// Makes the texts repeatable; chosen and told if not given
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,
    /// Watch the text being carved, with milliseconds between steps
    #[arg(long, value_name = "MS", num_args = 0..=1, require_equals = true, default_missing_value = "60")]
    visual: Option<u64>,
    /// Write every step to a file, a JSON object a line
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    #[command(flatten)]
    on: On,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

impl Options {
    fn sampling(&self) -> anyhow::Result<Sampling> {
        let order: Order =
            self.sampler.parse().map_err(|error: String| Usage::new(error, "`auto` fits every model"))?;
        let seed = self.seed.unwrap_or_else(fresh_seed);
        let mut sampling = Sampling { order, seed, clamp: self.clamp, ..Sampling::default() };
        if let Some(steps) = self.steps {
            sampling.steps = steps as usize;
        }
        for (given, field) in [
            (self.temperature, &mut sampling.temperature),
            (self.top_p, &mut sampling.top_p),
            (self.gamma, &mut sampling.gamma),
            (self.threshold, &mut sampling.threshold),
            (self.eta, &mut sampling.eta),
        ] {
            *field = given.unwrap_or(*field);
        }
        Ok(sampling)
    }
}

/// A seed that nobody has to choose, short enough to type.
fn fresh_seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    (since.as_nanos() % 1_000_000) as u64
}

/// Writes texts with the tokens that `fixed` gives.
///
/// # Errors
/// If the model cannot be loaded or what is asked does not fit it.
pub(crate) fn generate(
    options: &Options,
    fixed: impl FnOnce(&Generator) -> anyhow::Result<Vec<Option<u32>>>,
) -> anyhow::Result<()> {
    let sampling = options.sampling()?;
    let count = options.count as usize;
    let mut generator = Generator::load_on(&options.on.open(options.json)?, &options.model, count.min(BATCH))?;
    let fixed = fixed(&generator)?;
    let mut painter = Painter::new(options.visual.is_some(), Duration::from_millis(options.visual.unwrap_or(0)));
    let mut record =
        options.record.as_deref().map(|path| Record::create(path, &options.model, &sampling)).transpose()?;
    let spelling = Spelling::of(&generator);
    let (mut rows, mut passes, mut seconds) = (Vec::new(), 0, 0.0);
    while rows.len() < count {
        // Text k is the same however many are asked for: its draws depend on the seed and on k.
        let sampling = Sampling { first_sample: rows.len() as u32, ..sampling.clone() };
        let mut failure = None;
        let first = rows.len();
        let outcome = generator.run(&sampling, &fixed, &mut |frame| {
            painter.paint(frame, |id| spelling.token(id));
            match record.as_mut().map(|record| record.frame(first, frame, &spelling)) {
                Some(Err(error)) => {
                    failure = Some(error);
                    ControlFlow::Break(())
                }
                _ => ControlFlow::Continue(()),
            }
        })?;
        if let Some(error) = failure {
            return Err(error);
        }
        painter.leave();
        rows.extend(outcome.ids);
        passes += outcome.passes;
        seconds += outcome.seconds;
    }
    rows.truncate(count);
    let texts: Vec<String> = rows.iter().map(|row| spelling.text(generator.vocabulary(), row)).collect();
    if let Some(record) = record {
        record.finish()?;
    }
    let grammatical =
        language_of(generator.vocabulary()).map(|l| rows.iter().filter(|row| l.is_grammatical(row)).count());
    report(options, &sampling, &texts, grammatical, (passes, seconds))
}

fn report(
    options: &Options,
    sampling: &Sampling,
    texts: &[String],
    grammatical: Option<usize>,
    (passes, seconds): (usize, f64),
) -> anyhow::Result<()> {
    if options.json {
        return out::json(&json!({
            "model": options.model, "texts": texts, "grammatical": grammatical, "sampler": sampling.order.to_string(),
            "steps": options.steps, "seed": sampling.seed, "passes": passes, "seconds": seconds,
        }));
    }
    let ruled = texts.len() > 1 && texts.iter().any(|text| text.contains('\n'));
    for (k, text) in texts.iter().enumerate() {
        if ruled && k > 0 {
            out::line("----")?;
        }
        out::line(text)?;
    }
    let kept =
        grammatical.map_or(String::new(), |n| format!(", {n} of {} keep every rule of the language", texts.len()));
    let (order, seed) = (&sampling.order, sampling.seed);
    out::note(format_args!(
        "{passes} passes in {}{kept}; sampler {order}, --seed {seed} writes this again",
        out::duration(seconds)
    ));
    Ok(())
}
