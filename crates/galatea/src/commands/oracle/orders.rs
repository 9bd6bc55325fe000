//! `galatea oracle --orders`: every order at several numbers of passes, with a network that makes no mistake.

use super::exact::Estimate;
use super::price::{Price, Rule, bounded, divergence, price};
use super::rule::{Back, Way, order};
use crate::ui::{out, progress};
use galatea_samplers::{Score, Selection};
use galatea_text::language::ExactModel;
use serde_json::{Value, json};

/// Passes of the orders that are told how many.
const PASSES: [usize; 5] = [4, 8, 16, 32, 48];
/// Paths to a text where draws that are thrown away must be summed over. The logarithm of a mean of few is too small, so the
/// divergence is an upper bound there: four times as many paths took one bit of thirty off.
const PATHS: u32 = 8;

/// A step and a sweep over four positions count as two passes.
const CORRECTED: Way = Way::Corrected(4);

/// A family of rules that differ in how many passes they take.
struct Order {
    name: &'static str,
    rules: Vec<Rule>,
}

fn orders() -> Vec<Order> {
    let passes = |name, rule: &dyn Fn(usize) -> Rule| Order { name, rules: PASSES.iter().map(|&n| rule(n)).collect() };
    let scored = |score| move |passes| Rule::Unmasking(Selection::Quota { passes }, score);
    let ranked = |score| passes(order(score), &scored(score));
    let adaptive = |name, rules: Vec<Rule>| Order { name, rules };
    let likely = |selection| Rule::Unmasking(selection, Score::Confidence);
    let threshold = |least| likely(Selection::Threshold { least, slack: 0.0 });
    let factor = |factor| likely(Selection::Factor { factor });
    let back = |back: Back| passes(back.name(), &|steps| Rule::Remasking(back, steps));
    let uniform = |way: Way| passes(way.name(), &|steps| Rule::Uniform(way, steps));
    let gaps = |high| likely(Selection::Hierarchy { high, low: None });
    vec![
        passes("ancestral", &Rule::Ancestral),
        ranked(Score::Random),
        ranked(Score::LeftToRight),
        ranked(Score::Confidence),
        ranked(Score::Margin),
        ranked(Score::Entropy),
        adaptive("threshold", [0.2, 0.4, 0.6, 0.8, 0.95].map(threshold).to_vec()),
        adaptive("factor", [4.0, 2.0, 1.0, 0.5, 0.1].map(factor).to_vec()),
        adaptive("best of each gap", [0.3, 0.6, 0.9].map(gaps).to_vec()),
        adaptive("entropy bound", [4.0, 2.0, 1.0, 0.3, 0.1, 0.0].map(bounded).to_vec()),
        adaptive("first hitting", vec![Rule::FirstHitting]),
        back(Back::Cap(0.02)),
        back(Back::Rescale(0.02)),
        back(Back::Loop(0.02)),
        uniform(Way::Posterior),
        passes(CORRECTED.name(), &|passes| Rule::Uniform(CORRECTED, passes / 2)),
        uniform(Way::Tweedie),
        uniform(Way::Euler),
        uniform(Way::Flow),
        passes("refining", &Rule::Refining),
    ]
}

/// How many paths the divergence of a rule needs; `None` where draws that are lost decide in a way that has no sum here.
fn paths(rule: Rule) -> Option<u32> {
    match rule {
        Rule::Unmasking(Selection::Hierarchy { .. }, _) => None,
        Rule::Unmasking(_, Score::Confidence) => Some(PATHS),
        Rule::Unmasking(..) | Rule::Ancestral(_) | Rule::FirstHitting => Some(1),
        Rule::Remasking(..) | Rule::Uniform(..) | Rule::Refining(_) => None,
    }
}

/// One row of the table.
struct Row {
    order: &'static str,
    price: Price,
    /// `None` where [`paths`] is.
    kl: Option<Estimate>,
    /// Whether `kl` is an upper bound.
    bound: bool,
}

/// Prints the table, or one JSON object.
pub(super) fn tell<M: ExactModel>(model: &M, title: &str, samples: u32, seed: u64, json: bool) -> anyhow::Result<()> {
    let orders = orders();
    let total = orders.iter().map(|order| order.rules.len()).sum::<usize>();
    let bar = progress::count(total as u64, "rules");
    let mut rows = Vec::new();
    for Order { name, rules } in orders {
        for rule in rules {
            let price = price(model, rule, samples, seed)?;
            let (paths, bound) = (paths(rule), matches!(rule, Rule::Unmasking(_, Score::Confidence)));
            let kl = paths.map(|paths| divergence(model, rule, samples, (paths, seed))).transpose()?;
            rows.push(Row { order: name, price, kl, bound });
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    if json {
        let rows: Vec<Value> = rows.iter().map(object).collect();
        return out::json(&json!({
            "example": title, "samples": samples, "seed": seed,
            "entropy_bits": model.entropy() / std::f64::consts::LN_2, "orders": rows,
        }));
    }
    out::line(format!("Every order with a perfect network for {title}, {samples} texts a row\n"))?;
    out::line(format!("  {:<34}{:>8}{:>18}{:>20}", "order", "passes", "valid", "KL(source || it)"))?;
    for Row { price, kl, bound, .. } in &rows {
        let share = format!("{:.1} +- {:.1} %", 100.0 * price.valid, 100.0 * price.error);
        let most = if *bound { "<= " } else { "" };
        let kl = kl.map_or("-".to_owned(), |kl| format!("{most}{:.2} +- {:.2}", kl.mean, kl.error));
        out::line(format!("  {:<34}{:>8.1}{share:>18}{kl:>20}", price.rule.name(), price.passes))?;
    }
    out::line(
        "\n  passes: how often the network is asked. KL in bits a text, given the random choices of positions: what a code made",
    )?;
    out::line("  for the sampler's texts would waste on those of the source; 0 only where its law is exact.")
}

fn object(Row { order, price, kl, bound }: &Row) -> Value {
    json!({
        "order": order, "rule": price.rule.name(), "passes": price.passes,
        "valid_share": price.valid, "valid_standard_error": price.error,
        "kl_is_upper_bound": bound, "kl_bits": kl.map(|kl| kl.mean), "kl_standard_error": kl.map(|kl| kl.error),
    })
}
