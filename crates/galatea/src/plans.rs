//! Programs without memory: what a configuration would run, and whether this machine has room for it.

use crate::failure::Usage;
use galatea_autograd::{DType, Plan, Var};
use galatea_text::language::{ExactModel, Level, StoryLanguage};
use galatea_train::config::{ProcessKind, TokenizerKind};
use galatea_train::{Config, Objective, Purpose};

/// Tokens of one micro-batch, beyond which addresses end before patience does.
const MOST: usize = 1 << 31;

/// Blocks of a model times micro-batches of a step, beyond which nobody waits for a recording.
const MOST_BLOCKS: usize = 1 << 16;

/// The program of one training step.
///
/// # Errors
/// If the configuration fits no model, or a batch has more tokens than any machine has room for.
pub(crate) fn step(config: &Config, vocab: usize, len: usize) -> anyhow::Result<Plan> {
    let batch = config.training.batch;
    check_batch(batch, len)?;
    let layers = config.model.layers();
    if layers.saturating_mul(config.training.accumulation) > MOST_BLOCKS {
        let blocks = format!("{layers} blocks in {} micro-batches", config.training.accumulation);
        let hint = "take fewer: --layers, or training.accumulation";
        return Err(Usage::new(format!("{blocks} are too long a program"), hint).into());
    }
    let objective = Objective::new(config, vocab)?;
    let mut rec = config.training.recorder();
    let mut outputs: Vec<Var> = Vec::new();
    let share = 1.0 / config.training.accumulation as f64;
    for k in 0..config.training.accumulation {
        let one = objective.record(&mut rec, &format!(".{k}"), batch, len, Purpose::Train { share });
        rec.backward(one.loss);
        outputs.push(one.loss);
    }
    outputs.push(rec.update(config.optimizer.update()));
    Ok(rec.finish_keeping(&outputs, config.training.keep()))
}

/// The program of one call of the network on `batch` rows.
///
/// # Errors
/// As [`step`].
pub(crate) fn pass(config: &Config, vocab: usize, batch: usize, len: usize) -> anyhow::Result<Plan> {
    check_batch(batch, len)?;
    let objective = Objective::new(config, vocab)?;
    let mut rec = config.training.recorder();
    let time = rec.input("time", &[batch], DType::F32);
    let model = objective.model.without_dropout();
    let out = match objective.kind {
        ProcessKind::Mask | ProcessKind::Uniform | ProcessKind::Hybrid => {
            let x_t = rec.input("x_t", &[batch, len], DType::U32);
            model.logits(&mut rec, objective.network_vocab(), x_t, time, None)
        }
        ProcessKind::Gaussian => {
            let encoder = model.embedding_encoder()?;
            let z_t = rec.input("z_t", &[batch, len, encoder.embedding_width()], DType::F32);
            encoder.rounding(&mut rec, vocab);
            let x_0_hat = encoder.x_0_hat(&mut rec, z_t, time, None);
            rec.cast(x_0_hat, DType::F32)
        }
    };
    Ok(rec.finish(&[out]))
}

fn check_batch(batch: usize, len: usize) -> anyhow::Result<()> {
    if batch.saturating_mul(len) <= MOST {
        return Ok(());
    }
    let message = format!("{batch} rows of {len} tokens at once are more than any machine has room for");
    Err(Usage::new(message, HINT).into())
}

const HINT: &str =
    "take fewer rows (--batch; training.accumulation makes up for it), shorter ones (--len) or a smaller model";

/// Refuses what this machine has no memory for, before it is asked for: the system would rather end us than say no.
///
/// The vocabulary is taken at its limit, since the text is not read for this.
///
/// # Errors
/// If a training step needs more memory than there is.
pub(crate) fn check_memory(config: &Config) -> anyhow::Result<()> {
    let Some(room) = total_memory() else { return Ok(()) };
    let (vocab, len) = match (config.data.source.as_str(), config.tokenizer.kind) {
        ("language", _) => {
            let language = StoryLanguage::new(Level::try_from(config.data.level)?);
            (language.vocab(), language.len())
        }
        (_, TokenizerKind::Bytes | TokenizerKind::Chars) => (256, config.data.len),
        (_, TokenizerKind::Words | TokenizerKind::Bpe) => (config.tokenizer.vocab, config.data.len),
    };
    let needed = step(config, vocab, len)?.bytes();
    if needed <= room {
        return Ok(());
    }
    let gib = |bytes: usize| bytes as f64 / f64::from(1 << 30);
    let message = format!("a step takes {:.1} GiB of memory, and this machine has {:.1}", gib(needed), gib(room));
    Err(Usage::new(message, HINT).into())
}

/// The machine's memory in bytes, where the system tells.
fn total_memory() -> Option<usize> {
    let info = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse::<usize>().ok()?.checked_mul(1024)
}
