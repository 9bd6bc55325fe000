//! `galatea train`: a model from a text.

use super::eval::unit;
use super::flags::Flags;
use super::on::On;
use crate::failure::{Usage, hinted, is_broken_pipe};
use crate::settings::{self, Settings, run_folder};
use crate::spelling::Spelling;
use crate::ui::log::{self, Log};
use crate::ui::out;
use crate::ui::progress::Progress;
use crate::{automatic, plans, stop};
use galatea_train::{Config, Evaluation, Run, Sampling, StepReport};
use serde_json::json;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

/// Arguments of `galatea train`.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  galatea train --data names.txt --out runs/names     one line a row, characters
  galatea train --data book.txt --tokenizer bpe --vocab 2048 --len 128 --seconds 600
  galatea train --data language --seconds 120         a language whose entropy is known
  galatea train --config mine.toml --lr 1e-3          flags override the file
  galatea train --data pairs.tsv --layout pairs --init runs/book --out runs/answers   fine-tuning: prompt, tab, answer
  galatea train --resume runs/names                   exactly where it stopped, bit for bit
  galatea train --resume runs/names --steps 10000     and further

Ctrl-C ends the step, saves, and tells how to go on; a second one ends at once. The folder holds log.jsonl, log.csv and the two \
newest checkpoints, each whole or not there.")]
pub(crate) struct Args {
    #[command(flatten)]
    flags: Flags,
    /// Go on with the run in DIR, or in the folder of --out
    #[arg(long, value_name = "DIR", num_args = 0..=1, default_missing_value = "", conflicts_with = "force")]
    resume: Option<PathBuf>,
    /// Begin anew in a folder that holds a run: its checkpoints and logs are removed
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    on: On,
    /// Print one JSON object at the end instead of lines
    #[arg(long)]
    json: bool,
    /// No progress and no lines
    #[arg(long, short)]
    quiet: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let (run, dir) = match &args.resume {
        Some(from) => resume(args, from)?,
        None => start(args)?,
    };
    stop::listen();
    let session = Session::new(run, dir, args)?;
    session.train()
}

/// A new run and its folder.
fn start(args: &Args) -> anyhow::Result<(Run, PathBuf)> {
    let mut settings = args.flags.settings()?;
    let chosen = automatic::complete(&mut settings)?;
    let config = settings.config()?;
    let dir = config.training.out.clone();
    if dir.exists() && !dir.is_dir() {
        return Err(Usage::new(format!("{} is a file", dir.display()), "name a folder with --out").into());
    }
    if is_run(&dir) && !args.force {
        let message = format!("{} holds a run already", dir.display());
        let hint = format!(
            "go on with it: --resume {0}; or begin anew: --force; or name another folder with --out",
            dir.display()
        );
        return Err(Usage::new(message, hint).into());
    }
    if let (Some(chosen), false) = (chosen, args.quiet) {
        out::note(format_args!("layout    {chosen}; --layout and --len say otherwise"));
    }
    plans::check_memory(&config)?;
    let run = Run::start_on(args.on.open(args.quiet || args.json)?, config)?;
    // Only now, when the new run is known to begin, the old one goes.
    clear(&dir)?;
    Ok((run, dir))
}

/// A run that goes on, and its folder.
fn resume(args: &Args, from: &Path) -> anyhow::Result<(Run, PathBuf)> {
    let from = match (from.as_os_str().is_empty(), &args.flags.out) {
        (true, Some(out)) => out.clone(),
        (true, None) => Config::default().training.out,
        (false, _) => from.to_owned(),
    };
    let mut settings = Settings::of(&settings::of_checkpoint(&from)?);
    let mut said = match &args.flags.config {
        Some(path) => Settings::read(path)?,
        None => Settings::default(),
    };
    said.overlay(args.flags.overrides(&settings)?);
    settings.overlay(said);
    let config = settings.config()?;
    plans::check_memory(&config)?;
    let run = Run::resume_on(args.on.open(args.quiet || args.json)?, config, &from)?;
    if run.finished() {
        let steps = run.step_number();
        let message =
            format!("the run in {} is finished: {steps} steps in {}", from.display(), out::duration(run.seconds()));
        return Err(Usage::new(
            message,
            format!("go further with --steps {} or more --seconds", steps.saturating_mul(2)),
        )
        .into());
    }
    Ok((run, run_folder(&from)))
}

