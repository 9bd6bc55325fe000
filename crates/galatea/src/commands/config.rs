//! `galatea config`: configuration files.

use super::flags::Flags;
use crate::failure::Usage;
use crate::settings::Settings;
use crate::ui::out;
use galatea_train::Config;
use std::path::PathBuf;

/// Arguments of `galatea config`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  galatea config init mine.toml            a file with every key, its default and its meaning
  galatea config show --config mine.toml --lr 1e-3   what a run would use
  galatea config validate mine.toml        exit code 0 if a run can use it, 2 if not")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Print a configuration with every key, its default and its meaning
    Init {
        /// Write it here instead
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        /// Replace the file if it exists
        #[arg(long)]
        force: bool,
    },
    /// Print the configuration that a file and flags make together
    Show {
        #[command(flatten)]
        flags: Box<Flags>,
        /// Print one JSON object instead of TOML
        #[arg(long)]
        json: bool,
    },
    /// Check a file
    Validate {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    match &args.command {
        Command::Init { file: None, .. } => out::line(commented().trim_end()),
        Command::Init { file: Some(file), force } => {
            if file.exists() && !force {
                return Err(Usage::new(
                    format!("{} exists", file.display()),
                    "replace it with --force, or name another file",
                )
                .into());
            }
            galatea_models::weights::write_atomically(file, commented().as_bytes())?;
            out::line(format_args!("wrote {}", file.display()))
        }
        Command::Show { flags, json } => {
            let config = flags.settings()?.config()?;
            if *json { out::json(&serde_json::to_value(&config)?) } else { out::line(config.to_toml().trim_end()) }
        }
        Command::Validate { file } => {
            Settings::read(file)?.config()?;
            out::line(format_args!("{} is a valid configuration", file.display()))
        }
    }
}

/// What each key means; those that have no default stand here with an example.
const MEANINGS: [(&str, &str); 58] = [
    ("data.source", "\"language\" for the embedded story language, else the path of a .txt or .jsonl file"),
    ("data.level", "the language's level: 1 to 3"),
    (
        "data.layout",
        "\"packed\": documents one after another; \"padded\": one a row; chosen by looking at the text; \"pairs\": a prompt and its answer a row",
    ),
    ("data.len", "tokens a row (the language has its own); chosen by looking at the text"),
    ("data.field", "the field of a .jsonl line that holds the text, or the answer of a pair"),
    ("data.prompt_field", "the field of a .jsonl line that holds the prompt of a pair"),
    ("data.prompt", "tokens at the start of every row that are given and never noised; pairs have their own"),
    ("data.document", "where a document of a .txt file ends: \"line\", \"paragraph\", \"file\""),
    ("data.validation", "fraction of the text that is held out"),
    ("tokenizer.kind", "\"chars\", \"words\", \"bytes\", \"bpe\""),
    ("tokenizer.path", "a tokenizer.json to use instead of building one"),
    ("tokenizer.vocab", "size of the vocabulary, for words and bpe"),
    (
        "model.kind",
        "\"encoder\", \"dit\" (keys: d_model, layers, heads, cond_dim, time_conditioning, told, dropout); on embeddings \"diffusion-lm\" \
         (keys: d_embed, d_model, layers, heads, d_ff, time_features, tied, logits, dropout) and \"plaid\" (keys: d_model, layers, heads, \
         d_embed, condition, width_mult, positions, qk_norm, fastest); or \"llama\" (keys: d_model, \
         layers, heads, kv_heads, d_head, d_ff, rope_theta, norm_eps, qkv_bias, qk_norm, naming, dropout)",
    ),
    ("model.d_model", "width"),
    ("model.layers", "blocks"),
    ("model.heads", "attention heads; d_model is a multiple of twice as many"),
    ("model.d_ff", "width of a block's hidden layer"),
    ("model.norm_place", "\"pre\" or \"post\": where a block normalises"),
    ("model.norm", "\"rms\" or \"layer\""),
    ("model.activation", "\"gelu\", \"silu\" or \"relu\""),
    ("model.bias", "whether linear layers have biases"),
    ("model.positions", "\"learned-rotary\", \"rotary\", \"learned\" or \"none\""),
    ("model.time", "\"none\" or \"given\": whether the model is told the noise level; chosen by the process"),
    ("model.qk_norm", "whether queries and keys are normalised"),
    ("model.qk_gain", "what normalised queries and keys are multiplied by"),
    ("model.dropout", "dropout in training"),
    ("model.d_embed", "width of the embeddings that gaussian noise is added to; 0 for d_model"),
    (
        "process.kind",
        "\"mask\": noise hides a token; \"uniform\": replaces it; \"hybrid\": does either; \"dense\": replaces it by a neighbour, by a matrix a step; \"gaussian\": blurs its embedding",
    ),
    ("process.schedule", "the noise schedule; empty for the process's own"),
    (
        "process.matrices",
        "of a dense process: \"band(N)\" or \"gaussian(N)\", N neighbours on either side; empty: \"gaussian(8)\"",
    ),
    (
        "objective.kind",
        "the loss; mask: \"masked\", \"d3pm\" (steps, lambda), \"sedd\", \"flow\", \"block\" (size, low, high, search); uniform: \"uniform\", \"d3pm\", \"sedd\", \"flow\"; hybrid: \"gidd\" (weighting, most); dense: \"d3pm\"; gaussian: \"diffusion-lm\", \"plaid\" (self_condition, gamma_0, gamma_1, hidden, schedule_lr, prior_warmup), \"cdcd\" (self_condition, t_min, t_max, bins, schedule_lr)",
    ),
    ("objective.steps", "steps of the chain whose bound is trained; 0: continuous time"),
    ("objective.times", "\"uniform\", or \"importance\": times in proportion to their weight, so that all weigh alike"),
    ("training.batch", "rows a micro-batch"),
    ("training.accumulation", "micro-batches a step"),
    ("training.steps", "optimizer steps"),
    ("training.seconds", "seconds of training; the run ends at whichever limit comes first"),
    ("training.dtype", "\"f32\", or \"bf16\": what activations and products are computed in"),
    ("training.checkpointing", "whether blocks are computed twice rather than kept: less memory, more time"),
    ("training.seed", "seed of parameters, order and noise"),
    ("training.eval_every", "steps between validations; 0: only at the end"),
    ("training.sample_every", "steps between sample previews; 0: none"),
    ("training.save_every", "steps between checkpoints; 0: only at the end"),
    ("training.eval_rows", "held-out rows that are measured"),
    ("training.eval_times", "times drawn for each of them"),
    ("training.init", "a run whose parameters and tokenizer this one begins with"),
    ("training.out", "the run's folder"),
    ("optimizer.kind", "\"muon\" (matrices; AdamW for the rest) or \"adamw\""),
    ("optimizer.lr", "learning rate of AdamW"),
    ("optimizer.muon_lr", "learning rate of Muon"),
    ("optimizer.warmup", "steps over which the rate rises"),
    ("optimizer.decay", "how it falls: \"cosine\", \"linear\", \"constant\""),
    ("optimizer.beta_1", "decay of the first moment"),
    ("optimizer.beta_2", "decay of the second moment"),
    ("optimizer.momentum", "Muon's momentum"),
    ("optimizer.weight_decay", "decoupled weight decay"),
    ("optimizer.clip", "largest norm of a gradient; 0: no clip"),
    ("optimizer.ema", "decay of the parameters' moving average"),
];
/// Keys that are better left to be chosen by looking at the text and the noise: they stand behind a comment sign.
const CHOSEN: [&str; 4] = ["data.layout", "data.len", "data.document", "model.time"];
/// Keys without a default, and an example.
const EXAMPLES: [(&str, &str); 3] =
    [("tokenizer.path", "\"tokenizer.json\""), ("training.seconds", "600.0"), ("training.init", "\"runs/before\"")];

