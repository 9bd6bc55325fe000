//! `galatea demo`: a language whose entropy is known, learned from nothing while one waits.

mod grammar;
mod wish;

use super::flags::positive;
use super::on::On;
use super::oracle::price::{Rule, bounded, price, surest};
use crate::failure::Usage;
use crate::spelling::Spelling;
use crate::ui::canvas::Painter;
use crate::ui::{out, progress::Progress};
use anyhow::Context;
use galatea_text::language::{ExactModel, Level, StoryLanguage};
use galatea_train::{Config, Evaluation, Generator, Order, Run, Sampling};
use grammar::{Tally, meaning, verdict};
use serde_json::{Map, Value, json};
use std::f64::consts::LN_2;
use std::fs;
use std::io::{self, IsTerminal};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use wish::Wish;

/// More steps than any number of seconds allows: the clock ends the training.
const STEPS: u32 = 10_000_000;
/// Where the model is kept if nobody says otherwise.
const FOLDER: &str = "runs/demo";
/// Milliseconds between two frames of a text that is being carved, long and short.
const FRAME: [u64; 2] = [90, 5];
/// Nats of entropy that a pass of the entropy bound may decide at once.
const GAMMA: f64 = 0.1;

/// Arguments of `galatea demo`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  galatea demo                        about two and a half minutes on two cores
  galatea demo --seconds 300          learn longer, come closer
  galatea demo --smoke --json         is everything in place?")]
pub(crate) struct Args {
    /// Seconds of training [default: 90, or 3 with --smoke]
    #[arg(long, value_name = "S", value_parser = positive)]
    seconds: Option<f64>,
    /// Seed of parameters, data, noise and texts
    #[arg(long, value_name = "SEED", default_value_t = 1, value_parser = clap::value_parser!(u64).range(..=i64::MAX as u64))]
    seed: u64,
    /// Where the model is kept [default: runs/demo, where it replaces that of the last demonstration]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    on: On,
    /// A short form of everything, to see that it works
    #[arg(long)]
    smoke: bool,
    /// End with one JSON object on standard output; the rest goes to standard error
    #[arg(long)]
    json: bool,
    /// No colors and no text that changes in place
    #[arg(long)]
    no_color: bool,
}

/// A batch of texts.
struct Written {
    ids: Vec<Vec<u32>>,
    /// The mean number of times that the network had to be asked for one of them.
    passes: f64,
    seconds: f64,
}

/// How much of everything.
struct Size {
    seconds: f64,
    samples: usize,
    infillings: usize,
    eval_rows: usize,
}

impl Args {
    fn size(&self) -> Size {
        let (seconds, samples, infillings, eval_rows) =
            if self.smoke { (3.0, 32, 16, 64) } else { (90.0, 256, 64, 512) };
        Size { seconds: self.seconds.unwrap_or(seconds), samples, infillings, eval_rows }
    }

    fn folder(&self) -> PathBuf {
        self.out.clone().unwrap_or_else(|| PathBuf::from(FOLDER))
    }

    fn config(&self) -> Config {
        let mut config = Config::default();
        config.training.steps = STEPS;
        config.training.seconds = Some(self.size().seconds);
        config.training.seed = self.seed;
        config.training.eval_rows = self.size().eval_rows;
        config.training.out = self.folder();
        config
    }
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    let begin = Instant::now();
    let mut demo = Demo { size: args.size(), language: StoryLanguage::new(Level::One), report: Map::new(), args };
    let earlier = checkpoints(&demo.args.folder());
    if demo.args.out.is_some() && !earlier.is_empty() {
        let message = format!("{} holds a run already", demo.args.folder().display());
        return Err(Usage::new(message, "name another folder with --out").into());
    }
    // A folder that cannot be written is told before the time is spent.
    let probe = demo.args.folder().join(format!(".demo.{}.tmp", std::process::id()));
    fs::create_dir_all(demo.args.folder())
        .and_then(|()| fs::write(&probe, []))
        .and_then(|()| fs::remove_file(&probe))
        .with_context(|| format!("cannot keep a model in {}", demo.args.folder().display()))?;
    let mut run = Run::start_on(demo.args.on.open(demo.args.json)?, demo.args.config())?;
    demo.introduce(&run)?;
    demo.train(&mut run)?;
    let evaluation = run.evaluate()?;
    for old in earlier {
        fs::remove_dir_all(&old).with_context(|| format!("cannot remove {}", old.display()))?;
    }
    run.save(&demo.args.folder())?;
    demo.measure(&run, &evaluation)?;
    demo.sample(&run)?;
    demo.infill(&run)?;
    demo.close(begin.elapsed().as_secs_f64())
}