/// Whether a folder holds what a run leaves.
fn is_run(dir: &Path) -> bool {
    belongings(dir).next().is_some()
}

fn belongings(dir: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        log::FILES.contains(&name.as_ref()) || (name.starts_with("checkpoint-") && path.is_dir())
    })
}

/// Removes what a run left, and nothing else.
fn clear(dir: &Path) -> anyhow::Result<()> {
    for path in belongings(dir).collect::<Vec<_>>() {
        let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.map_err(|error| anyhow::Error::new(error).context(format!("cannot remove {}", path.display())))?;
    }
    Ok(())
}

/// Why training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// Its steps or seconds are over.
    Finished,
    /// Somebody asked it to stop, or nobody reads its output any more.
    Interrupted,
}

/// A run with its folder, its logs and its audience.
struct Session<'a> {
    run: Run,
    dir: PathBuf,
    args: &'a Args,
    log: Log,
    progress: Progress,
    /// Steps and seconds of earlier sessions.
    from: (u32, f64),
    loss: Option<f64>,
    evaluated: Option<(u32, Evaluation)>,
    saved: Option<(u32, PathBuf)>,
}

impl<'a> Session<'a> {
    fn new(run: Run, dir: PathBuf, args: &'a Args) -> anyhow::Result<Self> {
        let from = (run.step_number(), run.seconds());
        let mut log = Log::open(&dir, from.0)?;
        log.begin(from.0, json!({"config": run.config(), "parameters": run.program().param_count()}))?;
        let progress = Progress::new(args.quiet, run.progress());
        let session = Self { run, dir, args, log, progress, from, loss: None, evaluated: None, saved: None };
        let (config, plan) = (session.run.config(), session.run.program());
        session.say(format_args!("data      {}", session.run.dataset_summary()))?;
        let (parameters, memory) = (out::grouped(plan.param_count() as u64), plan.bytes() as f64 / f64::from(1 << 20));
        session.say(format_args!("model     {parameters} parameters, {memory:.1} MiB of memory to train"))?;
        session.say(format_args!("run       {} (seed {})", session.dir.display(), config.training.seed))?;
        if from.0 > 0 {
            session.say(format_args!("resumed   at step {}, {} of training done", from.0, out::duration(from.1)))?;
        }
        Ok(session)
    }

    fn train(mut self) -> anyhow::Result<()> {
        let end = match self.steps() {
            Ok(end) => end,
            Err(error) if is_broken_pipe(&error) => End::Interrupted,
            Err(error) => {
                self.progress.finish();
                return Err(match &self.saved {
                    Some(_) => hinted(error, format!("the last checkpoint is whole: {}", self.resume_line())),
                    None => error,
                });
            }
        };
        self.progress.finish();
        self.save()?;
        if end == End::Interrupted {
            if !self.args.quiet {
                out::note(format_args!(
                    "stopped at step {} and saved; go on with: {}",
                    self.run.step_number(),
                    self.resume_line()
                ));
            }
        } else {
            self.evaluate()?;
            self.preview()?;
            self.say(format_args!(
                "done      {} steps in {}; write with: galatea {}",
                self.run.step_number(),
                out::duration(self.run.seconds()),
                match self.run.config().data.prompts() {
                    true => format!("infill --model {} --prompt '...'", self.dir.display()),
                    false => format!("sample --model {}", self.dir.display()),
                }
            ))?;
        }
        if self.args.json { out::json(&self.figures(end)) } else { Ok(()) }
    }

    /// Steps with their measurements until the run ends.
    fn steps(&mut self) -> anyhow::Result<End> {
        let due = |step: u32, every: u32| every > 0 && step.is_multiple_of(every);
        while !self.run.finished() {
            if stop::asked() {
                return Ok(End::Interrupted);
            }
            let report = self.run.step()?;
            let rate = self.rate(&report);
            self.loss = Some(report.loss);
            self.log.step(&report, rate)?;
            self.progress.update(&report, rate);
            let training = &self.run.config().training;
            let (evaluate, sample, save) = (
                due(report.step, training.eval_every),
                due(report.step, training.sample_every),
                due(report.step, training.save_every),
            );
            // The end has its own measurements.
            if self.run.finished() || stop::asked() {
                continue;
            }
            if save {
                self.save()?;
            }
            if evaluate {
                self.evaluate()?;
            }
            if sample {
                self.preview()?;
            }
        }
        Ok(End::Finished)
    }

