//! The same works in other programs, interleaved with ours: in every round each program runs each work once, so that what
//! disturbs the machine disturbs all of them.

mod child;
mod find;
mod plan;
mod plot;
mod table;

use super::{machine, threads, write};
use crate::{Outcome, process};
use anyhow::Result;
use child::Child;
use find::Found;
use plan::{Comparison, Measure, PEERS, Program};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// What to measure.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Options {
    rounds: usize,
    threads: usize,
    only: Option<String>,
    peers: Vec<Program>,
}

impl Options {
    /// Reads `[--rounds N] [--threads N] [--only TEXT] [--peer NAME]...`.
    pub(super) fn parse(arguments: &[String]) -> Result<Self, String> {
        let mut options = Self { rounds: 9, threads: threads(), only: None, peers: Vec::new() };
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().ok_or_else(|| format!("`{argument}` wants a value"));
            let number = |text: &String| match text.parse() {
                Ok(number) if number > 0 => Ok(number),
                _ => Err(format!("`{argument}` wants a number of at least 1, found `{text}`")),
            };
            match argument.as_str() {
                "--rounds" => options.rounds = number(value()?)?,
                "--threads" => options.threads = number(value()?)?,
                "--only" => options.only = Some(value()?.clone()),
                "--peer" => {
                    let name = value()?;
                    let peer = PEERS.into_iter().find(|peer| peer.name() == name);
                    options.peers.push(peer.ok_or_else(|| format!("a peer is torch, candle or burn, found `{name}`"))?);
                }
                other => {
                    let known = "--rounds N, --threads N, --only TEXT and --peer NAME";
                    return Err(format!("`bench peers` does not know `{other}`, only {known}"));
                }
            }
        }
        if options.peers.is_empty() {
            options.peers = PEERS.to_vec();
        }
        Ok(options)
    }
}

/// The numbers of one program for one work, done in one way.
#[derive(Clone, Debug)]
struct Entry {
    program: Program,
    variant: &'static str,
    samples: Vec<f64>,
}

/// What takes one number of a program.
type Runner = Box<dyn FnMut(&mut Bench) -> Result<f64, String>>;

/// One comparison, measured: ours first.
struct Measured {
    comparison: Comparison,
    entries: Vec<Entry>,
}

/// Measures, prints the table, and writes it with every sample and a plot.
pub(super) fn run(root: &Path, options: &Options) -> Result<Outcome> {
    let target = process::target(root)?;
    println!("machine: {}; {} threads, {} rounds", machine(), options.threads, options.rounds);
    // Before we build and run anything ourselves.
    let load = load_average();
    let (found, mut skipped) = find::all(root, &target, &options.peers, options.threads)?;
    let mut bench = Bench { found, running: BTreeMap::new(), versions: BTreeMap::new(), rounds: options.rounds, load };
    bench.start(&mut skipped);
    let mut measured = Vec::new();
    let wanted = |comparison: &Comparison| options.only.as_ref().is_none_or(|only| comparison.name().contains(only));
    for comparison in plan::all().into_iter().filter(wanted) {
        measured.extend(bench.measure(comparison, &mut skipped));
    }
    bench.running.clear();
    let lines = table::lines(&measured);
    let markdown = table::markdown(&lines, &bench.heading(options.threads, &measured));
    let folder = target.join("bench");
    let report = json!({
        "machine": machine(), "threads": options.threads, "rounds": options.rounds, "load_average": bench.load, "programs": bench.versions,
        "samples": measured.iter().flat_map(samples).collect::<Vec<_>>(),
        "lines": lines.iter().map(table::Line::to_json).collect::<Vec<_>>(), "skipped": skipped,
    });
    write(&folder.join("peers.json"), &format!("{report:#}\n"))?;
    write(&folder.join("peers.md"), &markdown)?;
    write(&folder.join("peers.svg"), &plot::bars(&lines)?)?;
    println!("\n{markdown}");
    skipped.iter().for_each(|why| println!("skipped: {why}"));
    let reached = lines.iter().filter(|line| line.reached()).count();
    println!("results: {0}/peers.md, {0}/peers.json, {0}/peers.svg", folder.display());
    println!("{} comparisons, {reached} targets reached, {} skipped", lines.len(), skipped.len());
    Ok(Outcome::Passed)
}

fn samples(measured: &Measured) -> Vec<Value> {
    let (name, unit) = (measured.comparison.name(), measured.comparison.measure.unit());
    let value = |e: &Entry| {
        json!({ "work": name, "program": e.program.name(), "variant": e.variant, "unit": unit, "samples": e.samples,
            "median": table::median(&e.samples) })
    };
    measured.entries.iter().map(value).collect()
}

/// The programs, running while they are needed.
struct Bench {
    found: Vec<Found>,
    running: BTreeMap<Program, Child>,
    versions: BTreeMap<&'static str, String>,
    rounds: usize,
    load: String,
}

/// Programs that wanted a processor in the last minute, which should be none.
fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().filter(|number| !number.is_empty()).unwrap_or("unknown").to_owned()
}

