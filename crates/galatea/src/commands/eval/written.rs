//! What a model's own texts are worth, and held-out ones to a masked model.

use crate::spelling::language_of;
use crate::ui::out;
use galatea_samplers::evaluate::{generative_perplexity, unigram_entropy};
use galatea_text::language::ExactModel;
use galatea_train::{Device, Generator, Run, Sampling};
use ndarray::Array2;
use serde_json::json;
use std::collections::HashSet;
use std::convert::Infallible;
use std::f64::consts::LN_2;
use std::ops::ControlFlow;
use std::path::Path;

/// The rows that go through the network at once.
const BATCH: usize = 16;

/// Writes `count` texts in the model's automatic order and prints what can be counted.
pub(super) fn samples(device: &Device, model: &Path, count: usize, seed: u64, json: bool) -> anyhow::Result<()> {
    let mut generator = Generator::load_on(device, model, count.min(BATCH))?;
    let (len, mut ids) = (generator.len(), Vec::new());
    while ids.len() < count * len {
        let sampling = Sampling { seed, first_sample: (ids.len() / len) as u32, ..Sampling::default() };
        let outcome = generator.run(&sampling, &[], &mut |_| ControlFlow::Continue(()))?;
        ids.extend(outcome.ids.into_iter().flatten());
    }
    ids.truncate(count * len);
    let texts = Array2::from_shape_vec((count, len), ids)?;
    let entropy = unigram_entropy(&texts);
    let distinct = texts.outer_iter().map(|row| row.to_vec()).collect::<HashSet<_>>().len() as f64 / count as f64;
    let judged = language_of(generator.vocabulary()).map(|language| {
        let whole: Vec<Vec<u32>> =
            texts.outer_iter().map(|x| x.to_vec()).filter(|x| language.is_grammatical(x)).collect();
        let share = whole.len() as f64 / count as f64;
        let log_p = |x: &[u32]| Ok::<_, Infallible>(language.log_prob(x));
        let whole = Array2::from_shape_fn((whole.len(), len), |(row, position)| whole[row][position]);
        let Ok(judged) = generative_perplexity(&whole, None, log_p);
        (share, (judged.texts > 0).then(|| (judged.bits_per_text(), judged.perplexity())), language.entropy() / LN_2)
    });
    if json {
        let mut object = json!({
            "model": model, "samples": count, "seed": seed, "sample_entropy_nats": entropy, "distinct_share": distinct,
        });
        if let Some((share, found, exact)) = judged {
            object["grammatical_share"] = share.into();
            object["bits_per_grammatical_text"] = found.map(|(bits, _)| bits).into();
            object["generative_perplexity"] = found.map(|(_, perplexity)| perplexity).into();
            object["entropy_bits_per_document"] = exact.into();
        }
        return out::json(&object);
    }
    out::line(format!("sample entropy  {entropy:.4} nats, of the tokens of a text"))?;
    out::line(format!("distinct        {:.1} % of {count} texts", 100.0 * distinct))?;
    if let Some((share, found, exact)) = judged {
        out::line(format!("grammatical     {:.1} %", 100.0 * share))?;
        if let Some((bits, perplexity)) = found {
            out::line(format!(
                "bits/story      {bits:.3} of the grammatical ones, entropy of the language {exact:.3}"
            ))?;
            out::line(format!("perplexity      {perplexity:.4} a word, under the exact law"))?;
        }
    }
    Ok(())
}

/// Prints the mean -log p of held-out rows, each masked at random in `calls` passes.
pub(super) fn likelihood(
    run: &Run,
    model: &Path,
    (rows, calls): (usize, usize),
    seed: u64,
    json: bool,
) -> anyhow::Result<()> {
    let mut generator = run.generator(BATCH)?;
    let (ids, prompts) = (run.corpus().validation(rows), run.corpus().validation_prompts(rows));
    let mut bits = Vec::new();
    for (number, (row, &prompt)) in ids.chunks(generator.len()).zip(&prompts).enumerate() {
        bits.push(generator.likelihood(row, prompt, calls, seed.wrapping_add(number as u64))?.mean / LN_2);
    }
    let n = bits.len() as f64;
    let mean = bits.iter().sum::<f64>() / n;
    let error = (bits.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0) / n).sqrt();
    if json {
        return out::json(&json!({
            "model": model, "rows": bits.len(), "masks_per_row": calls * BATCH, "seed": seed,
            "likelihood_bits_per_document": mean, "standard_error_bits": error,
        }));
    }
    out::line(format!("bits/row        {mean:.3} +- {error:.3}, -log p by masking"))?;
    out::line(format!("measured on     {} rows, {} sets of masks each", bits.len(), calls * BATCH))
}
