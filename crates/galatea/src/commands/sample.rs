//! `galatea sample`: whole texts from noise.

use super::generate::{Options, generate};
use crate::ui::out;

/// Arguments of `galatea sample`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  galatea sample --model runs/mine --count 5 --seed 7      the same five texts whenever the seed is 7
  galatea sample --model runs/mine --visual=80             watch, 80 milliseconds a step
  galatea sample --model runs/mine --sampler confidence --steps 16
  galatea sample --model runs/mine --record carving.jsonl  every step as a line of JSON

Samplers: auto takes entropy-bound for a mask model, ancestral for a uniform one, ddpm for a Gaussian one. For mask models also \
confidence, margin, entropy and random (a fixed number of tokens a step, in that order) and threshold; for Gaussian ones ddim.")]
pub(crate) struct Args {
    #[command(flatten)]
    options: Options,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    generate(&args.options, |generator| {
        if generator.config().data.prompts() {
            out::note(
                "this model was trained to answer prompts, and here it has none: `galatea infill --prompt TEXT` gives it one",
            );
        }
        Ok(vec![None; generator.len()])
    })
}