    /// Tokens a second in this session, measurements not counted.
    fn rate(&self, report: &StepReport) -> f64 {
        let (steps, seconds) = (report.step - self.from.0, report.seconds - self.from.1);
        f64::from(steps) * self.run.tokens_per_step() as f64 / seconds.max(1e-9)
    }

    fn save(&mut self) -> anyhow::Result<()> {
        let step = self.run.step_number();
        if self.saved.as_ref().is_none_or(|(saved, _)| *saved != step) {
            self.saved = Some((step, self.run.save(&self.dir)?));
        }
        Ok(())
    }

    fn evaluate(&mut self) -> anyhow::Result<()> {
        let e = self.run.evaluate()?;
        let step = self.run.step_number();
        self.log.evaluation(step, self.run.seconds(), &e)?;
        let unit = unit(self.run.config().data.layout, e.entropy_bits.is_some());
        let entropy = e.entropy_bits.map_or(String::new(), |bits| format!(" (exact entropy {bits:.3})"));
        let (nats, chars) = (e.nats_per_token, e.bits_per_char);
        let (bits, error) = (e.bits_per_document, e.standard_error_bits);
        self.say(format_args!(
            "step {step:<6} held out: {nats:.4} nats/token, {chars:.4} bits/character, {bits:.3} +- {error:.3} bits/{unit}{entropy}"
        ))?;
        if let Some(bounds) = self.run.bounds() {
            let (low, high) = (bounds.low(), bounds.high());
            self.say(format_args!("  blocks are trained at times from {low} to {high}"))?;
        }
        self.evaluated = Some((step, e));
        Ok(())
    }

    /// Two texts as the model writes them now.
    fn preview(&mut self) -> anyhow::Result<()> {
        if self.run.config().training.sample_every == 0 {
            return Ok(());
        }
        let mut generator = self.run.generator(1)?;
        let spelling = Spelling::of(&generator);
        // Where rows have prompts, texts answer those of held-out rows.
        let (rows, prompts) = (self.run.corpus().validation(2), self.run.corpus().validation_prompts(2));
        let mut texts = Vec::new();
        for (number, (row, &prompt)) in rows.chunks(generator.len()).zip(&prompts).enumerate() {
            let seed = self.run.config().training.seed;
            let sampling = Sampling { seed, first_sample: number as u32, ..Sampling::default() };
            let mut fixed: Vec<Option<u32>> = row[..prompt].iter().copied().map(Some).collect();
            fixed.resize(generator.len(), None);
            let outcome = generator.run(&sampling, &fixed, &mut |_| {
                if stop::asked() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            if stop::asked() {
                return Ok(());
            }
            texts.extend(outcome.ids.iter().map(|row| spelling.text(generator.vocabulary(), row)));
        }
        self.log.samples(self.run.step_number(), &texts)?;
        texts.iter().try_for_each(|text| self.say(format_args!("  | {}", text.replace('\n', "\n  | "))))
    }

    fn say(&self, text: impl std::fmt::Display) -> anyhow::Result<()> {
        if self.args.quiet || self.args.json {
            return Ok(());
        }
        self.progress.aside(|| out::line(text))
    }

    fn resume_line(&self) -> String {
        format!("galatea train --resume {}", self.dir.display())
    }

    fn figures(&self, end: End) -> serde_json::Value {
        let (steps, seconds) = (self.run.step_number(), self.run.seconds());
        let here = (f64::from(steps - self.from.0), seconds - self.from.1);
        let tokens = self.run.tokens_per_step();
        let figures = json!({
            "run": self.dir, "checkpoint": self.saved.as_ref().map(|(_, path)| path), "finished": end == End::Finished,
            "steps": steps, "train_seconds": seconds, "loss": self.loss, "parameters": self.run.program().param_count(),
            "tokens": f64::from(steps) * tokens as f64, "tokens_per_second": here.0 * tokens as f64 / here.1.max(1e-9),
        });
        match &self.evaluated {
            Some((step, e)) if *step == steps => super::eval::figures(e, figures),
            _ => figures,
        }
    }
}