fn meaning(key: &str) -> &'static str {
    MEANINGS.iter().find(|(known, _)| *known == key).map_or("", |(_, meaning)| meaning)
}

/// The default configuration, its loss named.
fn defaults() -> Config {
    let config = Config::default();
    Config { objective: Some(config.process.kind.objective()), ..config }
}

/// The default configuration with a comment a key.
fn commented() -> String {
    let mut out =
        "# A galatea run. Every key may be left out; flags of `galatea train` override what stands here.\n".to_owned();
    let mut section = String::new();
    let close = |section: &str, out: &mut String| {
        for (key, example) in EXAMPLES {
            if let Some(name) = key.strip_prefix(section).and_then(|rest| rest.strip_prefix('.')) {
                entry(out, &format!("# {name} = {example}"), meaning(key));
            }
        }
    };
    for line in defaults().to_toml().lines().filter(|line| !line.trim().is_empty()) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            close(&section, &mut out);
            section = name.to_owned();
            out += &format!("\n{line}\n");
        } else {
            let name = line.split(" = ").next().unwrap_or_default();
            let key = format!("{section}.{name}");
            let sign = if CHOSEN.contains(&key.as_str()) { "# " } else { "" };
            entry(&mut out, &format!("{sign}{line}"), meaning(&key));
        }
    }
    close(&section, &mut out);
    out
}

fn entry(out: &mut String, line: &str, meaning: &str) {
    *out += &format!("{line:<28} # {meaning}\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_init_prints_is_the_default() -> anyhow::Result<()> {
        assert_eq!(Config::from_toml(&commented(), "init")?, defaults());
        Ok(())
    }

    #[test]
    fn every_key_has_a_meaning_and_every_meaning_a_key() {
        let text = commented();
        for line in text.lines().filter(|line| line.contains(" = ")) {
            assert!(!line.trim_end().ends_with('#'), "no meaning: {line}");
        }
        let defaults = Settings::of(&defaults());
        for (key, _) in MEANINGS {
            assert!(defaults.says(key) || EXAMPLES.iter().any(|(known, _)| *known == key), "no such key: {key}");
        }
    }

    #[test]
    fn the_examples_are_valid() -> anyhow::Result<()> {
        for (key, example) in EXAMPLES {
            let mut settings = Settings::default();
            settings.assign(&format!("{key}={example}"))?;
            settings.config()?;
        }
        Ok(())
    }
}
