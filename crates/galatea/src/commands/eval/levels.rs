//! A bound noise level by noise level.

use crate::failure::Usage;
use crate::ui::out;
use galatea_train::{Readers, Run};
use serde_json::{Value, json};
use std::path::Path;

/// Prints where the bits of a model's bound lie, beside what readers who know the language make of the same noise.
pub(super) fn print(run: &mut Run, model: &Path, json: bool) -> anyhow::Result<()> {
    let Some(measured) = run.by_level()? else {
        let message =
            "--levels needs a schedule that learns (objective.kind = \"plaid\" or \"cdcd\") and the embedded language";
        return Err(Usage::new(message, "without --levels the bound is measured as a whole").into());
    };
    let total = measured.total();
    if json {
        let levels: Vec<Value> = measured
            .levels
            .iter()
            .map(|level| json!({"gamma": level.gamma, "error": object(level.error), "bits": object(level.bits)}))
            .collect();
        return out::json(&json!({
            "model": model, "levels": levels, "prior_bits": measured.prior,
            "reconstruction_bits": object(measured.reconstruction), "bits": object(total),
        }));
    }
    out::line("         |x_0 - x_0_hat|\u{b2} of a token       bits of a story")?;
    out::line("  gamma    model    alone    exact     model    alone    exact")?;
    for level in &measured.levels {
        let (e, b) = (level.error, level.bits);
        let error = format!("{:9.4}{:9.4}{:9.4}", e.model, e.alone, e.exact);
        out::line(format!("{:7.2}{error} {}", level.gamma, row(b)))?;
    }
    let bits = |name: &str, readers: Readers| out::line(format!("{name:<34} {}", row(readers)));
    bits("reconstruction, at the least noise", measured.reconstruction)?;
    bits("prior, at the most", Readers { model: measured.prior, alone: measured.prior, exact: measured.prior })?;
    bits("bound", total)
}

fn row(bits: Readers) -> String {
    format!("{:9.2}{:9.2}{:9.2}", bits.model, bits.alone, bits.exact)
}

fn object(readers: Readers) -> Value {
    json!({"model": readers.model, "alone": readers.alone, "exact": readers.exact})
}
