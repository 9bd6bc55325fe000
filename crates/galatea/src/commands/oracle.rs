//! `galatea oracle`: a diffusion whose network makes no mistake, as a table.

mod exact;
mod law;
mod orders;
pub(super) mod price;
mod rule;
mod surest;

use crate::ui::out;
use exact::{Oracle, stream};
use galatea_processes::{Categorical, Limit, Scheduled};
use galatea_random::Philox;
use galatea_samplers::evaluate::{BoundOptions, Estimate, nelbo};
use galatea_samplers::{Score, Selection};
use galatea_schedules::Linear;
use galatea_text::language::{ExactDenoiser, ExactModel, Level, MarkovChain, StoryLanguage, Sudoku4};
use ndarray::{Array1, Array2, ArrayView2};
use price::{Rule, bounded, surest};
use serde_json::{Value, json};
use std::f64::consts::LN_2;

/// Draws of the bound's integral.
const DRAWS: usize = 4000;
/// Texts behind each floor of the loss.
const FLOOR_TEXTS: u32 = 400;
const RATIOS: [f64; 6] = [0.1, 0.25, 0.5, 0.75, 0.9, 1.0];

/// Arguments of `galatea oracle`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  galatea oracle                      what a perfect network knows of a short story
  galatea oracle --level 3            96 templates instead of one
  galatea oracle --example sudoku     288 grids of 4 x 4 instead of stories
  galatea oracle --orders             every order and family of samplers, at 4 to 48 passes
  galatea oracle --samples 1000 --json")]
pub(crate) struct Args {
    /// Level of the story language: 1 to 3, from one template and small numbers to 96 templates
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=3))]
    level: u8,
    /// The source: stories, 4 x 4 sudokus, or melodies of a Markov chain
    #[arg(long, value_name = "NAME", default_value = "story")]
    example: Example,
    /// Texts written with each sampler; more make the shares of valid ones more precise
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    samples: u32,
    /// Compare every order of deciding positions and every family of samplers instead, each in several numbers of passes
    #[arg(long)]
    orders: bool,
    /// Seed of everything that is drawn
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
}

/// A source with exact answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Example {
    Story,
    Sudoku,
    Markov,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    match args.example {
        Example::Story => {
            let language = StoryLanguage::new(Level::try_from(args.level)?);
            let title = format!("the story language, level {}", args.level);
            tell(&args, &language, &title, |x| wrapped(&language.text(x)))
        }
        Example::Sudoku => tell(&args, &Sudoku4::new(), "4 x 4 sudokus", |x| {
            x.chunks(4).map(|row| row.iter().map(|d| format!("{} ", d + 1)).collect()).collect()
        }),
        Example::Markov => tell(&args, &melodies()?, "melodies of a Markov chain", |x| {
            vec![
                x.iter().map(|&note| format!("{} ", ["C", "D", "E", "F", "G", "A", "B", "c"][note as usize])).collect(),
            ]
        }),
    }
}

/// Melodies of 16 notes that never leap further than a third: p falls with the interval.
fn melodies() -> anyhow::Result<MarkovChain> {
    let weight = |(from, to): (usize, usize)| [1.0, 4.0, 2.0].get(from.abs_diff(to)).copied().unwrap_or(0.0);
    let mut transition = Array2::from_shape_fn((8, 8), weight);
    transition.outer_iter_mut().for_each(|mut row| row /= row.sum());
    Ok(MarkovChain::new(16, Array1::from_elem(8, 0.125), transition)?)
}