impl Bench {
    /// All programs on one work; none where ours or every peer cannot do it.
    fn measure(&mut self, comparison: Comparison, skipped: &mut Vec<String>) -> Option<Measured> {
        let name = comparison.name();
        let takes_part =
            |program: Program| program == Program::Galatea || comparison.peers.iter().any(|(peer, _)| *peer == program);
        let found: Vec<Found> = self.found.iter().filter(|found| takes_part(found.program)).cloned().collect();
        if found.len() < 2 {
            return None;
        }
        // The memory of the others is free for these.
        self.running.retain(|program, _| takes_part(*program));
        let mut runners: Vec<(Entry, Runner)> = Vec::new();
        for found in found {
            let program = found.program;
            for (variant, line) in program.lines(&comparison.work) {
                let mut run = runner(found.clone(), comparison.measure, line);
                eprintln!("{name}: setting up {}", program.named(variant));
                // The set-up and its run do not count, unless memory is asked for, which has no warm-up.
                match run(self) {
                    Ok(number) => {
                        let samples = if comparison.measure == Measure::Memory { vec![number] } else { Vec::new() };
                        runners.push((Entry { program, variant, samples }, run));
                    }
                    Err(why) => skipped.push(format!("{name}: {}: {why}", program.named(variant))),
                }
                if runners.is_empty() {
                    return None;
                }
            }
        }
        if runners.len() < 2 {
            return None;
        }
        let rounds = if comparison.measure == Measure::Memory { 0 } else { self.rounds };
        for _ in 0..rounds {
            for (entry, run) in &mut runners {
                match run(self) {
                    Ok(number) => entry.samples.push(number),
                    Err(why) => skipped.push(format!("{name}: {}: {why}", entry.program.named(entry.variant))),
                }
            }
        }
        let entries: Vec<Entry> =
            runners.into_iter().map(|(entry, _)| entry).filter(|e| !e.samples.is_empty()).collect();
        for entry in &entries {
            let (middle, unit) = (table::median(&entry.samples), comparison.measure.unit());
            let who = entry.program.named(entry.variant);
            eprintln!("{name}: {who} {} {unit}", super::three_digits(middle));
        }
        Some(Measured { comparison, entries })
    }

    /// What a reader must know before the table.
    fn heading(&self, threads: usize, measured: &[Measured]) -> String {
        let versions: Vec<&str> = self.versions.values().map(String::as_str).collect();
        let (machine, rounds) = (machine(), self.rounds);
        let warning = table::warning(measured).unwrap_or_default();
        format!(
            "Machine: {machine}; run on {threads} threads; load average before the run {}. {}.\nMedians of {rounds} interleaved rounds; a ratio above 1 means \
             that ours is less.\n{warning}",
            self.load,
            versions.join("; ")
        )
    }

    /// Starts every program, to learn its version; one that does not start takes no part.
    fn start(&mut self, skipped: &mut Vec<String>) {
        for found in self.found.clone() {
            if let Err(why) = self.child(&found).map(drop) {
                skipped.push(format!("{}: {why}", found.program.name()));
                self.found.retain(|other| other.program != found.program);
            }
        }
    }

    /// The running program, started if it is not.
    fn child(&mut self, found: &Found) -> Result<&mut Child, String> {
        if !self.running.contains_key(&found.program) {
            let child = Child::start(found.serve()).map_err(|error| format!("{error:#}"))?;
            self.versions.insert(found.program.name(), child.version.clone());
            self.running.insert(found.program, child);
        }
        self.running.get_mut(&found.program).ok_or_else(|| "it is started above".into())
    }
}

fn runner(found: Found, measure: Measure, line: String) -> Runner {
    Box::new(move |bench| match measure {
        Measure::Time => {
            let child = bench.child(&found)?;
            let answer = child.ask(&line, "ms");
            if answer.is_err() && child.ended() {
                // It is started anew for the next work.
                bench.running.remove(&found.program);
            }
            answer
        }
        Measure::Start => {
            bench.running.clear();
            child::lifetime(found.first()?)
        }
        Measure::Memory => {
            bench.running.clear();
            let mut child = Child::start(found.serve()).map_err(|error| format!("{error:#}"))?;
            child.ask(&line, "ms")?;
            child.ask(&line, "ms")?;
            child.ask("rss", "mib")
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(arguments: &[&str]) -> Result<Options, String> {
        Options::parse(&arguments.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn options_have_values_and_peers_have_names() {
        let parsed = options(&["--rounds", "3", "--threads", "2", "--only", "gemm", "--peer", "burn"]);
        let expected = Options { rounds: 3, threads: 2, only: Some("gemm".into()), peers: vec![Program::Burn] };
        assert_eq!(parsed, Ok(expected));
        assert_eq!(options(&[]).map(|o| (o.rounds, o.peers)), Ok((9, PEERS.to_vec())));
        for (arguments, part) in [
            (&["--rounds", "0"][..], "at least 1"),
            (&["--peer", "jax"], "torch, candle or burn"),
            (&["--only"], "wants a value"),
            (&["fast"], "does not know `fast`"),
        ] {
            assert!(options(arguments).is_err_and(|message| message.contains(part)), "{arguments:?}");
        }
    }
}