/// The checkpoints of a folder.
fn checkpoints(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let named = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("checkpoint-"));
    entries.filter(named).filter(|path| path.is_dir()).collect()
}

/// What the parts of the demonstration share.
struct Demo {
    args: Args,
    size: Size,
    language: StoryLanguage,
    report: Map<String, Value>,
}

impl Demo {
    /// One line of the story: standard output is for the figures where they were asked for.
    fn say(&self, line: impl std::fmt::Display) -> anyhow::Result<()> {
        if self.args.json {
            out::note(line);
            return Ok(());
        }
        out::line(line)
    }

    fn note(&mut self, key: &str, value: impl Into<Value>) {
        self.report.insert(key.to_owned(), value.into());
    }

    fn introduce(&mut self, run: &Run) -> anyhow::Result<()> {
        let parameters = run.program().param_count();
        let entropy = self.language.entropy() / LN_2;
        let seconds = self.size.seconds;
        self.note("parameters", parameters);
        self.say("A language with rules that can be checked, and an entropy that is known exactly:\n")?;
        let story = self.language.sample(&mut galatea_random::Philox::new(self.args.seed, 41, 0, 0));
        self.say_text(&story, "")?;
        self.say(format_args!(
            "\nA story has {entropy:.2} bits, as if it were one of {:.0} million. A masked diffusion model of {} parameters,\n\
             drawn at random, now fills the gaps of such stories for {seconds:.0} seconds, and never sees a rule.\n",
            entropy.exp2() / 1e6,
            out::grouped(parameters as u64),
        ))
    }

    /// Trains to the end of the time, and shows a text now and then.
    fn train(&mut self, run: &mut Run) -> anyhow::Result<()> {
        let mut progress = Progress::new(false, 0.0);
        let (mut shown, mut steps) = (0, 0);
        let mut loss = 0.0;
        while !run.finished() {
            let report = run.step()?;
            let rate = f64::from(report.step) * run.tokens_per_step() as f64 / report.seconds.max(1e-9);
            progress.update(&report, rate);
            (steps, loss) = (report.step, report.loss);
            // A text after each third of the time, but not at the end, where many are written.
            if (report.progress * 3.0) as u32 > shown && report.progress < 1.0 {
                shown += 1;
                let text = self.write(&mut run.generator(1)?, Order::EntropyBound, &[])?.ids.swap_remove(0);
                progress.aside(|| {
                    let said = self.say(format_args!(
                        "after {:.0} s, {steps} steps: {}",
                        report.seconds,
                        verdict(&self.language, &text)
                    ));
                    said.and_then(|()| self.say_text(&text, ""))
                })?;
            }
        }
        progress.finish();
        self.note("steps", steps);
        self.note("train_seconds", run.seconds());
        self.note("last_loss_nats_per_token", loss);
        self.note("tokens_per_second", f64::from(steps) * run.tokens_per_step() as f64 / run.seconds().max(1e-9));
        Ok(())
    }

