//! `galatea eval`: how many bits a text costs under a model, and what its own texts are worth.

mod levels;
mod written;

use super::on::On;
use crate::failure::Usage;
use crate::settings::{self, Settings, path_value};
use crate::ui::out;
use galatea_train::config::LayoutChoice;
use galatea_train::{Evaluation, Run};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Arguments of `galatea eval`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  galatea eval --model runs/mine                        the held-out part of its own text
  galatea eval --model runs/mine --data other.txt       the held-out part of another text
  galatea eval --model runs/mine --rows 4096 --times 16 --json
  galatea eval --model runs/mine --samples 200                 its own texts: entropy, repetition, grammar
  galatea eval --model runs/mine --likelihood --rows 64        -log p of held-out rows by masking parts of them
  galatea eval --model runs/plaid --levels                     where the bits of a bound lie, beside what can be known there

What is measured is an upper bound on -log p (the NELBO), under the averaged parameters: an average over drawn times, so it \
comes with a standard error. Bits per character do not depend on the tokenizer and can be compared across models.")]
pub(crate) struct Args {
    /// A run's folder, or one of its checkpoints
    #[arg(long, value_name = "DIR")]
    model: PathBuf,
    /// Another text than the one it was trained on
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Held-out rows to measure [default: as in training]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    rows: Option<u32>,
    /// Times drawn for every row [default: as in training]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1 << 24))]
    times: Option<u32>,
    /// Measure this many texts that the model writes, instead of held-out rows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000), conflicts_with_all = ["data", "rows", "times", "likelihood", "levels"])]
    samples: Option<u32>,
    /// Measure -log p of held-out rows by masking random parts of them (masked models)
    #[arg(long)]
    likelihood: bool,
    /// The bound noise level by noise level, beside who reads every word alone and who knows the language (Plaid and CDCD on the
    /// embedded language)
    #[arg(long, conflicts_with_all = ["data", "likelihood"])]
    levels: bool,
    /// Seed of the texts and of what is masked
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
    #[command(flatten)]
    on: On,
    /// Print one JSON object instead of lines
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if let Some(samples) = args.samples {
        return written::samples(&args.on.open(args.json)?, &args.model, samples as usize, args.seed, args.json);
    }
    let trained = settings::of_checkpoint(&args.model)?;
    let mut settings = Settings::of(&trained);
    if let Some(path) = &args.data {
        let language = |source: &str| source == "language";
        if language(&trained.data.source) != path.to_str().is_some_and(language) {
            let message = format!("the model speaks `{}`, and --data is {}", trained.data.source, path.display());
            return Err(Usage::new(message, "a model of the embedded language has no tokens for another text").into());
        }
        settings.set("data.source", path_value(path)?);
    }
    settings.set_some("training.eval_rows", args.rows.map(i64::from));
    settings.set_some("training.eval_times", args.times.map(i64::from));
    let config = settings.config()?;
    let layout = config.data.layout;
    let mut run = Run::resume_on(args.on.open(args.json)?, config, &args.model)?;
    if args.likelihood {
        let rows = run.config().training.eval_rows;
        return written::likelihood(&run, &args.model, (rows, args.times.unwrap_or(8) as usize), args.seed, args.json);
    }
    if args.levels {
        return levels::print(&mut run, &args.model, args.json);
    }
    let e = run.evaluate()?;
    if args.json {
        return out::json(&figures(&e, json!({"model": args.model, "step": run.step_number()})));
    }
    out::line(run.dataset_summary())?;
    lines(&e, unit(layout, e.entropy_bits.is_some())).iter().try_for_each(out::line)
}

/// What a row is, for people.
pub(crate) fn unit(layout: LayoutChoice, language: bool) -> &'static str {
    match layout {
        _ if language => "story",
        LayoutChoice::Packed => "row",
        LayoutChoice::Padded => "document",
        LayoutChoice::Pairs => "answer",
    }
}

/// The figures of an evaluation, added to the object `to`.
pub(crate) fn figures(e: &Evaluation, mut to: Value) -> Value {
    to["nats_per_token"] = e.nats_per_token.into();
    to["nats_per_character"] = e.nats_per_char.into();
    to["bits_per_character"] = e.bits_per_char.into();
    to["nelbo_bits_per_document"] = e.bits_per_document.into();
    to["standard_error_bits"] = e.standard_error_bits.into();
    to["entropy_bits_per_document"] = e.entropy_bits.into();
    to["rows"] = e.rows.into();
    to["times"] = e.times.into();
    to
}

/// The figures of an evaluation for people.
pub(crate) fn lines(e: &Evaluation, unit: &str) -> Vec<String> {
    let mut lines = vec![
        format!("nats/token      {:.4}", e.nats_per_token),
        format!("bits/character  {:.4}", e.bits_per_char),
        format!("{:<15} {:.3} +- {:.3}", format!("bits/{unit}"), e.bits_per_document, e.standard_error_bits),
    ];
    if let Some(entropy) = e.entropy_bits {
        let gap = e.bits_per_document - entropy;
        lines.push(format!("exact entropy   {entropy:.3} bits/{unit}: {gap:+.3} to go"));
    }
    lines.push(format!("measured on     {} {unit}s at {} times each", e.rows, e.times).replace("storys", "stories"));
    lines
}
