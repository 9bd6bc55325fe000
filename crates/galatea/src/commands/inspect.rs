//! `galatea inspect`: what a model is made of.

use super::flags::Flags;
use crate::failure::Usage;
use crate::ui::out;
use crate::{automatic, plans, settings};
use galatea_autograd::Plan;
use galatea_tensor::Region;
use galatea_train::{Corpus, Generator};
use serde_json::json;
use std::fmt::Write;
use std::path::PathBuf;

/// Arguments of `galatea inspect`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  galatea inspect --model runs/mine                  a pass of the model: parameters, arithmetic, memory
  galatea inspect --config mine.toml --program       every instruction of a training step
  galatea inspect --data names.txt --d-model 256     what a configuration would need, before training it

A program is a list of fused operations at fixed addresses; +N is the offset of an operand in its region.")]
pub(crate) struct Args {
    /// A run's folder, or one of its checkpoints: shows the program that samples
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// List every instruction
    #[arg(long)]
    program: bool,
    /// Rows that are sampled at once, with --model
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1 << 16))]
    rows: u32,
    /// Print one JSON object instead of lines
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    flags: Flags,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if let Some(dir) = &args.model {
        let message = "--model and a configuration exclude each other";
        if args.flags.settings()?.says_anything() {
            return Err(Usage::new(message, "a trained model has its configuration in its checkpoint").into());
        }
        let config = settings::of_checkpoint(dir)?;
        // Loading checks the files, and knows the sizes that the data decided.
        let generator = Generator::load(dir, 1)?;
        let (vocab, len) = (generator.vocabulary().len(), generator.len());
        let process = format!("{:?}", config.process.kind).to_lowercase();
        let title = format!("one pass of a {process} model: {vocab} different tokens, {len} a row, {} rows", args.rows);
        return show(args, &plans::pass(&config, vocab, args.rows as usize, len)?, &title);
    }
    let mut settings = args.flags.settings()?;
    automatic::complete(&mut settings)?;
    let config = settings.config()?;
    let corpus = Corpus::open(&config)?;
    let plan = plans::step(&config, corpus.vocab(), corpus.len())?;
    show(args, &plan, &format!("a training step; {}", corpus.summary()))
}

fn show(args: &Args, plan: &Plan, title: &str) -> anyhow::Result<()> {
    if args.json {
        let region = |region: Region| plan.program().region_bytes()[region.index()];
        let parameters: Vec<_> =
            plan.params().iter().map(|p| json!({"name": p.path, "shape": p.shape.dims()})).collect();
        return out::json(&json!({
            "what": title, "parameters": plan.param_count(), "tensors": parameters,
            "instructions": plan.program().insts().len(), "flops": plan.cost().flops, "bytes_moved": plan.cost().bytes,
            "memory_bytes": plan.bytes(), "parameter_bytes": region(Region::Param), "gradient_bytes": region(Region::Grad),
            "moment_bytes": region(Region::Moment), "activation_bytes": region(Region::Work), "input_bytes": region(Region::Step),
        }));
    }
    let mut text = format!("{title}\n\n");
    if args.program {
        write!(text, "{}", plan.summary())?;
    } else {
        plan.summary().totals(&mut text)?;
    }
    out::line(text.trim_end())
}