    fn measure(&mut self, run: &Run, evaluation: &Evaluation) -> anyhow::Result<()> {
        let entropy = self.language.entropy() / LN_2;
        let Evaluation { bits_per_document: bits, standard_error_bits: error, rows, .. } = *evaluation;
        self.say(format_args!(
            "\n{} steps in {:.0} s. On {rows} stories it has not seen, in bits a story:\n",
            run.step_number(),
            run.seconds()
        ))?;
        self.say(format_args!("  bound (NELBO)      {bits:>7.2} +- {error:.2}"))?;
        self.say(format_args!("  entropy, exactly   {entropy:>7.2}           no model can do better"))?;
        self.say(format_args!(
            "  excess             {:>7.2}           {}",
            bits - entropy,
            "what it has not learned yet"
        ))?;
        self.note("nelbo_bits_per_document", bits);
        self.note("nelbo_standard_error_bits", error);
        self.note("entropy_bits_per_document", entropy);
        self.note("excess_bits", bits - entropy);
        Ok(())
    }

    /// Texts by three orders, judged rule by rule.
    fn sample(&mut self, run: &Run) -> anyhow::Result<()> {
        let mut generator = run.generator(self.size.samples)?;
        self.say(format_args!(
            "\n{} texts from nothing, by the order in which positions are decided:\n",
            self.size.samples
        ))?;
        self.say(format_args!("  {:<34}{:>7}{:>20}{:>20}", "", "passes", "keep the grammar", "a perfect network"))?;
        let orders = [
            (Order::Ancestral, Rule::Ancestral(self.language.len()), "ancestral, 48 steps"),
            (Order::Entropy, surest(self.language.len()), "one word a pass, surest first"),
            (Order::EntropyBound, bounded(GAMMA), "entropy bound, 0.1 nats a pass"),
        ];
        let mut shares = Map::new();
        let mut last = None;
        for (order, rule, name) in orders {
            let written = self.write(&mut generator, order, &[])?;
            let tally = Tally::of(&self.language, &written.ids);
            let share = tally.share();
            let cell = format!("{:.1} +- {:.1} %", 100.0 * share, 100.0 * tally.error(share));
            // The same order with the exact posterior: what is lost there is lost by deciding positions together.
            let ceiling = price(&self.language, rule, self.size.samples as u32, self.args.seed)?.valid;
            let perfect = format!("{:.1} %", 100.0 * ceiling);
            self.say(format_args!("  {name:<34}{:>7.1}{cell:>20}{perfect:>20}", written.passes))?;
            let row = json!({
                "share": share, "standard_error": tally.error(share), "passes": written.passes, "perfect_share": ceiling,
                "seconds": written.seconds, "distinct": tally.distinct,
            });
            shares.insert(order.to_string(), row);
            last = Some((written, tally));
        }
        self.note("orders", shares);
        if let Some((written, tally)) = last {
            self.note("grammatical_share", tally.share());
            self.rules(&tally)?;
            self.say("\nThe first three of these:\n")?;
            for text in written.ids.iter().take(3) {
                self.say_text(text, &format!("({})", verdict(&self.language, text)))?;
            }
        }
        Ok(())
    }

    fn rules(&mut self, tally: &Tally) -> anyhow::Result<()> {
        self.say(format_args!(
            "\nRule by rule, of the last {} ({} of them different):\n",
            tally.texts, tally.distinct
        ))?;
        let mut rules = Map::new();
        for (constraint, share) in tally.rows() {
            self.say(format_args!("  {:<12}{:>7.1} %   {}", constraint.name(), 100.0 * share, meaning(constraint)))?;
            rules.insert(constraint.name().to_owned(), json!(share));
        }
        self.note("constraints", rules);
        Ok(())
    }

