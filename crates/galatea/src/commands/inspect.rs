//! `galatea inspect`: what a model is made of.

use super::flags::Flags;
use crate::failure::Usage;
use crate::ui::out;
use crate::{automatic, settings};
use galatea_autograd::{DType, Plan, Recorder};
use galatea_tensor::Region;
use galatea_train::config::ProcessKind;
use galatea_train::{Config, Generator, Objective, Run};
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
        let generator = Generator::load(dir, args.rows as usize)?;
        let (vocab, len) = (generator.vocabulary().len(), generator.len());
        let process = format!("{:?}", config.process.kind).to_lowercase();
        let title = format!("one pass of a {process} model: {vocab} different tokens, {len} a row, {} rows", args.rows);
        return show(args, &pass(&config, vocab, args.rows as usize, len)?, &title);
    }
    let mut settings = args.flags.settings()?;
    automatic::complete(&mut settings)?;
    let run = Run::start(settings.config()?)?;
    show(args, run.program(), &format!("a training step; {}", run.dataset_summary()))
}

/// The program of one call of the network.
fn pass(config: &Config, vocab: usize, batch: usize, len: usize) -> anyhow::Result<Plan> {
    let objective = Objective::new(config, vocab)?;
    let mut rec = Recorder::new();
    let time = rec.input("time", &[batch], DType::F32);
    let out = match objective.kind {
        ProcessKind::Mask | ProcessKind::Uniform => {
            let x_t = rec.input("x_t", &[batch, len], DType::U32);
            objective.model.logits(&mut rec, objective.network_vocab(), x_t, time, None)
        }
        ProcessKind::Gaussian => {
            let encoder = objective.model.embedding_encoder()?;
            let z_t = rec.input("z_t", &[batch, len, encoder.embedding_width()], DType::F32);
            encoder.rounding(&mut rec, vocab);
            encoder.x_0_hat(&mut rec, z_t, time, None)
        }
    };
    Ok(rec.finish(&[out]))
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