fn tell<M: ExactModel>(
    args: &Args,
    model: &M,
    title: &str,
    picture: impl Fn(&[u32]) -> Vec<String>,
) -> anyhow::Result<()> {
    if args.orders {
        return orders::tell(model, title, args.samples, args.seed, args.json);
    }
    let say = |line: String| if args.json { Ok(()) } else { out::line(line) };
    let x = model.sample(&mut Philox::new(args.seed, stream::STORY, 0, 0));
    say(format!("A perfect network for {title}: {} positions, {} tokens\n", model.len(), model.vocab()))?;
    for line in picture(&x) {
        say(format!("  {line}"))?;
    }

    let mut oracle = Oracle::new(model, args.seed);
    let bits = -model.log_prob(&x) / LN_2;
    say(format!("\nWhat this one costs, in bits\n  -log2 p(x), exactly                        {bits:.12}"))?;
    let mut orders = Vec::new();
    for number in 0..3 {
        let along = oracle.along_an_order(&x, number)?;
        say(format!("  -sum log2 p(x_i | known), random order {}   {along:.12}", number + 1))?;
        orders.push(along);
    }
    let (nelbo, error) = bound(model, &x, args.seed)?;
    say(format!("  bound of masked diffusion, {DRAWS} draws      {nelbo:.2} +- {error:.2}"))?;

    let (entropy, marginal) = (model.entropy() / LN_2, oracle.marginal_bits()?);
    say("\nWhat one costs on average, in bits".to_owned())?;
    say(format!("  entropy H(x): no model needs less          {entropy:.3}"))?;
    say(format!("  sum of H(x_i): positions drawn alone       {marginal:.3}"))?;
    say(format!("  total correlation: lost by doing so        {:.3}", marginal - entropy))?;

    say("\nThe loss that no network beats\n  masked    nats per masked token".to_owned())?;
    let mut floors = Vec::new();
    for ratio in RATIOS {
        let floor = oracle.floor(ratio, FLOOR_TEXTS)?;
        say(format!("  {:>4.0} %    {floor:.3}", 100.0 * ratio))?;
        floors.push(json!({"mask_ratio": ratio, "nats_per_masked_token": floor}));
    }

    say(format!("\nThe price of parallelism: {} texts a row, no mistake in the network\n", args.samples))?;
    say(format!("  {:<32}{:>7}{:>17}{:>12}", "sampler", "passes", "valid", "bits"))?;
    let mut prices = Vec::new();
    for rule in rules(model.len()) {
        let price = price::price(model, rule, args.samples, args.seed)?;
        let price::Price { passes, valid, error, bits, .. } = price;
        let share = format!("{:.1} +- {:.1} %", 100.0 * valid, 100.0 * error);
        let shown = if bits.is_finite() { format!("{bits:.2}") } else { "-".to_owned() };
        say(format!("  {:<32}{passes:>7.1}{share:>17}{shown:>12}", price.rule.name()))?;
        prices.push(json!({
            "sampler": price.rule.name(), "passes": passes, "valid_share": valid, "standard_error": error,
            "bits_of_valid": if bits.is_finite() { json!(bits) } else { Value::Null },
        }));
    }
    say(
        "\n  bits: the mean -log2 p of valid texts, which is the entropy where a sampler's law is exact. The threshold"
            .to_owned(),
    )?;
    say("  prefers words that were drawn likely, so its texts are likelier than those of the source.".to_owned())?;
    if args.json {
        let any_order = json!(orders);
        out::json(&json!({
            "example": title, "seed": args.seed, "text": picture(&x).join("\n"), "bits": bits,
            "bits_along_random_orders": any_order, "nelbo_bits": nelbo, "nelbo_standard_error_bits": error,
            "entropy_bits": entropy, "sum_of_marginal_entropies_bits": marginal,
            "total_correlation_bits": marginal - entropy, "optimal_cross_entropy": floors, "samplers": prices,
        }))?;
    }
    Ok(())
}

/// The continuous-time bound of masked diffusion on `x` with a perfect network, which is -log2 p(x), and its standard error.
fn bound<M: ExactModel>(model: &M, x: &[u32], seed: u64) -> anyhow::Result<(f64, f64)> {
    let mask = model.vocab() as u32;
    let process = Scheduled::new(Categorical::new(model.vocab() + 1, Limit::Mask(mask))?, Linear);
    let texts = ArrayView2::from_shape((1, x.len()), x)?;
    let options = BoundOptions { seed, rounds: DRAWS, ..BoundOptions::default() };
    let Estimate { mean, standard_error, .. } = nelbo(&mut ExactDenoiser::masked(model), &process, &texts, &options)?;
    Ok((mean / LN_2, standard_error / LN_2))
}

/// The rows of the table.
fn rules(len: usize) -> Vec<Rule> {
    let sure = Selection::Threshold { least: 0.9, slack: 0.0 };
    let mut rules: Vec<Rule> = [24, 48, 96, 200].map(Rule::Ancestral).to_vec();
    rules.extend([len, len.div_ceil(2)].map(surest));
    rules.push(Rule::Unmasking(sure, Score::Confidence));
    rules.extend([0.0, 0.1, 0.5, 2.0].map(bounded));
    rules
}

/// Lines of at most 100 columns.
fn wrapped(text: &str) -> Vec<String> {
    const COLUMNS: usize = 100;
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is always a line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.len() + 1 + word.len() <= COLUMNS {
            *line += " ";
            *line += word;
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn melodies_never_leap() {
        let chain = melodies().expect("rows that sum to one");
        for row in 0..50 {
            let x = chain.sample(&mut Philox::new(1, 0, 0, row));
            assert!(x.windows(2).all(|pair| pair[0].abs_diff(pair[1]) <= 2), "{x:?}");
        }
        assert!(chain.entropy() / LN_2 < 48.0);
    }

    #[test]
    fn the_bound_of_a_perfect_network_is_the_log_probability() {
        let sudoku = Sudoku4::new();
        let (mean, error) = bound(&sudoku, &sudoku.grids()[17], 6).expect("a grid");
        let bits = sudoku.entropy() / LN_2;
        assert!(error < 0.5 && (mean - bits).abs() < 5.0 * error, "{mean} +- {error}, exact {bits}");
    }

    #[test]
    fn wrapping_keeps_every_word_and_the_width() {
        let text = "a bb ccc dddd ".repeat(40);
        let lines = wrapped(&text);
        assert!(lines.iter().all(|line| line.len() <= 100));
        let words: Vec<&str> = lines.iter().flat_map(|line| line.split(' ')).collect();
        assert_eq!(words, text.split_whitespace().collect::<Vec<_>>());
    }
}