    /// Texts around given words.
    fn infill(&mut self, run: &Run) -> anyhow::Result<()> {
        self.say("\nNow words are given first, anywhere, and the rest is written around them.")?;
        let watch = !self.args.no_color && !self.args.json && io::stderr().is_terminal() && io::stdout().is_terminal();
        let (mut single, mut many) = (run.generator(1)?, run.generator(self.size.infillings)?);
        let (spelling, mask) = (Spelling::of(&single), single.mask());
        let mut rows = Vec::new();
        for (number, wish) in (0..).zip(Wish::all(&self.language)) {
            let fixed = wish.fixed(self.language.len());
            let p = wish.probability(&self.language)?;
            self.say(format_args!("\n{}: {}", wish.text(&self.language), wish.why))?;
            let mut painter = Painter::new(watch, Duration::from_millis(FRAME[usize::from(self.args.smoke)]));
            // One text of each wish, and each of its own.
            let sampling = Sampling { first_sample: number, ..self.sampling(Order::EntropyBound) };
            let shown = single.run(&sampling, &fixed, &mut |frame| {
                painter.paint(frame, |id| if id == mask { " [MASK]".to_owned() } else { spelling.token(id) });
                ControlFlow::Continue(())
            })?;
            painter.leave();
            let text = &shown.ids[0];
            if !watch {
                self.say_text(text, "")?;
            }
            let tally = Tally::of(&self.language, &self.write(&mut many, Order::EntropyBound, &fixed)?.ids);
            let (it, one_in) = (if wish.words.len() == 1 { "it" } else { "them" }, 1.0 / p);
            let alike = if tally.distinct == tally.texts { "no two are alike" } else { "some are alike" };
            let Tally { texts, whole, .. } = tally;
            self.say(format_args!("    This one {}.", verdict(&self.language, text)))?;
            self.say(format_args!("    Of {texts} written around {it}, {whole} keep the grammar, and {alike}."))?;
            self.say(format_args!(
                "    Writing from left to right meets {it} by chance, once in {one_in:.0} stories."
            ))?;
            rows.push(json!({
                "given": wish.text(&self.language), "probability": p, "infillings": tally.texts,
                "grammatical": tally.whole, "distinct": tally.distinct,
            }));
        }
        self.note("infillings", rows);
        Ok(())
    }

    fn close(mut self, seconds: f64) -> anyhow::Result<()> {
        let dir = self.args.folder().display().to_string();
        let wish = Wish::all(&self.language).pop().map(|wish| wish.flags(&self.language)).unwrap_or_default();
        self.say(format_args!(
            "\nAll of it took {}. The model is in {dir}. Go on with\n\n  \
             galatea sample --model {dir} --visual --count 3\n  \
             galatea infill --model {dir} --visual {wish}\n  \
             galatea eval --model {dir}\n  \
             galatea oracle                       the same language with a network that makes no mistake\n  \
             galatea train --data my.txt --out runs/mine",
            out::duration(seconds)
        ))?;
        self.note("total_seconds", seconds);
        if self.args.json {
            out::json(&Value::Object(std::mem::take(&mut self.report)))?;
        }
        Ok(())
    }

    fn sampling(&self, order: Order) -> Sampling {
        Sampling { order, steps: self.language.len(), gamma: GAMMA, seed: self.args.seed, ..Sampling::default() }
    }

    /// A batch of texts around the given words.
    fn write(&self, generator: &mut Generator, order: Order, fixed: &[Option<u32>]) -> anyhow::Result<Written> {
        let free = vec![None; self.language.len()];
        let fixed = if fixed.is_empty() { &free } else { fixed };
        // A text needs the network once for each canvas on which something is decided.
        let (mut left, mut passes) = (vec![0; generator.batch()], 0);
        let outcome = generator.run(&self.sampling(order), fixed, &mut |frame| {
            for (left, decided) in left.iter_mut().zip(frame.decided.outer_iter()) {
                let now = decided.iter().filter(|&&decided| !decided).count();
                passes += usize::from(frame.step > 0 && now < *left);
                *left = now;
            }
            ControlFlow::Continue(())
        })?;
        Ok(Written { passes: passes as f64 / outcome.ids.len() as f64, ids: outcome.ids, seconds: outcome.seconds })
    }

    /// A text in lines of a sentence or two, with a remark behind it.
    fn say_text(&self, text: &[u32], remark: &str) -> anyhow::Result<()> {
        let words = self.language.text(text);
        let mut line = String::from("   ");
        for word in words.split_whitespace().chain(remark.split_whitespace()) {
            if line.len() + 1 + word.len() > 100 {
                self.say(&line)?;
                line = String::from("   ");
            }
            line.push(' ');
            line.push_str(word);
        }
        self.say(line)
    }
}
