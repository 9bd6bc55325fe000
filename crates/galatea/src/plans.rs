//! Programs without memory: what a configuration would run, and whether this machine has room for it.

use crate::failure::Usage;
use galatea_autograd::Plan;
use galatea_text::language::{ExactModel, Level, StoryLanguage};
use galatea_train::Config;
use galatea_train::config::TokenizerKind;

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
    Ok(galatea_train::step_program(config, vocab, len)?)
}

/// The program of one call of the network on `batch` rows.
///
/// # Errors
/// As [`step`].
pub(crate) fn pass(config: &Config, vocab: usize, batch: usize, len: usize) -> anyhow::Result<Plan> {
    check_batch(batch, len)?;
    Ok(galatea_train::pass_program(config, vocab, batch, len)?)
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
